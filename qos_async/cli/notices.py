"""What a stream tells on stderr, in sentences."""

from __future__ import annotations

import asyncio
import sys

from qos_async import Gap, StateChange
from qos_async.cli.run_stats import RunStats
from qos_async.cli.wording import gaps_line, move_line, stamp

__all__ = ["Notices"]

_TOGETHER = 0.1


class Notices:
    """Writes lines to stderr; gaps of one channel come together and become one."""

    def __init__(self, tally: RunStats) -> None:
        self._tally = tally
        self._gaps: list[Gap] = []

    def gap(self, gap: Gap) -> None:
        """Tell of a gap, with those that come at the same time."""
        if self._gaps and self._gaps[0].topic.channel is not gap.topic.channel:
            self.refresh()
        if not self._gaps:
            asyncio.get_running_loop().call_later(_TOGETHER, self.refresh)
        self._gaps.append(gap)

    def drop(self, count: int) -> None:
        """Tell of ticks that nobody took in time."""
        self._line(f"dropped {count} ticks: whoever reads them is too slow")

    def move(self, change: StateChange) -> None:
        """Tell of a move of the link."""
        self._line(f"link {move_line(change)}")

    def note(self, text: str) -> None:
        """Tell of anything else."""
        self._line(text)

    def refresh(self) -> None:
        """Tell of the gaps that were collected: ticks that come later are next."""
        if self._gaps:
            gaps, self._gaps = self._gaps, []
            self._line(f"gap: {gaps_line(gaps)}")

    def sum_up(self, elapsed: float) -> None:
        """Tell what it all came to."""
        self.refresh()
        tally = self._tally
        ticks = ", ".join(f"{n} {name}" for name, n in sorted(tally.ticks.items()))
        statuses = ", ".join(f"{n} {name}" for name, n in sorted(tally.gaps.items()))
        parts = [
            f"ran {elapsed:.1f} s",
            f"ticks: {ticks or 'none'}",
            f"outages: {len(tally.outages) or 'none'}",
            f"gaps: {statuses or 'none'}",
        ]
        if tally.recovered:
            parts.append(f"recovered: {tally.recovered}")
        if tally.dropped:
            parts.append(f"dropped: {tally.dropped}")
        self._line("; ".join(parts))
        silent = sorted({topic.symbol for topic in tally.topics} - tally.symbols)
        if silent:
            self._line(f"nothing came of {', '.join(silent)}")

    def _line(self, text: str) -> None:
        print(f"{stamp()} {text}", file=sys.stderr, flush=True)
