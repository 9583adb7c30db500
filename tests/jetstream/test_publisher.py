"""The publisher on real servers: each message once and in order, whatever fails."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from qos_async.jetstream import publisher as publisher_module
from qos_async.jetstream.api import call
from qos_async.jetstream.errors import BrokerError, FencedError
from qos_async.jetstream.lease import StoredFence, claim_epoch
from qos_async.jetstream.messages import Outgoing, Stamp, Stamper, decode_stamp
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.publisher import Publisher, last_stored
from qos_async.jetstream.start import messages_before
from qos_async.jetstream.streams import (
    Batches,
    StreamOptions,
    ensure_stream,
    stream_info,
)
from qos_async.jetstream.wire import Wire
from tests.support.chaos_proxy import ChaosProxy
from tests.support.nats_servers import NatsCluster, NatsServer

OPTIONS = StreamOptions(max_bytes=20_000_000)
STAMPERS: WeakKeyDictionary[Publisher, Stamper] = WeakKeyDictionary()
OPTIONS_3 = StreamOptions(max_bytes=20_000_000, replicas=3)


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Wire]:
    place = parse_place(f"{url}/Q", {})
    async with Wire(place, connect_timeout=1, ping_interval=1) as wire:
        await wire.connect()
        yield wire


@asynccontextmanager
async def running(publisher: Publisher) -> AsyncGenerator[asyncio.Task[None]]:
    task = asyncio.create_task(publisher.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def publisher_to(
    wire: Wire,
    stream: str,
    options: StreamOptions = OPTIONS,
    token: str = "t",
    *,
    batches: Batches = "fast",
) -> tuple[Publisher, StoredFence]:
    async with asyncio.timeout(20):  # Nodes that were just started take part later.
        while True:
            with contextlib.suppress(BrokerError):
                await ensure_stream(wire, stream, options)
                break
            await asyncio.sleep(0.1)
    fence = await claim_epoch(wire, stream, "main", token)
    made = Publisher(
        *(wire, stream, "main", fence.epoch, fence.sequence),
        max_messages=5000,
        batches=batches,
    )
    return made, fence


async def put(publisher: Publisher, stream: str, number: int) -> Outgoing:
    """Put a message of one of seven topics; return it."""
    stamper = STAMPERS.setdefault(publisher, Stamper("main", publisher._epoch))
    subject = f"{stream}.T.US.C{number % 7}"
    message = stamper.stamp(subject, b"%d" % number, at=number, up=number)
    await publisher.put(message)
    return message


async def until(condition: Callable[[], object], seconds: float = 40.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - counters, without an event
            await asyncio.sleep(0.01)


async def acknowledges(publisher: Publisher, more: int) -> None:
    """Wait until this many more messages are acknowledged."""
    target = publisher.stats.acknowledged + more
    await until(lambda: publisher.stats.acknowledged >= target, 60)


async def loses(wire: Wire) -> None:
    """Wait until the connection is lost once more."""
    before = wire.stats.lost
    await until(lambda: wire.stats.lost > before)


async def stored(url: str, stream: str) -> list[tuple[Stamp, int]]:
    """Return the stamps and payloads of all messages of topics, as they are stored."""
    async with connected(url) as wire:
        info = await stream_info(wire, stream)
        assert info is not None
        end = info.state.last_seq + 1  # As the leader has it.
        messages = messages_before(wire, stream, [f"{stream}.T.>"], end)
        async with asyncio.timeout(60):
            return [
                (stamp, int(message.data))
                async for message in messages
                if (stamp := decode_stamp(message.headers)) is not None
            ]


def check_once_and_in_order(found: list[tuple[Stamp, int]], count: int) -> None:
    """Check that each message is there once, and each topic in order and chained."""
    assert sorted(number for _, number in found) == list(range(count))
    topics: dict[int, list[tuple[Stamp, int]]] = defaultdict(list)
    for stamp, number in found:
        topics[number % 7].append((stamp, number))
    for messages in topics.values():
        assert [n for _, n in messages] == sorted(n for _, n in messages)
        before = None
        for stamp, _ in messages:
            assert stamp.previous == before
            before = stamp.position


async def test_messages_are_stored_in_order_with_their_chain(
    node: NatsServer, stream_name: str
):
    async with connected(node.url) as wire:
        publisher, fence = await publisher_to(wire, stream_name)
        async with running(publisher):
            for number in range(3000):
                message = await put(publisher, stream_name, number)
            await publisher.flush()
        assert message.headers["Nats-Msg-Id"] == f"main.{fence.epoch}.2999"
        stats = publisher.stats
        assert (stats.put, stats.acknowledged, stats.pending) == (3000, 3000, 0)
        assert (stats.pending_bytes, stats.failed_batches, stats.resent) == (0, 0, 0)
        assert stats.acknowledged_counter == 2999
        assert (
            await last_stored(wire, stream_name, "main", fence.epoch, fence.sequence)
            == 2999
        )
    check_once_and_in_order(await stored(node.url, stream_name), 3000)


async def test_a_message_alone_is_acknowledged_at_once(node: NatsServer, stream_name):
    async with connected(node.url) as wire:
        publisher, _ = await publisher_to(wire, stream_name)
        async with running(publisher):
            for number in range(20):
                await put(publisher, stream_name, number)
                async with asyncio.timeout(0.9):  # No wait for the end of a batch.
                    await publisher.flush()
            await until(lambda: publisher.stats.batches == 20)


async def test_batches_last_at_most_a_second(
    node: NatsServer, stream_name, monkeypatch
):
    monkeypatch.setattr(publisher_module, "_BATCH_SECONDS", 0.05)
    async with connected(node.url) as wire:
        publisher, _ = await publisher_to(wire, stream_name)
        async with running(publisher):
            until_at = time.monotonic() + 0.5
            number = 0
            while time.monotonic() < until_at:
                await put(publisher, stream_name, number)
                number += 1
                if number % 50 == 0:
                    await asyncio.sleep(0)
            await publisher.flush()
        assert publisher.stats.batches >= 3
    check_once_and_in_order(await stored(node.url, stream_name), number)


async def test_a_put_waits_for_room(node: NatsServer, stream_name: str):
    async with connected(node.url) as wire:
        await ensure_stream(wire, stream_name, OPTIONS)
        fence = await claim_epoch(wire, stream_name, "main", "t")
        publisher = Publisher(
            *(wire, stream_name, "main", fence.epoch, fence.sequence), max_messages=10
        )
        for number in range(10):
            await put(publisher, stream_name, number)
        waiting = asyncio.create_task(put(publisher, stream_name, 10))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert publisher.stats.pending == 10
        async with running(publisher):
            await waiting
            await publisher.flush()
    check_once_and_in_order(await stored(node.url, stream_name), 11)


async def test_bytes_are_bounded_too_and_a_huge_message_is_refused(
    node: NatsServer, stream_name: str
):
    async with connected(node.url) as wire:
        publisher = Publisher(wire, stream_name, "main", 1, 1, max_bytes=1000)
        await publisher.put(Outgoing(0, "a", b"x" * 5000, {}))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await publisher.put(Outgoing(1, "a", b"x", {}))
        with pytest.raises(ValueError, match="too large, at most 900000"):
            await publisher.put(Outgoing(1, "a", b"x" * 900_001, {}))


@pytest.mark.fault("N11")
async def test_a_recorder_that_was_replaced_is_refused(node: NatsServer, stream_name):
    async with connected(node.url) as wire:
        old, _ = await publisher_to(wire, stream_name)
        new, _ = await publisher_to(wire, stream_name, token="other")
        async with running(old) as task:
            await put(old, stream_name, 0)
            with pytest.raises(
                FencedError, match="another process records as"
            ) as caught:
                await task
        assert b'"token":"other"' in (caught.value.fence or b"")
        async with running(new):
            await put(new, stream_name, 1)
            await new.flush()
    assert [number for _, number in await stored(node.url, stream_name)] == [1]


@pytest.mark.fault("N11")
async def test_a_recorder_that_was_stopped_in_a_batch_begins_another_one(
    node: NatsServer, stream_name: str, monkeypatch
):
    monkeypatch.setattr(publisher_module, "_BATCH_SECONDS", 0.02)
    async with connected(node.url) as wire:
        publisher, _ = await publisher_to(wire, stream_name)
        publish = wire.publish
        calls = 0

        async def slow(*args: Any, **named: Any) -> None:
            nonlocal calls
            calls += 1
            await publish(*args, **named)
            if calls == 3:
                await asyncio.sleep(0.1)

        monkeypatch.setattr(wire, "publish", slow)
        for number in range(10):
            await put(publisher, stream_name, number)
        async with running(publisher):
            await publisher.flush()
        assert publisher.stats.failed_batches == 1
        assert "stopped" in publisher.stats.last_error
    check_once_and_in_order(await stored(node.url, stream_name), 10)


async def test_a_cancelled_publisher_can_go_on(node: NatsServer, stream_name: str):
    async with connected(node.url) as wire:
        publisher, _ = await publisher_to(wire, stream_name)
        for number in range(1000):
            await put(publisher, stream_name, number)
            if number % 200 == 50:
                async with running(publisher):
                    for _ in range(number // 100):
                        await asyncio.sleep(0)
        async with running(publisher):
            await publisher.flush()
    check_once_and_in_order(await stored(node.url, stream_name), 1000)


async def load(publisher: Publisher, stream: str, stop: asyncio.Event) -> int:
    """Put messages until the event is set; return how many."""
    number = 0
    while not stop.is_set():
        await put(publisher, stream, number)
        number += 1
        if number % 20 == 0:
            await asyncio.sleep(0.001)
    return number


@pytest.mark.fault("N12")
async def test_a_killed_server_costs_no_message_and_no_order(
    node: NatsServer, stream_name: str
):
    async with connected(node.url) as wire:
        publisher, _ = await publisher_to(wire, stream_name)
        stop = asyncio.Event()
        async with running(publisher):
            loading = asyncio.create_task(load(publisher, stream_name, stop))
            for _ in range(3):
                await acknowledges(publisher, 500)
                await asyncio.to_thread(node.kill)
                await asyncio.to_thread(node.start)
            stop.set()
            count = await loading
            await publisher.flush()
        assert publisher.stats.failed_batches
    check_once_and_in_order(await stored(node.url, stream_name), count)


@pytest.mark.fault("N12")
async def test_atomic_batches_are_sent_where_fast_ones_are_not_taken(
    node: NatsServer, stream_name: str
):
    async with connected(node.url) as wire:
        body = {
            "name": stream_name,
            "subjects": [f"{stream_name}.>"],
            "max_bytes": 10**8,
            "allow_atomic": True,
        }
        await call(wire, f"STREAM.CREATE.{stream_name}", body)
        publisher, _ = await publisher_to(wire, stream_name, batches="atomic")
        stop = asyncio.Event()
        async with running(publisher):
            loading = asyncio.create_task(load(publisher, stream_name, stop))
            for _ in range(2):
                await acknowledges(publisher, 500)
                await asyncio.to_thread(node.kill)
                await asyncio.to_thread(node.start)
            stop.set()
            count = await loading
            await publisher.flush()
            await put(publisher, stream_name, count)
            await publisher.flush()
        assert publisher.stats.batches > 4
    check_once_and_in_order(await stored(node.url, stream_name), count + 1)


async def test_an_atomic_batch_that_is_stored_already_is_sent_message_by_message(
    node: NatsServer, stream_name: str
):
    async with connected(node.url) as wire:
        first, fence = await publisher_to(wire, stream_name, batches="atomic")
        async with running(first):
            sent = [await put(first, stream_name, number) for number in range(20)]
            await first.flush()
        again = Publisher(
            *(wire, stream_name, "main", fence.epoch, fence.sequence), batches="atomic"
        )
        for message in sent:
            await again.put(message)
        async with running(again):
            await again.flush()
        assert again.stats.failed_batches == 1
        assert "duplicate message id" in again.stats.last_error
    check_once_and_in_order(await stored(node.url, stream_name), 20)


@pytest.mark.fault("N12")
async def test_bytes_of_a_connection_that_was_given_up_may_arrive_late(
    node: NatsServer, stream_name: str
):
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(ChaosProxy(node.port))
        place = parse_place(f"nats://127.0.0.1:{proxy.port}/Q", {})
        wire = await stack.enter_async_context(
            Wire(place, connect_timeout=0.5, ping_interval=0.1)
        )
        await wire.connect()
        publisher, _ = await publisher_to(wire, stream_name)
        stop = asyncio.Event()
        async with running(publisher):
            loading = asyncio.create_task(load(publisher, stream_name, stop))
            for latency in (0.6, 1.5):
                await acknowledges(publisher, 300)
                proxy.to_client.timeout = True
                proxy.to_server.latency = latency
                await loses(wire)
                proxy.to_client.timeout = False
                proxy.to_server.latency = 0.0
                await acknowledges(publisher, 300)
                await asyncio.sleep(latency)
            stop.set()
            count = await loading
            await publisher.flush()
        assert publisher.stats.resent
    check_once_and_in_order(await stored(node.url, stream_name), count)


@pytest.mark.fault("N12")
async def test_a_slow_line_delays_messages_and_loses_none(
    node: NatsServer, stream_name: str
):
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(ChaosProxy(node.port))
        wire = await stack.enter_async_context(
            connected(f"nats://127.0.0.1:{proxy.port}")
        )
        publisher, _ = await publisher_to(wire, stream_name)
        proxy.to_server.latency = proxy.to_client.latency = 0.03
        proxy.to_server.slicer = 700
        async with running(publisher):
            for number in range(2000):
                await put(publisher, stream_name, number)
            await publisher.flush()
        assert wire.stats.lost == 0
    check_once_and_in_order(await stored(node.url, stream_name), 2000)


@pytest.mark.fault("N12")
async def test_a_server_that_restarts_gracefully_costs_no_message_and_no_order(
    node: NatsServer, stream_name: str
):
    async with connected(node.url) as wire:
        publisher, _ = await publisher_to(wire, stream_name)
        stop = asyncio.Event()
        async with running(publisher):
            loading = asyncio.create_task(load(publisher, stream_name, stop))
            await acknowledges(publisher, 500)
            await asyncio.to_thread(node.terminate)
            await asyncio.to_thread(node.start)
            stop.set()
            count = await loading
            await publisher.flush()
    check_once_and_in_order(await stored(node.url, stream_name), count)


@pytest.mark.fault("N12")
@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "terminate", "pause"])
async def test_a_leader_of_three_that_fails_costs_no_message_and_no_order(
    cluster: NatsCluster, stream_name: str, how: str
):
    async with connected(cluster.url) as wire:
        publisher, _ = await publisher_to(wire, stream_name, OPTIONS_3)
        stop = asyncio.Event()
        async with running(publisher):
            loading = asyncio.create_task(load(publisher, stream_name, stop))
            await acknowledges(publisher, 500)
            leader = await asyncio.to_thread(cluster.leader, stream_name)
            await asyncio.to_thread(getattr(leader, how))
            await acknowledges(publisher, 6000)
            stop.set()
            count = await loading
            await publisher.flush()
        await asyncio.to_thread(cluster.repair)
    check_once_and_in_order(await stored(cluster.url, stream_name), count)


@pytest.mark.fault("N13")
async def test_what_a_store_that_was_set_back_has_lost_is_sent_again(
    own_node: NatsServer, stream_name: str
):
    kept: list[Outgoing] = []
    await asyncio.to_thread(own_node.start)
    async with connected(own_node.url) as wire:
        await ensure_stream(wire, stream_name, OPTIONS)
        fence = await claim_epoch(wire, stream_name, "main", "t")
        publisher = Publisher(
            wire,
            stream_name,
            "main",
            fence.epoch,
            fence.sequence,
            history=lambda counter: [one for one in kept if one.counter >= counter],
        )
        async with running(publisher):
            kept += [await put(publisher, stream_name, n) for n in range(500)]
            await publisher.flush()
            await asyncio.to_thread(own_node.terminate)
            copy = await asyncio.to_thread(own_node.copy_store)
            await asyncio.to_thread(own_node.start)
            await wire.connect()
            kept += [await put(publisher, stream_name, n) for n in range(500, 1000)]
            await publisher.flush()
            await asyncio.to_thread(own_node.terminate)
            own_node.roll_back(copy)
            await asyncio.to_thread(own_node.start)
            await wire.connect()
            for number in range(1000, 1500):
                await put(publisher, stream_name, number)
            await publisher.flush()
        assert publisher.stats.acknowledged_counter == 1499
    check_once_and_in_order(await stored(own_node.url, stream_name), 1500)


@pytest.mark.fault("N13")
async def test_an_epoch_that_the_stream_has_lost_is_an_error(
    node: NatsServer, stream_name: str
):
    async with connected(node.url) as wire:
        publisher, _ = await publisher_to(wire, stream_name)
        await wire.request(f"$JS.API.STREAM.PURGE.{stream_name}")
        async with running(publisher) as task:
            await put(publisher, stream_name, 0)
            with pytest.raises(FencedError, match="has lost the epoch") as caught:
                await task
        assert caught.value.fence is None


async def test_a_stream_that_is_missing_is_waited_for(
    node: NatsServer, stream_name: str
):
    async with connected(node.url) as wire:
        publisher = Publisher(wire, stream_name, "main", 1, 1)
        async with running(publisher) as task:
            await put(publisher, stream_name, 0)
            await until(lambda: publisher.stats.failed_batches > 1)
            assert "stream" in publisher.stats.last_error
            assert not task.done()
            await ensure_stream(wire, stream_name, OPTIONS)
            fence = await claim_epoch(wire, stream_name, "main", "t", again=1)
            assert fence.sequence == 1
            await publisher.flush()


async def test_the_last_message_of_a_recorder_is_found_behind_those_of_others(
    node: NatsServer, stream_name: str
):
    async with connected(node.url) as wire:
        publisher, fence = await publisher_to(wire, stream_name)
        assert (
            await last_stored(wire, stream_name, "main", fence.epoch, fence.sequence)
            == -1
        )
        async with running(publisher):
            await put(publisher, stream_name, 0)
            await publisher.flush()
        for _ in range(30):
            await wire.publish(f"{stream_name}.link.other", b"x")
        assert (
            await last_stored(wire, stream_name, "main", fence.epoch, fence.sequence)
            == 0
        )
        for _ in range(300):
            await wire.publish(f"{stream_name}.link.other", b"x")
        await wire.request(f"{stream_name}.link.other", b"x")
        assert (
            await last_stored(wire, stream_name, "main", fence.epoch, fence.sequence)
            is None
        )
        with pytest.raises(BrokerError, match="there is no stream missing any more"):
            await last_stored(wire, "missing", "main", fence.epoch, fence.sequence)
        with contextlib.suppress(BrokerError):
            await wire.request(f"$JS.API.STREAM.DELETE.{stream_name}")
