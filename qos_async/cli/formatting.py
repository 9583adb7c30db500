"""Formatting of ticks and events as text. ASCII only: any terminal can print it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from qos_async import (
    Depth,
    Gap,
    Kline,
    LinkState,
    PriceLevel,
    Side,
    Snapshot,
    StateChange,
    Trade,
)
from qos_async._printable import printable
from qos_async._wording import percent, percent_change, plural
from qos_async.models import AnyTick

__all__ = [
    "clock",
    "gaps_line",
    "iso_time",
    "move_line",
    "or_dash",
    "percent",
    "percent_change",
    "plural",
    "tick_line",
]

_NANO = 1_000_000_000


def iso_time(time: datetime | None = None) -> str:
    """Format a time, now by default, as ISO 8601 with milliseconds."""
    time = datetime.now(UTC) if time is None else time.astimezone(UTC)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z"


def clock(time: datetime) -> str:
    """Format the time of day, in UTC."""
    return f"{time:%H:%M:%S}"


def or_dash(value: object) -> str:
    """Format a value; a missing one is a dash."""
    return "-" if value is None else f"{value}"


def tick_line(tick: AnyTick) -> str:
    """Format a tick: time of receipt, channel, symbol and values."""
    received = iso_time(datetime.fromtimestamp(tick.received_at / _NANO, UTC))
    values = _FORMATTERS[type(tick)](tick)
    mark = "  (recovered)" if tick.recovered else ""
    return printable(f"{received} {tick.channel:<8} {tick.symbol:<12} {values}{mark}")


def gaps_line(gaps: list[Gap]) -> str:
    """Format simultaneous gaps of one channel."""
    first = gaps[0]
    symbols = plural(len(gaps), "symbol")
    seconds = max((gap.until - gap.since).total_seconds() for gap in gaps)
    statuses = "/".join(sorted({gap.status for gap in gaps}))
    recovered = sum(gap.recovered for gap in gaps)
    channel = first.topic.channel
    return (
        f"{channel} of {symbols} may have missed {seconds:.1f} s, {statuses}, "
        f"{recovered} ticks recovered"
    )


def move_line(change: StateChange) -> str:
    """Format a change of the link's state."""
    reason = f": {change.reason}" if change.reason else ""
    if change.state is LinkState.BACKOFF:
        return f"lost, dialling again in {change.retry_in:.1f} s{reason}"
    return f"{change.state}{reason}"


def _snapshot(tick: Snapshot) -> str:
    change = percent(percent_change(tick.last_price, tick.prev_close or tick.open))
    return (
        f"{or_dash(tick.last_price):>10} {change:>8}  "
        f"high {or_dash(tick.high)}  low {or_dash(tick.low)}  vol {or_dash(tick.volume)}"
    )


def _trade(tick: Trade) -> str:
    side = "" if tick.side is Side.UNKNOWN else tick.side.name.lower()
    return f"{tick.price:>10} {side:>8}  size {or_dash(tick.size)}"


def _depth(tick: Depth) -> str:
    return f"{_level(tick.best_bid):>19}  /  {_level(tick.best_ask)}"


def _kline(tick: Kline) -> str:
    bar = f"{tick.interval.short} {tick.time:%H:%M}"
    prices = f"open {tick.open}  high {tick.high}  low {tick.low}"
    return f"{tick.close:>10} {bar:>8}  {prices}  vol {or_dash(tick.volume)}"


def _level(level: PriceLevel | None) -> str:
    return "-" if level is None else f"{level.price} x {level.size}"


_FORMATTERS: dict[type[object], Callable[[Any], str]] = {
    Snapshot: _snapshot,
    Trade: _trade,
    Depth: _depth,
    Kline: _kline,
}
