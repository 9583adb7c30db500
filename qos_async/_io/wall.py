"""The time of the calendar, which users are told."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["CALENDAR", "Wall"]


class Wall(Protocol):
    """A clock on the wall; it need not go at the pace of the event loop's."""

    def now(self) -> int:
        """Tell the time, in nanoseconds since the epoch."""
        ...

    def at(self, moment: float) -> datetime:
        """Turn a time of the event loop's into one of the calendar's."""
        ...


class _Calendar:
    def now(self) -> int:
        return time.time_ns()

    def at(self, moment: float) -> datetime:
        age = asyncio.get_running_loop().time() - moment
        return datetime.fromtimestamp(time.time() - age, UTC)


CALENDAR: Wall = _Calendar()
"""This machine's own."""
