"""Consumers at a server of a cluster that is behind the leader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from qos_async._core.wire import wire_topic
from qos_async.jetstream.pull import Pull
from qos_async.jetstream.start import messages_before
from qos_async.jetstream.subjects import topic_subject
from qos_async.jetstream.wire import Message, Wire, WireSubscription
from tests.support.written_stream import BTC, ETH, Log, push

pytestmark = pytest.mark.fault("N158")

BEHIND = 4  # What a server that is behind has: the fence, the link, and two pushes.


class LaggingWire(Wire):
    """A connection whose first consumers are at a server that is behind.

    Args:
        log: The stream.
        consumers: How many of them are.
    """

    def __init__(self, log: Log, consumers: int) -> None:
        super().__init__(log.place)
        self._left = consumers
        self._names: set[str] = set()

    async def request(self, subject: str, *args: Any, **options: Any) -> Any:
        reply = await super().request(subject, *args, **options)
        if ".CONSUMER.CREATE." not in subject or not self._left:
            return reply
        self._left -= 1
        self._names.add(subject.rpartition(".")[2])
        found = msgspec.json.decode(reply.data)
        first = found["config"]["opt_start_seq"]
        found["num_pending"] = max(BEHIND + 1 - first, 0)
        return SimpleNamespace(data=msgspec.json.encode(found))

    async def subscribe(
        self, subject: str, on_message: Callable[[Message], None], *args: Any
    ) -> WireSubscription:
        def deliver(message: Message) -> None:
            rest = message.reply.split(".")[2:]
            if len(rest) > 3 and rest[1] in self._names and int(rest[3]) > BEHIND:
                return
            on_message(message)

        return await super().subscribe(subject, deliver, *args)


@pytest.fixture
async def written(log: Log) -> Log:
    """A stream of ten pushes behind its fence and its link."""
    await log.writer.begin()
    for number in range(5):
        await log.writer.trades(BTC, number)
        await log.writer.trades(ETH, 10 + number)
    return log


@pytest.fixture
async def wire(written: Log, consumers: int) -> AsyncGenerator[Wire]:
    async with LaggingWire(written, consumers) as connection:
        yield connection


@pytest.mark.parametrize("consumers", [0, 1, 2])
async def test_all_messages_before_a_sequence_are_read(written: Log, wire: Wire):
    stream = written.stream
    async with asyncio.timeout(20):
        for end in (12, 9, 3):
            found = [one async for one in messages_before(wire, stream, [], end)]
            assert [one.sequence for one in found] == [*range(1, end)]
        pattern = [topic_subject(stream, wire_topic(ETH))]
        found = [one async for one in messages_before(wire, stream, pattern, 12)]
    assert [one.data for one in found] == [push(ETH, 10 + n) for n in range(5)][:4]


@pytest.mark.parametrize("consumers", [3])
async def test_a_follower_skips_nothing_that_the_leader_has(written: Log, wire: Wire):
    pull = Pull(wire, written.stream)
    pull.idle = 0.2
    await pull.start(1)
    found: list[int] = []
    async with asyncio.timeout(20):
        while len(found) < 12:
            found += [one.sequence for one in await pull.read()]
    assert found == [*range(1, 13)]
    await pull.aclose()
