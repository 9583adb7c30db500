"""Formatting of ticks and events as text. ASCII only: any terminal can print it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from functools import partial
from time import time_ns
from typing import Any

from qos_async import (
    Depth,
    Gap,
    Interval,
    Kline,
    LinkState,
    PriceLevel,
    Side,
    Snapshot,
    StateChange,
    Trade,
)
from qos_async._printable import printable
from qos_async._wording import did_you_mean, percent, percent_change, plural
from qos_async.cli.display import IN_UTC, Display
from qos_async.models import AnyTick
from qos_async.symbols import suggest

__all__ = [
    "DecimalPlaces",
    "bar_start",
    "clock",
    "gaps_line",
    "iso_time",
    "move_line",
    "or_dash",
    "other_spelling",
    "percent",
    "percent_change",
    "plural",
    "received_at",
    "state_word",
    "tick_line",
    "without_empty_levels",
]

_NANO = 1_000_000_000
_MOST_NAMES = 3
"""Symbols that a line about gaps names."""
_Price = Callable[[Decimal | None], str]


def iso_time(time: datetime | None = None, zone: tzinfo | None = UTC) -> str:
    """Format a time, now by default, as ISO 8601 with milliseconds and its offset."""
    time = (datetime.now(UTC) if time is None else time).astimezone(zone)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(time: datetime) -> str:
    """Format the time of day."""
    return f"{time:%H:%M:%S}"


def without_empty_levels(book: Depth) -> Depth:
    """Return a book without levels of size 0: nothing is offered there."""
    bids, asks = (
        tuple(level for level in side if level.size) for side in (book.bids, book.asks)
    )
    return Depth(symbol=book.symbol, bids=bids, asks=asks)


def or_dash(value: object) -> str:
    """Format a value; a missing one is a dash."""
    return "-" if value is None else f"{value}"


class DecimalPlaces(dict[str, int]):
    """The most decimal places of the prices of each symbol so far.

    The server omits zeros at the end, and a column of prices of different lengths is hard
    to read.
    """

    def price(self, symbol: str, value: Decimal | None) -> str:
        """Format a price with as many places as those before it."""
        if value is None:
            return "-"
        exponent = value.as_tuple().exponent
        if isinstance(exponent, int):
            self[symbol] = max(self.get(symbol, 0), -exponent)
        return f"{value:.{self.get(symbol, 0)}f}"


def tick_line(
    tick: AnyTick, display: Display = IN_UTC, places: DecimalPlaces | None = None
) -> str:
    """Format a tick: time of receipt, channel, symbol and values.

    Args:
        tick: The tick.
        display: Its time zone.
        places: Of the ticks before it, if their lines are above.
    """
    price = partial((DecimalPlaces() if places is None else places).price, tick.symbol)
    zone = display.zone(tick.symbol)
    received = iso_time(datetime.fromtimestamp(received_at(tick) / _NANO, UTC), zone)
    values = _FORMATTERS[type(tick)](tick, zone, price)
    mark = "  (recovered)" if tick.recovered else ""
    return printable(f"{received} {tick.channel:<8} {tick.symbol:<12} {values}{mark}")


def received_at(tick: AnyTick) -> int:
    """Return when a tick was received, in epoch nanoseconds.

    A recovered one was fetched, and has no such time: it is now.
    """
    return tick.received_at or time_ns()


def gaps_line(gaps: list[Gap]) -> str:
    """Format simultaneous gaps of one channel, with the names of a few symbols."""
    first = gaps[0]
    names = sorted({gap.topic.symbol for gap in gaps})
    few = len(names) <= _MOST_NAMES
    symbols = ", ".join(names) if few else plural(len(names), "symbol")
    seconds = max((gap.until - gap.since).total_seconds() for gap in gaps)
    statuses = "/".join(sorted({gap.status for gap in gaps}))
    recovered = sum(gap.recovered for gap in gaps)
    channel = first.topic.channel
    return printable(
        f"{channel} of {symbols} may have missed {seconds:.1f} s, {statuses}, "
        f"{plural(recovered, 'tick')} recovered"
    )


def state_word(state: LinkState) -> str:
    """Return the word for a state of the link."""
    return "lost" if state is LinkState.BACKOFF else str(state)


def other_spelling(symbol: str) -> str:
    """Return what an unknown symbol may mean, such as ``US:AAPL``; empty if unclear."""
    meant = suggest(symbol) if ":" in symbol else None
    return "" if meant in (None, symbol) else meant


def with_spellings(symbols: Iterable[str]) -> str:
    """Return symbols in one line, with what an unknown one may mean."""
    listed = list(symbols)
    meant = filter(None, map(other_spelling, listed))
    return f"{', '.join(listed)}{did_you_mean(*meant)}"


def move_line(change: StateChange) -> str:
    """Format a change of the link's state."""
    reason = f": {change.reason}" if change.reason else ""
    if change.state is LinkState.BACKOFF:
        return f"lost, dialling again in {change.retry_in:.1f} s{reason}"
    return f"{change.state}{reason}"


def _snapshot(tick: Snapshot, zone: tzinfo | None, price: _Price) -> str:
    change = percent(percent_change(tick.last_price, tick.prev_close or tick.open))
    return (
        f"{price(tick.last_price):>10} {change:>8}  "
        f"high {price(tick.high)}  low {price(tick.low)}  vol {or_dash(tick.volume)}"
    )


def _trade(tick: Trade, zone: tzinfo | None, price: _Price) -> str:
    side = "" if tick.side is Side.UNKNOWN else tick.side.name.lower()
    return f"{price(tick.price):>10} {side:>8}  size {or_dash(tick.size)}"


def _depth(tick: Depth, zone: tzinfo | None, price: _Price) -> str:
    bid, ask = _level(tick.best_bid, price), _level(tick.best_ask, price)
    return f"{bid:>19}  /  {ask}"


def _kline(tick: Kline, zone: tzinfo | None, price: _Price) -> str:
    bar = f"{tick.interval.short} {bar_start(tick, zone)}"
    prices = f"open {price(tick.open)}  high {price(tick.high)}  low {price(tick.low)}"
    return f"{price(tick.close):>10} {bar:>8}  {prices}  vol {or_dash(tick.volume)}"


def bar_start(bar: Kline, zone: tzinfo | None) -> str:
    """Format the start of a bar: its date, or the time of day of a shorter one."""
    if bar.interval >= Interval.DAY:
        return f"{bar.date}"
    return f"{bar.time.astimezone(zone):%H:%M}"


def _level(level: PriceLevel | None, price: _Price) -> str:
    return "-" if level is None else f"{price(level.price)} x {level.size}"


_FORMATTERS: dict[type[object], Callable[[Any, tzinfo | None, _Price], str]] = {
    Snapshot: _snapshot,
    Trade: _trade,
    Depth: _depth,
    Kline: _kline,
}
