"""Ticks and notices in words. ASCII only: any terminal and any locale can print it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
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
from qos_async.cli.run_stats import AnyTick, channel_of

__all__ = [
    "clock",
    "gaps_line",
    "many",
    "move_line",
    "number",
    "percent",
    "share",
    "stamp",
    "tick_line",
]

_NANO = 1_000_000_000


def stamp(moment: datetime | None = None) -> str:
    """Write a moment, now by default, as ISO 8601 with milliseconds."""
    moment = datetime.now(UTC) if moment is None else moment.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def clock(moment: datetime) -> str:
    """Write the time of day, in UTC."""
    return f"{moment:%H:%M:%S}"


def many(count: int, of: str) -> str:
    """Count things: ``1 bar``, ``1,500 bars``."""
    return f"{count:,} {of}{'' if count == 1 else 's'}"


def number(value: object) -> str:
    """Write what may be missing."""
    return "-" if value is None else f"{value}"


def share(value: Decimal | None, of: Decimal | None) -> Decimal | None:
    """Give the change from ``of`` to ``value`` in percent, if that can be told."""
    return 100 * (value - of) / of if value is not None and of else None


def percent(value: Decimal | None) -> str:
    """Write a change, with its sign."""
    return "-" if value is None else f"{value:+z.2f}%"


def tick_line(tick: AnyTick) -> str:
    """Write a tick: when it came, its channel and symbol, and what it says."""
    came = stamp(datetime.fromtimestamp(tick.received_at / _NANO, UTC))
    says = _SAYS[type(tick)](tick)
    mark = "  (recovered)" if tick.recovered else ""
    return f"{came} {channel_of(tick):<8} {tick.symbol:<12} {says}{mark}"


def gaps_line(gaps: list[Gap]) -> str:
    """Write gaps of one channel that were told together."""
    first = gaps[0]
    symbols = str(len(gaps)) + (" symbols" if len(gaps) > 1 else " symbol")
    seconds = max((gap.until - gap.since).total_seconds() for gap in gaps)
    statuses = "/".join(sorted({gap.status for gap in gaps}))
    recovered = sum(gap.recovered for gap in gaps)
    channel = first.topic.channel
    return (
        f"{channel} of {symbols} may have missed {seconds:.1f} s, {statuses}, "
        f"{recovered} ticks recovered"
    )


def move_line(change: StateChange) -> str:
    """Write a move of the link."""
    reason = f": {change.reason}" if change.reason else ""
    if change.state is LinkState.BACKOFF:
        return f"lost, dialling again in {change.retry_in:.1f} s{reason}"
    return f"{change.state}{reason}"


def _snapshot(tick: Snapshot) -> str:
    change = percent(share(tick.last_price, tick.prev_close or tick.open))
    return (
        f"{number(tick.last_price):>10} {change:>8}  "
        f"high {number(tick.high)}  low {number(tick.low)}  vol {number(tick.volume)}"
    )


def _trade(tick: Trade) -> str:
    side = "" if tick.side is Side.UNKNOWN else tick.side.name.lower()
    return f"{tick.price:>10} {side:>8}  size {number(tick.size)}"


def _depth(tick: Depth) -> str:
    return f"{_level(tick.best_bid):>19}  /  {_level(tick.best_ask)}"


def _kline(tick: Kline) -> str:
    bar = f"{tick.interval.short} {tick.time:%H:%M}"
    prices = f"open {tick.open}  high {tick.high}  low {tick.low}"
    return f"{tick.close:>10} {bar:>8}  {prices}  vol {number(tick.volume)}"


def _level(level: PriceLevel | None) -> str:
    return "-" if level is None else f"{level.price} x {level.size}"


_SAYS: dict[type[object], Callable[[Any], str]] = {
    Snapshot: _snapshot,
    Trade: _trade,
    Depth: _depth,
    Kline: _kline,
}
