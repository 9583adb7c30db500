"""No room for what is recorded: in the spool, or in the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qos_async import Client, Gap, Limits, LinkState, Recorder, RecordingError, follow
from qos_async.jetstream.api import call
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.spool import Spool
from qos_async.jetstream.wire import Wire
from qos_async.sim import Simulator
from tests.support.nats_servers import NatsServer
from tests.support.tape_judge import Consumer, check_trades

pytestmark = pytest.mark.slow

SYMBOL = "CF:BTCUSDT"


@pytest.fixture
async def sim() -> AsyncGenerator[Simulator]:
    plan = Limits(command_interval=0.0, http_requests=10_000)
    async with Simulator(seed=1, plan=plan, rate=50.0) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("qos_async.jetstream.sender._PATIENCE", 1.0)


@asynccontextmanager
async def recording(
    sim: Simulator, place: str, errors: list[RecordingError]
) -> AsyncGenerator[tuple[Recorder, Client]]:
    recorder = Recorder(place, on_error=errors.append)
    client = Client(
        sim.key,
        http_url=sim.http_url,
        stream_url=sim.stream_url,
        limits=sim.plan,
        recorder=recorder,
    )
    async with client:
        trades = client.watch_trades(SYMBOL)
        await trades.ready()
        yield recorder, client
        await trades.aclose()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 - counters of several tasks
            await asyncio.sleep(0.02)


async def request(node: NatsServer, subject: str, body: Any = None) -> None:
    async with Wire(parse_place(f"{node.url}/QOS", {})) as wire:
        await call(wire, subject, body)


@pytest.mark.fault("N124")
async def test_a_full_spool_is_a_gap_for_followers(
    sim: Simulator,
    own_node: NatsServer,
    stream_name: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(
        "qos_async.jetstream.recorder.Spool", partial(Spool, memory=40_000)
    )
    await asyncio.to_thread(own_node.start)
    place = f"{own_node.url}/{stream_name}"
    async with recording(sim, place, []) as (recorder, client):
        await until(lambda: recorder.stats.stored > 5)
        async with follow(place) as follower:
            made = Consumer(follower, SYMBOL)
            await made.start()
            await until(lambda: len(made.events) > 20)
            await asyncio.to_thread(own_node.kill)
            await until(lambda: recorder.stats.dropped > 50)
            assert recorder.stats.lag > 0
            assert client.state is LinkState.OPEN
            await asyncio.to_thread(own_node.start)
            await until(lambda: recorder.stats.pending == 0)
            await until(lambda: _dropped(made))
            count = len(made.events)
            await until(lambda: len(made.events) > count + 30)
            await made.stop()
    assert {gap.status for gap in _dropped(made)} == {"unfilled"}
    check_trades(made, sim, to_now=False)


@pytest.mark.fault("N123")
async def test_a_stream_without_room_is_reported_and_filled_when_it_has_room(
    sim: Simulator, node: NatsServer, stream_name: str
):
    limits = {"discard": "new", "max_bytes": 20_000, "allow_batched": True}
    config = {"name": stream_name, "subjects": [f"{stream_name}.>"], **limits}
    await request(node, f"STREAM.CREATE.{stream_name}", config)
    errors: list[RecordingError] = []
    place = f"{node.url}/{stream_name}"
    async with recording(sim, place, errors) as (recorder, client):
        await until(lambda: errors)
        stats = recorder.stats
        assert "maximum bytes exceeded" in str(errors[0])
        assert "maximum bytes exceeded" in stats.last_error
        assert stats.pending > 0
        assert "qos_recorder_failing 1\n" in stats.to_openmetrics()
        assert recorder.error is None
        assert client.state is LinkState.OPEN
        config["max_bytes"] = 10_000_000
        await request(node, f"STREAM.UPDATE.{stream_name}", config)
        await until(lambda: recorder.stats.stored > stats.stored + 50)
        await until(lambda: recorder.stats.pending == 0)
        assert recorder.stats.last_error == ""
        assert recorder.stats.dropped == 0
        assert [*recorder.stats.ages] == ["trade CF"]
        assert 0 <= recorder.stats.ages["trade CF"] < 10
        await request(node, f"STREAM.DELETE.{stream_name}")


def _dropped(consumer: Consumer) -> list[Gap]:
    """Return the gaps of what found no room; the broker's absence may be one, too."""
    return [gap for gap in consumer.gaps() if "not recorded" in gap.reason]
