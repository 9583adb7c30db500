"""What a recorder that takes over finds in the stream, on a real server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from qos_async import Topic
from qos_async._io.dial_gate import InheritedOutage, OlderPush
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.streams import StreamOptions, ensure_stream
from qos_async.jetstream.takeover import inherited_outages
from qos_async.jetstream.wire import Wire
from qos_async.recordings.format import encode_header
from tests.support.nats_servers import NatsServer
from tests.support.written_stream import BTC, ETH, Writer, push

pytestmark = pytest.mark.fault("N120")


BOTH = [str(BTC), str(ETH)]
BASE = 1_750_000_000_000_000_000


@pytest.fixture
async def wire(node: NatsServer, stream_name: str) -> AsyncGenerator[Wire]:
    async with Wire(parse_place(f"{node.url}/{stream_name}", {})) as made:
        await made.connect()
        await ensure_stream(made, stream_name, StreamOptions(max_bytes=50_000_000))
        yield made


@pytest.fixture
async def writer(wire: Wire, stream_name: str) -> Writer:
    """A recorder that has both topics."""
    made = Writer(wire, stream_name, "main")
    await made.begin()
    await made.event("subscribed", topics=BOTH)
    return made


async def found(writer: Writer) -> dict[Topic, InheritedOutage]:
    """Return what a successor finds."""
    await Writer(writer.wire, writer.stream, writer.name).begin("new")
    outages = await inherited_outages(writer.wire, writer.stream, writer.name)
    return {one.topic: one for one in outages}


def frames(pushes: Sequence[OlderPush]) -> list[bytes]:
    return [one.frame for one in pushes]


def trades(topic: Topic, *numbers: int) -> list[bytes]:
    return [push(topic, number) for number in numbers]


async def test_a_first_recorder_finds_nothing(wire: Wire, stream_name: str):
    writer = Writer(wire, stream_name, "main")
    await writer.begin()
    assert await inherited_outages(wire, stream_name, "main") == []
    assert await inherited_outages(wire, "MISSING", "main") == []


async def test_the_last_trades_of_each_topic_are_found(writer: Writer):
    await writer.trades(BTC, 1, 2)
    await writer.trades(ETH, 7)
    await writer.trades(BTC, 3)
    outages = await found(writer)
    assert frames(outages[BTC].tail) == trades(BTC, 1, 2, 3)
    assert frames(outages[ETH].tail) == trades(ETH, 7)
    assert {one.since for one in outages.values()} == {BASE + writer.up}
    assert {one.reason for one in outages.values()} == {"the recorder has changed"}


async def test_a_topic_that_trades_rarely_has_its_last_message(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("qos_async.jetstream.takeover._LATEST", 3)
    await writer.trades(ETH, 7)
    for number in range(10):
        await writer.trades(BTC, number)
    outages = await found(writer)
    assert frames(outages[ETH].tail) == trades(ETH, 7)
    assert frames(outages[BTC].tail)[-1:] == trades(BTC, 9)


async def test_other_recorders_and_epochs_that_are_over_do_not_count(writer: Writer):
    await writer.trades(BTC, 1)
    other = Writer(writer.wire, writer.stream, "other")
    await other.begin()
    await other.trades(BTC, 100)
    await other.trades(ETH, 100)
    late = writer.stamp(f"{writer.stream}.T.CF.BTCUSDT")
    await writer.begin("again")
    await writer.event("subscribed", topics=[str(BTC)])
    await writer.trades(BTC, 2)
    await writer.send(f"{writer.stream}.T.CF.BTCUSDT", push(BTC, 50), late)
    outages = await found(writer)
    # What came before it was subscribed again had a gap behind it.
    assert frames(outages[BTC].tail) == trades(BTC, 2)
    assert frames(outages[ETH].tail) == []


async def test_an_outage_that_goes_on_keeps_what_was_held_back(writer: Writer):
    await writer.trades(BTC, 1, 2)
    lost_since = BASE + writer.up
    await writer.event("lost", reason="the network")
    await writer.event("opened")
    await writer.trades(BTC, 5, 6)
    outages = await found(writer)
    assert frames(outages[BTC].tail) == trades(BTC, 1, 2)
    assert frames(outages[BTC].held) == trades(BTC, 5, 6)
    assert outages[BTC].since == outages[ETH].since == lost_since


@pytest.mark.parametrize("status", ["filled", "partial", "unverified"])
async def test_what_was_fetched_is_part_of_what_followers_have(
    writer: Writer, status: str
):
    await writer.trades(BTC, 1)
    await writer.event("lost", reason="the network")
    await writer.event("opened")
    await writer.event("subscribed", topics=BOTH)
    await writer.trades(BTC, 4, 5)
    rows: list[Any] = [{"tp": "T", "c": "CF:BTCUSDT", "p": "3", "v": "1", "ts": 1}, 0]
    await writer.event("fetched", topics=[str(BTC)], status=status, rows=rows)
    await writer.trades(BTC, 6)
    outages = await found(writer)
    tail = frames(outages[BTC].tail)
    assert tail[-2:] == trades(BTC, 5, 6)
    assert len(tail) == {"filled": 5, "partial": 4, "unverified": 2}[status]
    assert not outages[BTC].held


async def test_what_was_unsubscribed_has_an_outage_since_then(writer: Writer):
    await writer.trades(BTC, 1)
    since = BASE + writer.up
    await writer.event("unsubscribed", topics=[str(BTC)])
    await writer.trades(ETH, 1)
    ended_at = BASE + writer.up
    await writer.event("closed")
    outages = await found(writer)
    assert outages[BTC].since == since
    assert frames(outages[BTC].tail) == trades(BTC, 1)
    assert outages[ETH].since == ended_at


@pytest.mark.parametrize("count", [0, 3])
async def test_pushes_of_an_outage_that_drops_ended_are_not_held_back(
    writer: Writer, count: int
):
    """Followers have them: the numbers in the end of the next outage do not count them."""
    await writer.trades(BTC, 1)
    await writer.event("suspect", topics=[str(BTC)], reason="a pause", since=5)
    await writer.trades(BTC, 2, 3)
    await writer.event("dropped", count=count)
    if not count:  # There was no room for the end, and the state follows.
        await writer.link(encode_header(0, "s", 0, link=True, topics=BOTH, gaps=True))
    await writer.trades(BTC, 4)
    outages = await found(writer)
    assert not outages[BTC].held
    kept = (4,) if count else (2, 3, 4)
    assert frames(outages[BTC].tail) == trades(BTC, *kept)
    assert outages[BTC].since == BASE + writer.up
