"""Recorders of streams that others have made, with other settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from qos_async import Recorder
from qos_async.jetstream import sender
from qos_async.jetstream.api import call
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.streams import StreamOptions, differences, stream_info
from qos_async.jetstream.wire import Wire
from qos_async.sim import Simulator
from tests.support.nats_servers import NatsServer
from tests.support.recording_client import recording_client
from tests.support.stream_judge import check_tape, live_entries, read_stream
from tests.support.sweep import until as wait_until

pytestmark = pytest.mark.slow

SYMBOL = "CF:BTCUSDT"


@asynccontextmanager
async def connected(node: NatsServer) -> AsyncGenerator[Wire]:
    async with Wire(parse_place(f"{node.url}/X", {})) as wire:
        await wire.connect()
        yield wire


async def create(node: NatsServer, stream: str, **config: Any) -> None:
    async with connected(node) as wire:
        await call(wire, f"STREAM.CREATE.{stream}", {"name": stream, **config})


@asynccontextmanager
async def recording(
    sim: Simulator, place: str
) -> AsyncGenerator[tuple[Recorder, list[str]]]:
    """Record the trades of one symbol; yield the recorder and what it has reported."""
    errors: list[str] = []
    recorder = Recorder(place, on_error=lambda error: errors.append(str(error)))
    async with recording_client(sim, recorder, SYMBOL):
        yield recorder, errors


until = partial(wait_until, within=40)


@pytest.mark.fault("N130")
@pytest.mark.parametrize("config", [{"allow_atomic": True}, {}])
async def test_a_stream_without_fast_batches_is_recorded_to(
    node: NatsServer, stream_name: str, config: dict[str, Any]
):
    subjects = [f"{stream_name}.>"]
    await create(node, stream_name, subjects=subjects, max_bytes=10**7, **config)
    async with Simulator(rate=50) as sim:
        async with recording(sim, f"{node.url}/{stream_name}") as (recorder, errors):
            await until(lambda: recorder.stats.stored > 50)
        assert not errors
        found = live_entries(await read_stream(node.url, stream_name))
        assert check_tape(found, SYMBOL, sim.tape(SYMBOL)) >= 20


@pytest.mark.fault("N130")
async def test_a_stream_that_is_changed_to_take_no_batches_is_recorded_to(
    node: NatsServer, stream_name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sender, "_REFUSED_WAIT", 0.2)
    async with Simulator(rate=50) as sim:
        async with recording(sim, f"{node.url}/{stream_name}") as (recorder, _):
            await until(lambda: recorder.stats.stored > 20)
            async with connected(node) as wire:
                info = await call(wire, f"STREAM.INFO.{stream_name}")
                config = {**info["config"], "allow_batched": False}
                await call(wire, f"STREAM.UPDATE.{stream_name}", config)
            stored = recorder.stats.stored
            await until(lambda: recorder.stats.stored > stored + 50)
        found = live_entries(await read_stream(node.url, stream_name))
        assert check_tape(found, SYMBOL, sim.tape(SYMBOL)) >= 20


@pytest.mark.fault("N131")
async def test_a_stream_that_takes_nothing_is_an_error_that_is_reported(
    node: NatsServer, stream_name: str
):
    await create(node, stream_name, subjects=["elsewhere.>"], max_bytes=10**6)
    mirror = f"{stream_name}m"
    await create(node, mirror, mirror={"name": stream_name}, max_bytes=10**6)
    async with Simulator(rate=5) as sim:
        for name, part in ((stream_name, "subjects"), (mirror, "is a mirror of")):
            async with recording(sim, f"{node.url}/{name}") as (recorder, errors):
                await until(lambda: recorder.stats.last_error)
                assert part in errors[0]
                assert recorder.stats.last_error == errors[0]
                assert recorder.error is None


@pytest.mark.fault("N131")
async def test_a_broker_that_stays_away_is_reported_once(
    own_node: NatsServer, stream_name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sender, "_PATIENCE", 1.0)
    async with Simulator(rate=20) as sim:
        place = f"{own_node.url}/{stream_name}"
        async with recording(sim, place) as (recorder, errors):
            await until(lambda: errors)
            assert "cannot connect to the broker" in errors[0]
            assert "cannot connect" in recorder.stats.last_error
            await asyncio.to_thread(own_node.start)
            await until(lambda: recorder.stats.pending == 0)
            assert not recorder.stats.last_error
        assert len(errors) == 1


async def test_a_failure_that_is_over_at_once_is_not_reported(
    own_node: NatsServer, stream_name: str
):
    await asyncio.to_thread(own_node.start)
    async with Simulator(rate=50) as sim:
        place = f"{own_node.url}/{stream_name}"
        async with recording(sim, place) as (recorder, errors):
            await until(lambda: recorder.stats.stored > 20)
            own_node.pause()
            await asyncio.sleep(4)
            own_node.resume()
            stored = recorder.stats.stored
            await until(lambda: recorder.stats.stored > stored + 50)
        assert not errors


async def test_a_limit_of_the_size_of_messages_is_a_difference(
    node: NatsServer, stream_name: str
):
    config = {"subjects": [f"{stream_name}.>"], "max_bytes": 10**6}
    await create(node, stream_name, max_msg_size=2000, **config)
    async with connected(node) as wire:
        info = await stream_info(wire, stream_name)
    assert info is not None
    found = differences(stream_name, info, StreamOptions())
    assert any("messages of 2000 bytes" in line for line in found)
