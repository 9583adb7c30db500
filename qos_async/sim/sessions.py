"""When the US trades (section 3), and on which days any market does."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from qos_async.enums import Session
from qos_async.markets.hours import HOURS
from qos_async.periods import market_zone

__all__ = ["open_days", "session_at", "session_span"]

_HOURS = {one.kind: (one.opens, one.closes) for one in HOURS["US"].full_day}
_ALWAYS_OPEN = ("CF",)
_CALENDAR_DAYS = 92
_HALF_DAYS = {"HK": ((12, 24), (12, 31)), "US": ((7, 3), (12, 24))}
_HOLIDAYS = ((1, 1), (12, 25))


def session_at(now: float) -> Session:
    """Name the part of the US trading day; UNKNOWN in the pause before 4:00."""
    clock = datetime.fromtimestamp(now, market_zone("US")).time()
    for session, (opens, closes) in _HOURS.items():
        if opens < closes and opens <= clock < closes:
            return session
        if opens > closes and (clock >= opens or clock < closes):
            return session
    return Session.UNKNOWN


def session_span(session: Session, now: float) -> tuple[int, int]:
    """Give start and end of the newest such session that has begun by ``now``."""
    zone = market_zone("US")
    opens, closes = _HOURS[session]
    day = datetime.fromtimestamp(now, zone).date()
    start = datetime.combine(day, opens, zone)
    if start.timestamp() > now:
        day -= timedelta(days=1)
        start = datetime.combine(day, opens, zone)
    ends_on = day + timedelta(days=1) if closes < opens else day
    end = datetime.combine(ends_on, closes, zone)
    return int(start.timestamp()), int(end.timestamp())


def open_days(market: str, now: float) -> list[str]:
    """List three months of trading days as ``"20250703,H"``; F is a whole day."""
    today = datetime.fromtimestamp(now, UTC).date()
    days = (today + timedelta(days=n) for n in range(_CALENDAR_DAYS))
    return [
        f"{day:%Y%m%d},{'H' if _is_half(market, day) else 'F'}"
        for day in days
        if _is_open(market, day)
    ]


def _is_half(market: str, day: date) -> bool:
    return (day.month, day.day) in _HALF_DAYS.get(market, ())


def _is_open(market: str, day: date) -> bool:
    if market in _ALWAYS_OPEN:
        return True
    return day.isoweekday() <= 5 and (day.month, day.day) not in _HOLIDAYS  # noqa: PLR2004
