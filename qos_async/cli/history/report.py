"""The report on a download: what is in the output, and where bars are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import NamedTuple, cast

from qos_async import Interval, Market, Session
from qos_async.cli.formatting import plural
from qos_async.cli.history.paging import IGNORED
from qos_async.cli.history.partial import PartialDownload
from qos_async.cli.times import iso
from qos_async.markets import Calendar, TradingSession, exchange_calendar, sessions
from qos_async.periods import bar_end, market_zone
from qos_async.symbols import market_of

__all__ = ["Hole", "Span", "breaks", "explain_empty", "find_missing", "summarize"]

_SHOWN = 20
_KILO = 1000
_DAY = timedelta(days=1)


def summarize(
    part: PartialDownload, output: Path, *, all_holes: bool, after: int | None = None
) -> list[str]:
    """Return sentences on what is in the output and what is missing.

    Args:
        part: All pages.
        output: Written.
        all_holes: Whether to list every hole, not only the longest ones.
        after: The start of the last bar that the output had before; None if it had none.
    """
    request = part.request
    symbol, interval = request.symbol, request.length
    if not part.count:
        shown = part.local_time(after or 0)
        head = f"{output}: no new bars of {symbol}, {interval.short}, after {shown}"
        return [head, *_checked(part, after, all_holes=all_holes)]
    first, last = (part.local_time(at or 0) for at in (part.oldest, part.newest))
    name = part.display.zone_name(symbol, part.newest or 0)
    zone = "" if interval >= Interval.DAY else f" ({name})"
    bars = plural(part.count, "bar" if after is None else "new bar")
    head = (
        f"{output}: {bars} of {symbol}, {interval.short}, from "
        f"{first} to {last}{zone}, {_size(output)}"
    )
    return [head, *_checked(part, after, all_holes=all_holes)]


def _checked(
    part: PartialDownload, after: int | None, *, all_holes: bool
) -> Iterator[str]:
    """Iterate over sentences on what is missing, also between ``after`` and the pages."""
    request = part.request
    symbol, interval = request.symbol, request.length
    if part.count and (after is None or part.ended == IGNORED):
        yield from _missing_before(part)
    starts = (bar.timestamp for page in part.pages() for bar in page)
    begun = starts if after is None else chain([after], starts)
    spans = breaks(begun, symbol, interval, request.end)
    try:
        holes = find_missing(spans, symbol, interval, _calendar)
    except (ValueError, ModuleNotFoundError) as error:
        yield f"not checked for holes: {error}"
        return
    yield from _holes(holes, part, all_holes=all_holes)


def explain_empty(part: PartialDownload, *, known: bool) -> str:
    """Return why there is not one bar.

    Args:
        part: Without bars.
        known: Whether the server knows the symbol.
    """
    request = part.request
    if not known:
        return (
            f"the server knows no symbol {request.symbol}: "
            f"qos products {market_of(request.symbol)} lists those of its market"
        )
    between = f"between {iso(request.start)} and {iso(request.end)}"
    if part.ended == IGNORED:
        return (
            "the server ignores the requested end, so only its newest bars can be "
            f"fetched: none of them is {between}"
        )
    return (
        f"the server has no bars of {request.symbol}, {request.interval}, {between}: "
        "try another time, or a longer --interval, which may reach further back"
    )


# Holes


class Span(NamedTuple):
    """A time without bars, in epoch seconds."""

    start: int
    end: int


class Hole(NamedTuple):
    """A span without bars in which the market was open.

    Attributes:
        start: Epoch seconds; so is ``end``.
        missing: How many bars fit into its open hours.
        is_certain: False if an unknown holiday or half day would explain it.
    """

    start: int
    end: int
    missing: int
    is_certain: bool


def breaks(
    starts: Iterable[int], symbol: str, interval: Interval, end: int
) -> Iterator[Span]:
    """Iterate over the spans between bars that do not touch, and the one before ``end``.

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


def find_missing(
    spans: Iterable[Span],
    symbol: str,
    interval: Interval,
    calendar: Callable[[str], Calendar | None],
) -> list[Hole]:
    """Return the spans in which at least one bar would fit.

    For stocks only the regular session counts: before and after it, there may be no trades
    for hours.

    Args:
        spans: From ``breaks``.
        symbol: Canonical.
        interval: Of the bars.
        calendar: Returns the trading days of a market, if known; called only if they
            matter.

    Raises:
        ValueError: If the hours of the market are unknown.
    """
    holes: list[Hole] = []
    finder = _HoleFinder(market_of(symbol), interval)
    for span in spans:
        hole = finder.hole(span)
        if hole is not None and not hole.is_certain and finder.calendar is None:
            finder.calendar = calendar(finder.market) or {}
            hole = finder.hole(span)
        if hole is not None:
            holes.append(hole)
    return holes


class _HoleFinder:
    def __init__(self, market: str, interval: Interval) -> None:
        self.market, self.interval = market, interval
        self.calendar: Calendar | None = None
        self._zone = market_zone(market)
        # One session on a Wednesday and on a Saturday: the market never closes.
        self._always_open = all(
            len(sessions(market, date(2025, 1, day))) == 1 for day in (1, 4)
        )

    def hole(self, span: Span) -> Hole | None:
        found = list(self._regular_sessions(span))
        daily = self.interval >= Interval.DAY
        missing = self._days(span, found) if daily else self._bars(span, found)
        if not missing:
            return None
        dates = {one.date for one in found}
        within_day = not daily and self._day(span.start) == self._day(span.end)
        is_certain = self._always_open or within_day or all(map(self._listed, dates))
        return Hole(span.start, span.end, missing, is_certain)

    def _regular_sessions(self, span: Span) -> Iterator[TradingSession]:
        """Iterate over the regular sessions that overlap a span."""
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
        """Count the days, weeks, and so on, of a span in which the market trades."""
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


# Sentences

_LONGEST_HOLIDAY = 12 * 86_400


def _missing_before(part: PartialDownload) -> Iterator[str]:
    """Iterate over sentences on what is missing at the old end."""
    request, oldest = part.request, part.oldest or 0
    back = part.local_time(oldest)
    if part.ended == IGNORED:
        yield (
            "the server ignored the requested end, as it was seen to do in 2024: bars "
            f"older than {back} cannot be reached at this interval"
        )
        return
    span = Span(request.start, oldest)
    doubt = ""
    try:
        holes = find_missing([span], request.symbol, request.length, _calendar)
        missing = bool(holes)
        is_short = oldest - request.start < _LONGEST_HOLIDAY
        if is_short and not any(hole.is_certain for hole in holes):
            doubt = ", unless there was a holiday"
    except (ValueError, ModuleNotFoundError):
        end = bar_end(request.start, request.length, market_of(request.symbol))
        missing = end <= oldest
    if missing:
        yield f"the server has nothing older than {back}{doubt}"


def _holes(
    holes: list[Hole], part: PartialDownload, *, all_holes: bool
) -> Iterator[str]:
    symbol = part.request.symbol
    if not holes:
        yield "no holes"
        return
    longest = sorted(holes, key=lambda hole: hole.missing)[-_SHOWN:]
    shown = holes if all_holes else longest
    for is_certain, reservation in (
        (True, "although the market was open"),
        (False, "on days on which the market is open, unless there was a holiday"),
    ):
        found = [hole for hole in holes if hole.is_certain is is_certain]
        if found:
            bars = plural(sum(hole.missing for hole in found), "bar")
            yield f"no bars {reservation} ({bars} would fit):"
        for hole in found:
            if hole in shown:
                start, end = (part.local_time(at) for at in hole[:2])
                missing = plural(hole.missing, "bar")
                yield f"  between {start} and {end}: {missing}"
    if more := len(holes) - len(shown):
        yield f"  and {plural(more, 'shorter one')}: --all-holes lists all"
    if _lacks_calendar(market_of(symbol)) and not all(h.is_certain for h in holes):
        yield "  pip install 'qos-async[calendars]' distinguishes holidays from holes"


def _lacks_calendar(market: str) -> bool:
    """Return whether exchange_calendars would know a market, but is not installed."""
    try:
        exchange_calendar(market)
    except ModuleNotFoundError:
        return True
    except ValueError:
        pass
    return False


def _calendar(market: str) -> Calendar | None:
    """Return the trading days that exchange_calendars knows, if it is installed."""
    try:
        return cast("Calendar", exchange_calendar(market))
    except (ModuleNotFoundError, ValueError):
        return None


def _size(path: Path) -> str:
    size = float(path.stat().st_size)
    for unit in ("B", "kB", "MB"):
        if size < _KILO:
            return f"{size:.3g} {unit}"
        size /= _KILO
    return f"{size:.3g} GB"
