"""A hub between clients and the service; the simulator's tape is the judge."""

from __future__ import annotations

import asyncio
import ssl
import time

import pytest

from qos_async import Client, Interrupted, Limits, LinkState, Topic
from qos_async.errors import (
    AuthenticationError,
    ClosedError,
    LimitError,
    RejectedError,
)
from qos_async.hub import Hub, Token
from qos_async.sim import Simulator, Variants
from qos_async.testing.virtual import simulate
from tests.support.hub_rig import rigged
from tests.support.tape_judge import check_trades


def test_each_client_has_each_trade_of_its_symbols_once():
    async def main() -> None:
        async with rigged() as rig:
            both = await rig.consumer("US:AAPL", "HK:700")
            one = await rig.consumer("US:AAPL")
            other = await rig.consumer("CF:BTCUSDT")
            await asyncio.sleep(60)
            for consumer in (both, one, other):
                assert len(consumer.events) > 60
                check_trades(consumer, rig.sim)
                await consumer.stop()
            assert rig.sim.connections == 1
            assert rig.sim.violations == []

    simulate(main)


@pytest.mark.fault("F2", "F62")
@pytest.mark.parametrize("start", [1_700_000_000, 2_000_000_000])
def test_a_hub_has_the_time_of_the_service(start):
    async def main() -> None:
        async with rigged(start=start) as rig:
            consumer = await rig.consumer("US:AAPL")
            await asyncio.sleep(60)
            offset = consumer.client.stats.clock_offset
            assert offset is not None
            assert abs(time.time() + offset - rig.sim.now) < 3
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H1")
def test_an_outage_that_was_filled_is_not_seen_by_clients():
    async def main() -> None:
        async with rigged() as rig:
            consumer = await rig.consumer("US:AAPL")
            await asyncio.sleep(30)
            rig.sim.cut()
            await asyncio.sleep(30)
            check_trades(consumer, rig.sim)
            assert consumer.client.stats.links == 1
            assert consumer.gaps() == []
            assert rig.sim.violations == []
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H2")
def test_an_outage_that_was_not_filled_ends_the_links_that_it_concerns():
    async def main() -> None:
        async with rigged(rate=30.0) as rig:
            consumer = await rig.consumer("US:AAPL")
            quiet = Client("any", stream_url=rig.hub.stream_url)
            await quiet.connect()
            await asyncio.sleep(10)
            cut_at = rig.sim.now
            await rig.sim.outage(3)
            await asyncio.sleep(20)
            [gap] = consumer.gaps()
            assert gap.status != "filled"
            assert "1012: US:AAPL: ticks of the last" in gap.reason
            assert cut_at - 3 < gap.since.timestamp() < cut_at + 0.5
            check_trades(consumer, rig.sim)
            assert quiet.stats.links == 1
            await quiet.aclose()
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H3")
def test_a_long_outage_is_passed_on_while_it_lasts():
    async def main() -> None:
        async with rigged() as rig:
            consumer = await rig.consumer("US:AAPL")
            await asyncio.sleep(10)
            outage = asyncio.create_task(rig.sim.outage(30))
            await asyncio.sleep(20)
            assert any(isinstance(e, Interrupted) for e in consumer.events)
            assert consumer.client.state is not LinkState.OPEN
            assert not rig.hub.is_ready
            await outage
            await asyncio.sleep(30)
            assert len(consumer.gaps()) == 1
            check_trades(consumer, rig.sim)
            assert rig.hub.is_ready
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H3")
def test_a_client_whose_subscription_waits_in_a_long_outage_is_closed():
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw, rig.raw() as idle:
            outage = asyncio.create_task(rig.sim.outage(30))
            await asyncio.sleep(2)
            await raw.ws.send_json({"type": "T", "codes": ["US:AAPL"], "reqid": 1})
            async with asyncio.timeout(10):
                code, reason = await raw.closing()
            assert (code, reason) == (1012, "the link to the service is down")
            assert not outage.done()
            assert (await idle.ask(type="H"))["msg"] == "OK"
            await outage

    simulate(main)


@pytest.mark.fault("H10")
def test_a_topic_lingers_upstream_after_its_last_client_left():
    async def main() -> None:
        async with rigged() as rig:
            consumer = await rig.consumer("US:AAPL")
            await consumer.stop()
            await asyncio.sleep(25)
            assert rig.sim.subscribed == {("T", "US:AAPL", None)}
            await asyncio.sleep(10)
            assert rig.sim.subscribed == set()
            again = await rig.consumer("US:AAPL")
            await asyncio.sleep(5)
            check_trades(again, rig.sim)
            await again.stop()
            assert rig.sim.violations == []

    simulate(main)


@pytest.mark.fault("H10")
def test_a_topic_of_two_clients_stays_when_one_of_them_leaves():
    async def main() -> None:
        async with rigged(hub={"linger": 0.0}) as rig:
            one, two = await rig.consumer("US:AAPL"), await rig.consumer("US:AAPL")
            await one.stop()
            await asyncio.sleep(60)
            assert rig.sim.subscribed == {("T", "US:AAPL", None)}
            check_trades(two, rig.sim)
            await two.stop()

    simulate(main)


@pytest.mark.fault("H12")
def test_what_the_plan_does_not_allow_is_refused_with_the_names_of_the_holders():
    async def main() -> None:
        async with rigged(hub={"linger": 0.0}) as rig:
            holder = await rig.consumer("US:AAPL,TSLA,MSFT,NVDA,AMZN,META,GOOGL,NFLX")
            async with rig.client() as client:
                with pytest.raises(
                    LimitError, match=r"held by 10\.0\.0\.9: HK:5, HK:700"
                ):
                    async with client.watch_trades("HK:700,9988,5"):
                        pass
                await holder.stop()
                await asyncio.sleep(2)
                async with client.watch_trades("HK:700,9988,5") as sub:
                    assert (await anext(aiter(sub))).symbol.startswith("HK:")
            assert rig.sim.violations == []

    simulate(main)


@pytest.mark.fault("H12")
def test_a_symbol_that_the_service_rejects_is_rejected_for_its_client_alone():
    async def main() -> None:
        async with rigged() as rig:
            rig.sim.reject_symbols("US:TSLA", message="No permission")
            good = await rig.consumer("US:AAPL")
            async with rig.client() as client:
                with pytest.raises(RejectedError, match="No permission"):
                    async with client.watch_trades("US:TSLA"):
                        pass
            await asyncio.sleep(20)
            check_trades(good, rig.sim)
            assert rig.hub.stats.symbols == 1
            await good.stop()

    simulate(main)


def test_a_new_client_gets_the_state_of_a_topic_at_once():
    async def main() -> None:
        async with (
            rigged() as rig,
            rig.client() as first,
            rig.client() as new,
            first.watch_depth("US:AAPL") as books,
        ):
            known = await anext(aiter(books))
            rig.sim.mute(new_connections=False)  # No push from now on.
            async with new.watch_depth("US:AAPL") as later:
                got = await anext(aiter(later))
            assert (got.timestamp, got.bids) == (known.timestamp, known.bids)

    simulate(main)


@pytest.mark.fault("H4")
def test_a_wrong_key_upstream_is_an_error_on_entering():
    async def main() -> None:
        async with Simulator() as sim:
            client = Client("wrong-key-1", stream_url=sim.stream_url)
            with pytest.raises(AuthenticationError):
                async with Hub(client):
                    pass

    simulate(main)


@pytest.mark.fault("H4")
def test_a_key_that_expires_ends_the_hub_and_its_clients_learn_why():
    async def main() -> None:
        async with rigged() as rig:
            consumer = await rig.consumer("US:AAPL")
            rig.sim.expire_key()
            rig.sim.cut()
            with pytest.raises(AuthenticationError):
                async with asyncio.timeout(300):
                    await rig.hub.serve_forever()
            with pytest.raises(AuthenticationError, match="rejected"):
                async with asyncio.timeout(300):
                    await consumer.ended()
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H17")
def test_clients_of_a_hub_that_stops_are_closed_with_1012_and_come_back():
    async def main() -> None:
        async with Simulator(rate=2.0) as sim:
            upstream = lambda: Client(  # noqa: E731
                sim.key, http_url=sim.http_url, stream_url=sim.stream_url
            )
            async with Hub(upstream(), port=8765) as hub:
                # The key that ``qos hub`` prints; a client redacts its key in reasons.
                client = Client("hub", http_url=hub.http_url, stream_url=hub.stream_url)
                events = client.watch_trades("US:AAPL").events()
                await anext(events)
                changes = client.states()
            assert "1012: restarting" in (await anext(changes)).reason
            await changes.aclose()
            await asyncio.sleep(3)
            assert client.stats.reconnects_by_reason["close 1012"] == 1
            async with Hub(upstream(), port=8765):
                async with asyncio.timeout(60):
                    while client.state is not LinkState.OPEN:
                        await anext(events)
                await anext(events)
            await client.aclose()

    simulate(main)


@pytest.mark.fault("H17")
def test_a_client_is_back_within_seconds_however_long_its_hub_was_away():
    async def main() -> None:
        async with Simulator() as sim:
            upstream = lambda: Client(sim.key, stream_url=sim.stream_url)  # noqa: E731
            async with Hub(upstream(), port=8765) as hub:
                client = Client("any", stream_url=hub.stream_url)
                await client.connect()
            await asyncio.sleep(600)
            async with Hub(upstream(), port=8765), asyncio.timeout(8):
                async for change in client.states():
                    if change.state is LinkState.OPEN:
                        break
            await client.aclose()

    simulate(main)


def test_a_client_of_a_hub_has_no_pace_and_no_limits_of_its_own():
    async def main() -> None:
        async with rigged(plan=Limits(symbols=30)) as rig:
            symbols = [f"US:{a}{b}" for a in "ABCDE" for b in "ABCDE"]
            loop = asyncio.get_running_loop()
            async with rig.client() as client:
                began = loop.time()
                topics = [Topic(name, "US:AAPL") for name in ("trade", "depth")]
                async with client.watch(*topics, Topic("snapshot", "US:AAPL")):
                    for _ in range(20):
                        await client.fetch_depth("US:AAPL", via="stream")
                    first = loop.time() - began
                    for _ in range(20):
                        await client.fetch_calendar("US")
                    assert loop.time() - began - first < 2
                # The service takes one frame a second, the hub any number.
                assert first < 8
                assert client.watch_trades(symbols).topics
            assert rig.sim.violations == []

    simulate(main)


@pytest.mark.parametrize(
    ("url", "most"),
    [
        ("ws://127.0.0.1:1/hub/ws", 1_000_000),
        ("ws://127.0.0.1:1/hub", 1_000_000),
        ("ws://127.0.0.1:1/hubbub/ws", 10),
        ("ws://127.0.0.1:1/ws", 10),
    ],
)
def test_a_hub_is_recognised_by_the_path_of_its_address(url, most):
    assert Client("some-key-1", stream_url=url)._stream.limits.symbols == most
    limits = Limits(symbols=3)
    assert Client("some-key-1", stream_url=url, limits=limits)._stream.limits is limits


def test_the_only_topic_may_be_rejected_and_the_hub_goes_on():
    async def main() -> None:
        async with rigged(hub={"linger": 0.0}) as rig, rig.raw() as raw:
            rig.sim.reject_symbols("US:AAPL")
            refused = await raw.ask(type="T", codes=["US:AAPL"], reqid=1)
            assert refused["msg"] == "No permission: US:AAPL"
            assert (await raw.ask(type="T", codes=["US:TSLA"], reqid=2))["msg"] == "OK"
            assert (await raw.receive())["tp"] == "T"
            assert rig.hub.is_ready
            assert rig.hub.stats.symbols == 1

    simulate(main)


def test_a_symbol_that_is_rejected_after_a_reconnect_can_be_subscribed_once_allowed():
    async def main() -> None:
        async with rigged() as rig:
            other = await rig.consumer("US:TSLA")
            async with rig.raw() as raw:
                await raw.ask(type="T", codes=["US:AAPL"], reqid=1)
                rig.sim.reject_symbols("US:AAPL")
                rig.sim.cut()
                code, reason = await raw.closing()
                assert (code, reason) == (1008, "US:AAPL: No permission: US:AAPL")
            rig.sim.allow_symbols("US:AAPL")
            async with rig.raw() as raw, asyncio.timeout(10):
                reply = await raw.ask(type="T", codes=["US:AAPL"], reqid=1)
                assert reply["msg"] == "OK"
                assert (await raw.receive())["tp"] == "T"
            await asyncio.sleep(15)
            check_trades(other, rig.sim)
            await other.stop()

    simulate(main)


def test_a_refused_command_takes_nothing_from_another_that_was_acknowledged():
    async def main() -> None:
        variants = Variants(unknown_symbol="refuse")
        async with (
            rigged(variants=variants, hub={"linger": 1.0}) as rig,
            rig.raw() as raw,
        ):
            both = {"type": "T", "codes": ["US:AAPL,NOPE"], "reqid": 1}
            await raw.ws.send_json(both)
            assert (await raw.ask(type="T", codes=["US:AAPL"], reqid=2))["reqid"] == 2
            await asyncio.sleep(10)
            assert rig.sim.subscribed == {("T", "US:AAPL", None)}
            assert rig.hub.stats.clients[0].topics == ["trade US:AAPL"]

    simulate(main)


def test_a_subscription_in_an_outage_is_acknowledged_when_the_topic_is_live_again():
    async def main() -> None:
        async with rigged() as rig:
            first = await rig.consumer("US:AAPL")
            await asyncio.sleep(5)
            outage = asyncio.create_task(rig.sim.outage(3))
            await asyncio.sleep(1)
            async with rig.raw() as raw:
                reply = await raw.ask(type="T", codes=["US:AAPL"], reqid=1)
                assert reply["msg"] == "OK"
                assert outage.done()
                assert rig.sim.connections == 1
            await first.stop()

    simulate(main)


def test_a_key_that_expires_before_any_subscription_ends_the_hub_too():
    async def main() -> None:
        async with rigged() as rig:
            rig.sim.expire_key()
            rig.sim.cut()
            with pytest.raises(AuthenticationError):
                async with asyncio.timeout(300):
                    await rig.hub.serve_forever()

    simulate(main)


def test_closing_ends_what_waits_and_may_happen_at_any_time():
    async def main() -> None:
        async with Simulator() as sim:
            hub = Hub(Client(sim.key, stream_url=sim.stream_url))
            await hub.aclose()  # Before it is entered.
            with pytest.raises(RuntimeError, match=r"not after aclose\(\)"):
                await hub.__aenter__()
            async with Hub(Client(sim.key, stream_url=sim.stream_url)) as served:
                waiting = asyncio.create_task(served.serve_forever())
                await asyncio.sleep(0)
                await served.aclose()
                await served.aclose()
                with pytest.raises(ClosedError):
                    await waiting

    simulate(main)


def test_a_hub_is_entered_once_and_has_its_client_for_itself():
    async def main() -> None:
        async with Simulator() as sim:
            client = Client(sim.key, stream_url=sim.stream_url)
            async with Hub(client) as hub:
                with pytest.raises(RuntimeError, match="entered once"):
                    await hub.__aenter__()
                with pytest.raises(RuntimeError, match="another hub"):
                    await Hub(client).__aenter__()
                assert hub.is_ready

    simulate(main)


def test_a_port_in_use_leaves_nothing_open():
    async def main() -> None:
        async with (
            Simulator() as sim,
            Simulator(port=8766) as other,
            Hub(Client(sim.key, stream_url=sim.stream_url), port=8765),
        ):
            client = Client(other.key, stream_url=other.stream_url)
            with pytest.raises(OSError, match="8765"):
                await Hub(client, port=8765).__aenter__()
            await asyncio.sleep(1)
            assert other.connections == 0

    simulate(main)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 70_000}, "port must be"),
        ({"linger": -1}, "linger must be"),
        ({"linger": float("nan")}, "linger must be"),
        ({"hosts": "quotes.lan"}, "hosts must be a list"),
        ({"hosts": None}, "hosts must be a list"),
        ({"client": "a-key"}, "client must be a Client, .* not str"),
        ({"ssl": True}, "ssl must be an SSLContext for servers"),
        (
            {"ssl": ssl.create_default_context()},
            "ssl must be an SSLContext for servers",
        ),
        ({"keep": ""}, "keep is empty"),
        ({"keep": 7}, "keep must be a path"),
        ({"port": "8765"}, "port must be"),
        ({"port": True}, "port must be"),
        ({"tokens": {"a": Token(token="x" * 16, symbols=11)}}, "reserve 11 places"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Hub(**{"client": Client("some-key-1"), **options})
