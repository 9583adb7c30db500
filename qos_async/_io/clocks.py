"""The time of the calendar, which users are told."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "SuspendDetector", "WallClock"]


class WallClock(Protocol):
    """A clock on the wall; it need not go at the pace of the event loop's."""

    def now(self) -> int:
        """Tell the time, in nanoseconds since the epoch."""
        ...

    def from_loop_time(self, moment: float) -> datetime:
        """Turn a time of the event loop's into one of the calendar's."""
        ...


class _SystemClock:
    def now(self) -> int:
        return time.time_ns()

    def from_loop_time(self, moment: float) -> datetime:
        age = asyncio.get_running_loop().time() - moment
        return datetime.fromtimestamp(time.time() - age, UTC)


SYSTEM_CLOCK: WallClock = _SystemClock()
"""This machine's own."""


class SuspendDetector:
    """Notices that the machine was suspended: a laptop closed, a paused guest."""

    __slots__ = ("_suspended",)

    def __init__(self) -> None:
        self._suspended = _total_suspended()

    def seconds_suspended(self) -> float:
        """Tell how many seconds the machine slept since the last call."""
        before, self._suspended = self._suspended, _total_suspended()
        return self._suspended - before


def _total_suspended() -> float:
    """Give the seconds asleep since some moment."""
    return _boot_time() - time.monotonic()


def _boot_time() -> float:
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    # The calendar counts sleep too. It may be set: then a gap is told in vain.
    return time.time()
