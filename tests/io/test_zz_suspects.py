import asyncio, gc, pytest
from qos_async import *
from tests.peers import *
from tests.virtual_time import block, run
pytestmark = pytest.mark.virtual_time

async def within(awaitable, s=30):
    async with asyncio.timeout(s):
        return await awaitable

async def test_A_close_before_start_ends_loop():
    net = Network()
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        await client.aclose()
        assert client.state is LinkState.CLOSED
        assert [t async for t in trades] == []

async def test_N_strict_hole():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL", buffer=Strict(2)) as trades:
        net.peers[0].push(*(trade(i) for i in range(3)))
        await asyncio.sleep(1)
        got = [await anext(trades)]
        net.peers[0].push(trade(3))
        await asyncio.sleep(1)
        with pytest.raises(LaggedError):
            while True: got.append(await within(anext(trades)))
        assert [t.price for t in got] == [0, 1]

async def test_LL_duplicate_topic():
    net = Network()
    async with opened(net) as client:
        t = Topic("trade", "US:AAPL")
        async with client.watch(t, t) as sub:
            net.peers[0].push(trade(1))
            await asyncio.sleep(1)
            assert sub.stats.received == 1
        await asyncio.sleep(1)
        assert net.peers[0].types() == ["T", "TC"]

async def test_AE_rewatch_while_unsub_in_flight():
    net = Network()
    async with opened(net) as client:
        async with client.watch_trades("US:AAPL"): pass
        net.latency = 1.0
        await asyncio.sleep(0.5)
        assert net.peers[0].types() == ["T", "TC"] 
        async with client.watch_trades("US:AAPL"):
            assert ("T", "US:AAPL", None) in net.peers[0].topics

async def test_JJ_unanswered_then_closed_loop_ends():
    net = Network(rule=lambda p, f: "OK" if f["type"] == "H" else None)
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        await asyncio.sleep(20)
        await trades.aclose()
        assert [t async for t in trades] == []

async def test_KK_add_after_bad_key():
    net = Network(AuthenticationError("bad"))
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        with pytest.raises(AuthenticationError): await anext(trades)
        with pytest.raises(AuthenticationError): await trades.add("US:TSLA")

async def test_CN_inflight_request_on_close():
    net = Network(rule=lambda p, f: "OK" if f["type"] == "H" else None)
    async with opened(net) as client:
        task = asyncio.create_task(client.fetch_snapshots("US:AAPL", via="stream"))
        await asyncio.sleep(1)
        await client.aclose()
        with pytest.raises(ClosedError): await task

async def test_CP_request_answered_key_expired():
    net = Network(rule=lambda p, f: "OK" if f["type"] == "H" else "Key expired.")
    async with opened(net) as client:
        with pytest.raises(AuthenticationError): await client.fetch_snapshots("US:AAPL", via="stream")

async def test_T_many_requests():
    net = Network(latency=0.2)
    async with opened(net, limits=Limits()) as client:
        await client.connect()
        await asyncio.gather(*(client.fetch_snapshots("US:AAPL", via="stream") for _ in range(60)))

async def test_R_gap_when_ack_lost():
    net = Network(rule=lambda p, f: "OK" if f["type"] == "H" or p.number else None)
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        peer = await net.link(); await peer.hear("T")
        peer.push(trade(1)); peer.end()
        events = trades.events()
        assert (await anext(events)).price == 1
        p1 = await net.link(1); await p1.hear("T"); p1.push(trade(2))
        assert isinstance(await anext(events), Gap)

async def test_J_batches_and_loop():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        b = asyncio.create_task(anext(trades.batches(max_wait=5)))
        await asyncio.sleep(1)
        net.peers[0].push(trade(1)); await asyncio.sleep(1)
        try:
            await anext(trades)
            with pytest.raises(RuntimeError): await within(anext(trades), 1)
        except RuntimeError: pass
        assert await b != []

async def test_break_then_drain():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].push(trade(1))
        async for t in trades: break
        assert await client.drain(5)

async def test_all_refused_then_iterate_again():
    net = Network(rule=lambda p, f: "OK" if f["type"] == "H" else "no such symbol")
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        with pytest.raises(RejectedError): await anext(trades)
        with pytest.raises((RejectedError, StopAsyncIteration)): await within(anext(trades))

async def test_blocked_loop_does_not_kill_link():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        await asyncio.sleep(3)
        block(60); net.peers[0].push(trade(1))
        assert (await anext(trades)).price == 1
        await asyncio.sleep(30)
        assert len(net.peers) == 1

async def test_refusal_under_load():
    def rule(p, f): return "no such symbol" if "XXX" in str(f) else "OK"
    net = Network(rule=rule)
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL,XXX")
        peer = await net.link()
        await asyncio.sleep(1)
        with pytest.raises(RejectedError):
            for i in range(200):
                peer.push(trade(i), trade(i)); await asyncio.sleep(0.01)
                await anext(trades)

async def test_stuck_send_and_new_link():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].deaf = True
        await asyncio.sleep(30)
        assert len(net.peers) > 1 and net.peers[0].politely is False

async def test_close_waiting_gate():
    net = Network()
    pass
