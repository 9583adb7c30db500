"""Parts of ``stream``: brokers, prebuilt messages, bare loops of nats-py, processes.

    python -m benchmarks.stream_parts record PLACE URL
    python -m benchmarks.stream_parts feed PLACE TICKS
    python -m benchmarks.stream_parts drain PLACE TICKS

The bare loops do the same work with the client library alone: a window of publishes with
acknowledgements, and a pull loop that splits and decodes payloads.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import nats
from nats.aio.client import Client as NatsClient

from benchmarks.baselines import client as live_client
from benchmarks.harness import CORES, Figures, Round
from benchmarks.wires import symbols, trade
from qos_async import Recorder, Topic
from qos_async._core.wire import FrameDecoder
from qos_async.jetstream.api import call
from qos_async.jetstream.lease import claim_epoch
from qos_async.jetstream.messages import Stamper, encode_link
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.streams import StreamOptions, ensure_stream
from qos_async.jetstream.subjects import link_subject, topic_subject
from qos_async.jetstream.wire import Wire
from qos_async.recordings import follow
from qos_async.recordings.format import encode_header
from qos_async.topics import WireTopic
from tests.support.nats_servers import NatsCluster, NatsServer

__all__ = [
    "STREAM",
    "TOGETHER",
    "bare_in",
    "bare_out",
    "brokers",
    "bursts",
    "feed",
    "fill",
    "recorder_in",
    "remove",
]

STREAM = "BENCH"
TOGETHER = 10
"""Ticks a message."""

_WINDOW = 2_000
_BATCH = 1_000
_RECORDER = "bench"
_TOPICS = 100
_BURST = 10  # Messages that a recorder makes of one burst.
_PENDING = 20_000  # Messages for which a recorder is not given more.
_PAUSE = 0.001


class _Broker(Protocol):
    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...


@contextmanager
def brokers(nodes: int) -> Iterator[_Broker]:
    """Start one node or three, on the core of the servers."""
    with tempfile.TemporaryDirectory() as folder:
        kind: Callable[[Path], _Broker] = NatsServer if nodes == 1 else NatsCluster
        broker = kind(Path(folder))
        own = os.sched_getaffinity(0)
        if CORES is not None:  # A child has the cores of its parent.
            os.sched_setaffinity(0, {CORES[1]})
        try:
            broker.start()
        finally:
            os.sched_setaffinity(0, own)
        try:
            yield broker
        finally:
            broker.kill()


@asynccontextmanager
async def stream_of(
    url: str, name: str, *, replicas: int = 1
) -> AsyncGenerator[tuple[NatsClient, int]]:
    """Create a stream; yield a bare connection, and the epoch of a recorder."""
    async with Wire(parse_place(f"{url}/{name}", {})) as wire:
        await ensure_stream(wire, name, StreamOptions(replicas=replicas))
        fence = await claim_epoch(wire, name, _RECORDER, "token")
    client = await connect(url)
    try:
        yield client, fence.epoch
    finally:
        await client.close()


async def remove(url: str, name: str) -> None:
    """Delete a stream: each reserves half of the room that the broker has."""
    async with Wire(parse_place(f"{url}/{name}", {})) as wire:
        await call(wire, f"STREAM.DELETE.{name}")


async def connect(url: str) -> NatsClient:
    """Return a bare connection."""
    return await nats.connect(url.split(","), pending_size=1024**3)


class Prebuilt(NamedTuple):
    """A message, ready to be published."""

    subject: str
    payload: bytes
    headers: dict[str, str]


def pushes(symbol: str, number: int, count: int = TOGETHER) -> list[bytes]:
    """Return trades of a symbol."""
    return [trade(symbol, 24600 + (number + one) % 100) for one in range(count)]


def prebuilt(
    name: str, epoch: int, topics: int, messages: int, together: int = TOGETHER
) -> list[Prebuilt]:
    """Return messages as a recorder sends them, after its ``started``."""
    names = symbols(topics)
    subjects = [topic_subject(name, WireTopic("T", one)) for one in names]
    stamper = Stamper(_RECORDER, epoch)
    at = time.time_ns()
    started = encode_header(
        at, "run", 0, link=True, topics=[f"trade {one}" for one in names], gaps=True
    )
    first = stamper.stamp(
        link_subject(name, _RECORDER), encode_link(started), at=at, up=0
    )
    made = [Prebuilt(first.subject, first.payload, first.headers)]
    payloads = [
        b"\n".join(pushes(one, place, together)) for place, one in enumerate(names)
    ]
    for number in range(messages):
        place, up = number % topics, 1_000_000 * (1 + number // 10)
        one = stamper.stamp(subjects[place], payloads[place], at=at + up, up=up)
        made.append(Prebuilt(one.subject, one.payload, one.headers))
    return made


async def publish_all(client: NatsClient, messages: list[Prebuilt]) -> None:
    """Publish through a window; return when everything is acknowledged."""
    inbox, room, failed = client.new_inbox(), asyncio.Semaphore(_WINDOW), list[bytes]()
    acknowledged, done = 0, asyncio.Event()

    async def on_ack(message: Any) -> None:
        nonlocal acknowledged
        acknowledged += 1
        if b'"error"' in message.data:
            failed.append(message.data)
        room.release()
        if acknowledged == len(messages):
            done.set()

    subscription = await client.subscribe(f"{inbox}.*", cb=on_ack)
    for number, (subject, payload, headers) in enumerate(messages):
        await room.acquire()
        await client.publish(subject, payload, f"{inbox}.{number}", headers)
    await done.wait()
    await subscription.unsubscribe()
    if failed:
        raise RuntimeError(f"{len(failed)} messages were refused: {failed[0]!r}")


async def bare_in(url: str, name: str, replicas: int, ticks: int) -> Figures:
    """Publish prebuilt messages."""
    async with stream_of(url, name, replicas=replicas) as (client, epoch):
        messages = prebuilt(name, epoch, _TOPICS, ticks // TOGETHER)
        await publish_all(client, messages[:_BATCH])
        del messages[:_BATCH]
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        await publish_all(client, messages)
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
    await remove(url, name)
    count = len(messages) * TOGETHER
    return {"wall": wall / count, "cpu": cpu / count}


def bursts() -> list[list[bytes]]:
    """Return what a recorder is given together: ten ticks of each of ten symbols."""
    names = symbols(_TOPICS)
    return [
        [push for one in names[first : first + _BURST] for push in pushes(one, first)]
        for first in range(0, _TOPICS, _BURST)
    ]


async def recorder_in(url: str, name: str, ticks: int) -> Figures:
    """Have a recorder store bursts; the last is acknowledged."""
    async with _recorder(f"{url}/{name}") as recorder:
        groups = bursts()
        await feed(recorder, groups)
        count = ticks // len(groups[0])
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        await feed(recorder, (groups[one % len(groups)] for one in range(count)))
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
        stats = recorder.stats
    if stats.dropped or stats.pending:
        raise RuntimeError(f"not everything was stored: {stats}")
    await remove(url, name)
    count *= len(groups[0])
    return {"wall": wall / count, "cpu": cpu / count}


async def feed(recorder: Recorder, groups: Iterable[Sequence[bytes]]) -> None:
    """Record bursts as fast as they are stored, and wait for the last."""
    for group in groups:
        recorder.frames(group, sum(map(len, group)), plain=True)
        await asyncio.sleep(0)
        while recorder.stats.pending > _PENDING:  # noqa: ASYNC110 - a counter
            await asyncio.sleep(_PAUSE)
    await recorder.flush()


class _NoLink:
    """A link that has missed nothing: without a lease it is not used otherwise."""

    def inherit(self, outages: object) -> None:
        """Take over nothing."""


@asynccontextmanager
async def _recorder(place: str) -> AsyncGenerator[Any]:
    """Yield a recorder of a link that is open."""
    recorder: Any = Recorder(place)
    recorder.attach(lambda text: text)
    await recorder.before_dial(_NoLink())
    recorder.opened()
    recorder.subscribed([Topic("trade", one) for one in symbols(_TOPICS)])
    try:
        yield recorder
    finally:
        await recorder.aclose()


async def fill(
    url: str, name: str, topics: int, messages: int, together: int = TOGETHER
) -> None:
    """Create a stream that has messages."""
    async with stream_of(url, name) as (client, epoch):
        await publish_all(client, prebuilt(name, epoch, topics, messages, together))


async def bare_out(url: str, name: str, round_: Round) -> Figures:
    """Pull, split and decode."""
    decode = FrameDecoder(float).push
    client, loop = await connect(url), asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    config = {"ack_policy": "none", "deliver_policy": "all", "mem_storage": True}
    reply = await client.request(
        f"$JS.API.CONSUMER.CREATE.{name}",
        json.dumps({"stream_name": name, "config": config}).encode(),
    )
    consumer = json.loads(reply.data)["name"]
    inbox, asked = client.new_inbox(), json.dumps({"batch": _BATCH}).encode()
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{name}.{consumer}"
    seen, left, goal = 0, 2 * _BATCH, round_.goal

    async def on_message(message: Any) -> None:
        nonlocal seen, left, goal
        left -= 1
        if left == _BATCH:
            left += _BATCH
            await client.publish(subject, asked, inbox)
        if not message.subject.startswith(f"{name}.T."):
            return
        for push in message.data.split(b"\n"):
            decode(push)
            seen += 1
        if goal and seen >= goal:
            goal = round_.mark(seen)
            if not goal:
                done.set_result(None)

    await client.subscribe(inbox, cb=on_message, pending_bytes_limit=-1)
    for _ in range(2):
        await client.publish(subject, asked, inbox)
    await done
    await client.close()
    return round_.figures


# Processes


async def _record(place: str, url: str) -> None:
    """Record the trades of a server; print a line once they are stored."""
    recorder = Recorder(place)
    async with live_client(url, float, recorder=recorder) as client:
        seen = 0
        async for _ in client.watch_trades(*symbols(1)):
            seen += 1
            if seen == 1:
                await recorder.flush()
                print("recording", flush=True)


async def _feed(place: str, ticks: int) -> None:
    """Record as many ticks; print the memory after a tenth of them, and at the end."""
    groups = bursts()
    count = ticks // len(groups[0])
    async with _recorder(place) as recorder:
        for part in (count // 10, count - count // 10):
            await feed(recorder, (groups[one % len(groups)] for one in range(part)))
            print(_memory(), flush=True)


async def _drain(place: str, ticks: int) -> None:
    """Follow as many ticks; print the memory after a tenth of them, and at the end."""
    seen, goal = 0, ticks // 10
    async with follow(place, start="first", numbers=float) as client:
        trades = client.watch_trades(*symbols(_TOPICS))
        async for batch in trades.batches():
            seen += len(batch)
            if seen >= goal:
                print(_memory(), flush=True)
                if goal == ticks:
                    break
                goal = ticks
        assert not trades.stats.dropped


def _memory() -> int:
    """Return the bytes of memory that this process has."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main(words: Sequence[str]) -> None:
    kind, place, word = words
    match kind:
        case "record":
            asyncio.run(_record(place, word))
        case "feed":
            asyncio.run(_feed(place, int(word)))
        case _:
            asyncio.run(_drain(place, int(word)))


if __name__ == "__main__":
    main(sys.argv[1:])
