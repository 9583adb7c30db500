"""Progress of a download, on stderr: a bar on a terminal with rich, else lines."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Self

from qos_async import Limits
from qos_async._printable import printable
from qos_async.cli.formatting import plural
from qos_async.cli.history.partial import PartialDownload
from qos_async.cli.streams import print_message

__all__ = [
    "BarProgress",
    "EtaEstimator",
    "Progress",
    "format_duration",
    "make_progress",
]

_LINE_INTERVAL = 10.0
"""Seconds between two lines."""
_WAIT_INTERVAL = 60.0
"""Seconds of waiting for one reason between two lines."""
_WIDE = 100
"""Width of a terminal from which on the bar has room for how far back it reaches."""
_MINUTE, _HOUR = 60, 3600


class EtaEstimator:
    """Estimates the time left.

    It measures the time span of the bars, not their number: pages of a stock span nights
    and weekends, but each about as much time as the next.
    """

    def __init__(self, part: PartialDownload, limits: Limits, now: float) -> None:
        self.part, self._limits = part, limits
        self._started_at, self._resumed_at = now, self._reached
        self._pages = 0
        self._paged_at = now

    def page(self, now: float) -> None:
        """Count a page."""
        self._pages += 1
        self._paged_at = now

    @property
    def share(self) -> float:
        """How much is there, from 0 to 1."""
        request = self.part.request
        return (request.end - self._reached) / max(request.end - request.start, 1)

    def eta(self, now: float) -> float | None:
        """Return the seconds left; None if unknown, or overdue."""
        done = self._resumed_at - self._reached
        if not self._pages or not done:
            return None
        ahead = max(self._reached - self.part.request.start, 0)
        pages = -(-ahead * self._pages // done)
        left = self._due(self._pages + pages) - now
        return left if left > 0 else None

    @property
    def _reached(self) -> int:
        oldest = self.part.oldest
        return self.part.request.end if oldest is None else oldest

    def _due(self, pages: int) -> float:
        """Return when so many pages will be there, at the pace so far and of the plan."""
        limits = self._limits
        took = (self._paged_at - self._started_at) / self._pages
        periods = (pages - 1) // limits.http_requests
        return self._started_at + max(pages * took, periods * limits.http_period)


class Progress:
    """Prints a line every ten seconds, and one for each minute of waiting."""

    def __init__(
        self, eta: EtaEstimator, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._eta, self._clock = eta, clock
        self._printed_at = clock()
        self._reason, self._waited = "", 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def page(self) -> None:
        """Report a page."""
        self._reason, self._waited = "", 0.0
        now = self._clock()
        self._eta.page(now)
        self._show(now)

    def waiting(self, reason: str, seconds: float) -> None:
        """Report why there is no progress, and for how long.

        A wait of less than a second is not worth a line, nor are further short ones for
        the same reason.
        """
        if reason != self._reason:
            self._reason, self._waited = reason, math.inf
        if seconds >= 1 and self._waited >= _WAIT_INTERVAL:
            self._waited = 0.0
            self._print(f"{reason}; asking again in {format_duration(seconds)}")
        self._waited += seconds

    def _show(self, now: float) -> None:
        if now - self._printed_at >= _LINE_INTERVAL:
            self._printed_at = now
            left = self._eta.eta(now)
            about = "" if left is None else f", about {format_duration(left)} left"
            reached = self._eta.part.progress_text()
            self._print(f"{reached}, {self._eta.share:.0%}{about}")

    def _print(self, text: str) -> None:
        print_message(f"qos: {text}")


class BarProgress(Progress):
    """A bar of rich: share in percent, number of bars, time left."""

    def __init__(self, eta: EtaEstimator, console: Any = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        super().__init__(eta)
        console = Console(stderr=True) if console is None else console
        count = "reached" if console.width >= _WIDE else "bars"
        self._bar = RichProgress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="cyan"),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn(f"{{task.fields[{count}]}}"),
            TextColumn("{task.fields[left]:>11}", style="cyan"),
            console=console,
            expand=True,
            transient=True,
        )
        title = f"{eta.part.request.symbol} {eta.part.request.interval}"
        self._task = self._bar.add_task(title, total=1.0, bars="", reached="", left="")
        self._show(self._clock())

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def _show(self, now: float) -> None:
        left = self._eta.eta(now)
        self._bar.update(
            self._task,
            completed=self._eta.share,
            bars=plural(self._eta.part.count, "bar"),
            reached=self._eta.part.progress_text(),
            left="" if left is None else f"{format_duration(left)} left",
        )

    def _print(self, text: str) -> None:
        text = printable(f"qos: {text}")
        self._bar.console.print(text, style="yellow", markup=False, highlight=False)


def make_progress(part: PartialDownload, limits: Limits) -> Progress:
    """Return a bar for a terminal with rich, and lines for everything else."""
    eta = EtaEstimator(part, limits, time.monotonic())
    if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        try:
            return BarProgress(eta)
        except ImportError:  # Comes with the extra ``cli``.
            pass
    return Progress(eta)


def format_duration(seconds: float) -> str:
    """Format a duration: ``45 s``, ``12 min``, ``3.4 h``."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"
