"""One line a tick, for pipes, files and terminals without rich."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from qos_async import Gap, StateChange
from qos_async.cli import summary
from qos_async.cli.formatting import gaps_line, iso_time, move_line, tick_line
from qos_async.cli.tally import AnyTick, Tally

__all__ = ["PlainView"]


class PlainView:
    """Writes lines to stdout."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._gaps: list[Gap] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or not issubclass(kind, OSError):
            self._tell_gaps()

    def tick(self, tick: AnyTick) -> None:
        """Write a line."""
        self._tell_gaps()
        print(tick_line(tick))

    def gap(self, gap: Gap) -> None:
        """Collect: the gaps of one channel come together and become one line."""
        if self._gaps and self._gaps[0].topic.channel is not gap.topic.channel:
            self._tell_gaps()
        self._gaps.append(gap)

    def drop(self, count: int) -> None:
        """Write a line."""
        self._line("dropped", f"{count} ticks: this program was too slow for them")

    def move(self, change: StateChange) -> None:
        """Write a line."""
        self._line("link", move_line(change))

    def note(self, text: str) -> None:
        """Write a line."""
        self._line("demo", text)

    def refresh(self) -> None:
        """Let readers of a pipe have what there is."""
        if sys.stdout is not None:
            sys.stdout.flush()

    def sum_up(self, elapsed: float) -> None:
        """Write the summary."""
        print()
        for name, text in summary.rows(self._tally, elapsed):
            print(f"{name:<10} {text}")

    def _tell_gaps(self) -> None:
        if self._gaps:
            gaps, self._gaps = self._gaps, []
            self._line("gap", gaps_line(gaps))

    def _line(self, kind: str, text: str) -> None:
        print(f"{iso_time()} {kind:<8} {text}")
