"""A stream that a test writes message by message, as a recorder would."""

from __future__ import annotations

import asyncio
from typing import Any

from qos_async import Topic
from qos_async._core.wire import wire_topic
from qos_async._io.transport import EndOfStream
from qos_async.jetstream.lease import claim_epoch
from qos_async.jetstream.messages import Position, Stamp, encode_headers
from qos_async.jetstream.places import StreamPlace, parse_place
from qos_async.jetstream.source import StreamSource
from qos_async.jetstream.subjects import link_subject, topic_subject
from qos_async.jetstream.wire import Wire
from qos_async.recordings.format import Entry, Event, encode_event, encode_header
from qos_async.recordings.source import Opening
from tests.support.nats_servers import NatsServer

__all__ = ["BTC", "ETH", "Log", "Reader", "Writer", "push"]

BTC = Topic("trade", "CF:BTCUSDT")
ETH = Topic("trade", "CF:ETHUSDT")

BEGAN = 1_750_000_000_000_000_000
"""The time of the first message, in nanoseconds since the epoch."""


def push(topic: Topic, number: int) -> bytes:
    text = '{"tp":"T","c":"%s","p":"%d","v":"1","ts":1750000000}'
    return (text % (topic.symbol, number)).encode()


class Writer:
    """A recorder that does what a test says."""

    def __init__(self, wire: Wire, stream: str, name: str) -> None:
        self.wire, self.stream, self.name = wire, stream, name
        self.epoch = self.counter = self.up = 0
        self.step = 1_000_000  # Nanoseconds between two messages.
        self.previous: dict[str, Position] = {}

    async def begin(self, run: str = "r", number: int = 0, **state: object) -> None:
        fence = await claim_epoch(self.wire, self.stream, self.name, "token")
        self.epoch = fence.epoch
        self.counter = 0
        self.previous.clear()
        options: dict[str, Any] = {"link": True, "topics": [], "gaps": True, **state}
        await self.link(encode_header(0, run, number, **options))

    async def link(self, line: bytes) -> None:
        await self.put(link_subject(self.stream, self.name), line.removesuffix(b"\n"))

    async def event(self, kind: Event, **fields: Any) -> None:
        await self.link(encode_event(BEGAN + self.up, kind, **fields))

    async def trades(self, topic: Topic, *numbers: int) -> None:
        subject = topic_subject(self.stream, wire_topic(topic))
        await self.put(subject, b"\n".join(push(topic, number) for number in numbers))

    async def put(self, subject: str, payload: bytes) -> None:
        await self.send(subject, payload, self.stamp(subject))

    def stamp(self, subject: str) -> Stamp:
        self.up += self.step
        position = Position(self.epoch, self.counter)
        at = BEGAN + self.up
        made = Stamp(self.name, position, self.previous.get(subject), at, self.up)
        self.counter += 1
        self.previous[subject] = position
        return made

    async def send(self, subject: str, payload: bytes, stamp: Stamp) -> None:
        await self.wire.request(subject, payload, headers=encode_headers(stamp))


class Reader:
    """A source that was opened, and what it has returned."""

    def __init__(self, source: StreamSource, opening: Opening) -> None:
        self.source, self.opening = source, opening
        self.entries: list[Entry] = []

    async def read(self, count: int) -> list[Entry]:
        async with asyncio.timeout(20):
            while len(self.entries) < count:
                self.entries += await self.source.read()
        return self.entries

    async def all(self) -> list[Entry]:
        try:
            while True:
                self.entries += await self.source.read()
        except EndOfStream:
            return self.entries


class Log:
    """A stream with a writer."""

    def __init__(self, node: NatsServer, wire: Wire, stream: str) -> None:
        self.wire, self.stream = wire, stream
        self.place: StreamPlace = parse_place(f"{node.url}/{stream}", {})
        self.writer = Writer(wire, stream, "main")
        self.sources: list[StreamSource] = []

    async def open(self, start: Any = None, **options: Any) -> Reader:
        source = StreamSource(self.place, start, **options)
        self.sources.append(source)
        return Reader(source, await source.open())
