"""Sleep of the whole machine, which the event loop's clock does not count."""

from __future__ import annotations

import time

__all__ = ["SuspendDetector"]


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
