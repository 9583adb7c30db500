"""The hours of each market, as a table in its own local time.

US, HK, SH, SZ and CF are section 3 of the vendor's document. No document of the vendor
tells the hours of FX and CM; those here are the weeks that their dealers keep. IX has no
hours: an index follows the exchange whose shares it counts, and nothing says which.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from qos_async.enums import Session
from qos_async.periods import market_zone

__all__ = ["HOURS", "Hours", "MarketHours", "code_of"]

_MIDNIGHT = time(0)


class Hours(Struct, frozen=True):
    """One session of a trading date.

    Attributes:
        kind: Which part of the day.
        opens: When it starts, local time.
        closes: When it ends; midnight is the end of the day.
        eve: Whether it starts on the day before its trading date.
        opening: Minutes before ``opens`` whose trades are its own: the opening auction.
        closing: Minutes after ``closes`` whose trades are its own: the last match, or
            the closing auction.
    """

    kind: Session
    opens: time
    closes: time
    eve: bool = False
    opening: int = 0
    closing: int = 0

    def span(self, day: date, zone: tzinfo) -> tuple[datetime, datetime]:
        """Give start and end on a trading date, in local time."""
        starts = day - timedelta(days=1) if self.eve else day
        ends = day + timedelta(days=1) if self.closes == _MIDNIGHT else day
        return (
            datetime.combine(starts, self.opens, zone),
            datetime.combine(ends, self.closes, zone),
        )


class MarketHours(Struct, frozen=True):
    """The sessions of a market, in order.

    Attributes:
        whole: Those of a whole trading day.
        half: Those of a half day.
        daily: Whether weekends are trading days, too.
        zone_name: The time zone; None: the one of the market's klines, which has no
            daylight saving.
    """

    whole: tuple[Hours, ...]
    half: tuple[Hours, ...]
    daily: bool = False
    zone_name: str | None = None

    def zone(self, market: str) -> tzinfo:
        """Find the time zone.

        Raises:
            ModuleNotFoundError: If this machine does not know it: an hour's error for
                most of the year is worse than none.
        """
        if self.zone_name is None:
            return market_zone(market)
        try:
            return ZoneInfo(self.zone_name)
        except ZoneInfoNotFoundError:
            raise ModuleNotFoundError(
                f"this machine has no time zone {self.zone_name}, so nobody can tell "
                f"when {market} trades: pip install tzdata",
                name="tzdata",
            ) from None


def _regular(*times: tuple[int, int], opening: int, closing: int) -> tuple[Hours, ...]:
    """Write down sessions that follow each other, with a break in between."""
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
        Hours(Session.OVERNIGHT, time(20), time(3, 50), eve=True),
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
    day = (Hours(Session.REGULAR, opens, time(17), eve=True),)
    return MarketHours(day, day, zone_name="America/New_York")


_ALWAYS = (Hours(Session.REGULAR, _MIDNIGHT, _MIDNIGHT),)

HOURS = {
    "US": MarketHours(
        _new_york(regular_until=16, post_until=20),
        _new_york(regular_until=13, post_until=17),
        zone_name="America/New_York",
    ),
    # The opening auction begins at 9:00, the closing one ends by 16:10 (recorded: a last
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
"""By market; one that is not listed has no hours that anybody knows."""


def code_of(market: object) -> str:
    """Write a market's code in capitals.

    Raises:
        ValueError: If it is no text.
    """
    if not isinstance(market, str):
        raise ValueError(  # noqa: TRY004 - as for every wrong argument
            f'a market is a text such as "US", not {market!r}'
        )
    return market.upper()
