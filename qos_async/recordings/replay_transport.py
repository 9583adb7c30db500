"""Transport of a replay: plays a recording as the link of a client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import anyio
import msgspec

from qos_async._core.wire import LETTERS, symbols_in
from qos_async._io.notifier import Notifier
from qos_async._io.stream import Stream
from qos_async._io.transport import EndOfStream, LinkClosed
from qos_async.recordings.replay_clock import ReplayClock, loop_time
from qos_async.recordings.replay_timeline import (
    FramesReceived,
    LastValues,
    LinkLost,
    LinkOpened,
    PushHeader,
    Row,
    TimelineEvent,
    push_header,
)
from qos_async.topics import Topic, WireTopic

__all__ = ["ReplayTransport", "reply_rows"]

_PAUSES = (0.0, 0.0, 0.0, 0.001, 0.002, 0.005, 0.01)
_CHANNELS = frozenset(LETTERS.values())


class ReplayTransport:
    """A ``Transport`` that plays the events of a recording.

    It starts as soon as there is a subscription. Without a speed it waits for the
    consumers, so that no tick is dropped.

    Args:
        speed: Recorded seconds in a second; None: as fast as the consumers read.
        clock: Set to the time of each event that is played.

    Attributes:
        stream: The stream that it plays to; set by its owner, which needs it first.
        last_values: The values pushed so far, for replies.
    """

    stream: Stream[Any]

    def __init__(self, *, speed: float | None, clock: ReplayClock) -> None:
        self.last_values = LastValues()
        self._events: Iterator[TimelineEvent] | None = None
        self._next: TimelineEvent | None = None
        self._known: set[WireTopic] = set()
        self._speed = speed
        self._clock = clock
        self._was_unreadable = False

    def load(self, events: Iterator[TimelineEvent], topics: Iterable[Topic]) -> None:
        """Set the events to play and their topics; all other topics are rejected."""
        self._events = events
        self._take_next()
        self._known = {_wire_topic(topic) for topic in topics}

    async def dial(self) -> ReplaySocket:
        """Return the next link, at the time when it was opened.

        Raises:
            EndOfStream: After the last one.
        """
        while not isinstance(self._next, LinkOpened):
            self.advance()
        if self._clock.has_started and self._speed is not None:
            due = self._clock.due(self._next.elapsed)
            await asyncio.sleep(max(due - loop_time(), 0.0))
        await _next_moment()
        self._clock.set(self._next.at, self._next.elapsed)
        self.advance()
        return ReplaySocket(self)

    def peek(self) -> TimelineEvent:
        """Return the next event.

        Raises:
            EndOfStream: After the last one.
        """
        if self._next is None:
            raise EndOfStream("the recording has ended")
        return self._next

    def advance(self) -> None:
        """Advance to the next event.

        Raises:
            EndOfStream: After the last one.
        """
        self.peek()
        self._take_next()

    def _take_next(self) -> None:
        assert self._events is not None, "it was loaded"
        self._next = next(self._events, None)
        if self._next is not None:
            self._clock.expect(self._next.elapsed)

    async def take(self, wanted: set[WireTopic]) -> list[bytes]:
        """Return the frames of the next event for these topics, and set the clock."""
        event = self.peek()
        assert isinstance(event, FramesReceived), "the caller has peeked"
        headers = list(map(push_header, event.frames))
        unreadable = None in headers
        if unreadable or self._was_unreadable:
            await _next_moment()  # A gap begins with an unreadable frame.
        self._was_unreadable = unreadable
        self._clock.set(event.at, event.elapsed)
        self.advance()
        return [
            frame
            for frame, header in zip(event.frames, headers, strict=True)
            if self._is_wanted(frame, header, wanted)
        ]

    async def lost_error(self, event: LinkLost) -> LinkClosed:
        """Return the error of a lost link, and set the clock.

        Raises:
            EndOfStream: If the recording ends with it.
        """
        await _next_moment()
        self._clock.set(event.at, event.elapsed)
        self.advance()
        self.peek()  # If nothing follows, it is the end and not an outage.
        return LinkClosed(event.reason)

    def _is_wanted(
        self, frame: bytes, header: PushHeader | None, wanted: set[WireTopic]
    ) -> bool:
        if header is None:
            return True  # Unreadable: the client received it, too, and counted it.
        if header.tp not in _CHANNELS:
            return False  # A reply to a request of the recorded client.
        self.last_values.record(frame, header)
        return header.topic in wanted

    def seconds_to_next(self) -> float:
        """Return the seconds until the next event is due; negative if unknown."""
        if self._speed is None:
            return 0.0 if self.stream.collector.is_starved else -1.0
        if not self.stream.collector.is_settled:
            return -1.0
        if not self._clock.has_started:
            if not self.stream.collector.has_subscriptions:
                return -1.0
            self._clock.play(self.peek().elapsed)
        return max(self._clock.due(self.peek().elapsed) - loop_time(), 0.0)

    def has(self, topic: WireTopic) -> bool:
        """Whether it was recorded."""
        return topic in self._known


class ReplaySocket:
    """A ``Socket``: one link of a recording."""

    def __init__(self, transport: ReplayTransport) -> None:
        self._transport = transport
        self._subscribed: set[WireTopic] = set()
        self._replies: deque[bytes] = deque()
        self._replied = Notifier()

    def set_sync_handler(
        self,
        handler: Callable[[Sequence[bytes]], None],
        on_error: Callable[[BaseException], None],
        /,
    ) -> None:
        pass  # Frames are played by ``receive`` only.

    async def receive(self) -> Sequence[bytes]:
        pauses = iter(_PAUSES)
        while not self._replies:
            wait = self._transport.seconds_to_next()
            if wait == 0.0:
                if frames := await self._next_frames():
                    return frames
                await asyncio.sleep(0)
                continue
            with anyio.move_on_after(wait if wait > 0 else next(pauses, _PAUSES[-1])):
                await self._replied.wait()
        replies = list(self._replies)
        self._replies.clear()
        return replies

    async def _next_frames(self) -> list[bytes]:
        event = self._transport.peek()
        if isinstance(event, LinkLost):
            raise await self._transport.lost_error(event)
        if isinstance(event, LinkOpened):
            self._transport.advance()
            return []
        return await self._transport.take(self._subscribed)

    async def send(self, frame: bytes) -> None:
        body: Row = msgspec.json.decode(frame)
        self._replies.append(msgspec.json.encode(self._reply(body)))
        self._replied.notify_all()

    def _reply(self, body: Row) -> Row:
        kind = body["type"]
        reply: Row = {"type": kind, "msg": "OK"}
        if "reqid" in body:
            reply["reqid"] = body["reqid"]
        if kind[0] == "R":
            reply["data"] = reply_rows(self._transport.last_values, kind, body)
        elif kind != "H":
            topics = {
                WireTopic(kind[0], symbol, body.get("kt"))
                for symbol in symbols_in(body)
            }
            if kind.endswith("C"):
                self._subscribed -= topics
            elif all(map(self._transport.has, topics)):
                self._subscribed |= topics
            else:
                reply["msg"] = "not in the recording"
        return reply

    async def close(self, *, graceful: bool) -> None:
        pass


def reply_rows(values: LastValues, operation: str, body: Row) -> list[Row]:
    """Return the rows of a reply from the last values; what is missing is left out."""
    symbols = symbols_in(body)
    match operation:
        case "RS" | "RD":
            found = [values.last(operation[1], symbol) for symbol in symbols]
        case "RT":
            count = body.get("count", 1)
            found = [values.trades(symbol, count) for symbol in symbols]
        case "RK" | "RH":
            found = [_kline_rows(values, one) for one in body["kline_reqs"]]
        case _:
            found = []
    return [row for rows in found for row in rows]


def _kline_rows(values: LastValues, request: Row) -> list[Row]:
    klines = values.klines(
        request["c"], request["kt"], request["co"], end=request.get("e")
    )
    return [{"c": request["c"], "k": klines}] if klines else []


def _wire_topic(topic: Topic) -> WireTopic:
    kt = None if topic.interval is None else int(topic.interval)
    return WireTopic(LETTERS[topic.channel], topic.symbol, kt)


async def _next_moment() -> None:
    """Wait until the loop's clock has moved, for 16 ms where it is coarse.

    What came before and what comes now must differ in ``ReplayClock.from_loop_time``.
    """
    before = loop_time()
    while loop_time() <= before:  # noqa: ASYNC110 - a clock, so no event to wait for
        await asyncio.sleep(1e-6)
