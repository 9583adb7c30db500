"""A hub of a recording: what it serves, what it refuses, and when it is not ready."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from qos_async import ConnectError, Market, RejectedError, Topic, Trade
from qos_async.recordings.replay_transport import ReplayTransport
from qos_async.testing.virtual import simulate
from tests.support.followed_rig import followed, recording, simulated_market
from tests.support.hub_rig import Rig, rigged
from tests.support.tape_judge import Consumer, check_trades

BTC, AAPL = "CF:BTCUSDT", "US:AAPL"
TRADES = [Topic("trade", BTC)]
ALL = [
    Topic("trade", BTC),
    Topic("snapshot", AAPL),
    Topic("depth", BTC),
    Topic("kline", BTC, "1m"),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


async def ready(rig: Rig) -> None:
    """Wait until the hub accepts clients."""
    while not rig.hub.is_ready:  # noqa: ASYNC110 - a property, so no event to wait for
        await asyncio.sleep(0.1)


async def readiness(rig: Rig) -> tuple[int, str]:
    url = rig.hub.http_url.removesuffix("/hub")
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/readyz") as reply,
    ):
        return reply.status, (await reply.json())["msg"]


@pytest.mark.fault("H40")
def test_clients_of_a_recording_have_each_trade_once_and_no_link_to_the_service(place):
    async def main() -> None:
        async with (
            simulated_market() as sim,
            recording(sim, place, TRADES),
            followed(sim, place) as rig,
        ):
            consumers = [await rig.consumer(BTC) for _ in range(2)]
            await asyncio.sleep(30)
            for consumer in consumers:
                assert len(consumer.events) > 20
                await asyncio.sleep(0.5)
                check_trades(consumer, sim, to_now=False)
                assert not consumer.gaps()
                await consumer.stop()
            assert sim.connections == 1
            assert rig.hub.stats.symbols_max == 0

    simulate(main)


def test_questions_are_answered_with_the_last_values(place):
    async def main() -> None:
        async with (
            simulated_market() as sim,
            recording(sim, place, ALL),
            followed(sim, place) as rig,
            rig.client() as client,
        ):
            await asyncio.sleep(30)
            requests = len(sim.requests)
            quotes = await client.fetch_snapshots(AAPL)
            assert quotes[AAPL].last_price
            books = await client.fetch_depth(BTC)
            assert books[BTC].best_bid is not None
            trades = await client.fetch_trades(BTC, count=5)
            tape = [row["ts"] for row in sim.tape(BTC)]
            seen = [one.timestamp for one in trades[BTC]]
            assert len(seen) == 5
            assert any(tape[n : n + 5] == seen for n in range(len(tape)))
            bars = await client.fetch_klines(BTC, interval="1m", count=1)
            assert len(bars[BTC]) == 1
            assert len(sim.requests) == requests

    simulate(main)


def test_klines_of_several_symbols_are_answered_together(place):
    async def main() -> None:
        pair = [BTC, "CF:ETHUSDT"]
        topics = [Topic("kline", symbol, "1m") for symbol in pair]
        async with (
            simulated_market() as sim,
            recording(sim, place, topics),
            followed(sim, place) as rig,
            rig.client() as client,
        ):
            await asyncio.sleep(10)
            bars = await client.fetch_klines(*pair, interval="1m", count=1)
            assert list(bars) == pair

    simulate(main)


@pytest.mark.fault("H41")
@pytest.mark.parametrize(
    ("verb", "of", "options", "what"),
    [
        ("fetch_instruments", AAPL, {}, "/instrument-info"),
        ("fetch_calendar", Market.US, {}, "/market-calendar"),
        (
            "fetch_klines",
            BTC,
            {"interval": "1m", "count": 5},
            "finished and adjusted klines",
        ),
        (
            "fetch_history",
            BTC,
            {"interval": "1d", "end": 1e9},
            "finished and adjusted klines",
        ),
    ],
)
def test_what_only_the_service_knows_is_refused_with_the_reason(
    place, verb, of, options, what
):
    async def main() -> None:
        async with (
            simulated_market() as sim,
            recording(sim, place, ALL),
            followed(sim, place) as rig,
            rig.client() as client,
        ):
            await ready(rig)
            reason = f"known to the service only: {what}; this hub follows a recording"
            with pytest.raises(RejectedError, match=reason):
                await getattr(client, verb)(of, **options)

    simulate(main)


def test_finished_klines_that_are_kept_are_answered(place, tmp_path):
    async def main() -> None:
        keep = tmp_path / "bars.sqlite"
        async with rigged(hub={"keep": keep}) as rig, rig.client() as client:
            end = int(rig.sim.now) - 3600
            known = await client.fetch_history(BTC, interval="1m", count=5, end=end)
        async with (
            simulated_market() as sim,
            recording(sim, place, TRADES),
            followed(sim, place, keep=keep) as rig,
            rig.client() as client,
        ):
            await ready(rig)
            found = await client.fetch_history(BTC, interval="1m", count=5, end=end)
            assert found == known
            assert rig.hub.stats.answered == {"kept": 1}

    simulate(main)


@pytest.mark.fault("H42")
def test_a_topic_that_is_not_recorded_is_refused_and_the_others_go_on(place):
    async def main() -> None:
        async with (
            simulated_market() as sim,
            recording(sim, place, TRADES),
            followed(sim, place) as rig,
            rig.raw() as raw,
        ):
            reply = await raw.ask(type="T", codes=["US:AAPL"], reqid=1)
            assert reply["msg"].startswith("Unknown code: US:AAPL (the recording")
            reply = await raw.ask(type="K", codes=[BTC], kt=5, reqid=2)
            assert "has no kline 5m of it" in reply["msg"]
            assert (await raw.ask(type="T", codes=[BTC], reqid=3))["msg"] == "OK"
            assert (await raw.receive())["tp"] == "T"

    simulate(main)


def test_a_topic_that_the_recorder_adds_later_is_served(place):
    async def main() -> None:
        async with (
            simulated_market() as sim,
            recording(sim, place, TRADES) as client,
            followed(sim, place) as rig,
            rig.raw() as raw,
            client.watch_trades(AAPL),
        ):
            await asyncio.sleep(1)
            assert (await raw.ask(type="T", codes=[AAPL]))["msg"] == "OK"
            assert (await raw.receive())["c"] == AAPL

    simulate(main)


@pytest.mark.fault("H43")
def test_an_outage_of_the_recorder_that_was_filled_is_not_seen_by_clients(place):
    async def main() -> None:
        async with (
            simulated_market(rate=1.0) as sim,
            recording(sim, place, TRADES),
            followed(sim, place) as rig,
        ):
            consumer = await rig.consumer(BTC)
            await asyncio.sleep(20)
            await sim.outage(0.5)
            await asyncio.sleep(30)
            assert not consumer.gaps()
            assert rig.hub.stats.clients
            check_trades(consumer, sim, to_now=False)
            await rig.end_undisturbed(consumer)

    simulate(main)


@pytest.mark.fault("H43")
def test_a_long_outage_of_the_recorder_ends_the_links_it_concerns(place):
    async def main() -> None:
        async with (
            simulated_market(rate=5.0) as sim,
            recording(sim, place, TRADES),
            followed(sim, place) as rig,
        ):
            consumer = await rig.consumer(BTC)
            async with rig.raw() as raw:
                assert (await raw.ask(type="T", codes=[BTC]))["msg"] == "OK"
                await asyncio.sleep(20)
                closing = asyncio.create_task(raw.closing())
                await sim.outage(60)
                code, reason = await closing
            assert code == 1012
            assert "the recorder has no link to the service" in reason
            assert "may be missing" in reason
            await ready(rig)
            await asyncio.sleep(40)
            assert len(consumer.gaps()) == 1
            assert consumer.gaps()[0].status != "filled"
            check_trades(consumer, sim, to_now=False)
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H44")
def test_the_last_trades_after_a_hole_are_those_behind_it(place):
    async def main() -> None:
        async with (
            simulated_market(rate=5.0) as sim,
            recording(sim, place, TRADES, recover=False),
            followed(sim, place) as rig,
            rig.client() as client,
        ):
            await asyncio.sleep(20)
            await sim.outage(60)
            await asyncio.sleep(4)
            trades = (await client.fetch_trades(BTC, count=50))[BTC]
            tape = [(row["ts"], row["p"]) for row in sim.tape(BTC)]
            seen = [(one.timestamp, str(one.price)) for one in trades]
            size = len(seen)
            assert any(tape[n : n + size] == seen for n in range(len(tape)))

    simulate(main)


@pytest.mark.fault("H45")
def test_what_was_recorded_before_is_passed_over_and_clients_wait_for_its_end(place):
    async def main() -> None:
        async with simulated_market() as sim, recording(sim, place, TRADES):
            await asyncio.sleep(60)
            async with followed(sim, place, start="first") as rig:
                consumer = Consumer(rig.client(), BTC)
                began = sim.now
                await consumer.start()
                await asyncio.sleep(20)
                trades = [one for one in consumer.events if isinstance(one, Trade)]
                assert trades[0].timestamp >= began - 1
                check_trades(consumer, sim, to_now=False)
                await consumer.stop()

    simulate(main)


@pytest.mark.fault("H45")
def test_a_hub_is_not_ready_before_anything_is_recorded(place):
    async def main() -> None:
        async with simulated_market() as sim, followed(sim, place) as rig:
            status, message = await readiness(rig)
            assert (status, message) == (
                503,
                "No link to the service: nothing is recorded yet.",
            )
            assert rig.hub.stats.upstream_reason == "nothing is recorded yet"
            status, body, _ = await rig.post("/snapshot", {"codes": [BTC]})
            assert (status, body["msg"]) == (502, "nothing is recorded yet")
            async with rig.client() as client:
                with pytest.raises(ConnectError, match="HTTP 503"):
                    await client.connect()
                async with recording(sim, place, TRADES):
                    await ready(rig)
                    assert (await readiness(rig))[0] == 200
                    trade: Any = await anext(aiter(client.watch_trades(BTC)))
                    assert trade.symbol == BTC

    simulate(main)


@pytest.mark.fault("H45", "H48")
def test_a_hub_that_reads_what_is_old_refuses_clients_and_requests(place, monkeypatch):
    current = True

    async def main() -> None:
        nonlocal current
        async with (
            simulated_market() as sim,
            recording(sim, place, TRADES),
            followed(sim, place) as rig,
            rig.raw() as raw,
        ):
            assert (await raw.ask(type="T", codes=[BTC]))["msg"] == "OK"
            current = False
            code, reason = await raw.closing()
            assert code == 1012
            assert reason.startswith("CF:BTCUSDT: ticks of the last 1")
            status, message = await readiness(rig)
            assert status == 503
            assert "what was added is still being read" in message
            assert (await rig.post("/trade", {"codes": [BTC]}))[0] == 502
            current = True
            await ready(rig)
            assert (await rig.post("/trade", {"codes": [BTC]}))[0] == 200

    monkeypatch.setattr(ReplayTransport, "is_current", property(lambda _: current))
    simulate(main)
