"""The progress bar. It needs rich, from the extra ``cli``."""

from __future__ import annotations

import time
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from qos_async.cli.history.part import Part
from qos_async.cli.history.progress import Pace, spell
from qos_async.cli.wording import many

__all__ = ["BarProgress"]

_WIDE = 100
"""Columns from which on there is room to say how far back it reaches."""


class BarProgress:
    """A bar, the share in percent, the number of bars, and the time left."""

    def __init__(self, part: Part, pace: Pace, console: Console | None = None) -> None:
        console = Console(stderr=True) if console is None else console
        self._part, self._pace = part, pace
        counts = (
            "{task.fields[reached]}"
            if console.width >= _WIDE
            else ("{task.fields[bars]}")
        )
        self._progress = Progress(
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="cyan"),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn(counts),
            _LeftColumn(pace),
            console=console,
            expand=True,
            transient=True,
        )
        request = part.request
        self._task = self._progress.add_task(
            f"{request.symbol} {request.interval}", total=1.0, **self._fields()
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def page(self, part: Part) -> None:
        """Move the bar."""
        self._pace.page(time.monotonic())
        self._progress.update(self._task, **self._fields())

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        self._progress.console.print(Text(f"qos: {text}", "yellow"))

    def _fields(self) -> dict[str, Any]:
        return {
            "completed": self._pace.share,
            "bars": many(self._part.count, "bar"),
            "reached": self._part.reached(),
        }


class _LeftColumn(ProgressColumn):
    """The time left, which runs down between two pages, too."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Task) -> Text:
        left = self._pace.left(time.monotonic())
        words = "asking" if left is None else f"{spell(left)} left"
        return Text(f"{words:>11}", "cyan")
