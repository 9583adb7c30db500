"""How far a download is, on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Protocol, Self

from qos_async import Limits
from qos_async.cli.history.paging import Follower
from qos_async.cli.history.part import Part

__all__ = ["Pace", "Progress", "choose", "spell"]

_EVERY = 10.0
"""Seconds between two lines, where there is no bar."""
_MINUTE, _HOUR = 60, 3600


class Progress(Follower, Protocol):
    """A ``Follower`` to be entered while the download runs."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Pace:
    """How far a download is, and how long it still takes.

    Time is the measure: pages of a stock reach across nights and weekends, but one
    about as far as the next.
    """

    def __init__(self, part: Part, limits: Limits, now: float) -> None:
        self._part, self._limits = part, limits
        self._started_at, self._began_at = now, self._reached
        self._pages = 0
        self._asked_at = now

    def page(self, now: float) -> None:
        """Count a page."""
        self._pages += 1
        self._asked_at = now

    @property
    def share(self) -> float:
        """How much is there, from 0 to 1."""
        request = self._part.request
        return (request.end - self._reached) / max(request.end - request.start, 1)

    def left(self, now: float) -> float | None:
        """Give the seconds that are left; None if nobody can tell, or if it is late."""
        done = self._began_at - self._reached
        if not self._pages or not done:
            return None
        ahead = max(self._reached - self._part.request.start, 0)
        pages = -(-ahead * self._pages // done)
        left = self._due(self._pages + pages) - now
        return left if left > 0 else None

    @property
    def _reached(self) -> int:
        oldest = self._part.oldest
        return self._part.request.end if oldest is None else oldest

    def _due(self, pages: int) -> float:
        """Tell when so many pages will be there: as fast as so far, or as the plan."""
        limits = self._limits
        took = (self._asked_at - self._started_at) / self._pages
        periods = (pages - 1) // limits.http_requests
        return self._started_at + max(pages * took, periods * limits.http_period)


def choose(part: Part, limits: Limits) -> Progress:
    """Take a bar for a terminal, and a line now and then for everything else."""
    pace = Pace(part, limits, time.monotonic())
    if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        try:
            from qos_async.cli.history.bar import BarProgress  # noqa: PLC0415 - an extra
        except ImportError:
            pass
        else:
            return BarProgress(part, pace)
    return LineProgress(part, pace)


class LineProgress:
    """A line every ten seconds."""

    def __init__(
        self, part: Part, pace: Pace, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._part, self._pace, self._clock = part, pace, clock
        self._told_at = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def page(self, part: Part) -> None:
        """Tell of it, if it is time for a line."""
        now = self._clock()
        self._pace.page(now)
        if now - self._told_at < _EVERY:
            return
        self._told_at = now
        left = self._pace.left(now)
        about = "" if left is None else f", about {spell(left)} left"
        _tell(f"{part.reached()}, {self._pace.share:.0%}{about}")

    def note(self, text: str) -> None:
        """Tell of an outage."""
        _tell(text)


def spell(seconds: float) -> str:
    """Write a duration for people: ``45 s``, ``12 min``, ``3.4 h``."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"


def _tell(text: str) -> None:
    print(f"qos: {text}", file=sys.stderr, flush=True)
