"""Clock of a replay: the recorded time, and calls at recorded times.

A recording has two clocks: the wall clock, which may have been set, and one that never
goes back (``elapsed``). Events and timers follow the second; ``now`` and ``time`` return
the first.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime
from operator import attrgetter

from qos_async._clock import Timer

__all__ = ["ReplayClock", "loop_time"]

_CATCH_UP = 3_600_000_000_000  # Nanoseconds.
_MOMENTS = 100_000
_FAR = 1 << 62  # Nanoseconds.


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
        self._begins_at = 0
        self._speed = speed
        self._started: tuple[float, int] | None = None
        self._elapsed = 0
        self._next_elapsed = 0
        self._called_at = 0
        self._is_live = False
        self._timers: list[_ReplayTimer] = []
        self._wakeup: asyncio.TimerHandle | None = None

    def start(self, begins_at: int, elapsed: int = 0) -> None:
        """Set the time at which the recording begins, or is resumed."""
        self._times = [begins_at]
        self._begins_at = begins_at
        self._elapsed = elapsed

    def now(self) -> int:
        """Return the recorded time, in ns since the epoch."""
        return self._times[-1]

    def from_loop_time(self, moment: float) -> datetime:
        """Return the recorded time at a time of the event loop.

        What is so long ago that it was discarded is at the beginning of the recording.
        """
        place = bisect_right(self._moments, moment) - 1
        time = self._times[place] if place >= 0 else self._begins_at
        return datetime.fromtimestamp(time / 1e9, UTC)

    def to_loop_time(self, time: int) -> float:
        """Return when the last event was played that is not after a recorded time.

        It is the event of that time, unless the recorded clock was set since.
        """
        place = bisect_right(self._times, time) - 1
        return self._moments[max(place, 0)]

    def set(self, time: int, elapsed: int) -> None:
        """Set the recorded time, after what is due before it.

        Args:
            time: The wall clock of the recording; ``from_loop_time`` knows those before.
            elapsed: The clock of the recording that never goes back.
        """
        self._call_until(elapsed)
        if len(self._times) >= _MOMENTS:
            del self._moments[: _MOMENTS // 2]
            del self._times[: _MOMENTS // 2]
        self._moments.append(loop_time())
        self._times.append(time)
        self._elapsed = elapsed
        if self._is_live:
            self._started = (loop_time(), elapsed)
            self._arm()

    def go_live(self) -> None:
        """Let the time go on with that of the machine, from each event to the next."""
        self._is_live, self._speed = True, 1.0
        self._started = (loop_time(), self._elapsed)
        self.expect(_FAR)

    # The time between two events

    @property
    def has_started(self) -> bool:
        """Whether the time goes on."""
        return self._started is not None

    def play(self, elapsed: int) -> None:
        """Let the time go on, unless it does."""
        self._started = self._started or (loop_time(), elapsed)
        self._arm()

    def expect(self, elapsed: int) -> None:
        """Set the time of the next event."""
        self._next_elapsed = _FAR if self._is_live else elapsed
        self._arm()

    def due(self, elapsed: int) -> float:
        """Return the time of the event loop at which a recorded time is due."""
        assert self._speed, "without a speed nothing is due"
        moment, began = self._started or (loop_time(), elapsed)
        return moment + (elapsed - began) / 1e9 / self._speed

    def time(self) -> float:
        """Return the recorded time, in epoch seconds."""
        return (self._times[-1] + self._elapsed_now() - self._elapsed) / 1e9

    @property
    def goes_on(self) -> bool:
        """Whether it has a speed."""
        return self._speed is not None

    def elapsed(self) -> float:
        """Return recorded seconds since the start, by a clock that never goes back."""
        return self._elapsed_now() / 1e9

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` when so many recorded seconds have passed."""
        at = self._elapsed_now() + round(seconds * 1e9)
        timer = _ReplayTimer(at, callback, self)
        self._timers.append(timer)
        self._arm()
        return timer

    def cancel(self, timer: _ReplayTimer) -> None:
        """Cancel a call, if it has not happened."""
        if timer in self._timers:
            self._timers.remove(timer)
            self._arm()

    def _elapsed_now(self) -> int:
        last = max(self._elapsed, self._called_at)
        if self._started is None or self._speed is None:
            return last
        moment, began = self._started
        played = began + int((loop_time() - moment) * 1e9 * self._speed)
        return max(last, min(played, self._next_elapsed))

    def _call_until(self, elapsed: int) -> None:
        """Call what is due until then, in order, each at its own time."""
        while self._timers:
            timer = min(self._timers, key=_timer_at)
            if timer.at > elapsed:
                break
            # After days without an event, they are not repeated for each second.
            self._called_at = max(self._called_at, timer.at, elapsed - _CATCH_UP)
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
        if first <= self._next_elapsed:
            loop = asyncio.get_running_loop()
            self._wakeup = loop.call_at(self.due(first), self._wake, first)

    def _wake(self, at: int) -> None:
        # They may differ by a rounding error.
        self._call_until(max(at, self._elapsed_now()))
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


def loop_time() -> float:
    """Return the time of the event loop."""
    return asyncio.get_running_loop().time()
