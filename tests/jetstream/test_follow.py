"""Followers and replays of streams: recorder, real server, consumers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from qos_async import Client, Gap, Interrupted, Limits, RequestError, Timing, Trade
from qos_async.jetstream.api import call
from qos_async.jetstream.errors import BrokerReplyError, BrokerUnavailableError
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.wire import Wire
from qos_async.recordings import Recorder, RecordingError, follow, replay
from qos_async.sim import Simulator
from tests.support.nats_servers import NatsServer, free_ports

SYMBOL = "CF:BTCUSDT"


@pytest.fixture
async def sim() -> AsyncGenerator[Simulator]:
    plan = Limits(command_interval=0.0, http_requests=10_000)
    async with Simulator(seed=1, plan=plan, rate=20.0) as simulator:
        yield simulator


@pytest.fixture
async def place(node: NatsServer, stream_name: str) -> AsyncGenerator[str]:
    made = f"{node.url}/{stream_name}"
    yield made
    async with Wire(parse_place(made, {})) as wire:
        with suppress(BrokerReplyError):  # Not every test has created it.
            await call(wire, f"STREAM.DELETE.{stream_name}")


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


class Recording:
    """A client that records into a stream."""

    def __init__(self, sim: Simulator, place: str) -> None:
        self.recorder = Recorder(place)
        self.client = Client(
            sim.key,
            http_url=sim.http_url,
            stream_url=sim.stream_url,
            limits=sim.plan,
            timing=Timing(backoff_initial=0.05, backoff_max=0.2),
            recorder=self.recorder,
            numbers=str,
        )


@asynccontextmanager
async def recording(sim: Simulator, place: str) -> AsyncGenerator[Recording]:
    made = Recording(sim, place)
    async with made.client:
        yield made


def key(trade: Trade[Any]) -> tuple[Any, ...]:
    return (trade.symbol, trade.price, trade.size, trade.timestamp, trade.side)


async def take(trades: Any, count: int) -> list[Trade[Any]]:
    found: list[Trade[Any]] = []
    async with asyncio.timeout(20):
        async for trade in trades:
            found.append(trade)
            if len(found) == count:
                break
    return found


async def test_a_follower_gets_what_the_client_gets(sim: Simulator, place: str):
    async with recording(sim, place) as rec, rec.client.watch_trades(SYMBOL) as live:
        await take(live, 1)
        await rec.recorder.flush()  # The stream is there.
        async with follow(place, numbers=str) as follower:
            first: list[Trade[Any]] = []

            async def watch() -> None:
                async for trade in live:
                    first.append(trade)  # noqa: PERF401 - it never ends

            watching = asyncio.create_task(watch())
            second = await take(follower.watch_trades(SYMBOL), 20)
            assert follower.live
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    seen = [key(trade) for trade in first]
    at = seen.index(key(second[0])) if key(second[0]) in seen else 0
    got = [key(trade) for trade in second]
    assert got == seen[at : at + len(got)]
    places = [trade.place for trade in second]
    assert places == sorted(set(places))


async def test_a_replay_of_a_stream_is_what_was_recorded(sim: Simulator, place: str):
    async with recording(sim, place) as rec, rec.client.watch_trades(SYMBOL) as trades:
        live = await take(trades, 30)
    async with replay(place, speed=None, numbers=str) as past:
        played = [trade async for trade in past.watch_trades(SYMBOL)]
    assert [key(one) for one in played[: len(live)]] == [key(one) for one in live]
    assert [one.received_at for one in played] == sorted(o.received_at for o in played)


@pytest.mark.fault("N52")
async def test_an_outage_of_the_recorder_is_as_filled_for_a_follower(
    sim: Simulator, place: str
):
    events: list[Any] = []
    async with recording(sim, place) as rec, rec.client.watch_trades(SYMBOL) as trades:
        await take(trades, 5)
        await rec.recorder.flush()
        async with follow(place, numbers=str) as follower:
            watched = follower.watch_trades(SYMBOL)

            async def read() -> None:
                async for event in watched.events():
                    events.append(event)
                    gaps = [one for one in events if isinstance(one, Gap)]
                    if gaps and isinstance(event, Trade) and not event.recovered:
                        return

            reading = asyncio.create_task(read())
            live: list[Any] = []

            async def watch() -> None:
                async for event in trades.events():
                    live.append(event)  # noqa: PERF401 - it never ends

            watching = asyncio.create_task(watch())
            await asyncio.sleep(0.5)
            sim.cut()
            async with asyncio.timeout(20):
                await reading
            watching.cancel()
    [gap] = [one for one in live if isinstance(one, Gap)]
    [followed] = [one for one in events if isinstance(one, Gap)]
    assert (followed.status, followed.reason) == (gap.status, gap.reason)
    assert any(isinstance(one, Interrupted) for one in events)
    got = [key(one) for one in events if isinstance(one, Trade)]
    sent = [key(one) for one in live if isinstance(one, Trade)]
    at = sent.index(got[0]) if got[0] in sent else 0
    assert got == sent[at : at + len(got)]


@pytest.mark.fault("N53")
async def test_a_durable_follower_goes_on_where_it_was(sim: Simulator, place: str):
    async with recording(sim, place) as rec, rec.client.watch_trades(SYMBOL) as trades:
        await take(trades, 5)
        await rec.recorder.flush()
        got: list[Trade[Any]] = []
        for _ in range(3):
            async with follow(place, "first", durable="bot", numbers=str) as follower:
                watched = follower.watch_trades(SYMBOL)
                got += await take(watched, 10)
            await asyncio.sleep(0.2)
        await rec.recorder.flush()
    async with replay(place, speed=None, numbers=str) as past:
        played = [trade async for trade in past.watch_trades(SYMBOL)]
    places = [trade.place for trade in got]
    # What was taken last may come again, and nothing is left out.
    assert list(dict.fromkeys(places)) == [t.place for t in played[: len({*places})]]


@pytest.mark.fault("N53")
async def test_a_second_follower_of_a_durable_name_is_refused(
    sim: Simulator, place: str
):
    async with recording(sim, place) as rec, rec.client.watch_trades(SYMBOL) as trades:
        await take(trades, 1)
        await rec.recorder.flush()
        async with follow(place, durable="bot"):
            other = follow(place, durable="bot")
            with pytest.raises(RecordingError, match="has the durable name 'bot'"):
                await other.__aenter__()
            await other.aclose()


async def test_last_values_are_answered_and_other_questions_refused(
    sim: Simulator, place: str
):
    async with (
        recording(sim, place) as rec,
        rec.client.watch_snapshots(SYMBOL) as snapshots,
    ):
        await anext(aiter(snapshots))
        await rec.recorder.flush()
        async with follow(place) as follower:
            found = await follower.fetch_snapshots(SYMBOL)
            assert found[SYMBOL].symbol == SYMBOL
            with pytest.raises(RequestError, match="known to the service only"):
                await follower.fetch_instruments(SYMBOL)


@pytest.mark.parametrize(
    ("start", "why"),
    [("soon", "place in a stream"), (datetime(2026, 1, 1), "no time zone")],  # noqa: DTZ001 - the fault
)
def test_a_wrong_start_is_an_error_at_once(place: str, start: Any, why: str):
    with pytest.raises(ValueError, match=why):
        follow(place, start)


@pytest.mark.parametrize("make", [follow, replay])
async def test_a_broker_that_is_not_there_is_an_error_on_entering(make: Any):
    [port] = free_ports(1)
    client = make(f"nats://127.0.0.1:{port}/QOS")
    with pytest.raises(BrokerUnavailableError, match="cannot connect to the broker"):
        await client.__aenter__()
    await client.aclose()


@pytest.mark.parametrize("make", [follow, replay])
async def test_a_stream_that_does_not_exist_is_an_error_on_entering(
    make: Any, node: NatsServer
):
    client = make(f"{node.url}/NOTHING")
    with pytest.raises(RecordingError, match="there is no stream NOTHING"):
        await client.__aenter__()
    await client.aclose()


@pytest.mark.parametrize("make", [follow, replay])
def test_credentials_are_in_no_repr(make: Any):
    client = make("nats://user:s3cret-word@127.0.0.1:4222/QOS")
    assert "s3cret" not in repr(client)
    assert "nats://127.0.0.1:4222/QOS" in repr(client)
