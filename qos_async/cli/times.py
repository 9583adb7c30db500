"""Times on the command line: days, points in time, and spans back from now."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import NamedTuple

from qos_async.enums import Interval
from qos_async.symbols import market_of

__all__ = ["TIMES", "TimeSpec", "iso", "local_time"]

TIMES = """\
times: a day (2025-01-31, today, yesterday), a week (2025-W05), a month (2025-01)
or a year (2025) in the market's own time zone (New York for US, Hong Kong for
HK, Shanghai for SH and SZ, UTC for all others); it starts at midnight, and --to
includes the whole of it. Or a time (2025-01-31T09:30), in that zone as well
unless it names one (2025-01-31T09:30Z, 2025-01-31T17:30+08:00). Or a Unix time
of 9 digits or more (1767225600, in ms, us or ns, too), or after an @. Or a span
back from now (90m, 12h, 2d, 4w), or now."""
"""Which times there are, for the help of a command."""

_SPAN = re.compile(r"-?(\d+)([mhdw])", re.ASCII)
# Units that a span does not have, in days; those that it has, written otherwise.
_OTHER_SPAN = re.compile(r"-?(\d{1,6})\s*([A-Za-z]+)", re.ASCII)
_IN_DAYS = {"M": 30, "mo": 30, "q": 91, "y": 365}
_DAYS_AGO = {"today": 0, "yesterday": 1}
_MAX = 10_000_000_000
"""Epoch seconds; the client takes larger numbers for milliseconds."""
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# Unix times by their number of digits: from 1973 on, and until 2286.
_EPOCH = re.compile(
    r"(\d{9,10})(\d{3}|\d{6}|\d{9})?(\.\d+)?|@(-?\d+(?:\.\d+)?)", re.ASCII
)
# From 1990 to 2100: ms, us and ns beyond are mistyped.
_PLAUSIBLE = 631_152_000, 4_102_444_800
# A day and a time without marks; as ms they would be of 1976.
_COMPACT = re.compile(r"((?:19|20)\d{6})(\d{4})", re.ASCII)
_YEAR = re.compile(r"(\d{4})", re.ASCII)
_MONTH = re.compile(r"(\d{4})-(\d\d)", re.ASCII)
_WEEK = re.compile(r"\d{4}-?W\d\d", re.ASCII)
_DAYS_OF_WEEK = 7
_MONTHS = 12


class TimeSpec(NamedTuple):
    """A parsed time: one of ``days``, ``at``, ``ago`` and ``days_ago`` is set.

    Attributes:
        text: As typed.
        days: The first day, and the one after the last, in the market's time zone.
        at: A point in time; without a zone, in that of the market.
        ago: A span back from now.
        days_ago: The number of days before today, in the market's time zone.
    """

    text: str
    days: tuple[date, date] | None = None
    at: datetime | None = None
    ago: timedelta | None = None
    days_ago: int | None = None

    @classmethod
    def parse(cls, text: str) -> TimeSpec:
        """Parse any of the forms of ``TIMES``.

        Raises:
            ValueError: For anything else; the message says what to type.
        """
        typed = text.strip()
        if typed.lower() in _DAYS_AGO:
            return cls(text, days_ago=_DAYS_AGO[typed.lower()])
        try:
            if (ago := _span(typed)) is not None:
                return cls(text, ago=ago)
            if found := _COMPACT.fullmatch(typed):
                return cls(text, at=datetime.fromisoformat(f"{found[1]}T{found[2]}"))
            if (at := _epoch(typed)) is not None:
                return cls(text, at=at)
            written = typed.upper()
            if "T" not in written and " " not in written:
                return cls(text, days=_days(written))
            return cls(text, at=datetime.fromisoformat(written))
        except (ValueError, OverflowError):
            if other := _OTHER_SPAN.fullmatch(typed):
                raise ValueError(_other_unit(text, int(other[1]), other[2])) from None
            raise ValueError(
                f"{text!r} is not a time: try a day such as 2025-01-31 or yesterday, a "
                "time such as 2025-01-31T09:30 (in the market's time zone) or "
                "2025-01-31T09:30Z, a Unix time such as 1767225600, or a span back from "
                "now such as 2d (units m h d w)"
            ) from None

    def start(self, zone: tzinfo, now: float) -> int:
        """Return epoch seconds, rounded down; for days, their start in ``zone``.

        Raises:
            ValueError: If it is out of range.
        """
        return self._bounded(zone, now, 0)

    def end(self, zone: tzinfo, now: float) -> int:
        """Return epoch seconds; for days, their end in ``zone``.

        Raises:
            ValueError: If it is out of range.
        """
        return self._bounded(zone, now, 1)

    def _bounded(self, zone: tzinfo, now: float, bound: int) -> int:
        try:
            second = self._resolve(zone, now, bound)
        except (OverflowError, OSError, ValueError):
            second = None
        if second is None or abs(second) >= _MAX:
            raise ValueError(f"{self.text!r} is out of range")
        return int(second // 1)

    def _resolve(self, zone: tzinfo, now: float, bound: int) -> float:
        if self.ago is not None:
            return now - self.ago.total_seconds()
        if self.at is not None:
            at = self.at if self.at.tzinfo else self.at.replace(tzinfo=zone)
            return at.timestamp()
        if self.days is not None:
            day = self.days[bound]
        else:
            assert self.days_ago is not None
            today = datetime.fromtimestamp(now, zone).date()
            day = today - timedelta(days=self.days_ago - bound)
        return datetime.combine(day, time(), zone).timestamp()


def _span(text: str) -> timedelta | None:
    if text.lower() == "now":
        return timedelta()
    span = _SPAN.fullmatch(text)
    return timedelta(**{_UNITS[span[2]]: int(span[1])}) if span else None


def _other_unit(text: str, count: int, unit: str) -> str:
    """Return what to type instead of a span in a unit that there is not."""
    lower = unit.lower()
    days = _IN_DAYS.get(unit) or _IN_DAYS.get(lower[:2]) or _IN_DAYS.get(lower[:1])
    meant = f"{count * days}d" if days else f"{count}{lower[0]}"
    hint = f": try {meant}" if _SPAN.fullmatch(meant) else ""
    return (
        f"{text!r} is not a time: the units of a span back from now are m (minutes), "
        f"h (hours), d (days) and w (weeks){hint}"
    )


def _epoch(text: str) -> datetime | None:
    """Return a Unix time; in ms, us or ns if it has that many digits more."""
    found = _EPOCH.fullmatch(text)
    if found is None:
        return None
    whole, fraction, point, marked = found.groups()
    seconds = float(marked or f"{whole}.{fraction or ''}{(point or '.')[1:]}")
    if fraction and not _PLAUSIBLE[0] <= seconds < _PLAUSIBLE[1]:
        raise ValueError
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def _days(text: str) -> tuple[date, date]:
    """Return the first day of a day, week, month or year, and the day after it."""
    if found := _YEAR.fullmatch(text):
        return _first_of(int(found[1]), 1), _first_of(int(found[1]) + 1, 1)
    if found := _MONTH.fullmatch(text):
        year, month = int(found[1]), int(found[2])
        later = (year, month + 1) if month < _MONTHS else (year + 1, 1)
        return _first_of(year, month), _first_of(*later)
    first = date.fromisoformat(text)
    count = _DAYS_OF_WEEK if _WEEK.fullmatch(text) else 1
    left = (date.max - first).days
    return first, first + timedelta(days=min(count, left))


def _first_of(year: int, month: int) -> date:
    return date(year, month, 1) if year <= date.max.year else date.max


def iso(timestamp: float, zone: tzinfo | None = UTC) -> str:
    """Format epoch seconds as ISO 8601: ``2025-01-31T09:30:00Z``, or with an offset."""
    time = datetime.fromtimestamp(timestamp, UTC).astimezone(zone)
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def local_time(
    timestamp: float, symbol: str, interval: Interval, zone: tzinfo | None = UTC
) -> str:
    """Format the start of a bar: the market's date for days and longer, else in ``zone``."""
    from qos_async.periods import market_zone  # With time zones: not for ``--help``.

    if interval >= Interval.DAY:
        zone = market_zone(market_of(symbol))
        return f"{datetime.fromtimestamp(timestamp, zone):%Y-%m-%d}"
    time = datetime.fromtimestamp(timestamp, UTC).astimezone(zone)
    return f"{time:%Y-%m-%d %H:%M}"
