"""The clock of a source of ticks: this machine's, or that of a recording."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["MachineClock", "SourceClock", "Timer", "epoch_ns"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def epoch_ns(time: datetime) -> int:
    """Return nanoseconds since the epoch, exactly: ``timestamp()`` is up to 120 ns off."""
    return (time - _EPOCH) // _MICROSECOND * 1000


class Timer(Protocol):
    """A call in the future."""

    def cancel(self) -> None:
        """Cancel the call, if it has not happened."""
        ...


class SourceClock(Protocol):
    """The time at the source of ticks, by which these are compared and waited for.

    Live it is this machine's time. In a replay it is the recorded time, which goes on
    between two entries at the speed of the replay, and never beyond the next entry.
    """

    @property
    def goes_on(self) -> bool:
        """Whether it goes on by itself: not in a replay that waits for its consumers."""
        ...

    def time(self) -> float:
        """Return the time, in epoch seconds."""
        ...

    def elapsed(self) -> float:
        """Return seconds since any moment; never less than before, unlike ``time``."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], object], /) -> Timer:
        """Call ``callback`` when so many seconds of this clock have passed."""
        ...


class MachineClock:
    """The clock of this machine; waits are not affected by setting it."""

    goes_on = True

    def time(self) -> float:
        """Return the time, in epoch seconds."""
        return time.time()

    def elapsed(self) -> float:
        """Return seconds of the clock of the event loop."""
        return asyncio.get_running_loop().time()

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` when so many seconds have passed."""
        return asyncio.get_running_loop().call_later(seconds, callback)
