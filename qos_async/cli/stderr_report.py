"""Reports on a running stream: link, gaps, dropped ticks and the summary, on stderr."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from msgspec.structs import asdict

from qos_async import Gap, StateChange
from qos_async.cli.display import IN_UTC, Display
from qos_async.cli.formatting import gaps_line, move_line, plural, with_spellings
from qos_async.cli.run_stats import RunStats
from qos_async.cli.serialize import json_line
from qos_async.cli.streams import print_message
from qos_async.cli.timed_lines import timed_lines
from qos_async.models import AnyTick

__all__ = ["JsonView", "StderrReport"]

_COALESCE_WITHIN = 0.1


class StderrReport:
    """Writes lines of text; simultaneous gaps of one channel become one line."""

    def __init__(self, stats: RunStats, display: Display = IN_UTC) -> None:
        self._stats, self._display = stats, display
        self._gaps: list[Gap] = []

    def on_gap(self, gap: Gap) -> None:
        """Report a gap, together with simultaneous ones."""
        if self._gaps and self._gaps[0].topic.channel is not gap.topic.channel:
            self.refresh()
        if not self._gaps:
            asyncio.get_running_loop().call_later(_COALESCE_WITHIN, self.refresh)
        self._gaps.append(gap)

    def on_dropped(self, count: int) -> None:
        """Report dropped ticks."""
        self._line(
            f"dropped {plural(count, 'tick')}: the reader of the output is too slow"
        )

    def on_state(self, change: StateChange) -> None:
        """Report a change of the link's state."""
        self._line(f"link {move_line(change)}")

    def on_message(self, text: str) -> None:
        """Report anything else."""
        self._line(text)

    def refresh(self) -> None:
        """Write the collected gaps: later ticks follow."""
        if self._gaps:
            gaps, self._gaps = self._gaps, []
            self._line(f"gap: {gaps_line(gaps)}")

    def summarize(self, elapsed: float) -> None:
        """Write the summary."""
        self.refresh()
        stats = self._stats
        ticks = ", ".join(f"{n} {name}" for name, n in sorted(stats.ticks.items()))
        statuses = ", ".join(f"{n} {name}" for name, n in sorted(stats.gaps.items()))
        parts = [
            f"ran {elapsed:.1f} s",
            f"ticks: {ticks or 'none'}",
            f"outages: {len(stats.outages) or 'none'}",
            f"gaps: {statuses or 'none'}",
        ]
        if stats.recovered:
            parts.append(f"recovered: {stats.recovered}")
        if stats.dropped:
            parts.append(f"dropped: {stats.dropped}")
        self._line("; ".join(parts))
        silent = sorted({topic.symbol for topic in stats.topics} - stats.symbols)
        if silent:
            self._line(f"no ticks of {with_spellings(silent)}")

    def _line(self, text: str) -> None:
        print_message(*timed_lines(text, self._display))


class JsonView:
    """Writes an object per tick on stdout, and an object per event on stderr.

    Ticks have the names of their fields, plus ``channel``. Prices, sizes and volumes are
    strings, exact as sent; what a market leaves out is null. Enumerations are words
    (``"buy"``, ``"1m"``), ``timestamp`` epoch seconds, ``received_at`` epoch nanoseconds.
    """

    def __init__(self, stats: RunStats) -> None:
        self._stats = stats

    def on_tick(self, tick: AnyTick) -> None:
        """Write a tick on stdout."""
        row = {"channel": tick.channel.value, **tick.to_dict()}
        print(json_line(row), end="")

    def on_gap(self, gap: Gap) -> None:
        """Report a gap."""
        row = asdict(gap)
        topic = asdict(row.pop("topic"))
        interval = gap.topic.interval
        self._emit("gap", **topic | {"interval": interval and interval.short}, **row)

    def on_dropped(self, count: int) -> None:
        """Report dropped ticks."""
        self._emit("dropped", count=count)

    def on_state(self, change: StateChange) -> None:
        """Report a change of the link's state."""
        self._emit("link", **asdict(change))

    def on_message(self, text: str) -> None:
        """Report anything else."""
        self._emit("note", text=text)

    def refresh(self) -> None:
        """Flush stdout."""
        sys.stdout.flush()

    def summarize(self, elapsed: float) -> None:
        """Write the summary."""
        stats = self._stats
        outages = [
            {
                "reason": outage.reason,
                "link_back_after": _since(outage.lost_at, outage.back_at),
                "all_live_after": _since(outage.lost_at, outage.recovered_at),
            }
            for outage in stats.outages
        ]
        self._emit(
            "summary",
            seconds=round(elapsed, 3),
            symbols=sorted(stats.symbols),
            ticks={channel.value: n for channel, n in stats.ticks.items()},
            outages=outages,
            gaps=dict(stats.gaps),
            recovered=stats.recovered,
            dropped=stats.dropped,
            frames_sent=stats.frames_sent,
            breaches=stats.violations,
        )

    def _emit(self, event: str, **fields: Any) -> None:
        line = json_line({"event": event, **fields})
        print(line, end="", file=sys.stderr, flush=True)


def _since(start: float, end: float | None) -> float | None:
    return None if end is None else round(end - start, 3)
