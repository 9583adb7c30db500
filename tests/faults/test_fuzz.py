"""Fuzz tests: damaged samples and arbitrary bytes.

No bytes raise anything but ``DecodeError`` from a decoder, or anything at all from the
conversation; each frame is counted once, under one name; and afterwards all works.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from qos_async._core.events import (
    KeyRejected,
    LinkTimedOut,
    Outcome,
    ServerError,
    Unreadable,
)
from qos_async._core.protocol import StreamProtocol
from qos_async._core.queries import Queries, Query
from qos_async._core.recovery import Recovery
from qos_async._core.stats import Counters
from qos_async._core.wire import FrameDecoder
from qos_async.config import Limits, Timing
from qos_async.enums import LinkState
from qos_async.errors import DecodeError, QosError
from qos_async.models import CHANNELS
from qos_async.testing.virtual import run
from qos_async.topics import Topic
from tests.support.memory_transport import Network, opened, trade
from tests.support.wire_frames import PUSHES, SAMPLES, ack, new_protocol

pytestmark = pytest.mark.fault("P5", "P12", "P13", "P17", "P18", "P19", "P20")

more = int(os.environ.get("QOS_TEST_EFFORT", "1"))


def effort(examples: int) -> settings:
    """Let more machines, or more time, look harder."""
    return settings(
        max_examples=examples * more,
        deadline=None,
        derandomize=more == 1,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


NUMBERS: list[type[Any]] = [Decimal, float, str]
WHOLE = [path.read_bytes() for path in sorted(SAMPLES.glob("*.json"))]
LIVE = [
    *(json.dumps(push).encode() for push in PUSHES.values()),
    *(path.read_bytes() for path in sorted(SAMPLES.glob("ws-*.json"))),
]
_VALUE = re.compile(rb'"[^"]*"|-?[0-9][0-9.eE+-]*|true|false|null|[\[\]{}]')
_JUNK = [
    b"null",
    b"true",
    b"{}",
    b"[]",
    b'[{"p":"1"}]',
    b'""',
    b"-0",
    b"0",
    b"1.5",
    b"NaN",
    b'"NaN"',
    b'"sNaN"',
    b'"-Infinity"',
    b"1e999",
    b'"1e1000000000"',
    b'"1_000"',
    '"١٢"'.encode(),
    b"9" * 30,
    b"-" + b"9" * 400,
    b"9" * 5_000,
    b'"' + b"9" * 5_000 + b'"',
    b'"\\ud800"',
    b'"\\u0000"',
    b'"\x00"',
    b'"\xff"',
    b'"OK"',
    b'"Key expired"',
    b'"limit"',
    b'"US:AAPL"',
    b'"HK:00700"',
    b'"A:B:C"',
    b'"type"',
    b'"tp"',
    b'"reqid"',
    b'"S"',
    b'"T"',
    b'"K"',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"x" * 3_000,
]
_CODECS = ["utf-16", "utf-32", "utf-8-sig", "utf-7"]


def flip(draw: st.DrawFn, data: bytes, at: int, to: int) -> bytes:
    if at == len(data):
        return data
    return (
        data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
    )


def insert(draw: st.DrawFn, data: bytes, at: int, to: int) -> bytes:
    junk = draw(st.one_of(st.binary(max_size=4), st.sampled_from(_JUNK)))
    return data[:at] + junk + data[at:]


def exchange(draw: st.DrawFn, data: bytes, at: int, to: int) -> bytes:
    """Put junk where a value, a name or a bracket was."""
    found = list(_VALUE.finditer(data[:20_000]))
    if not found:
        return data
    place = draw(st.sampled_from(found))
    return data[: place.start()] + draw(st.sampled_from(_JUNK)) + data[place.end() :]


def recode(draw: st.DrawFn, data: bytes, at: int, to: int) -> bytes:
    text = data[:20_000].decode("utf-8", "replace")
    return text.encode(draw(st.sampled_from(_CODECS)))


_WAYS: list[Callable[[st.DrawFn, bytes, int, int], bytes]] = [
    lambda draw, data, at, to: data[:at],  # Cut it short.
    lambda draw, data, at, to: data[:at] + data[to:],  # Leave some out.
    lambda draw, data, at, to: data[:to] + data[at:],  # Repeat a part.
    flip,
    insert,
    exchange,
    exchange,
    recode,
]


@st.composite
def bent(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """Bend one of the samples once or a few times."""
    data = draw(st.sampled_from(samples))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
        at = draw(st.integers(0, len(data)))
        to = min(at + draw(st.sampled_from([0, 1, 2, 8, 40])), len(data))
        data = draw(st.sampled_from(_WAYS))(draw, data, at, to)
    return data


def frames(samples: list[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy of damaged samples, and sometimes of arbitrary bytes."""
    return st.one_of(bent(samples), bent(samples), bent(samples), st.binary())


# The decoders


def all_queries(numbers: type[Any]) -> list[Query[Any]]:
    """Send every kind of request."""
    made: Queries[Any] = Queries(numbers, chunk=10)
    return [
        *made.instruments(["US:AAPL"]),
        *made.snapshots(["US:AAPL"]),
        *made.depths(["US:AAPL"]),
        *made.trades(["US:AAPL"], count=1),
        *made.klines(["US:AAPL"], interval="1d", count=1),
        made.calendar(["US"]),
        made.products(["US"]),
    ]


QUESTIONS = {numbers: all_queries(numbers) for numbers in NUMBERS}
READERS = {numbers: FrameDecoder(numbers) for numbers in NUMBERS}


def numbers_in(value: Any) -> Iterator[Any]:
    """Return the numbers in a decoded value, except integers."""
    match value:
        case Decimal() | float():
            yield value
        case dict():
            yield from numbers_in(list(value.values()))
        case list() | tuple():
            for item in value:
                yield from numbers_in(item)
        case msgspec.Struct():
            yield from numbers_in(astuple(value))
        case _:
            pass


def assert_sound(value: Any, numbers: type[Any]) -> None:
    """Assert that each number is of the requested type, and finite."""
    for number in numbers_in(value):
        assert type(number) is numbers
        assert Decimal(number).is_finite()


@pytest.mark.parametrize("numbers", NUMBERS)
@effort(250)
@given(data=frames(WHOLE))
def test_a_decoder_raises_nothing_but_decode_errors(data: bytes, numbers: type[Any]):
    answers = [data]
    try:
        message = READERS[numbers].read(data)
        assert_sound(message, numbers)
        answers.append(bytes(getattr(message, "data", b"")))
    except DecodeError as exc:
        assert exc.__context__ is None  # noqa: PT017 - either outcome is right
    for query in QUESTIONS[numbers]:
        for answer in answers:
            try:
                assert_sound(query.read(answer), numbers)
            except DecodeError as exc:
                assert exc.__context__ is None  # noqa: PT017 - see above


# The conversation

_TOPICS = [
    Topic("trade", "US:AAPL"),
    Topic("depth", "CF:BTCUSDT"),
    Topic("snapshot", "SH:600938"),
    Topic("kline", "CF:BTCUSDT", "1d"),
]


class Conversation:
    """A protocol in use: four channels, requests, and an outage."""

    def __init__(self, numbers: type[Any]) -> None:
        queries: Queries[Any] = Queries(numbers, chunk=10)
        self.now = 0.0
        self.over = False
        self.stats = Counters()
        self.protocol: StreamProtocol[Any] = StreamProtocol(
            numbers,
            limits=Limits(),
            timing=Timing(),
            stats=self.stats,
            recovery=Recovery(queries),
        )
        self.protocol.link_up(0.0)
        self.protocol.registry.want(_TOPICS)
        for _ in _TOPICS:
            self.send_next(answered=True)
        self.protocol.link_down("cut", self.now)
        self.protocol.link_up(self.now)

    def send_next(self, *, answered: bool) -> None:
        """Let the client send its next frame, and reply if ``answered``."""
        self.now = max(self.now, self.protocol.wake_at())
        for outcome in self.protocol.tick(self.now):
            assert isinstance(outcome, Outcome)
            if isinstance(outcome, LinkTimedOut):
                self.protocol.link_down("lost", self.now)
                self.protocol.link_up(self.now)
        frame = self.protocol.poll(self.now)
        if answered and frame is not None:
            self.now += 0.1
            self.receive(ack(frame))

    def receive(self, data: bytes) -> bool:
        """Let the client receive a frame; return whether it was a tick."""
        event = self.protocol.receive(data, self.now)
        if type(event) in CHANNELS:
            return True
        assert event is None or isinstance(event, Outcome), event
        self.over |= isinstance(event, KeyRejected)
        if isinstance(event, (Unreadable, ServerError)):
            text = event.reason if isinstance(event, Unreadable) else event.message
            assert text.isprintable()
            assert len(text) < 1000
        return False

    @property
    def counted(self) -> int:
        """The number of counted frames, of all kinds; pushes are counted in ``_io``."""
        stats = self.stats
        assert stats.unmatched <= stats.answers
        return stats.answers + stats.unreadable + stats.unknown


@pytest.mark.parametrize("numbers", NUMBERS)
@effort(200)
@given(
    story=st.lists(st.tuples(frames(LIVE), st.booleans()), min_size=1, max_size=4),
)
def test_any_frame_is_an_event_or_a_counted_skip(
    story: list[tuple[bytes, bool]], numbers: type[Any]
):
    conversation = Conversation(numbers)
    for data, answered in story:
        conversation.send_next(answered=answered)
        before = conversation.counted
        is_tick = conversation.receive(data)
        assert conversation.counted - before == (not is_tick)
    if not conversation.over:
        for _ in range(40):
            conversation.send_next(answered=True)
        assert set(_TOPICS) >= conversation.protocol.registry.held
        assert conversation.protocol.registry.settled


def replaced(data: bytes) -> Iterator[bytes]:
    """Replace each value, name and bracket by each piece of junk."""
    for place in _VALUE.finditer(data):
        for junk in _JUNK:
            yield data[: place.start()] + junk + data[place.end() :]


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("kind", PUSHES)
def test_a_push_with_any_value_in_any_field_is_a_tick_or_a_counted_skip(
    kind: str, numbers: type[Any]
):
    conversation = Conversation(numbers)
    for data in replaced(json.dumps(PUSHES[kind]).encode()):
        before = conversation.counted
        event = conversation.protocol.receive(data, conversation.now)
        is_tick = type(event) in CHANNELS
        assert conversation.counted - before == (not is_tick), data[:200]
        assert_sound(event if is_tick else None, numbers)


def test_a_reply_with_any_value_in_any_field_is_counted():
    kinds: list[str] = []
    for data in replaced(ack(b'{"type":"T","reqid":1}', data=[{"c": "US:AAPL"}])):
        protocol = new_protocol()
        protocol.registry.want(_TOPICS[:1])
        protocol.poll(0.0)
        event = protocol.receive(data, 1.0)
        stats = protocol.stats
        assert stats.answers + stats.unreadable + stats.unknown == 1, data[:200]
        kinds.append(type(event).__name__)
    assert {"Confirmed", "KeyRejected", "SubscriptionRejected", "Unreadable"} <= set(
        kinds
    )


# The whole client


@effort(100)
@given(story=st.lists(frames(LIVE), min_size=1, max_size=6))
def test_a_client_survives_any_frames(story: list[bytes]):
    run(lambda: _listen_to(story))


async def _listen_to(story: list[bytes]) -> None:
    net = Network()
    async with opened(net) as client:
        subs: list[Any] = [
            client.watch_trades("US:AAPL"),
            client.watch_depth("CF:BTCUSDT"),
            client.watch_klines("CF:BTCUSDT", interval="1d", final=True),
            client.watch_snapshots("SH:600938"),
        ]
        await net.until(lambda: net.peers and len(net.peers[0].topics) == len(subs))
        net.peers[0].push(*story)
        await asyncio.sleep(30)
        if client.state is not LinkState.CLOSED:  # Else the frames rejected its key.
            net.open_peers[-1].push(trade(4711))
            try:
                async with asyncio.timeout(120):
                    while (await anext(subs[0])).price != 4711:
                        pass
            except QosError as exc:
                assert "internal" not in str(exc)  # noqa: PT017 - a refusal is right
        stats = client.stats
        counted = stats.ticks + stats.answers + stats.unreadable + stats.unknown
        assert stats.frames_received == counted
        assert stats.unmatched <= stats.answers
        assert all(sub.stats.received >= sub.stats.delivered for sub in subs)


def test_every_sample_of_the_document_is_present():
    assert len(WHOLE) == 50
    assert len(LIVE) > 30
