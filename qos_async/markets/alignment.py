"""Alignment of bars to the sessions of a market."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

import msgspec
from msgspec import Struct

from qos_async.enums import Interval, Session
from qos_async.markets.hours import HOURS, SessionSpan, TradingHours
from qos_async.periods import bar_end, bar_start, first_day, next_first_day

__all__ = ["BarAligner", "BarSpan"]

_DAY = timedelta(days=1)


class BarSpan(Struct, frozen=True):
    """The times of one bar, in epoch seconds.

    Attributes:
        start: The start.
        end: The end (exclusive).
        first: The first second whose trades belong to the bar. It is before ``start``
            where those of an opening auction do.
        until: The first second after ``first`` that may belong to another bar.
        session: The part of the day; None for a day or longer, and in a closed market.
        counts: Whether trades between ``first`` and ``until`` are counted at all.
    """

    start: int
    end: int
    first: int
    until: int
    session: Session | None = None
    counts: bool = True


class BarAligner:
    """Aligns bars of one interval to the sessions of markets."""

    def __init__(self, interval: Interval, hours: TradingHours) -> None:
        self._interval = interval
        self._hours = hours

    def span_for(self, market: str, second: int) -> BarSpan:
        """Return the bar to which a trade of this second belongs."""
        start = bar_start(second, self._interval, market)
        end = bar_end(start, self._interval, market)
        plain = BarSpan(start, end, start, end)
        if market not in HOURS:
            return plain
        near = self._hours.sessions_near(market, second)
        span = next((one for one in near if one.first <= second < one.until), None)
        if self._interval >= Interval.DAY:
            if HOURS[market].trades_over_midnight:
                return self._over_midnight(market, span, near, second)
            if span is None:
                return self._daily_outside(market, plain, near, second)
            return _daily(plain, span, second)
        if span is None:
            return _outside_sessions(plain, near, second)
        return self._within(span, second)

    def _within(self, span: SessionSpan, second: int) -> BarSpan:
        length = self._interval * 60
        inside = min(max(second, span.start), span.end - 1)
        start = span.start + (inside - span.start) // length * length
        end = min(start + length, span.end)
        first = span.first if start == span.start else start
        until = span.until if end == span.end else end
        return BarSpan(start, end, first, until, span.session.kind)

    def _daily_outside(
        self, market: str, plain: BarSpan, near: tuple[SessionSpan, ...], second: int
    ) -> BarSpan:
        """Return a bar of a day or longer for a second outside of all sessions.

        In a market with extended hours nothing between its sessions counts; a date
        without sessions has a day of its own.
        """
        low = max((one.until for one in near if one.until <= second), default=0)
        high = min(
            (one.first for one in near if one.first > second), default=plain.until
        )
        hours, counts = HOURS[market], True
        if hours.has_extended_hours:
            day = datetime.fromtimestamp(second, hours.zone(market)).date()
            is_closed = all(one.session.date != day for one in near)
            counts = is_closed and self._interval is Interval.DAY
        return _clipped(plain, low, high, counts=counts)

    def _over_midnight(
        self,
        market: str,
        span: SessionSpan | None,
        near: tuple[SessionSpan, ...],
        second: int,
    ) -> BarSpan:
        """Return a bar of a day or longer where the day is the session of its date."""
        zone = HOURS[market].zone(market)
        day = datetime.fromtimestamp(second, zone).date()
        midnights = (datetime.combine(one, time(), zone) for one in (day, day + _DAY))
        start, end = (int(one.timestamp()) for one in midnights)
        closed = _outside_sessions(BarSpan(start, end, start, end), near, second)
        if span is None and self._interval is Interval.DAY:
            return closed
        whole = self._sessions_of(market, day if span is None else span.session.date)
        if span is not None:
            return BarSpan(whole[0].start, whole[-1].end, span.first, span.until)
        if whole and whole[0].start <= second < whole[-1].end:  # A break in the bar.
            return BarSpan(whole[0].start, whole[-1].end, closed.first, closed.until)
        return msgspec.structs.replace(closed, counts=False)

    def _sessions_of(self, market: str, day: date) -> list[SessionSpan]:
        """Return the sessions of the week, month or year of a day."""
        first = first_day(day, self._interval)
        count = (next_first_day(first, self._interval) - first).days
        days = (first + number * _DAY for number in range(count))
        return [one for day in days for one in self._hours.sessions_on(market, day)]


def _outside_sessions(
    plain: BarSpan, near: tuple[SessionSpan, ...], second: int
) -> BarSpan:
    """Clip a bar of a closed market to the sessions before and after."""
    past = [span for span in near if span.until <= second]
    opens = min((span.first for span in near if span.first > second), default=None)
    start = max([plain.start, *(span.end for span in past)])
    first = max([plain.start, *(span.until for span in past)])
    end = plain.end if opens is None else min(plain.end, opens)
    return BarSpan(start, end, first, end)


def _daily(plain: BarSpan, span: SessionSpan, second: int) -> BarSpan:
    """Leave extended hours out of a bar of a day or more, as the service does."""
    if span.session.kind is not Session.POST_MARKET:
        counts = span.session.kind is Session.REGULAR
        return _clipped(plain, span.first, span.until, counts=counts)
    if second == span.start:  # The closing auction is stamped 16:00:00.
        return _clipped(plain, second, second + 1, counts=True)
    return _clipped(plain, span.first + 1, span.until, counts=False)


def _clipped(plain: BarSpan, low: int, high: int, *, counts: bool) -> BarSpan:
    first, until = max(plain.first, low), min(plain.until, high)
    return BarSpan(plain.start, plain.end, first, until, counts=counts)
