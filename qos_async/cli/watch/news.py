"""What happened, a line each; the gaps of one outage become one line."""

from __future__ import annotations

from collections import Counter, deque
from datetime import UTC, datetime

from qos_async import Gap
from qos_async.cli.formatting import clock

__all__ = ["News"]

_KEPT = 100
_ONE_OUTAGE = 10.0
"""Seconds within which gaps with the same reason are of one outage: the topics come
back one channel after another, at the pace of the plan."""


class News:
    """The newest hundred things that happened."""

    def __init__(self) -> None:
        self._lines: deque[tuple[float, str]] = deque(maxlen=_KEPT)
        self._gaps: list[Gap] = []
        self._gap_at = 0.0
        self._told = ""

    def tell(self, text: str, now: float) -> None:
        """Add a line."""
        self._lines.append((now, text))

    def gap(self, gap: Gap, now: float) -> None:
        """Add a gap to the line of its outage, or begin one."""
        same = self._gaps and self._gaps[0].reason == gap.reason
        if same and now - self._gap_at < _ONE_OUTAGE:
            self._gaps.append(gap)
            self._lines = deque(
                (line for line in self._lines if line[1] != self._told), maxlen=_KEPT
            )
        else:
            self._gaps = [gap]
        self._gap_at = now
        self._told = _words(self._gaps)
        self.tell(self._told, now)

    @property
    def lines(self) -> list[str]:
        """All of it, oldest first, each with the time of day (UTC)."""
        return [f"{_time(at)} {text}" for at, text in self._lines]

    @property
    def newest(self) -> str:
        """The last line; empty if nothing has happened."""
        return self.lines[-1] if self._lines else ""


def _words(gaps: list[Gap]) -> str:
    seconds = max((gap.until - gap.since).total_seconds() for gap in gaps)
    statuses = Counter(gap.status for gap in gaps)
    told = ", ".join(f"{number} {status}" for status, number in statuses.items())
    recovered = sum(gap.recovered for gap in gaps)
    return f"gap of {seconds:.1f} s: {told}; {recovered} ticks back ({gaps[0].reason})"


def _time(at: float) -> str:
    return clock(datetime.fromtimestamp(at, UTC))
