"""Recorders and followers of a stream that are closed while the broker does not reply."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest

from qos_async import Client, Recorder
from qos_async.jetstream import wire as wire_module
from qos_async.jetstream.nats_client import NatsClient
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.streams import StreamOptions, ensure_stream
from qos_async.jetstream.wire import Wire
from qos_async.recordings import follow
from qos_async.sim import Simulator
from tests.support.nats_servers import NatsServer
from tests.support.written_stream import BTC, Log

pytestmark = pytest.mark.slow


@pytest.fixture
async def log(own_node: NatsServer, stream_name: str) -> AsyncGenerator[Log]:
    await asyncio.to_thread(own_node.start)
    async with Wire(parse_place(f"{own_node.url}/{stream_name}", {})) as wire:
        await wire.connect()
        await ensure_stream(wire, stream_name, StreamOptions(max_bytes=50_000_000))
        made = Log(own_node, wire, stream_name)
        await made.writer.begin()
        await made.writer.event("subscribed", topics=[str(BTC)])
        await made.writer.trades(BTC, 1)
        yield made


def tasks_since(before: set[asyncio.Task[Any]]) -> list[str]:
    """Return the tasks that were created since; those of nats-py end in a moment."""
    return [task.get_name() for task in asyncio.all_tasks() - before]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.fault("N133")
async def test_a_recorder_whose_close_is_cancelled_gives_up_its_lease(
    own_node: NatsServer, stream_name: str
):
    await asyncio.to_thread(own_node.start)
    async with Simulator(rate=50) as sim:
        before = asyncio.all_tasks()
        recorder = Recorder(f"{own_node.url}/{stream_name}", lease=2.0)
        client = Client(
            sim.key, http_url=sim.http_url, stream_url=sim.stream_url, recorder=recorder
        )
        async with asyncio.timeout(20):
            async for _ in client.watch_trades("CF:BTCUSDT"):
                if recorder.stats.stored > 5:
                    break
        own_node.pause()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.aclose()
        await settle()
        assert not recorder.stats.lease_held
        assert not [one for one in tasks_since(before) if one.startswith("qos_async")]
        own_node.resume()
        await client.aclose()


@pytest.mark.fault("N133")
async def test_a_follower_that_ends_while_the_broker_hangs_raises_its_own_error_only(
    log: Log, own_node: NatsServer, caplog: pytest.LogCaptureFixture
):
    place = f"{own_node.url}/{log.stream}"
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - the block is tested
        async with follow(place, "first", durable="bot") as client:
            async for _ in client.watch_trades(BTC.symbol):
                break
            own_node.pause()
            raise KeyError("mine")
    own_node.resume()
    assert "the place of the durable name 'bot' is not kept" in caplog.text


@pytest.mark.fault("N133")
@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.3, 1.5])
async def test_a_follower_whose_close_is_cancelled_leaves_no_task(
    log: Log, own_node: NatsServer, seconds: float
):
    before = asyncio.all_tasks()
    client = follow(f"{own_node.url}/{log.stream}", "first", durable="bot")
    await client.__aenter__()
    async for _ in client.watch_trades(BTC.symbol):
        break
    own_node.pause()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await client.aclose()
    await settle()
    assert not tasks_since(before)
    own_node.resume()


async def test_a_flush_that_timed_out_does_not_end_the_read_loop(
    own_node: NatsServer, caplog: pytest.LogCaptureFixture
):
    await asyncio.to_thread(own_node.start)
    lost: list[str] = []
    client = NatsClient(parse_place(f"{own_node.url}/X", {}), lambda *_, **__: None)
    options = {"connect_timeout": 2.0, "ping_interval": 60.0}
    await client.dial(parse_place(f"{own_node.url}/X", {}).servers[0], options)
    client.lost.add_done_callback(lambda future: lost.append(future.result()))
    own_node.pause()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.send_all()
    own_node.resume()
    await client.send_all()
    assert not lost
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]
    client.discard()
    await settle()


@pytest.mark.fault("N134")
async def test_a_wire_that_is_closed_while_it_connects_ends(
    node: NatsServer, stream_name: str, monkeypatch: pytest.MonkeyPatch
):
    """Connecting swallows a cancellation now and then."""
    begun = asyncio.Event()

    class Swallowing(NatsClient):
        async def dial(self, *args: Any) -> None:
            await super().dial(*args)
            begun.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    monkeypatch.setattr(wire_module, "_client_class", lambda: Swallowing)
    wire = Wire(parse_place(f"{node.url}/{stream_name}", {}))
    before = asyncio.all_tasks()
    connecting = asyncio.create_task(wire.connect())
    await begun.wait()
    connecting.cancel()
    async with asyncio.timeout(5):
        await wire.aclose()
    await settle()
    assert not [one for one in tasks_since(before) if one.startswith("qos_async")]
