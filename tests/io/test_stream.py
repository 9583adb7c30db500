"""The stream over in-memory links, in virtual time: outages, endings, cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from qos_async import (
    AuthenticationError,
    Client,
    ClosedError,
    ConnectError,
    Gap,
    Interrupted,
    LimitError,
    Limits,
    LinkState,
    QosError,
    RejectedError,
    RequestTimeoutError,
    Timing,
    Topic,
    Trade,
    TransportError,
)
from qos_async.testing.virtual import run
from tests.support.memory_transport import (
    Frame,
    Network,
    Peer,
    gaps_and_ticks,
    kline,
    opened,
    snapshot,
    trade,
)

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("delivery")]

HOUR = 3600.0


async def within(seconds: float, awaitable: Awaitable[Any]) -> Any:
    async with asyncio.timeout(seconds):
        return await awaitable


def only_heartbeats(peer: Peer, frame: Frame) -> str | None:
    return "OK" if frame["type"] == "H" else None


def _price(event: Any) -> int:
    return int(event.price)


# Outages


async def test_a_reconnect_is_invisible_to_the_consumer():
    net = Network(None, ConnectError("no"), ConnectError("no"))
    async with opened(net) as client, client.watch_trades("HK:00700") as trades:
        net.peers[0].push(trade(1, "HK:700"))
        assert (await anext(trades)).price == 1
        net.peers[0].end()
        peer = await net.link(1)
        assert (await peer.next_frame("T"))["codes"] == ["HK:700"]
        peer.push(trade(2, "HK:700"))
        assert (await anext(trades)).price == 2
        assert client.stats.links == 2


async def test_each_outage_is_one_gap_a_topic_before_its_first_new_tick():
    net = Network()
    async with opened(net) as client:
        topics = Topic("trade", "US:AAPL"), Topic("trade", "US:TSLA")
        async with client.watch(*topics) as sub:
            for number in range(3):
                peer = await net.link(number)
                await peer.next_frame("T")
                await asyncio.sleep(10)
                peer.push(trade(number), trade(number, "US:TSLA"))
                await asyncio.sleep(10)
                peer.end(text=f"cut {number}")
            await (await net.link(3)).next_frame("T")
            await asyncio.sleep(0)
            events = gaps_and_ticks(sub.events())
            received = [await anext(events) for _ in range(sub.stats.backlog + 6)]
        for symbol in ("US:AAPL", "US:TSLA"):
            mine = [e for e in received if symbol in str(e)]
            kinds = [e.reason if isinstance(e, Gap) else _price(e) for e in mine]
            assert kinds == [0, "cut 0", 1, "cut 1", 2, "cut 2"]
        assert sub.stats.gaps == client.stats.gaps == 6


async def test_a_gap_begins_when_something_was_last_received():
    net = Network(None, 7.0)
    async with opened(net, jitter=0.0) as client:
        async with client.watch_trades("US:AAPL") as trades:
            peer = net.peers[0]
            peer.push(trade(1))
            await asyncio.sleep(1)
            net.respond = lambda peer, _: None if peer.number == 0 else "OK"
            events = trades.events()
            await anext(events)
            interrupted = await anext(events)
            gap = await anext(events)
        assert isinstance(interrupted, Interrupted)
        assert isinstance(gap, Gap)
        assert interrupted.topic == gap.topic
        assert interrupted.reason == gap.reason
        assert gap.topic == Topic("trade", "US:AAPL")
        assert (gap.status, gap.recovered) == ("unfilled", 0)
        assert "nothing was received for 25 s" in gap.reason
        # 25 s of silence after the last tick, and the 7 s that the dial took.
        assert abs(gap.until - gap.since - timedelta(seconds=32)) < timedelta(seconds=1)
        assert gap.since.utcoffset() == gap.until.utcoffset() == timedelta(0)


async def test_a_second_outage_before_the_ack_widens_the_first():
    net = Network(respond=lambda peer, _: None if peer.number == 1 else "OK")
    async with opened(net, jitter=0.0) as client:
        async with client.watch_trades("US:AAPL") as trades:
            net.peers[0].push(trade(1))
            await asyncio.sleep(5)
            net.peers[0].end(text="first")
            second = await net.link(1)
            second.push({"type": "H", "msg": "OK"})
            await asyncio.sleep(5)
            second.end(text="second")
            peer = await net.link(2)
            peer.push(trade(2))
            events = trades.events()
            received = [await anext(events) for _ in range(4)]
            await asyncio.sleep(60)
            assert trades.stats.gaps == 1
        assert isinstance(received[1], Interrupted)
        gap = received[2]
        assert isinstance(gap, Gap)
        assert (gap.until - gap.since).total_seconds() == pytest.approx(10, abs=0.5)


async def test_a_gap_comes_first_even_if_a_push_overtakes_the_ack():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.respond = only_heartbeats
        net.peers[0].end()
        peer = await net.link(1)
        frame = await peer.next_frame("T")
        peer.push(trade(1), trade(2))
        await asyncio.sleep(1)
        peer.answer(frame)
        await asyncio.sleep(60)
        events = trades.events()
        kinds = [type(await anext(events)) for _ in range(3)]
        assert kinds == [Gap, Trade, Trade]
        assert trades.stats.gaps == 1


async def test_an_outage_between_the_first_tick_and_the_ack_is_a_gap_too():
    net = Network(respond=only_heartbeats)
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        peer = await net.link()
        await peer.next_frame("T")
        peer.push(trade(1))
        await asyncio.sleep(1)
        peer.end()
        peer = await net.link(1)
        await peer.next_frame("T")
        peer.push(trade(2))
        events = trades.events()
        kinds = [type(await anext(events)) for _ in range(4)]
        assert kinds == [Trade, Interrupted, Gap, Trade]


@pytest.mark.fault("U5")
async def test_a_subscription_opened_during_an_outage_gets_no_gap():
    net = Network(None, 5.0)
    async with opened(net) as client, client.watch_trades("US:AAPL") as old:
        net.peers[0].end()
        await asyncio.sleep(1)
        async with client.watch_trades("US:AAPL") as fresh:
            net.peers[1].push(trade(1))
            assert isinstance(await anext(old.events()), Interrupted)
            assert isinstance(await anext(old.events()), Gap)
            assert isinstance(await anext(fresh.events()), Trade)


async def test_resubscribed_topics_get_their_gap_although_new_ones_share_the_ack():
    net = Network(None, 5.0)
    async with opened(net) as client, client.watch_trades("US:A,B,C,D,E") as old:
        net.peers[0].end()
        await asyncio.sleep(1)
        async with client.watch_trades("HK:1,2,3,4,5"):
            assert net.peers[1].types() == ["T"]
            events = gaps_and_ticks(old.events())
            gaps = [await within(10, anext(events)) for _ in range(5)]
            assert {gap.topic.symbol[-1] for gap in gaps} == set("ABCDE")


@pytest.mark.fault("U8", "I16")
async def test_a_topic_removed_during_an_outage_leaves_nothing_behind():
    net = Network()
    async with opened(net) as client:
        async with client.watch_trades("US:AAPL"):
            net.peers[0].end()
            await asyncio.sleep(0.1)
        await net.link(1)
        await asyncio.sleep(HOUR)
        assert net.peers[1].types() == []
        assert not client._stream._protocol.outages.open


@pytest.mark.fault("U8", "U9")
async def test_changes_during_an_outage_are_sent_as_one_difference():
    net = Network(None, ConnectError("no"))
    async with opened(net) as client, client.watch_trades("US:AAPL", "HK:700") as sub:
        net.peers[0].end()
        await asyncio.sleep(0.1)
        await sub.remove("HK:700")
        adding = asyncio.create_task(sub.add("US:TSLA", "SH:600519"))
        await adding
        assert net.peers[1].types() == ["T"]
        assert net.peers[1].sent[0]["codes"] == ["SH:600519", "US:AAPL,TSLA"]


async def test_a_topic_resubscribed_before_its_removal_was_sent_gets_its_gap():
    net = Network(latency=1.0)
    async with opened(net, recover=False) as client:
        async with client.watch_trades("US:AAPL"):
            pass
        await net.peers[0].next_frame("TC")
        again = client.watch_trades("US:AAPL")
        net.peers[0].push(trade(1))
        await net.peers[0].next_frame("T")
        await asyncio.sleep(2)
        net.peers[0].push(trade(2))
        events = again.events()
        kinds = [type(await anext(events)) for _ in range(3)]
        assert kinds == [Trade, Gap, Trade]


async def test_a_resubscribed_topic_without_missed_ticks_gets_no_gap():
    net = Network(latency=1.0)
    async with opened(net, recover=False) as client:
        async with client.watch_trades("US:AAPL"):
            pass
        await net.peers[0].next_frame("TC")
        again = client.watch_trades("US:AAPL")
        await asyncio.sleep(5)
        net.peers[0].push(trade(2))
        assert isinstance(await anext(again.events()), Trade)


def rejecting(times: int, message: str) -> Any:
    """Reject trades on every link but the first, ``times`` times."""
    left = [times]

    def respond(peer: Any, frame: Any) -> str:
        if frame["type"] == "T" and peer.number and left[0]:
            left[0] -= 1
            return message
        return "OK"

    return respond


@pytest.mark.fault("P8")
async def test_a_live_topic_is_subscribed_again_after_a_transient_rejection():
    net = Network(respond=rejecting(3, "system busy"))
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].end()
        await net.link(1)
        await asyncio.sleep(10)
        net.peers[1].push(trade(1))
        assert (await anext(trades)).price == 1


@pytest.mark.fault("P8")
async def test_a_live_topic_is_removed_after_a_lasting_rejection():
    net = Network(respond=rejecting(100, "exceeded the limit"))
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].end()
        with pytest.raises(LimitError):
            await anext(trades)
        assert net.peers[1].types() == ["T"] * 4


# Endings


async def test_an_expired_key_reaches_every_loop_and_request_and_later_call():
    net = Network(respond=lambda _, f: None if f["type"] in ("RS", "RD") else "OK")
    async with opened(net) as client, client.watch_trades("US:AAPL") as entered:
        peer = net.peers[0]
        waiting = [
            anext(entered),
            anext(client.watch_depth("US:AAPL")),
            anext(client.watch_klines("US:AAPL", interval="1m").batches()),
            anext(client.watch_snapshots("US:AAPL").events()),
            client.fetch_snapshots("US:AAPL", via="stream"),
            client.fetch_depth("US:AAPL", via="stream"),
        ]
        tasks = [asyncio.create_task(_task(one)) for one in waiting]
        await asyncio.sleep(5)
        peer.push(trade(1), {"msg": "Key expired."})
        outcomes = await within(60, asyncio.gather(*tasks, return_exceptions=True))
        assert isinstance(outcomes[0], Trade)  # What came before is delivered.
        kinds = [type(outcome) for outcome in outcomes[1:]]
        assert kinds == [AuthenticationError] * 5
        await asyncio.sleep(HOUR)
        assert len(net.dialled_at) == 1
        assert net.open_peers == []


async def test_after_an_expired_key_every_later_call_raises_it():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.respond = lambda *_: "Key expired."  # In the reply to the next heartbeat.
        for _ in range(2):
            with pytest.raises(AuthenticationError, match="expired"):
                await within(60, anext(trades))
        with pytest.raises(AuthenticationError):
            await client.connect()
        with pytest.raises(AuthenticationError):
            await client.fetch_snapshots("US:AAPL", via="stream")
        with pytest.raises(AuthenticationError):
            client.watch_trades("US:AAPL")
        with pytest.raises(AuthenticationError):
            await trades.add("US:TSLA")


async def _task(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def test_a_request_rejected_for_an_expired_key_raises_it():
    net = Network(respond=lambda _, f: "OK" if f["type"] == "H" else "Key expired.")
    async with opened(net) as client:
        with pytest.raises(AuthenticationError, match="expired"):
            await client.fetch_snapshots("US:AAPL", via="stream")


async def test_a_key_rejected_by_the_upgrade_is_raised_in_every_waiting_task():
    net = Network(2.0, AuthenticationError("refused"))
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        request = asyncio.create_task(client.fetch_snapshots("US:AAPL", via="stream"))
        connecting = asyncio.create_task(client.connect())
        net.respond = lambda *_: None
        net.on_link = lambda peer: peer.end()
        errors = await asyncio.gather(
            _task(anext(trades)), request, connecting, return_exceptions=True
        )
        assert [type(error) for error in errors] == [
            AuthenticationError,
            AuthenticationError,
            ConnectError,
        ]
        with pytest.raises(AuthenticationError):
            async with client.watch_trades("US:AAPL"):
                pass


async def test_closing_ends_loops_after_what_is_buffered():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].push(trade(1), trade(2))
        await asyncio.sleep(1)
        await client.aclose()
        assert [int(tick.price) async for tick in trades] == [1, 2]
        assert net.peers[0].closed_gracefully is True


async def test_closing_ends_waiting_loops_and_requests():
    net = Network(respond=lambda peer, f: None if f["type"] == "RS" else "OK")
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        looping = asyncio.create_task(_drain(trades))
        requested = asyncio.create_task(client.fetch_snapshots("US:AAPL", via="stream"))
        queued = asyncio.create_task(client.fetch_snapshots("US:AAPL", via="stream"))
        await asyncio.sleep(1)
        await client.aclose()
        assert await looping == []
        for task in (requested, queued):
            with pytest.raises(ClosedError):
                await task


async def _drain(trades: Any) -> list[Any]:
    return [tick async for tick in trades]


async def test_closing_ends_entering():
    net = Network(respond=only_heartbeats)
    async with opened(net) as client:

        async def enter() -> None:
            async with client.watch_trades("US:AAPL"):
                pass

        entering = asyncio.create_task(enter())
        await asyncio.sleep(1)
        await client.aclose()
        with pytest.raises(ClosedError):
            await entering


async def test_closing_ends_a_loop_without_an_ack():
    net = Network(respond=only_heartbeats)
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        await asyncio.sleep(10)
        await client.aclose()
        assert await _drain(trades) == []


async def test_closing_before_anything_ran_ends_everything():
    net = Network()
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        await client.aclose()
        assert client.state is LinkState.CLOSED
        assert await within(1, _drain(trades)) == []
        with pytest.raises(ClosedError):
            await client.connect()


@pytest.mark.parametrize("seconds", [0, 0.5, 5])
async def test_a_cancelled_close_still_ends_every_waiting_task(seconds):
    net = Network(0.5)
    net.on_link = lambda peer: setattr(peer, "goodbye", 2.0)
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        if seconds:
            await asyncio.sleep(seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await client.aclose()
        assert await within(10, _drain(trades)) == []
        assert client.state is LinkState.CLOSED


@pytest.mark.fault("U7", "U15")
async def test_a_server_that_does_not_answer_the_close_frame_does_not_delay_closing():
    net = Network(None)
    async with opened(net) as client:
        await client.connect()
        net.peers[0].close_delay = 2.0
        first, second = (asyncio.create_task(client.aclose()) for _ in range(2))
        await asyncio.wait([first, second])
        assert asyncio.get_running_loop().time() <= 3
    assert net.open_peers == []


async def test_after_closing_everything_raises_and_closing_is_harmless():
    net = Network()
    async with opened(net) as client:
        await client.connect()
    await client.aclose()
    await client.aclose()
    with pytest.raises(ClosedError):
        client.watch_trades("US:AAPL")
    with pytest.raises(ClosedError):
        await client.connect()
    with pytest.raises(ClosedError):
        await client.fetch_snapshots("US:AAPL", via="stream")
    with pytest.raises(ClosedError):
        await client.fetch_snapshots("US:AAPL")
    with pytest.raises(ClosedError):
        async with client:
            pass
    assert [change async for change in client.states()] == []


async def test_a_client_never_opened_closes_without_a_trace():
    net = Network()
    async with opened(net):
        pass
    assert net.dialled_at == []


async def test_an_internal_error_is_raised_in_every_waiting_task(caplog):
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        client._stream._protocol.receive = None  # type: ignore[assignment]
        net.peers[0].end()
        with pytest.raises(QosError, match="internal error"):
            await within(60, anext(trades))
    assert "bug in qos_async" in caplog.text


async def test_an_internal_error_within_the_transport_is_raised_too(caplog):
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        await asyncio.sleep(1)  # The link waits for the next frame.
        client._stream._supervisor._receiver._dispatcher = None  # type: ignore[assignment]
        net.peers[0].push(trade(1))
        with pytest.raises(QosError, match="internal error"):
            await within(60, anext(trades))
    assert len(net.peers) == 1
    assert "bug in qos_async" in caplog.text


@pytest.mark.parametrize("number", [1, 200])
async def test_a_network_error_ends_the_link_wherever_it_is_raised(monkeypatch, number):
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        await asyncio.sleep(1)
        intake = client._stream._supervisor._receiver

        def lose(*_: object) -> None:
            monkeypatch.undo()
            raise TransportError("cut by a test")

        monkeypatch.setattr(intake._protocol, "receive_ticks", lose)
        net.peers[0].push(*[trade(1)] * number)
        peer = await net.link(1)
        await peer.next_frame("T")
        await asyncio.sleep(1)
        peer.push(trade(2))
        assert (await within(60, anext(trades))).price == 2


# Draining


async def test_draining_accepts_no_new_ticks_and_lets_the_consumer_finish():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        read = []

        async def slowly() -> None:
            async for tick in trades:
                await asyncio.sleep(10)
                read.append(int(tick.price))

        net.peers[0].push(*[trade(i) for i in range(5)])
        reading = asyncio.create_task(slowly())
        await asyncio.sleep(1)
        draining = asyncio.create_task(client.drain())
        await asyncio.sleep(1)
        net.peers[0].push(trade(99))
        assert await draining is True
        assert read == [0, 1, 2, 3, 4]
        await reading


async def test_draining_times_out_and_closes():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL"):
        net.peers[0].push(trade(1))
        await asyncio.sleep(1)
        assert await client.drain(5) is False
        assert client.state is LinkState.CLOSED
        with pytest.raises(ClosedError):
            await client.fetch_snapshots("US:AAPL")


async def test_draining_does_not_wait_for_a_reader_that_left_its_loop():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].push(trade(1))
        async for _ in trades:
            break
        assert await client.drain(5) is True


async def test_draining_an_unused_client_is_done_at_once():
    async with opened(Network()) as client:
        assert await client.drain() is True


# Requests


async def test_requests_over_the_stream_share_the_link_with_ticks():
    net = Network(latency=0.1)
    net.data = [{"c": "US:AAPL", "lp": "5", "ts": 1}]
    async with opened(net) as client, client.watch_snapshots("US:AAPL") as sub:
        net.peers[0].push(snapshot(4))
        found = await client.fetch_snapshots("US:AAPL", "US:NONE", via="stream")
        assert found["US:AAPL"].last_price == 5
        assert found.missing == ("US:NONE",)
        assert (await anext(sub)).last_price == 4


async def test_a_request_without_a_reply_times_out_and_its_late_reply_is_ignored():
    net = Network(respond=only_heartbeats)
    async with opened(net) as client:
        peer_task = asyncio.create_task(net.link())
        with pytest.raises(RequestTimeoutError, match="RS: no reply within 8 s"):
            await client.fetch_snapshots("US:AAPL", via="stream")
        assert asyncio.get_running_loop().time() == pytest.approx(8)
        peer = await peer_task
        peer.answer(await peer.next_frame("RS"))
        request = asyncio.create_task(client.fetch_depth("US:AAPL", via="stream"))
        frame = await peer.next_frame("RD")
        await asyncio.sleep(1)
        assert client.stats.unmatched == 1
        peer.answer(frame)
        assert await request == {}


async def test_a_request_waits_for_the_next_link_but_not_for_ever():
    net = Network(*[ConnectError("no")] * 3)
    async with opened(net) as client:
        assert await client.fetch_snapshots("US:AAPL", via="stream") == {}
    net = Network(*[ConnectError("no")] * 30)
    async with opened(net) as client:
        with pytest.raises(RequestTimeoutError, match="no link"):
            await client.fetch_snapshots("US:AAPL", via="stream")


async def test_a_sent_request_of_a_lost_link_fails_and_a_queued_one_is_kept():
    net = Network(respond=lambda peer, f: None if peer.number == 0 else "OK", latency=0)
    async with opened(net) as client:
        requested = asyncio.create_task(client.fetch_snapshots("US:AAPL", via="stream"))
        await (await net.link()).next_frame("RS")
        queued = asyncio.create_task(client.fetch_depth("US:AAPL", via="stream"))
        await asyncio.sleep(0)
        net.peers[0].end(text="cut")
        with pytest.raises(TransportError, match="cut"):
            await requested
        assert await queued == {}


async def test_many_concurrent_requests_are_sent_at_the_pace_of_the_plan():
    net = Network(latency=0.2)
    async with opened(net, limits=Limits()) as client:
        await client.connect()
        questions = [client.fetch_depth("US:AAPL", via="stream") for _ in range(60)]
        answers = await asyncio.gather(*questions, return_exceptions=True)
        assert [answer for answer in answers if answer != {}] == []


async def test_a_pace_slower_than_the_request_timeout_times_no_request_out():
    net = Network(latency=0.1)
    limits = Limits(command_interval=5.0)
    timing = Timing(request_timeout=4.0)
    async with opened(net, limits=limits, timing=timing) as client:
        questions = [client.fetch_depth("US:AAPL", via="stream") for _ in range(4)]
        answers = await asyncio.gather(*questions, return_exceptions=True)
        assert answers == [{}] * 4


async def test_a_rejected_request_does_not_affect_others():
    net = Network(respond=lambda _, f: "bad count" if f["type"] == "RT" else "OK")
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        with pytest.raises(RejectedError, match="bad count"):
            await client.fetch_trades("US:AAPL", via="stream")
        net.peers[0].push(trade(1))
        assert (await anext(trades)).price == 1


# Channels


async def test_ticks_of_all_channels_are_delivered_in_order_of_arrival():
    net = Network()
    topics = [
        Topic("snapshot", "US:AAPL"),
        Topic("trade", "US:AAPL"),
        Topic("depth", "US:AAPL"),
        Topic("kline", "US:AAPL", "1m"),
    ]
    async with opened(net) as client, client.watch(*topics) as sub:
        depth = {"tp": "D", "c": "US:AAPL", "b": [], "a": [], "ts": 1}
        frames = [kline(60), trade(1), depth, snapshot(1), trade(2), kline(60), depth]
        net.peers[0].push(*frames)
        kinds = [type(await anext(sub)).__name__[0] for _ in frames]
        assert "".join(kinds) == "KTDSTKD"


async def test_a_topic_named_twice_is_delivered_and_removed_once():
    net = Network()
    async with opened(net) as client:
        topic = Topic("trade", "US:AAPL")
        async with client.watch(topic, topic) as sub:
            net.peers[0].push(trade(1))
            await asyncio.sleep(1)
            assert sub.stats.received == 1
        await asyncio.sleep(1)
        assert net.peers[0].types() == ["T", "TC"]


@pytest.mark.fault("U5")
async def test_two_subscriptions_to_one_topic_send_one_subscribe():
    net = Network()
    async with opened(net) as client:
        async with client.watch_trades("US:AAPL") as one:
            async with client.watch_trades("US:AAPL") as other:
                net.peers[0].push(trade(1))
                assert (await anext(one)).price == (await anext(other)).price == 1
            await asyncio.sleep(1)
            assert net.peers[0].types() == ["T"]
        await asyncio.sleep(1)
        assert net.peers[0].types() == ["T", "TC"]


async def test_entering_again_while_the_removal_is_pending_waits_for_a_new_ack():
    net = Network()
    async with opened(net) as client:
        async with client.watch_trades("US:AAPL"):
            net.latency = 1.0
        peer = net.peers[0]
        await peer.next_frame("TC")
        async with client.watch_trades("US:AAPL"):
            assert peer.types() == ["T", "TC", "T"]
            assert ("T", "US:AAPL", None) in peer.topics


async def test_more_symbols_than_the_plan_allows_raise_at_the_call():
    net = Network()
    limits = Limits(symbols=2, command_interval=0.0)
    async with opened(net, limits=limits) as client:
        with pytest.raises(LimitError, match="US:C"):
            client.watch_trades("US:A,B,C")
        assert net.dialled_at == []
        async with client.watch_trades("US:A,B") as sub:
            client.watch_depth("US:A,B")  # Other channels of the same symbols.
            with pytest.raises(LimitError):
                await sub.add("US:C")
            await sub.remove("US:B")
            gc.collect()
            await asyncio.sleep(0)
            await sub.add("US:C")
            with pytest.raises(LimitError):
                client.watch_trades("US:D")


# Sweeps: the same scenario again and again, disturbed at each step of the loop


async def _everything(client: Client, net: Network, read: list[int]) -> None:
    """Use most of the client, while ``_world`` pushes trades and cuts links."""
    await client.connect()
    async with client.watch_trades("US:AAPL") as trades:
        read.append(int((await anext(trades)).price))
        await trades.add("US:TSLA")
        read.append(int((await anext(trades)).price))
        await client.fetch_snapshots("US:AAPL", via="stream")
        events = trades.events()
        while isinstance(event := await anext(events), (Gap, Interrupted)):
            pass
        read.append(_price(event))
        batches = trades.batches(max_items=3, max_wait=0.5)
        read.extend(int(tick.price) for tick in await anext(batches))
        await trades.remove("US:TSLA")
        read.extend(int(tick.price) for tick in await anext(batches))
    await client.drain(1.0)


async def _world(net: Network) -> None:
    """Trade twice a second, and cut the second link once."""
    for number in range(10_000):
        await asyncio.sleep(0.5)
        for peer in net.open_peers:
            if ("T", "US:AAPL", None) in peer.topics:
                peer.push(trade(number))
            if number == 5:
                peer.end()


def _sweep(disturb: Callable[[Client, asyncio.Task[None]], Any]) -> set[str]:
    """Run the scenario, disturbed at step 1, 2, 3 … until it ends undisturbed."""
    outcomes: set[str] = set()
    for at in range(1, 10_000):

        async def main(at: int = at) -> str:
            net = Network(latency=0.05)
            world = asyncio.create_task(_world(net))
            try:
                async with opened(net, jitter=0.3) as client:
                    outcome = await _disturbed(client, net, at, disturb)
                assert net.open_peers == []
                assert client.state is LinkState.CLOSED
            finally:
                world.cancel()
                await asyncio.wait([world])
            return outcome

        try:
            outcome = run(main, horizon=1000)
        except BaseException as exc:
            exc.add_note(f"disturbed at step {at}")
            raise
        if not outcome:
            return outcomes
        outcomes.add(outcome)
    raise AssertionError("the scenario never ends")


async def _disturbed(
    client: Client,
    net: Network,
    at: int,
    disturb: Callable[[Client, asyncio.Task[None]], Any],
) -> str:
    loop: Any = asyncio.get_running_loop()
    read: list[int] = []
    task = asyncio.create_task(_everything(client, net, read))
    helpers: list[asyncio.Task[Any]] = []
    reached = False
    start = loop.steps

    def on_step(step: int) -> None:
        nonlocal reached
        if step - start == at and not task.done():
            reached = True
            if (started := disturb(client, task)) is not None:
                helpers.append(loop.create_task(started))

    loop.on_step = on_step
    await asyncio.wait([task], timeout=300)
    assert task.done(), "the scenario hangs"
    loop.on_step = None
    if helpers:
        await asyncio.wait(helpers)
        for helper in helpers:
            helper.result()
    assert read == sorted(set(read)), "a tick twice or out of order"
    if client.state is not LinkState.CLOSED:
        await _still_works(client, net)
    if not reached:
        return ""
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return type(error).__name__ if error else "done"


async def _still_works(client: Client, net: Network) -> None:
    async with asyncio.timeout(120):
        assert await client.fetch_snapshots("US:AAPL", via="stream") == {}
        async with client.watch_trades("US:AAPL") as trades:
            one, two = [int((await anext(trades)).price) for _ in range(2)]
            assert two == one + 1, "something was lost"
        await asyncio.sleep(1)
        assert not net.open_peers[-1].topics
    assert not client._stream._queues
    assert client._stream._protocol.registry.settled


def _cancel(client: Client, task: asyncio.Task[None]) -> None:
    task.cancel()


@pytest.mark.slow
def test_cancelling_at_any_step_loses_nothing_and_leaves_the_client_working():
    outcomes = _sweep(_cancel)
    assert outcomes == {"cancelled"}


@pytest.mark.slow
def test_closing_at_any_step_ends_everything_with_a_closed_error():
    outcomes = _sweep(lambda client, _: client.aclose())
    assert outcomes <= {"ClosedError", "StopAsyncIteration", "done"}


@pytest.mark.slow
def test_closing_twice_and_cancelling_the_first_ends_everything_too():
    async def both(client: Client) -> None:
        first = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        await client.aclose()

    outcomes = _sweep(lambda client, _: both(client))
    assert outcomes <= {"ClosedError", "StopAsyncIteration", "done"}
