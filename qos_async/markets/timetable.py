"""When each market trades, given the days on which it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias, cast

from msgspec import Struct

from qos_async.enums import Market, Session
from qos_async.markets.hours import HOURS, MarketHours
from qos_async.models import TradingDay
from qos_async.symbols import market_of

__all__ = ["Calendar", "Slot", "Timetable", "TradingSession"]

Calendar: TypeAlias = Mapping[Market, Iterable[TradingDay]]
"""The trading days of markets, as ``Client.fetch_calendar`` gives them."""

_DAY = timedelta(days=1)
_WEEKEND = 5
_REMEMBERED = 512


class TradingSession(Struct, frozen=True, kw_only=True):
    """One stretch of time in which a market trades.

    Attributes:
        market: Which market.
        date: The trading date it belongs to, in the market's own calendar. The US
            overnight session belongs to the date that it leads into: the one from
            Sunday 20:00 to Monday 3:50 is Monday's.
        kind: The part of the day; ``Session.REGULAR`` outside of the US.
        start: When it starts; aware, UTC.
        end: When it is over (exclusive); aware, UTC.
    """

    market: Market
    date: date
    kind: Session
    start: datetime
    end: datetime


class Slot(Struct, frozen=True):
    """A session in epoch seconds.

    Attributes:
        session: Which.
        start: When it starts.
        end: When it ends.
        first: The first second whose trades are its own, its auction included.
        until: The first second after that whose trades are not.
    """

    session: TradingSession
    start: int
    end: int
    first: int
    until: int


class Timetable:
    """Sessions by market and date; what was worked out once is remembered.

    Args:
        calendar: The trading days. On a day that it does not cover (before the first
            that it lists, after the last, or of a market that it leaves out) the
            market trades from Monday to Friday; CF always.

    Raises:
        ValueError: If ``calendar`` is none.
    """

    def __init__(self, calendar: Calendar | None = None) -> None:
        self._calendar: Calendar = {} if calendar is None else _a_calendar(calendar)
        self._days: dict[str, dict[date, bool]] = {}
        self._slots: dict[tuple[str, date], tuple[Slot, ...]] = {}
        self._around: dict[tuple[str, date], tuple[Slot, ...]] = {}

    def slots(self, market: str, day: date) -> tuple[Slot, ...]:
        """Give the sessions of a trading date, in order; none if it is none.

        Raises:
            KeyError: If nobody knows the hours of the market.
        """
        found = self._slots.get((market, day))
        if found is None:
            if len(self._slots) >= _REMEMBERED:
                self._slots.clear()
            found = self._slots[market, day] = self._work_out(market, day)
        return found

    def around(self, market: str, second: int) -> tuple[Slot, ...]:
        """Give the sessions of the day of ``second``, the day before and after it."""
        zone = HOURS[market].zone(market)
        day = datetime.fromtimestamp(second, zone).date()
        found = self._around.get((market, day))
        if found is None:
            if len(self._around) >= _REMEMBERED:
                self._around.clear()
            days = (day - _DAY, day, day + _DAY)
            found = tuple(slot for one in days for slot in self.slots(market, one))
            self._around[market, day] = found
        return found

    def at(self, market: str, second: int) -> Slot | None:
        """Find the session that a second lies in; None while the market is closed."""
        around = self.around(market, second)
        return next((slot for slot in around if slot.start <= second < slot.end), None)

    def part_at(self, symbol: str, second: int) -> Session | None:
        """Name the part of the day; None in a closed market, or one without hours."""
        market = market_of(symbol)
        slot = self.at(market, second) if market in HOURS else None
        return None if slot is None else slot.session.kind

    def _work_out(self, market: str, day: date) -> tuple[Slot, ...]:
        hours = HOURS[market]
        half = self._half(market, hours, day)
        if half is None:
            return ()
        zone, slots = hours.zone(market), list[Slot]()
        for one in hours.half if half else hours.whole:
            opens, closes = (moment.astimezone(UTC) for moment in one.span(day, zone))
            session = TradingSession(
                market=Market(market), date=day, kind=one.kind, start=opens, end=closes
            )
            start, end = int(opens.timestamp()), int(closes.timestamp())
            first, until = start - one.opening * 60, end + one.closing * 60
            slots.append(Slot(session, start, end, first, until))
        return tuple(slots)

    def _half(self, market: str, hours: MarketHours, day: date) -> bool | None:
        """Tell whether a trading date is a half day; None if it is no trading date."""
        days = self._days.get(market)
        if days is None:
            listed = cast("Mapping[str, Iterable[TradingDay]]", self._calendar)
            found = _trading_days(market, listed.get(market, ()))
            days = {one.date: one.half_day for one in found}
            self._days[market] = days
        if days and min(days) <= day <= max(days):
            return days.get(day)
        return False if hours.daily or day.weekday() < _WEEKEND else None


def _a_calendar(calendar: object) -> Calendar:
    if not isinstance(calendar, Mapping):
        raise ValueError(  # noqa: TRY004 - as for every wrong argument
            "calendar must be what fetch_calendar or exchange_calendar gives, trading "
            f"days by market, or None, not {type(calendar).__name__}"
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
                f"TradingDay(date=date(2025, 7, 3)); there is {one!r}"
            )
    return cast("list[TradingDay]", listed)
