"""Reports on a running stream: link, gaps, dropped ticks and the summary, on stderr."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Any, Self

from msgspec.structs import asdict

from qos_async import Gap, StateChange
from qos_async.cli.formatting import gaps_line, iso_time, move_line
from qos_async.cli.serialize import json_line
from qos_async.cli.tally import Tally
from qos_async.models import AnyTick

__all__ = ["JsonView", "StderrReport"]

_COALESCE_WITHIN = 0.1


class StderrReport:
    """Writes lines of text; simultaneous gaps of one channel become one line."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._gaps: list[Gap] = []

    def gap(self, gap: Gap) -> None:
        """Report a gap, together with simultaneous ones."""
        if self._gaps and self._gaps[0].topic.channel is not gap.topic.channel:
            self.refresh()
        if not self._gaps:
            asyncio.get_running_loop().call_later(_COALESCE_WITHIN, self.refresh)
        self._gaps.append(gap)

    def drop(self, count: int) -> None:
        """Report dropped ticks."""
        self._line(f"dropped {count} ticks: the reader of the output is too slow")

    def move(self, change: StateChange) -> None:
        """Report a change of the link's state."""
        self._line(f"link {move_line(change)}")

    def note(self, text: str) -> None:
        """Report anything else."""
        self._line(text)

    def refresh(self) -> None:
        """Write the collected gaps: later ticks follow."""
        if self._gaps:
            gaps, self._gaps = self._gaps, []
            self._line(f"gap: {gaps_line(gaps)}")

    def sum_up(self, elapsed: float) -> None:
        """Write the summary."""
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
            self._line(f"no ticks of {', '.join(silent)}")

    def _line(self, text: str) -> None:
        print(f"{iso_time()} {text}", file=sys.stderr, flush=True)


class JsonView:
    """Writes an object per tick on stdout, and an object per event on stderr.

    Ticks have the names of their fields, plus ``channel``. Prices, sizes and volumes are
    strings, exact as sent; what a market leaves out is null. Enumerations are words
    (``"buy"``, ``"1m"``), ``timestamp`` epoch seconds, ``received_at`` epoch nanoseconds.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def tick(self, tick: AnyTick) -> None:
        """Write a tick on stdout."""
        row = {"channel": tick.channel, **tick.to_dict()}
        print(json_line(row), end="")

    def gap(self, gap: Gap) -> None:
        """Report a gap."""
        row = asdict(gap)
        topic = asdict(row.pop("topic"))
        interval = gap.topic.interval
        self._emit("gap", **topic | {"interval": interval and interval.short}, **row)

    def drop(self, count: int) -> None:
        """Report dropped ticks."""
        self._emit("dropped", count=count)

    def move(self, change: StateChange) -> None:
        """Report a change of the link's state."""
        self._emit("link", **asdict(change))

    def note(self, text: str) -> None:
        """Report anything else."""
        self._emit("note", text=text)

    def refresh(self) -> None:
        """Flush stdout."""
        if sys.stdout is not None:
            sys.stdout.flush()

    def sum_up(self, elapsed: float) -> None:
        """Write the summary."""
        tally = self._tally
        outages = [
            {
                "reason": outage.reason,
                "link_back_after": _since(outage.lost_at, outage.back_at),
                "all_live_after": _since(outage.lost_at, outage.healed_at),
            }
            for outage in tally.outages
        ]
        self._emit(
            "summary",
            seconds=round(elapsed, 3),
            symbols=sorted(tally.symbols),
            ticks={channel.value: n for channel, n in tally.ticks.items()},
            outages=outages,
            gaps=dict(tally.gaps),
            recovered=tally.recovered,
            dropped=tally.dropped,
            frames_sent=tally.frames_sent,
            breaches=tally.breaches,
        )

    def _emit(self, event: str, **fields: Any) -> None:
        line = json_line({"event": event, **fields})
        print(line, end="", file=sys.stderr, flush=True)


def _since(start: float, end: float | None) -> float | None:
    return None if end is None else round(end - start, 3)
