"""Calendar of the simulated markets: trading days, half days and hours.

Prices, trades and ``/market-calendar`` all take their days from here. The hours are those
of ``qos_async.markets.hours``, with three differences that make each day complete in
itself, so that its kline is the sum of its minutes: the US has no overnight session, FX
and CM start with the Monday of UTC instead of Sunday evening in New York, and IX, whose
hours are in no document, trades from Monday to Friday around the clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta, tzinfo
from typing import TypeAlias

from qos_async.enums import Session
from qos_async.markets.hours import HOURS, MarketHours
from qos_async.periods import market_zone

__all__ = [
    "TimeSpan",
    "is_trading_day",
    "live_spans",
    "local_date",
    "midnight",
    "open_days",
    "session_at",
    "session_span",
    "trading_spans",
]

TimeSpan: TypeAlias = tuple[int, int]
"""Start and end (exclusive) in epoch seconds, whole minutes."""

_CALENDAR_DAYS = 92
_HALF_DAYS = {"HK": ((12, 24), (12, 31)), "US": ((7, 3), (12, 24))}
_HOLIDAYS = frozenset({(1, 1), (12, 25)})
# The fixed ones: those by the lunar calendar, such as the Spring Festival, are left out.
_CHINESE_HOLIDAYS = frozenset(
    {(1, 1), *((5, day) for day in range(1, 4)), *((10, day) for day in range(1, 8))}
)
_SATURDAY = 5
_DAY = timedelta(days=1)
_DAY_SECONDS = 86_400
_relative_spans: dict[tuple[str, bool, bool, int], tuple[TimeSpan, ...]] = {}


def is_trading_day(market: str, day: date) -> bool:
    """Whether a market trades on a date."""
    hours = HOURS.get(market)
    if hours is not None and hours.daily:
        return True
    holidays = _CHINESE_HOLIDAYS if market in ("SH", "SZ") else _HOLIDAYS
    return day.weekday() < _SATURDAY and (day.month, day.day) not in holidays


def open_days(market: str, now: float) -> list[str]:
    """Return three months of trading days as ``"20250703,H"``; F is a full day."""
    today = local_date(market, now)
    days = (today + timedelta(days=n) for n in range(_CALENDAR_DAYS))
    return [
        f"{day:%Y%m%d},{'H' if _is_half_day(market, day) else 'F'}"
        for day in days
        if is_trading_day(market, day)
    ]


def trading_spans(market: str, day: date) -> tuple[TimeSpan, ...]:
    """Return when a market trades on a date, in order; sessions that meet are one span."""
    if not is_trading_day(market, day):
        return ()
    following, start = day + _DAY, midnight(market, day)
    hours = HOURS.get(market)
    if hours is None:
        return ((start, start + _DAY_SECONDS),)
    zone = _zone(market, hours)
    # Counted from midnight, the hours depend on little; to compute them for each date
    # would take longer than all its prices.
    key = (
        market,
        _is_half_day(market, day),
        is_trading_day(market, following),
        datetime.fromtimestamp(start, zone).hour,
    )
    relative = _relative_spans.get(key)
    if relative is None:
        sessions = [*_sessions(market, day), *_sessions(market, following)]
        found = _joined(sessions, start, midnight(market, following))
        relative = tuple((opens - start, closes - start) for opens, closes in found)
        _relative_spans[key] = relative
    return tuple((start + opens, start + closes) for opens, closes in relative)


def live_spans(market: str, start: float) -> Iterator[TimeSpan]:
    """Yield when a market trades from ``start`` on, without end."""
    day = local_date(market, start)
    while True:
        for opens, closes in trading_spans(market, day):
            if closes > start:
                yield opens, closes
        day += _DAY


def session_at(now: float, *, every_day: bool) -> Session:
    """Return the session of the US (section 3); UNKNOWN outside of sessions.

    With ``every_day`` weekends and holidays are like other days.
    """
    today = local_date("US", now)
    for day in (today, today + _DAY):
        if every_day or is_trading_day("US", day):
            for one, (opens, closes) in _all_sessions("US", day):
                if opens <= now < closes:
                    return one
    return Session.UNKNOWN


def session_span(session: Session, now: float) -> TimeSpan:
    """Return start and end of the latest such session of the US that began by ``now``."""
    day = local_date("US", now) + _DAY
    while True:
        if is_trading_day("US", day):
            for one, (opens, closes) in _all_sessions("US", day):
                if one is session and opens <= now:
                    return opens, closes
        day -= _DAY


def local_date(market: str, second: float) -> date:
    """Return the date of a time in the time zone of a market's klines."""
    return datetime.fromtimestamp(second, market_zone(market)).date()


def midnight(market: str, day: date) -> int:
    """Return the start of a date in the time zone of a market's klines."""
    zone = market_zone(market)
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def _is_half_day(market: str, day: date) -> bool:
    return (day.month, day.day) in _HALF_DAYS.get(market, ())


def _zone(market: str, hours: MarketHours) -> tzinfo:
    try:
        return hours.zone(market)
    except ModuleNotFoundError:  # Without tzdata, a simulation needs no exact hours.
        return market_zone(market)


def _sessions(market: str, day: date) -> list[TimeSpan]:
    """Return the sessions of a date in which the simulated market trades."""
    if not is_trading_day(market, day):
        return []
    listed = _all_sessions(market, day)
    return [span for kind, span in listed if kind is not Session.OVERNIGHT]


def _all_sessions(market: str, day: date) -> list[tuple[Session, TimeSpan]]:
    hours = HOURS[market]
    zone = _zone(market, hours)
    listed = hours.half_day if _is_half_day(market, day) else hours.full_day
    spans = [(one.kind, one.span(day, zone)) for one in listed]
    return [
        (kind, (int(opens.timestamp()), int(closes.timestamp())))
        for kind, (opens, closes) in spans
    ]


def _joined(spans: list[TimeSpan], start: int, end: int) -> list[TimeSpan]:
    """Return the parts of spans between ``start`` and ``end``, joined where they meet."""
    joined = list[TimeSpan]()
    for opens, closes in spans:
        low, high = max(opens, start), min(closes, end)
        if low >= high:
            continue
        if joined and joined[-1][1] == low:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined
