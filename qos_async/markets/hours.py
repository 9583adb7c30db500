"""Trading hours of the markets: a table in local time, and the sessions of a date.

US, HK, SH, SZ and CF are section 3 of the vendor's document. It has no hours of FX and
CM; those here are the usual weeks of their dealers. IX has no hours: an index follows
the exchange of its shares, which no document names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TypeAlias, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from qos_async.enums import Market, Session
from qos_async.models import TradingDay
from qos_async.periods import market_zone
from qos_async.symbols import market_of

__all__ = [
    "HOURS",
    "Calendar",
    "Hours",
    "MarketHours",
    "SessionSpan",
    "TradingHours",
    "TradingSession",
    "code_of",
]

_MIDNIGHT = time(0)


class Hours(Struct, frozen=True):
    """One session of a trading date.

    Attributes:
        kind: The part of the day.
        opens: The start, local time.
        closes: The end; midnight is the end of the day.
        starts_day_before: Whether it starts on the day before its trading date.
        opening: Minutes before ``opens`` whose trades belong to it (opening auction).
        closing: Minutes after ``closes`` whose trades belong to it (last match, or
            closing auction).
    """

    kind: Session
    opens: time
    closes: time
    starts_day_before: bool = False
    opening: int = 0
    closing: int = 0

    def span(self, day: date, zone: tzinfo) -> tuple[datetime, datetime]:
        """Return start and end on a trading date, in local time."""
        starts = day - timedelta(days=1) if self.starts_day_before else day
        ends = day + timedelta(days=1) if self.closes == _MIDNIGHT else day
        return (
            datetime.combine(starts, self.opens, zone),
            datetime.combine(ends, self.closes, zone),
        )


class MarketHours(Struct, frozen=True):
    """The sessions of a market, in order.

    Attributes:
        full_day: The sessions of a full trading day.
        half_day: The sessions of a half day.
        daily: Whether weekends are trading days, too.
        zone_name: The time zone; None: that of the market's klines, which has no
            daylight saving.
    """

    full_day: tuple[Hours, ...]
    half_day: tuple[Hours, ...]
    daily: bool = False
    zone_name: str | None = None

    @property
    def trades_over_midnight(self) -> bool:
        """Whether its regular session, and so its day, starts on the day before."""
        first = self.full_day[0]
        return first.starts_day_before and first.kind is Session.REGULAR

    @property
    def has_extended_hours(self) -> bool:
        """Whether it has sessions beside the regular ones."""
        return any(one.kind is not Session.REGULAR for one in self.full_day)

    def zone(self, market: str) -> tzinfo:
        """Return the time zone.

        Raises:
            ModuleNotFoundError: If its data is not installed: hours that are wrong by
                one for most of the year would be worse than an error.
        """
        if self.zone_name is None:
            return market_zone(market)
        try:
            return ZoneInfo(self.zone_name)
        except ZoneInfoNotFoundError:
            raise ModuleNotFoundError(
                f"the hours of {market} need the time zone data of {self.zone_name}, "
                "which is not installed: pip install tzdata",
                name="tzdata",
            ) from None


def _regular(*times: tuple[int, int], opening: int, closing: int) -> tuple[Hours, ...]:
    """Return consecutive sessions with breaks between them."""
    clock = [time(*one) for one in times]
    last = len(clock) - 2
    return tuple(
        Hours(
            Session.REGULAR,
            clock[place],
            clock[place + 1],
            opening=0 if place else opening,
            closing=closing if place == last else 1,
        )
        for place in range(0, len(clock), 2)
    )


def _new_york(*, regular_until: int, post_until: int) -> tuple[Hours, ...]:
    return (
        Hours(Session.OVERNIGHT, time(20), time(3, 50), starts_day_before=True),
        Hours(Session.PRE_MARKET, time(4), time(9, 30)),
        Hours(Session.REGULAR, time(9, 30), time(regular_until)),
        Hours(Session.POST_MARKET, time(regular_until), time(post_until)),
    )


def _china() -> MarketHours:
    morning, afternoon = ((9, 30), (11, 30)), ((13, 0), (15, 0))
    # The opening auction is matched at 9:25, the closing auction at 15:00 (recorded).
    return MarketHours(
        _regular(*morning, *afternoon, opening=15, closing=5),
        _regular(*morning, opening=15, closing=5),
    )


def _dealers(opens: time) -> MarketHours:
    day = (Hours(Session.REGULAR, opens, time(17), starts_day_before=True),)
    return MarketHours(day, day, zone_name="America/New_York")


_ALWAYS = (Hours(Session.REGULAR, _MIDNIGHT, _MIDNIGHT),)

HOURS = {
    "US": MarketHours(
        _new_york(regular_until=16, post_until=20),
        _new_york(regular_until=13, post_until=17),
        zone_name="America/New_York",
    ),
    # The opening auction starts at 9:00, the closing one ends by 16:10 (recorded: a last
    # trade at 16:08:28).
    "HK": MarketHours(
        _regular((9, 30), (12, 0), (13, 0), (16, 0), opening=30, closing=11),
        _regular((9, 30), (12, 0), opening=30, closing=11),
    ),
    "SH": _china(),
    "SZ": _china(),
    "CF": MarketHours(_ALWAYS, _ALWAYS, daily=True),
    "FX": _dealers(time(17)),
    "CM": _dealers(time(18)),
}
"""By market; the hours of all others are unknown."""


def code_of(market: object) -> str:
    """Return a market's code in capitals.

    Raises:
        ValueError: If it is not a string.
    """
    if not isinstance(market, str):
        raise ValueError(  # noqa: TRY004 - as for every wrong argument
            f'a market is a string such as "US", not {market!r}'
        )
    return market.upper()


Calendar: TypeAlias = Mapping[Market, Iterable[TradingDay]]
"""Trading days by market, as ``Client.fetch_calendar`` returns them."""

_DAY = timedelta(days=1)
_WEEKEND = 5
_CACHE_SIZE = 512


class TradingSession(Struct, frozen=True, kw_only=True):
    """A period in which a market trades.

    Attributes:
        market: The market.
        date: The trading date to which it belongs, in the market's time zone. The US
            overnight session belongs to the next date: Sunday 20:00 to Monday 3:50 is
            Monday's.
        kind: The part of the day; ``Session.REGULAR`` outside of the US.
        start: The start; aware, UTC.
        end: The end (exclusive); aware, UTC.
    """

    market: Market
    date: date
    kind: Session
    start: datetime
    end: datetime


class SessionSpan(Struct, frozen=True):
    """A session in epoch seconds.

    Attributes:
        session: The session.
        start: The start.
        end: The end (exclusive).
        first: The first second whose trades belong to it, its auction included.
        until: The first second after that whose trades do not.
    """

    session: TradingSession
    start: int
    end: int
    first: int
    until: int


class TradingHours:
    """Sessions by market and date, cached.

    Args:
        calendar: The trading days. On a day that it does not cover (before its first,
            after its last, or of a market that is not in it) the market trades from
            Monday to Friday; CF always.

    Raises:
        ValueError: If ``calendar`` is not a calendar.
    """

    def __init__(self, calendar: Calendar | None = None) -> None:
        self._calendar: Calendar = (
            {} if calendar is None else _checked_calendar(calendar)
        )
        self._days: dict[str, dict[date, bool]] = {}
        self._by_date: dict[tuple[str, date], tuple[SessionSpan, ...]] = {}
        self._near: dict[tuple[str, date], tuple[SessionSpan, ...]] = {}

    def sessions_on(self, market: str, day: date) -> tuple[SessionSpan, ...]:
        """Return the sessions of a date, in order; empty if it is not a trading date.

        Raises:
            KeyError: If the hours of the market are unknown.
        """
        found = self._by_date.get((market, day))
        if found is None:
            if len(self._by_date) >= _CACHE_SIZE:
                self._by_date.clear()
            found = self._by_date[market, day] = self._build(market, day)
        return found

    def sessions_near(self, market: str, second: int) -> tuple[SessionSpan, ...]:
        """Return the sessions of the day of ``second``, of the day before and after."""
        zone = HOURS[market].zone(market)
        day = datetime.fromtimestamp(second, zone).date()
        found = self._near.get((market, day))
        if found is None:
            if len(self._near) >= _CACHE_SIZE:
                self._near.clear()
            days = (day - _DAY, day, day + _DAY)
            found = tuple(
                span for one in days for span in self.sessions_on(market, one)
            )
            self._near[market, day] = found
        return found

    def session_at(self, market: str, second: int) -> SessionSpan | None:
        """Return the session at a time; None while the market is closed."""
        around = self.sessions_near(market, second)
        return next((span for span in around if span.start <= second < span.end), None)

    def kind_at(self, symbol: str, second: int) -> Session | None:
        """Return the part of the day; None in a closed market, or one without hours."""
        market = market_of(symbol)
        span = self.session_at(market, second) if market in HOURS else None
        return None if span is None else span.session.kind

    def _build(self, market: str, day: date) -> tuple[SessionSpan, ...]:
        hours = HOURS[market]
        half = self._is_half_day(market, hours, day)
        if half is None:
            return ()
        zone, spans = hours.zone(market), list[SessionSpan]()
        for one in hours.half_day if half else hours.full_day:
            opens, closes = (moment.astimezone(UTC) for moment in one.span(day, zone))
            session = TradingSession(
                market=Market(market), date=day, kind=one.kind, start=opens, end=closes
            )
            start, end = int(opens.timestamp()), int(closes.timestamp())
            first, until = start - one.opening * 60, end + one.closing * 60
            spans.append(SessionSpan(session, start, end, first, until))
        return tuple(spans)

    def _is_half_day(self, market: str, hours: MarketHours, day: date) -> bool | None:
        """Return whether a date is a half day; None if it is not a trading date."""
        days = self._days.get(market)
        if days is None:
            listed = cast("Mapping[str, Iterable[TradingDay]]", self._calendar)
            found = _trading_days(market, listed.get(market, ()))
            days = {one.date: one.half_day for one in found}
            self._days[market] = days
        if days and min(days) <= day <= max(days):
            return days.get(day)
        return False if hours.daily or day.weekday() < _WEEKEND else None


def _checked_calendar(calendar: object) -> Calendar:
    if not isinstance(calendar, Mapping):
        raise ValueError(  # noqa: TRY004 - as for every wrong argument
            "calendar must be trading days by market, from fetch_calendar or "
            f"exchange_calendar, or None, not {type(calendar).__name__}"
        )
    return cast("Calendar", calendar)


def _trading_days(market: str, days: object) -> list[TradingDay]:
    listed = (
        list(cast("Iterable[object]", days)) if isinstance(days, Iterable) else [days]
    )
    for one in listed:
        if not isinstance(one, TradingDay):
            raise ValueError(  # noqa: TRY004 - as for every wrong argument
                f"calendar must have a list of TradingDay for {market}, such as "
                f"TradingDay(date=date(2025, 7, 3)), not {one!r}"
            )
    return cast("list[TradingDay]", listed)
