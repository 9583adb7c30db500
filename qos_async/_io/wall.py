"""The time of the calendar, which users are told."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "WallClock"]


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
