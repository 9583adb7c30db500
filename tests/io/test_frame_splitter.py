"""The frame splitter beside aiohttp's own reader: equal messages for equal bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from aiohttp import WSMsgType
from aiohttp.http import WebSocketReader
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qos_async._io.frame_splitter import (
    FastFrameParser,
    FrameBatchMessage,
    SyncHandoff,
    install,
)

MOST = 70_000


class Protocol:
    """The part of a connection that aiohttp's queue uses."""

    def __init__(self) -> None:
        self._reading_paused = False

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False


def frame(payload: bytes, first: int = 0x81, *, mask: bytes = b"") -> bytes:
    masked, length = 0x80 if mask else 0, len(payload)
    if length <= 125:
        head = struct.pack("!BB", first, masked | length)
    elif length <= 0xFFFF:
        head = struct.pack("!BBH", first, masked | 126, length)
    else:
        head = struct.pack("!BBQ", first, masked | 127, length)
    if mask:
        payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return head + mask + payload


LENGTHS = st.sampled_from([0, 1, 2, 3, 69, 124, 125, 126, 127, 300, 0xFFFF, 0x10000])
# Payloads that look like frames: a parser that loses count takes them for real ones.
PAYLOADS = st.one_of(
    st.binary(max_size=200),
    LENGTHS.map(lambda length: b"\x81" * length),
    LENGTHS.map(lambda length: (b"\x81\x01a" * length)[:length]),
)
TEXTS = PAYLOADS.map(frame)
CONTROLS = st.builds(
    frame, st.binary(max_size=20), st.sampled_from([0x89, 0x8A, 0x8A, 0x8A])
)
PARTS = st.lists(PAYLOADS, min_size=2, max_size=4).map(
    lambda parts: b"".join(
        frame(part, (0x80 if n == len(parts) - 1 else 0) | (0 if n else 1))
        for n, part in enumerate(parts)
    )
)
ODD = st.one_of(
    st.builds(frame, PAYLOADS, st.just(0x82)),
    st.builds(frame, st.binary(max_size=130), st.integers(0, 255)),
    st.builds(frame, PAYLOADS, st.just(0x81), mask=st.just(b"\1\2\3\4")),
    st.sampled_from([1000, 1005, 4999]).map(
        lambda code: frame(struct.pack("!H", code) + b"bye", 0x88)
    ),
    st.sampled_from(
        [MOST, 1 << 20, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    ).map(lambda length: b"\x81\x7f" + struct.pack("!Q", length) + b"{"),
    st.binary(max_size=8),
)
STREAMS = st.lists(
    st.one_of(TEXTS, TEXTS, TEXTS, CONTROLS, PARTS, ODD), max_size=25
).map(b"".join)
CUTS = st.lists(st.integers(1, 400) | st.integers(1, 70_000), max_size=60)


class Reading:
    """Reads messages from a queue at times.

    Attributes:
        received: Types and contents of the messages, batches split up; an error is last.
    """

    def __init__(self, *, split: bool, room: int, taking: Iterable[bool] = ()) -> None:
        self.protocol = Protocol()
        # A loop is needed only for waiting.
        self.queue = _queue_type()(self.protocol, room, loop=None)
        # A strong reference, as aiohttp has one: a stalled queue has only a weak one.
        self._reader: Any = WebSocketReader(
            self.queue, MOST, compress=False, decode_text=False
        )
        self.offer = SyncHandoff()
        splitter = FastFrameParser(self._reader, self.queue, self.offer)
        self.parser = splitter if split else self._reader
        self.received: list[tuple[Any, Any]] = []
        self.taken: list[list[bytes]] = []
        self.is_over = False
        self._taking = iter(taking)
        self.offer.handler = self._take_at_once

    def feed(self, data: Any) -> None:
        self.offer.reader_idle = next(self._taking, False)
        if not self.is_over:
            self.is_over = self.parser.feed_data(data)[0]

    def read(self) -> None:
        while self.queue._buffer:
            self._take(_result(self.queue.read()))

    def end(self) -> list[tuple[Any, Any]]:
        self.read()
        if (error := self.queue.exception()) is not None:
            self.received.append((type(error), getattr(error, "code", None)))
        return self.received

    def _take_at_once(self, frames: Sequence[bytes]) -> None:
        self.taken.append([*frames])
        self.received += [(WSMsgType.TEXT, data) for data in frames]

    def _take(self, message: Any) -> None:
        if isinstance(message, FrameBatchMessage):
            self.received += [(message.type, data) for data in message.data]
        else:
            self.received.append((message.type, message.data))


def _queue_type() -> Any:
    from aiohttp import _websocket  # noqa: PLC0415 - it has no public name

    return _websocket.reader.WebSocketDataQueue


def _result(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as exc:
        return exc.value
    raise AssertionError("it should not have to wait")


def chunks(data: bytes, cuts: Iterable[int]) -> Iterable[bytes]:
    for length in cuts:
        yield data[:length]
        data = data[length:]
    yield data


@settings(max_examples=300, deadline=None)
@given(
    data=STREAMS,
    cuts=CUTS,
    reads=st.lists(st.booleans(), max_size=60),
    room=st.sampled_from([50, 1000, 1 << 18]),
    taking=st.lists(st.booleans(), max_size=60),
)
@example(frame(b"a") * 30 + frame(b"", 0x89) + frame(b"b") * 3, [], [], 50, [])
@example(frame(b"a", 1) + frame(b"b") + frame(b"c", 0x80), [], [], 1000, [])
@example(frame(b"a") + b"\xff\xff", [], [], 1000, [])
@example(frame(b"a") * 3 + frame(b"b", 0x8A) + frame(b"c"), [3], [], 1000, [True] * 9)
@example(frame(b"a" * 125) * 9, [300, 1, 1, 1], [], 1000, [])
@example(frame(b"a" * 125) * 2, [253], [], 1000, [])
@example(frame(b"\x81\x01a" * 22_000) * 2, [10, 50_000], [], 1000, [])
@example(b"\xc1\x7e", [], [], 1000, [])
@example(b"\x89\xfe", [], [], 1000, [])
def test_the_messages_equal_those_of_aiohttps_reader(data, cuts, reads, room, taking):
    outcomes = []
    for split in (False, True):
        reading = Reading(split=split, room=room, taking=taking)
        for place, chunk in enumerate(chunks(data, cuts)):
            reading.feed(chunk)
            if place < len(reads) and reads[place]:
                reading.read()
        outcomes.append(reading.end())
    assert outcomes[1] == outcomes[0]


def test_frames_of_one_read_become_one_message():
    reading = Reading(split=True, room=1000)
    reading.feed(frame(b"one") + frame(b"2" * 300) + frame(b"three")[:4])
    (message, size), *others = reading.queue._buffer
    assert message == FrameBatchMessage(WSMsgType.TEXT, [b"one", b"2" * 300])
    assert size == len(frame(b"one") + frame(b"2" * 300))
    assert not others
    reading.feed(frame(b"three")[4:] + frame(b"four"))
    assert [text for _, text in reading.end()] == [
        b"one",
        b"2" * 300,
        b"three",
        b"four",
    ]


def test_few_frames_for_an_idle_reader_go_to_the_handler():
    reading = Reading(split=True, room=1000, taking=[True] * 9)
    reading.feed(frame(b"one") + frame(b"two"))
    assert reading.taken == [[b"one", b"two"]]
    assert not reading.queue._buffer
    reading.feed(frame(b"four") * 128)
    assert len(reading.taken) == 2
    reading.feed(frame(b"four") * 129)
    assert len(reading.taken) == 2
    assert reading.queue._buffer


def test_frames_do_not_overtake_queued_ones():
    reading = Reading(split=True, room=1000, taking=[False] + [True] * 9)
    reading.feed(frame(b"refused"))
    reading.feed(frame(b"behind it"))
    reading.read()
    reading.feed(frame(b"pong", 0x8A) + frame(b"behind that"))
    reading.read()
    assert not reading.taken
    reading.feed(frame(b"alone"))
    assert reading.taken == [[b"alone"]]


def test_frames_for_a_busy_reader_are_queued():
    reading = Reading(split=True, room=1000, taking=[False])
    reading.feed(frame(b"one"))
    assert not reading.taken
    assert [data for _, data in reading.end()] == [b"one"]


def test_a_full_queue_pauses_reading_until_it_is_read():
    reading = Reading(split=True, room=1000)
    for _ in range(20):
        reading.feed(frame(b"x" * 100) * 3)
    assert reading.protocol._reading_paused
    reading.read()
    assert not reading.protocol._reading_paused


def test_data_may_be_another_type_than_bytes():
    reading = Reading(split=True, room=1000)
    reading.feed(bytearray(frame(b"one")))
    reading.feed(bytearray(frame(b"two")[:1]))
    reading.feed(memoryview(frame(b"two")[1:]))
    assert [data for _, data in reading.end()] == [b"one", b"two"]


def test_the_end_of_data_is_passed_on():
    reading = Reading(split=True, room=1000)
    reading.parser.feed_eof()
    assert reading.queue.is_eof()


class Handler:
    """aiohttp's protocol object of a connection."""

    def __init__(self) -> None:
        self.fed: Any = None

    _reading_paused = False

    def set_parser(self, parser: Any, payload: Any, call: Any = None) -> None:
        self.fed = parser, payload, call


def test_the_parser_is_installed_once_if_two_clients_share_a_session():
    handler, reading = Handler(), Reading(split=False, room=1)
    install(handler, SyncHandoff())
    install(handler, SyncHandoff())
    handler.set_parser(reading.parser, reading.queue, call=print)
    parser, queue, call = handler.fed
    assert isinstance(parser, FastFrameParser)
    assert not isinstance(parser._reader, FastFrameParser)
    assert (queue, call) == (reading.queue, print)
    assert not vars(handler).keys() - {"fed"}


class Slotted:
    __slots__ = ()

    def set_parser(self) -> None:
        raise AssertionError


@pytest.mark.parametrize("strange", [None, object(), Slotted()])
def test_an_unexpected_connection_is_left_unchanged(strange):
    install(strange, SyncHandoff())


def test_an_unexpected_reader_is_left_unchanged():
    handler = Handler()
    install(handler, SyncHandoff())
    handler.set_parser("reader", "queue")
    assert handler.fed == ("reader", "queue", None)
