"""Klines to draw: which of them, and fetching them."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from qos_async import Adjustment, Client, HistoryPages, Kline
from qos_async._wording import did_you_mean
from qos_async.cli.formatting import other_spelling
from qos_async.cli.options import (
    KLINES_MAX,
    CommandError,
    Options,
    UsageError,
    time_span,
)
from qos_async.cli.streams import print_message
from qos_async.cli.times import iso
from qos_async.periods import bar_end, bar_start
from qos_async.symbols import market_of

__all__ = ["KlineRange", "fetch", "wanted"]

_MOST = 5000
"""Bars of a chart: more cannot be told apart, and make a page slow."""
_DAYS_CLOSED = 4 * 86_400
_PART_CLOSED = 9
_MARKETS_THAT_CLOSE = {"US", "HK", "SH", "SZ"}


class KlineRange(NamedTuple):
    """Which klines to draw.

    Attributes:
        newest: The number of newest ones; None for all since ``start``.
        lead: How many more before them, for moving averages.
        start: In epoch seconds; None with ``newest``.
        end: In epoch seconds (exclusive); None for the newest.
    """

    newest: int | None
    lead: int
    start: int | None
    end: int | None


def wanted(options: Options, default_count: int, ma: tuple[int, ...]) -> KlineRange:
    """Return the klines that the options choose.

    Raises:
        UsageError: If the options contradict each other.
    """
    if options.since and options.count:
        raise UsageError(
            "--count is the number of newest bars: take it, or --from, not both"
        )
    start, end = time_span(options, time.time())
    count = None if options.since else options.count or default_count
    return KlineRange(
        count, max(ma, default=1) - 1, start, end if options.until else None
    )


async def fetch(
    client: Client[Any], options: Options, wanted: KlineRange
) -> tuple[list[Kline], int]:
    """Return klines, ascending, and how many of the newest are to be drawn.

    Raises:
        CommandError: If there is no kline, or too many.
        QosError: If the request fails.
    """
    if wanted.start is not None:
        klines = await _fetch_since(client, options, wanted, wanted.start)
        shown = sum(kline.timestamp >= wanted.start for kline in klines)
    else:
        assert wanted.newest is not None
        klines = await _fetch_newest(client, options, wanted, wanted.newest)
        shown = min(wanted.newest, len(klines))
    if not shown:
        raise CommandError(_explain_empty(options))
    return klines, shown


def _explain_empty(options: Options) -> str:
    what = f"the server has no {options.interval.short} bars of {options.symbol}"
    if options.since or options.until:
        return (
            f"{what} in that time: the market was closed, or they do not reach back so "
            "far, and those of a longer --interval may"
        )
    meant = other_spelling(options.symbol)
    hint = did_you_mean(meant) if meant else ": check the spelling with qos products"
    return f"{what}{hint}"


async def _fetch_newest(
    client: Client[Any], options: Options, wanted: KlineRange, count: int
) -> list[Kline]:
    asked: dict[str, Any] = {
        "interval": options.interval,
        "count": min(count + wanted.lead, KLINES_MAX),
        "adjust": _adjustment(options),
    }
    if wanted.end is None:
        found = await client.fetch_klines(options.symbol, **asked)
        return found.get(options.symbol, [])
    # The end of a request is included.
    found = await client.fetch_history(options.symbol, end=wanted.end - 1, **asked)
    klines = found.get(options.symbol, [])
    before = [kline for kline in klines if kline.timestamp < wanted.end]
    if klines and not before:
        raise _end_ignored()
    return before


async def _fetch_since(
    client: Client[Any], options: Options, wanted: KlineRange, start: int
) -> list[Kline]:
    klines: list[Kline] = []
    async with _pages(client, options, wanted, start) as pages:
        async for page in pages:
            klines[:0] = page
            if sum(kline.timestamp >= start for kline in klines) > _MOST:
                raise CommandError(
                    f"there are more than {_MOST:,} bars since {options.since.text}: "
                    "take a longer --interval, or a shorter time"
                )
    if not klines and pages.end_ignored:
        raise _end_ignored()
    if klines and klines[0].timestamp > start + _DAYS_CLOSED:
        print_message(
            f"qos: the server has no {options.interval.short} bars of {options.symbol} "
            f"before {iso(klines[0].timestamp)}"
        )
    lead = sum(kline.timestamp < start for kline in klines)
    return klines[max(lead - wanted.lead, 0) :]


def _pages(
    client: Client[Any], options: Options, wanted: KlineRange, start: int
) -> HistoryPages[Any]:
    return client.iter_history(
        options.symbol,
        interval=options.interval,
        start=max(start - _lead_time(options, wanted.lead, start), min(start, 0)),
        end=None if wanted.end is None else wanted.end - 1,
        adjust=_adjustment(options),
    )


def _lead_time(options: Options, lead: int, start: int) -> int:
    """Return the seconds in which there are ``lead`` bars before ``start``, if any."""
    if not lead:
        return 0
    market = market_of(options.symbol)
    first = bar_start(start, options.interval, market)
    length = bar_end(first, options.interval, market) - first
    if market in _MARKETS_THAT_CLOSE:  # At night, at lunch, on weekends and holidays.
        return lead * length * _PART_CLOSED + _DAYS_CLOSED
    return lead * length * 2


def _adjustment(options: Options) -> Adjustment:
    return Adjustment.FORWARD if options.adjust else Adjustment.NONE


def _end_ignored() -> CommandError:
    return CommandError(
        "the server ignored --to and sent its newest bars only: bars of that time cannot "
        "be reached at this interval"
    )
