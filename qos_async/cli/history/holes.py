"""Bars that should be there: which, by the hours of the market, and nothing beyond."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from typing import NamedTuple

from qos_async import Interval, Market, Session
from qos_async.markets import Calendar, TradingSession, sessions
from qos_async.periods import bar_end, market_zone
from qos_async.symbols import market_of

__all__ = ["Hole", "Span", "gaps", "judge"]

_DAY = timedelta(days=1)


class Span(NamedTuple):
    """From when to when there is no bar, in epoch seconds."""

    start: int
    end: int


class Hole(NamedTuple):
    """A span without bars in which the market was open.

    Attributes:
        start: Epoch seconds; so is ``end``.
        missing: How many bars would fit into the open hours of it.
        certain: False if a holiday or a half day that nobody told of would explain it.
    """

    start: int
    end: int
    missing: int
    certain: bool


def gaps(
    starts: Iterable[int], symbol: str, interval: Interval, end: int
) -> Iterator[Span]:
    """Find the spans between bars that do not touch, and the one before ``end``.

    Args:
        starts: Of the bars, ascending.
        symbol: Canonical.
        interval: Of the bars.
        end: When the last bar should be over.
    """
    market, over = market_of(symbol), None
    for start in starts:
        if over is not None and start > over:
            yield Span(over, start)
        over = bar_end(start, interval, market)
    if over is not None and bar_end(over, interval, market) <= end:
        yield Span(over, end)


def judge(
    spans: Iterable[Span],
    symbol: str,
    interval: Interval,
    calendar: Callable[[str], Calendar | None],
) -> list[Hole]:
    """Keep the spans in which at least one bar would have had its place.

    Of a stock's day only the regular session counts: before and after it, there may be
    no trades for hours.

    Args:
        spans: From ``gaps``.
        symbol: Canonical.
        interval: Of the bars.
        calendar: Gives the trading days of a market, if anybody knows them; called
            when they matter.

    Raises:
        ValueError: If the hours of the market are unknown.
    """
    holes: list[Hole] = []
    judged = _Judge(market_of(symbol), interval)
    for span in spans:
        hole = judged.hole(span)
        if hole is not None and not hole.certain and judged.calendar is None:
            judged.calendar = calendar(judged.market) or {}
            hole = judged.hole(span)
        if hole is not None:
            holes.append(hole)
    return holes


class _Judge:
    def __init__(self, market: str, interval: Interval) -> None:
        self.market, self.interval = market, interval
        self.calendar: Calendar | None = None
        self._zone = market_zone(market)
        self._always = (
            len(sessions(market, date(2025, 1, 1)))
            == 1
            == len(sessions(market, date(2025, 1, 4)))
        )

    def hole(self, span: Span) -> Hole | None:
        found = list(self._sessions(span))
        daily = self.interval >= Interval.DAY
        missing = self._days(span, found) if daily else self._bars(span, found)
        if not missing:
            return None
        dates = {one.date for one in found}
        within = not daily and self._day(span.start) == self._day(span.end)
        certain = self._always or within or all(map(self._listed, dates))
        return Hole(span.start, span.end, missing, certain)

    def _sessions(self, span: Span) -> Iterator[TradingSession]:
        """List the regular sessions that lie in a span, or begin or end in it."""
        day, last = self._day(span.start) - _DAY, self._day(span.end) + _DAY
        while day <= last:
            for one in sessions(self.market, day, calendar=self.calendar):
                opens, closes = one.start.timestamp(), one.end.timestamp()
                regular = one.kind is Session.REGULAR
                if regular and opens < span.end and closes > span.start:
                    yield one
            day += _DAY

    def _bars(self, span: Span, found: list[TradingSession]) -> int:
        """Count the whole bars that fit; a piece of one may belong to a neighbour."""
        length = self.interval * 60
        return sum(
            int(
                min(one.end.timestamp(), span.end)
                - max(one.start.timestamp(), span.start)
            )
            // length
            for one in found
        )

    def _days(self, span: Span, found: list[TradingSession]) -> int:
        """Count the days, weeks, … of a span on which the market trades."""
        dates = {one.date for one in found}
        start, missing = span.start, 0
        while start < span.end:
            end = bar_end(start, self.interval, self.market)
            first, after = self._day(start), self._day(end)
            missing += any(first <= one < after for one in dates)
            start = end
        return missing

    def _day(self, at: float) -> date:
        return datetime.fromtimestamp(at, self._zone).date()

    def _listed(self, day: date) -> bool:
        days = (self.calendar or {}).get(Market(self.market))
        listed = [one.date for one in days or ()]
        return bool(listed) and min(listed) <= day <= max(listed)
