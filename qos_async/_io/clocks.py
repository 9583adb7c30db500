"""Clocks: wall-clock timestamps for users, and detection of system suspends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from qos_async._clock import MachineClock, SourceClock

__all__ = [
    "SYSTEM_CLOCK",
    "ServerClock",
    "SuspendDetector",
    "WallClock",
    "steady_ns",
]


class WallClock(SourceClock, Protocol):
    """A wall clock; a replay's runs at another speed than the event loop's clock."""

    def now(self) -> int:
        """Return the time for stamps of ticks, in nanoseconds since the epoch."""
        ...

    def from_loop_time(self, loop_time: float, /) -> datetime:
        """Return a time of the event loop's clock as an aware datetime, in UTC."""
        ...


class _SystemClock(MachineClock):
    def now(self) -> int:
        return time.time_ns()

    def from_loop_time(self, loop_time: float, /) -> datetime:
        age = asyncio.get_running_loop().time() - loop_time
        return datetime.fromtimestamp(time.time() - age, UTC)


SYSTEM_CLOCK: WallClock = _SystemClock()
"""The clock of this machine."""


class ServerClock:
    """The clock of the service, as far as its replies have shown it.

    Args:
        source: The clock of the source of ticks, which counts as long as nothing is known.
        offsets: Return the seconds by which the service's clock is ahead of that one, or
            None while that is not known. The first that is known counts.
    """

    def __init__(
        self, source: SourceClock, *offsets: Callable[[], float | None]
    ) -> None:
        self._source, self._offsets = source, offsets

    def ahead(self) -> float:
        """Return the seconds by which it is ahead of the source's; 0 if not known."""
        known = (found for offset in self._offsets if (found := offset()) is not None)
        return next(known, 0.0)

    def time(self) -> float:
        """Return the present of the service, in epoch seconds."""
        return self._source.time() + self.ahead()


def steady_ns() -> int:
    """Return nanoseconds by a clock that is never set, and that runs during a suspend."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_MONOTONIC"):  # On macOS ``time.monotonic`` is another.
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return time.monotonic_ns()


class SuspendDetector:
    """Detects suspends of the machine: a closed laptop, a paused virtual machine.

    The event loop's clock stops during a suspend, so no timeout notices it.
    """

    __slots__ = ("_suspended",)

    def __init__(self) -> None:
        self._suspended = _total_suspended()

    def seconds_suspended(self) -> float:
        """Return the seconds that the machine was suspended since the last call."""
        before, self._suspended = self._suspended, _total_suspended()
        return self._suspended - before


def _total_suspended() -> float:
    """Return the seconds of all suspends, up to a constant."""
    return _boot_time() - time.monotonic()


def _boot_time() -> float:
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    # Elsewhere the wall clock, which also runs during a suspend. But it can be set,
    # which looks like a suspend: then a gap is reported although no tick was missed.
    return time.time()
