"""Transport of a replay: plays a recording as the link of a client."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import anyio
import msgspec

from qos_async._clock import Timer
from qos_async._core.wire import LETTERS, symbols_in
from qos_async._io.notifier import Notifier
from qos_async._io.stream import Stream
from qos_async._io.transport import EndOfStream, LinkClosed
from qos_async.recordings.replay_timeline import (
    FramesReceived,
    LastValues,
    LinkLost,
    LinkOpened,
    Row,
    TimelineEvent,
    push_header,
)
from qos_async.topics import Topic, WireTopic

__all__ = ["ReplayClock", "ReplayTransport", "reply_rows"]

_PAUSES = (0.0, 0.0, 0.0, 0.001, 0.002, 0.005, 0.01)
_CATCH_UP = 3_600_000_000_000  # Nanoseconds.
_CHANNELS = frozenset(LETTERS.values())


class ReplayClock:
    """The wall clock of a replay: the time of the event played last.

    ``time`` and ``call_later`` go on between two events, at the replay's speed and up to
    the next event; without a speed, with the events only.

    Args:
        speed: Recorded seconds in a second; None: as fast as the consumers read.
    """

    def __init__(self, speed: float | None = None) -> None:
        self._moments = [0.0]
        self._times = [0]
        self._speed = speed
        self._started: tuple[float, int] | None = None
        self._next_at = 0
        self._called_at = 0
        self._timers: list[_ReplayTimer] = []
        self._wakeup: asyncio.TimerHandle | None = None

    def start(self, begins_at: int) -> None:
        """Set the time at which the recording begins."""
        self._times = [begins_at]

    def now(self) -> int:
        """Return the recorded time, in ns since the epoch."""
        return self._times[-1]

    def from_loop_time(self, moment: float) -> datetime:
        """Return the recorded time at a time of the event loop."""
        place = max(bisect_right(self._moments, moment) - 1, 0)
        return datetime.fromtimestamp(self._times[place] / 1e9, UTC)

    def set(self, time: int, *, keep: bool = False) -> None:
        """Set the recorded time, after what is due before it.

        With ``keep``, ``from_loop_time`` still knows the time before: a ``Gap`` needs it.
        """
        self._call_until(time)
        if keep or len(self._times) == 1:
            self._moments.append(_loop_time())
            self._times.append(time)
        else:
            self._moments[-1], self._times[-1] = _loop_time(), time

    # The time between two events

    def play(self, at: int) -> None:
        """Let the time go on from ``at``, unless it does."""
        self._started = self._started or (_loop_time(), at)
        self._arm()

    def expect(self, at: int) -> None:
        """Set the time of the next event."""
        self._next_at = at
        self._arm()

    def due(self, at: int) -> float:
        """Return the time of the event loop at which a recorded time is due."""
        assert self._speed, "without a speed nothing is due"
        moment, started_at = self._started or (_loop_time(), at)
        return moment + (at - started_at) / 1e9 / self._speed

    def time(self) -> float:
        """Return the recorded time, in epoch seconds."""
        return self._time() / 1e9

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` when so many recorded seconds have passed."""
        at = self._time() + round(seconds * 1e9)
        timer = _ReplayTimer(at, callback, self)
        self._timers.append(timer)
        self._arm()
        return timer

    def cancel(self, timer: _ReplayTimer) -> None:
        """Cancel a call, if it has not happened."""
        if timer in self._timers:
            self._timers.remove(timer)
            self._arm()

    def _time(self) -> int:
        last = max(self._times[-1], self._called_at)
        if self._started is None or self._speed is None:
            return last
        moment, at = self._started
        played = at + int((_loop_time() - moment) * 1e9 * self._speed)
        return max(last, min(played, self._next_at))

    def _call_until(self, time: int) -> None:
        """Call what is due until then, in order, each at its own time."""
        while self._timers:
            timer = min(self._timers, key=_timer_at)
            if timer.at > time:
                break
            # After days without an event, they are not repeated for each second.
            self._called_at = max(self._called_at, timer.at, time - _CATCH_UP)
            self._timers.remove(timer)
            timer.callback()

    def _arm(self) -> None:
        """Wake up for the first timer, unless an event is played before it."""
        if self._wakeup is not None:
            self._wakeup.cancel()
            self._wakeup = None
        if not self._timers or self._started is None or self._speed is None:
            return
        first = min(self._timers, key=_timer_at).at
        if first <= self._next_at:
            loop = asyncio.get_running_loop()
            self._wakeup = loop.call_at(self.due(first), self._wake, first)

    def _wake(self, at: int) -> None:
        self._call_until(max(at, self._time()))  # They may differ by a rounding error.
        self._arm()


class _ReplayTimer:
    """A call at a recorded time."""

    def __init__(
        self, at: int, callback: Callable[[], object], clock: ReplayClock
    ) -> None:
        self.at = at
        self.callback = callback
        self._clock = clock

    def cancel(self) -> None:
        self._clock.cancel(self)


_timer_at = attrgetter("at")


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
        self._has_started = False

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
        if self._has_started and self._speed is not None:
            due = self._clock.due(self._next.at)
            await asyncio.sleep(max(due - _loop_time(), 0.0))
        self._clock.set(self._next.at, keep=True)
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
            self._clock.expect(self._next.at)

    def take(self, wanted: set[WireTopic]) -> list[bytes]:
        """Return the frames of the next event for these topics, and set the clock."""
        event = self.peek()
        assert isinstance(event, FramesReceived), "the caller has peeked"
        self._clock.set(event.at)
        self.advance()
        return [frame for frame in event.frames if self._is_wanted(frame, wanted)]

    def lost_error(self, event: LinkLost) -> LinkClosed:
        """Return the error of a lost link, and set the clock.

        Raises:
            EndOfStream: If the recording ends with it.
        """
        self._clock.set(event.at, keep=True)
        self.advance()
        self.peek()  # If nothing follows, it is the end and not an outage.
        return LinkClosed(event.reason)

    def _is_wanted(self, frame: bytes, wanted: set[WireTopic]) -> bool:
        header = push_header(frame)
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
        if not self._has_started:
            if not self.stream.collector.has_subscriptions:
                return -1.0
            self._has_started = True
            self._clock.play(self.peek().at)
        return max(self._clock.due(self.peek().at) - _loop_time(), 0.0)

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
                if frames := self._next_frames():
                    return frames
                await asyncio.sleep(0)
                continue
            with anyio.move_on_after(wait if wait > 0 else next(pauses, _PAUSES[-1])):
                await self._replied.wait()
        replies = list(self._replies)
        self._replies.clear()
        return replies

    def _next_frames(self) -> list[bytes]:
        event = self._transport.peek()
        if isinstance(event, LinkLost):
            raise self._transport.lost_error(event)
        if isinstance(event, LinkOpened):
            self._transport.advance()
            return []
        return self._transport.take(self._subscribed)

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


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
