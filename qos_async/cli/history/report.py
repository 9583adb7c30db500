"""What a download came to, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

from qos_async import Interval
from qos_async.cli.history.holes import Hole, Span, gaps, judge
from qos_async.cli.history.paging import IGNORED
from qos_async.cli.history.part import Part
from qos_async.cli.moments import iso, local_time
from qos_async.cli.wording import many
from qos_async.markets import Calendar, exchange_calendar
from qos_async.periods import bar_end
from qos_async.symbols import market_of

__all__ = ["nothing", "sum_up"]

_SHOWN = 20
_KILO = 1000


def sum_up(part: Part, output: Path, *, everything: bool) -> list[str]:
    """Tell what is in the output and what is not.

    Args:
        part: All pages.
        output: Written.
        everything: Whether to name every hole, and not the longest ones alone.
    """
    request = part.request
    symbol, interval = request.symbol, request.length
    first, last = (
        local_time(at or 0, symbol, interval) for at in (part.oldest, part.newest)
    )
    zone = "" if interval >= Interval.DAY else " (UTC)"
    head = (
        f"{output}: {many(part.count, 'bar')} of {symbol}, {interval.short}, from {first} to "
        f"{last}{zone}, {_size(output)}"
    )
    told = [head, *_before(part)]
    starts = (bar.timestamp for page in part.pages() for bar in page)
    spans = list(gaps(starts, symbol, interval, request.end))
    try:
        holes = judge(spans, symbol, interval, _calendar)
    except (ValueError, ModuleNotFoundError) as error:
        return [*told, f"not checked for holes: {error}"]
    return [*told, *_holes(holes, part, everything=everything)]


def nothing(part: Part, *, known: bool) -> str:
    """Tell why there is not one bar.

    Args:
        part: Empty.
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
            f"the server ignores the end of the time asked for, so that only its newest "
            f"bars can be reached: none of them is {between}"
        )
    return (
        f"the server has no bars of {request.symbol}, {request.interval}, {between}: "
        "try another time, or a longer --interval, which may reach further back"
    )


def _before(part: Part) -> Iterator[str]:
    """Tell what is missing at the old end."""
    request = part.request
    oldest = part.oldest or 0
    back = local_time(oldest, request.symbol, request.length)
    if part.ended == IGNORED:
        yield (
            "the server ignored the end of the time asked for, as it was seen to do in "
            f"2024: bars older than {back} cannot be reached, at this interval"
        )
        return
    span = Span(request.start, oldest)
    try:
        missing = bool(judge([span], request.symbol, request.length, _calendar))
    except (ValueError, ModuleNotFoundError):
        end = bar_end(request.start, request.length, market_of(request.symbol))
        missing = end <= oldest
    if missing:
        yield f"the server has nothing older than {back}"


def _holes(holes: list[Hole], part: Part, *, everything: bool) -> Iterator[str]:
    symbol, interval = part.request.symbol, part.request.length
    if not holes:
        yield "no holes"
        return
    shown = holes if everything else sorted(holes, key=_missing)[-_SHOWN:]
    for certain, reservation in (
        (True, "although the market was open"),
        (False, "on days on which the market is open, unless there was a holiday"),
    ):
        found = [hole for hole in holes if hole.certain is certain]
        if found:
            bars = sum(hole.missing for hole in found)
            yield f"no bars {reservation} ({many(bars, 'bar')} would fit):"
        for hole in found:
            if hole in shown:
                yield f"  {_between(hole, symbol, interval)}"
    if len(shown) < len(holes):
        more = len(holes) - len(shown)
        words = "1 shorter one: --all-holes names it"
        if more > 1:
            words = f"{more} shorter ones: --all-holes names them"
        yield f"  and {words}"
    if any(not hole.certain for hole in holes) and not _has_calendar(symbol):
        yield "  pip install 'qos-async[calendars]' tells holidays from holes"


def _between(hole: Hole, symbol: str, interval: Interval) -> str:
    start, end = (local_time(at, symbol, interval) for at in (hole.start, hole.end))
    return f"between {start} and {end}: {many(hole.missing, 'bar')}"


def _missing(hole: Hole) -> int:
    return hole.missing


def _calendar(market: str) -> Calendar | None:
    """Give the trading days that the package exchange_calendars knows, if there is one."""
    try:
        return cast("Calendar", exchange_calendar(market))
    except (ModuleNotFoundError, ValueError):
        return None


def _has_calendar(symbol: str) -> bool:
    return _calendar(market_of(symbol)) is not None


def _size(path: Path) -> str:
    size = float(path.stat().st_size)
    for unit in ("B", "kB", "MB"):
        if size < _KILO:
            return f"{size:.3g} {unit}"
        size /= _KILO
    return f"{size:.3g} GB"
