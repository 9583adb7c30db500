"""What a run of the demo looks like."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Protocol, Self

from qos_async import Gap, StateChange
from qos_async.cli.commands.demo import Arguments
from qos_async.cli.plain import PlainView
from qos_async.cli.script import Script
from qos_async.cli.stderr_report import JsonView
from qos_async.cli.tally import AnyTick, Tally

__all__ = ["View", "choose"]


class View(Protocol):
    """Shows a run. Ticks come at any pace, ``refresh`` a few times a second."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def tick(self, tick: AnyTick) -> None:
        """Show a tick."""
        ...

    def gap(self, gap: Gap) -> None:
        """Tell of a gap."""
        ...

    def drop(self, count: int) -> None:
        """Tell of ticks that this program was too slow for."""
        ...

    def move(self, change: StateChange) -> None:
        """Tell of a move of the link."""
        ...

    def note(self, text: str) -> None:
        """Tell of what the demo does itself."""
        ...

    def refresh(self) -> None:
        """Bring to the screen what has come."""
        ...

    def sum_up(self, elapsed: float) -> None:
        """Show what it all came to; comes last, after ``__exit__``."""
        ...


def choose(arguments: Arguments, script: Script, tally: Tally) -> View:
    """Take the table for a terminal, and lines for everything else."""
    if arguments.json:
        return JsonView(tally)
    if arguments.plain or not _is_terminal():
        return PlainView(tally)
    try:
        from qos_async.cli.live import LiveView
    except ImportError:
        hint = "for a live table: pip install 'qos-async[cli]'"
        print(f"qos: rich is not installed, so here are lines; {hint}", file=sys.stderr)
        return PlainView(tally)
    return LiveView(script, tally)


def _is_terminal() -> bool:
    dumb = os.environ.get("TERM") in ("dumb", "unknown")
    return sys.stdout is not None and sys.stdout.isatty() and not dumb
