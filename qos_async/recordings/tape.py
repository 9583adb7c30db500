"""A recording as a transport: it opens links, pushes what came, and answers."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import anyio
import msgspec

from qos_async._core.wire import LETTERS, symbols_in
from qos_async._io.notifier import Notifier
from qos_async._io.transport import EndOfStream, LinkClosed
from qos_async.recordings.memory import LastValues, Row, RecordedTopic, push_header
from qos_async.recordings.steps import FramesReceived, LinkLost, LinkOpened, TimelineEvent
from qos_async.topics import Topic

__all__ = ["ReplayClock", "ReplayTransport", "reply_rows"]

_PAUSES = (0.0, 0.0, 0.0, 0.001, 0.002, 0.005, 0.01)
_CHANNELS = frozenset(LETTERS.values())

encode = msgspec.json.encode


class ReplayClock:
    """The calendar of a recording: it stands still between two of its steps."""

    def __init__(self, begins_at: int) -> None:
        self._moments = [0.0]
        self._times = [begins_at]

    def now(self) -> int:
        """Tell when what is read now was received, in ns."""
        return self._times[-1]

    def from_loop_time(self, moment: float) -> datetime:
        """Tell what the calendar showed at a time of the event loop."""
        place = max(bisect_right(self._moments, moment) - 1, 0)
        return datetime.fromtimestamp(self._times[place] / 1e9, UTC)

    def set(self, time: int, *, keep: bool = False) -> None:
        """Show another time from now on.

        With ``keep`` the time before can still be asked for: an outage needs that.
        """
        if keep or len(self._times) == 1:
            self._moments.append(_loop_time())
            self._times.append(time)
        else:
            self._moments[-1], self._times[-1] = _loop_time(), time


class ReplayTransport:
    """A ``Transport`` that plays steps.

    It begins as soon as something is watched. Without a speed it waits for the readers,
    so that nobody loses anything.

    Args:
        steps: What to play.
        topics: What there is; everything else is refused.
        speed: Recorded seconds in a real second; None: as fast as they are read.
        calendar: Shows when what is played was received.
    """

    def __init__(
        self,
        events: Iterator[TimelineEvent],
        *,
        topics: frozenset[Topic],
        speed: float | None,
        clock: ReplayClock,
    ) -> None:
        self.last_values = LastValues()
        self.is_settled: Callable[[], bool] = bool
        self.has_subscriptions: Callable[[], bool] = bool
        self.is_starved: Callable[[], bool] = bool
        self._events = events
        self._next = next(events, None)
        self._known = {_recorded_topic(topic) for topic in topics}
        self._speed = speed
        self._clock = clock
        self._started: tuple[float, int] | None = None

    async def dial(self) -> ReplaySocket:
        """Wait until the next link opens.

        Raises:
            Ended: If none does.
        """
        while not isinstance(self._next, LinkOpened):
            self.advance()
        if self._started is not None and self._speed is not None:
            await asyncio.sleep(max(self._due(self._next.at) - _loop_time(), 0.0))
        self._clock.set(self._next.at, keep=True)
        self.advance()
        return ReplaySocket(self)

    def peek(self) -> TimelineEvent:
        """Give the next step.

        Raises:
            Ended: If there is none.
        """
        if self._next is None:
            raise EndOfStream("the recording has ended")
        return self._next

    def advance(self) -> None:
        """Go on to the next step.

        Raises:
            Ended: If there is none.
        """
        self.peek()
        self._next = next(self._events, None)

    def take(self, wanted: set[RecordedTopic]) -> list[bytes]:
        """Take the frames of the next step that are wanted, and show their time."""
        step = self.peek()
        assert isinstance(step, FramesReceived), "whoever takes has looked"
        self._clock.set(step.at)
        self.advance()
        return [frame for frame in step.frames if self._is_wanted(frame, wanted)]

    def lost_error(self, step: LinkLost) -> LinkClosed:
        """Show the time of an outage, and give its error.

        Raises:
            Ended: If it is the last that there is.
        """
        self._clock.set(step.at, keep=True)
        self.advance()
        self.peek()  # Where nothing follows, it is the end, and no outage.
        return LinkClosed(step.reason)

    def _is_wanted(self, frame: bytes, wanted: set[RecordedTopic]) -> bool:
        label = push_header(frame)
        if label is None:
            return True  # The readers of its time got it, too.
        if label.tp not in _CHANNELS:
            return False  # An answer to somebody else.
        self.last_values.record(frame, label)
        return label.topic in wanted

    def seconds_to_next(self) -> float:
        """Tell how many seconds it takes until the next step may be played, perhaps."""
        if self._speed is None:
            return 0.0 if self.is_starved() else -1.0
        if not self.is_settled():
            return -1.0
        if self._started is None:
            if not self.has_subscriptions():
                return -1.0
            self._started = _loop_time(), self.peek().at
        return max(self._due(self.peek().at) - _loop_time(), 0.0)

    def _due(self, at: int) -> float:
        assert self._speed, "only what has a speed is ever due"
        moment, begun_at = self._started or (_loop_time(), at)
        return moment + (at - begun_at) / 1e9 / self._speed

    def has(self, watch: RecordedTopic) -> bool:
        """Whether it was recorded."""
        return watch in self._known


class ReplaySocket:
    """A ``Socket``: one link of a recording."""

    def __init__(self, tape: ReplayTransport) -> None:
        self._transport = tape
        self._subscribed: set[RecordedTopic] = set()
        self._replies: deque[bytes] = deque()
        self._replied = Notifier()

    def set_sync_handler(self, handler: Callable[[Sequence[bytes]], bool]) -> None:
        pass  # It plays when it is asked to.

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
        answers = list(self._replies)
        self._replies.clear()
        return answers

    def _next_frames(self) -> list[bytes]:
        step = self._transport.peek()
        if isinstance(step, LinkLost):
            raise self._transport.lost_error(step)
        if isinstance(step, LinkOpened):
            self._transport.advance()
            return []
        return self._transport.take(self._subscribed)

    async def send(self, frame: bytes) -> None:
        body: Row = msgspec.json.decode(frame)
        self._replies.append(encode(self._reply(body)))
        self._replied.notify_all()

    def _reply(self, body: Row) -> Row:
        kind = body["type"]
        reply: Row = {"type": kind, "msg": "OK"}
        if "reqid" in body:
            reply["reqid"] = body["reqid"]
        if kind[0] == "R":
            reply["data"] = reply_rows(self._transport.last_values, kind, body)
        elif kind != "H":
            watches = {
                RecordedTopic(kind[0], symbol, body.get("kt")) for symbol in symbols_in(body)
            }
            if kind.endswith("C"):
                self._subscribed -= watches
            elif all(map(self._transport.has, watches)):
                self._subscribed |= watches
            else:
                reply["msg"] = "the recording does not have it"
        return reply

    async def close(self, *, graceful: bool) -> None:
        pass


def reply_rows(memory: LastValues, operation: str, body: Row) -> list[Row]:
    """Answer a question with what was pushed until now; what was not is left out."""
    symbols = symbols_in(body)
    match operation:
        case "RS" | "RD":
            found = [memory.last(operation[1], symbol) for symbol in symbols]
        case "RT":
            count = body.get("count", 1)
            found = [memory.trades(symbol, count) for symbol in symbols]
        case "RK" | "RH":
            found = [_kline_rows(memory, one) for one in body["kline_reqs"]]
        case _:
            found = []
    return [row for rows in found for row in rows]


def _kline_rows(memory: LastValues, asked: Row) -> list[Row]:
    bars = memory.klines(asked["c"], asked["kt"], asked["co"], end=asked.get("e"))
    return [{"c": asked["c"], "k": bars}] if bars else []


def _recorded_topic(topic: Topic) -> RecordedTopic:
    kt = None if topic.interval is None else int(topic.interval)
    return RecordedTopic(LETTERS[topic.channel], topic.symbol, kt)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
