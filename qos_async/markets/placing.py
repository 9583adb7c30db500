"""Which bar a trade belongs to."""

from __future__ import annotations

from msgspec import Struct

from qos_async.enums import Interval, Session
from qos_async.markets.hours import HOURS
from qos_async.markets.timetable import Slot, Timetable
from qos_async.periods import bar_end, bar_start

__all__ = ["Period", "Periods"]


class Period(Struct, frozen=True):
    """The time of one bar, in epoch seconds.

    Attributes:
        start: When it starts.
        end: When it is over.
        first: The first second for which all of this is true. It is before ``start``
            where the trades of an opening auction belong to the bar.
        until: The first second after ``first`` for which it may not be true.
        session: The part of the day; None for a day or longer, and in a closed market.
        counts: Whether trades between ``first`` and ``until`` belong to a bar at all.
    """

    start: int
    end: int
    first: int
    until: int
    session: Session | None = None
    counts: bool = True


class Periods:
    """Lays bars of one interval over the sessions of a timetable."""

    def __init__(self, interval: Interval, timetable: Timetable) -> None:
        self._interval = interval
        self._timetable = timetable

    def find(self, market: str, second: int) -> Period:
        """Find the bar that a trade of this second belongs to."""
        start = bar_start(second, self._interval, market)
        end = bar_end(start, self._interval, market)
        plain = Period(start, end, start, end)
        if market not in HOURS:
            return plain
        around = self._timetable.around(market, second)
        slot = next((one for one in around if one.first <= second < one.until), None)
        if self._interval >= Interval.DAY:
            return _long(plain, slot, around, second)
        if slot is None:
            return _between(plain, around, second)
        return self._within(slot, second)

    def _within(self, slot: Slot, second: int) -> Period:
        length = self._interval * 60
        inside = min(max(second, slot.start), slot.end - 1)
        start = slot.start + (inside - slot.start) // length * length
        end = min(start + length, slot.end)
        first = slot.first if start == slot.start else start
        until = slot.until if end == slot.end else end
        return Period(start, end, first, until, slot.session.kind)


def _between(plain: Period, around: tuple[Slot, ...], second: int) -> Period:
    """Cut a bar of a closed market off where a session ends or begins."""
    past = [slot for slot in around if slot.until <= second]
    opens = min((slot.first for slot in around if slot.first > second), default=None)
    start = max([plain.start, *(slot.end for slot in past)])
    first = max([plain.start, *(slot.until for slot in past)])
    end = plain.end if opens is None else min(plain.end, opens)
    return Period(start, end, first, end)


def _long(
    plain: Period, slot: Slot | None, around: tuple[Slot, ...], second: int
) -> Period:
    """Keep extended hours out of a bar of a day or more, as the service does."""
    if slot is None:
        low = max((one.until for one in around if one.until <= second), default=None)
        high = min((one.first for one in around if one.first > second), default=None)
        return _narrowed(
            plain,
            plain.first if low is None else low,
            plain.until if high is None else high,
            counts=True,
        )
    if slot.session.kind is not Session.POST_MARKET:
        counts = slot.session.kind is Session.REGULAR
        return _narrowed(plain, slot.first, slot.until, counts=counts)
    if second == slot.start:  # The closing auction is stamped 16:00:00.
        return _narrowed(plain, second, second + 1, counts=True)
    return _narrowed(plain, slot.first + 1, slot.until, counts=False)


def _narrowed(plain: Period, low: int, high: int, *, counts: bool) -> Period:
    first, until = max(plain.first, low), min(plain.until, high)
    return Period(plain.start, plain.end, first, until, counts=counts)
