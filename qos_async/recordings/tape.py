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
from qos_async.recordings.memory import Memory, Row, Watch, label_of
from qos_async.recordings.steps import Frames, Lost, Opened, Step
from qos_async.topics import Topic

__all__ = ["RecordedTime", "Tape", "answer"]

_PAUSES = (0.0, 0.0, 0.0, 0.001, 0.002, 0.005, 0.01)
_CHANNELS = frozenset(LETTERS.values())

encode = msgspec.json.encode


class RecordedTime:
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

    def show(self, time: int, *, keep: bool = False) -> None:
        """Show another time from now on.

        With ``keep`` the time before can still be asked for: an outage needs that.
        """
        if keep or len(self._times) == 1:
            self._moments.append(_clock())
            self._times.append(time)
        else:
            self._moments[-1], self._times[-1] = _clock(), time


class Tape:
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
        steps: Iterator[Step],
        *,
        topics: frozenset[Topic],
        speed: float | None,
        calendar: RecordedTime,
    ) -> None:
        self.memory = Memory()
        self.is_settled: Callable[[], bool] = bool
        self.is_watched: Callable[[], bool] = bool
        self.is_thirsty: Callable[[], bool] = bool
        self._steps = steps
        self._next = next(steps, None)
        self._known = {_watch(topic) for topic in topics}
        self._speed = speed
        self._calendar = calendar
        self._began: tuple[float, int] | None = None

    async def dial(self) -> _Player:
        """Wait until the next link opens.

        Raises:
            Ended: If none does.
        """
        while not isinstance(self._next, Opened):
            self.skip()
        if self._began is not None and self._speed is not None:
            await asyncio.sleep(max(self._due(self._next.at) - _clock(), 0.0))
        self._calendar.show(self._next.at, keep=True)
        self.skip()
        return _Player(self)

    def peek(self) -> Step:
        """Give the next step.

        Raises:
            Ended: If there is none.
        """
        if self._next is None:
            raise EndOfStream("the recording has ended")
        return self._next

    def skip(self) -> None:
        """Go on to the next step.

        Raises:
            Ended: If there is none.
        """
        self.peek()
        self._next = next(self._steps, None)

    def take(self, wanted: set[Watch]) -> list[bytes]:
        """Take the frames of the next step that are wanted, and show their time."""
        step = self.peek()
        assert isinstance(step, Frames), "whoever takes has looked"
        self._calendar.show(step.at)
        self.skip()
        return [frame for frame in step.frames if self._is_for(frame, wanted)]

    def lose(self, step: Lost) -> LinkClosed:
        """Show the time of an outage, and give its error.

        Raises:
            Ended: If it is the last that there is.
        """
        self._calendar.show(step.at, keep=True)
        self.skip()
        self.peek()  # Where nothing follows, it is the end, and no outage.
        return LinkClosed(step.reason)

    def _is_for(self, frame: bytes, wanted: set[Watch]) -> bool:
        label = label_of(frame)
        if label is None:
            return True  # The readers of its time got it, too.
        if label.tp not in _CHANNELS:
            return False  # An answer to somebody else.
        self.memory.keep(frame, label)
        return label.watch in wanted

    def wait(self) -> float:
        """Tell how many seconds it takes until the next step may be played, perhaps."""
        if self._speed is None:
            return 0.0 if self.is_thirsty() else -1.0
        if not self.is_settled():
            return -1.0
        if self._began is None:
            if not self.is_watched():
                return -1.0
            self._began = _clock(), self.peek().at
        return max(self._due(self.peek().at) - _clock(), 0.0)

    def _due(self, at: int) -> float:
        assert self._speed, "only what has a speed is ever due"
        moment, begun_at = self._began or (_clock(), at)
        return moment + (at - begun_at) / 1e9 / self._speed

    def has(self, watch: Watch) -> bool:
        """Whether it was recorded."""
        return watch in self._known


class _Player:
    """A ``Socket``: one link of a recording."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._watched: set[Watch] = set()
        self._answers: deque[bytes] = deque()
        self._heard = Notifier()

    def set_sync_handler(self, handler: Callable[[Sequence[bytes]], bool]) -> None:
        pass  # It plays when it is asked to.

    async def receive(self) -> Sequence[bytes]:
        pauses = iter(_PAUSES)
        while not self._answers:
            wait = self._tape.wait()
            if wait == 0.0:
                if frames := self._play():
                    return frames
                await asyncio.sleep(0)
                continue
            with anyio.move_on_after(wait if wait > 0 else next(pauses, _PAUSES[-1])):
                await self._heard.wait()
        answers = list(self._answers)
        self._answers.clear()
        return answers

    def _play(self) -> list[bytes]:
        step = self._tape.peek()
        if isinstance(step, Lost):
            raise self._tape.lose(step)
        if isinstance(step, Opened):
            self._tape.skip()
            return []
        return self._tape.take(self._watched)

    async def send(self, frame: bytes) -> None:
        body: Row = msgspec.json.decode(frame)
        self._answers.append(encode(self._answer(body)))
        self._heard.notify_all()

    def _answer(self, body: Row) -> Row:
        kind = body["type"]
        reply: Row = {"type": kind, "msg": "OK"}
        if "reqid" in body:
            reply["reqid"] = body["reqid"]
        if kind[0] == "R":
            reply["data"] = answer(self._tape.memory, kind, body)
        elif kind != "H":
            watches = {
                Watch(kind[0], symbol, body.get("kt")) for symbol in symbols_in(body)
            }
            if kind.endswith("C"):
                self._watched -= watches
            elif all(map(self._tape.has, watches)):
                self._watched |= watches
            else:
                reply["msg"] = "the recording does not have it"
        return reply

    async def close(self, *, graceful: bool) -> None:
        pass


def answer(memory: Memory, operation: str, body: Row) -> list[Row]:
    """Answer a question with what was pushed until now; what was not is left out."""
    symbols = symbols_in(body)
    match operation:
        case "RS" | "RD":
            found = [memory.last(operation[1], symbol) for symbol in symbols]
        case "RT":
            count = body.get("count", 1)
            found = [memory.trades(symbol, count) for symbol in symbols]
        case "RK" | "RH":
            found = [_bars(memory, one) for one in body["kline_reqs"]]
        case _:
            found = []
    return [row for rows in found for row in rows]


def _bars(memory: Memory, asked: Row) -> list[Row]:
    bars = memory.bars(asked["c"], asked["kt"], asked["co"], end=asked.get("e"))
    return [{"c": asked["c"], "k": bars}] if bars else []


def _watch(topic: Topic) -> Watch:
    kt = None if topic.interval is None else int(topic.interval)
    return Watch(LETTERS[topic.channel], topic.symbol, kt)


def _clock() -> float:
    return asyncio.get_running_loop().time()
