"""Times on the command line: days, times with a zone, and spans back from now."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import NamedTuple

from qos_async.enums import Interval
from qos_async.symbols import market_of

__all__ = ["TimeSpec", "iso", "local_time"]

_SPAN = re.compile(r"(\d+)([mhdw])")
_MAX = 10_000_000_000
"""Epoch seconds; the client takes larger numbers for milliseconds."""
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class TimeSpec(NamedTuple):
    """A parsed time: exactly one of ``day``, ``at`` and ``ago`` is set.

    Attributes:
        text: As typed.
        day: A day, in the time zone of the market.
        at: A point in time.
        ago: A span back from now.
    """

    text: str
    day: date | None = None
    at: datetime | None = None
    ago: timedelta | None = None

    @classmethod
    def parse(cls, text: str) -> TimeSpec:
        """Parse ``2025-01-01``, ``2025-01-01T09:30+08:00`` or ``2d``.

        Raises:
            ValueError: For anything else; the message says what to type.
        """
        span = _SPAN.fullmatch(text)
        try:
            if span is not None:
                ago = timedelta(**{_UNITS[span[2]]: int(span[1])})
                return cls(text, ago=ago)
            if "T" not in text and " " not in text:
                return cls(text, day=date.fromisoformat(text))
            at = datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            raise ValueError(
                f"{text!r} is not a time: try a day such as 2025-01-31, a time with a "
                "zone such as 2025-01-31T09:30Z, or a span back from now such as 2d "
                "(units m h d w)"
            ) from None
        if at.tzinfo is None:
            raise ValueError(
                f"{text!r} has no time zone: write {text}Z for UTC, or an offset such "
                f"as {text}+08:00"
            )
        return cls(text, at=at)

    def start(self, zone: tzinfo, now: float) -> int:
        """Return epoch seconds, rounded down; for a day, its start in ``zone``.

        Raises:
            ValueError: If it is out of range.
        """
        return self._bounded(zone, now, 0)

    def end(self, zone: tzinfo, now: float) -> int:
        """Return epoch seconds; for a day, its end in ``zone``.

        Raises:
            ValueError: If it is out of range.
        """
        return self._bounded(zone, now, 1)

    def _bounded(self, zone: tzinfo, now: float, days: int) -> int:
        try:
            second = self._resolve(zone, now, days)
        except (OverflowError, OSError):
            second = None
        if second is None or abs(second) >= _MAX:
            raise ValueError(f"{self.text!r} is out of range")
        return int(second // 1)

    def _resolve(self, zone: tzinfo, now: float, days: int) -> float:
        if self.day is not None:
            day = self.day + timedelta(days=days)
            return datetime.combine(day, time(), zone).timestamp()
        if self.ago is not None:
            return now - self.ago.total_seconds()
        assert self.at is not None
        return self.at.timestamp()


def iso(timestamp: float) -> str:
    """Format epoch seconds as ISO 8601, in UTC: ``2025-01-31T09:30:00Z``."""
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%dT%H:%M:%SZ}"


def local_time(timestamp: float, symbol: str, interval: Interval) -> str:
    """Format the start of a bar: the market's date for days and longer, else UTC."""
    from qos_async.periods import market_zone  # With time zones: not for ``--help``.

    if interval >= Interval.DAY:
        zone = market_zone(market_of(symbol))
        return f"{datetime.fromtimestamp(timestamp, zone):%Y-%m-%d}"
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M}"
