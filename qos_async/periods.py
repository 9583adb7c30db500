"""Start and end of klines.

Intraday bars are counted from local midnight and have a fixed length, except that
the last of a day with 23 or 25 hours ends at midnight, where those of the next day
begin. A day bar starts at local midnight of its market, with daylight saving (as
recorded in the vendor's samples); weeks start on Monday, months and years on their
first day.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache

from qos_async.enums import Interval

__all__ = [
    "FAR_FUTURE",
    "bar_date",
    "bar_end",
    "bar_start",
    "first_day",
    "market_zone",
    "next_first_day",
]

_ZONES = {
    "US": ("America/New_York", -5),
    "HK": ("Asia/Hong_Kong", 8),
    "SH": ("Asia/Shanghai", 8),
    "SZ": ("Asia/Shanghai", 8),
}
_MINUTE = 60

FAR_FUTURE = 100_000_000_000
"""The end of the epoch seconds that are read: the year 5138, or 1973 in milliseconds.

What is beyond is milliseconds by mistake, and no ``datetime`` holds the end of its bar.
"""


@lru_cache(maxsize=64)
def market_zone(market: str) -> tzinfo:
    """Return the time zone of a market's days; UTC if unknown."""
    # Slow to import, and few programs need it.
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415

    name, hours = _ZONES.get(market, ("UTC", 0))
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:  # Without tzdata: correct except for daylight saving.
        return timezone(timedelta(hours=hours))


def bar_start(timestamp: int, interval: Interval, market: str) -> int:
    """Return the start of the bar that contains ``timestamp``, in epoch seconds."""
    zone = market_zone(market)
    day = datetime.fromtimestamp(timestamp, zone).date()
    if interval >= Interval.DAY:
        return _midnight(first_day(day, interval), zone)
    length = interval * _MINUTE
    midnight = _midnight(day, zone)
    return midnight + (timestamp - midnight) // length * length


def bar_end(start: int, interval: Interval, market: str) -> int:
    """Return the end of the bar that starts at ``start``, in epoch seconds."""
    zone = market_zone(market)
    day = first_day(datetime.fromtimestamp(start, zone).date(), interval)
    end = _midnight(next_first_day(day, interval), zone)
    if interval >= Interval.DAY:
        return end
    return min(start + interval * _MINUTE, end)


def bar_date(start: int, market: str) -> date:
    """Return the date, in its market, on which the bar that starts at ``start`` starts."""
    return datetime.fromtimestamp(start, market_zone(market)).date()


def first_day(day: date, interval: Interval) -> date:
    """Return the first day of the bar of a day or longer that contains ``day``."""
    match interval:
        case Interval.WEEK:
            return day - timedelta(days=day.weekday())
        case Interval.MONTH:
            return day.replace(day=1)
        case Interval.YEAR:
            return day.replace(month=1, day=1)
        case _:
            return day


def next_first_day(day: date, interval: Interval) -> date:
    """Return the first day of the bar after the one that begins with ``day``."""
    match interval:
        case Interval.WEEK:
            return day + timedelta(days=7)
        case Interval.MONTH:
            return (day + timedelta(days=31)).replace(day=1)
        case Interval.YEAR:
            return day.replace(year=day.year + 1)
        case _:
            return day + timedelta(days=1)


def _midnight(day: date, zone: tzinfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
