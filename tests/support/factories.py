"""Factories of records and gaps, and the events that a subscription buffered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from qos_async import Gap, Interval, Kline, Subscription, Topic, Trade

__all__ = ["drain", "flat_kline", "gap", "gaps", "prices", "trade_at"]


def trade_at(second: int, price: int = 1) -> Trade[Decimal]:
    """Return a trade of one unit."""
    return Trade(symbol="US:A", timestamp=second, price=Decimal(price), size=Decimal(1))


def flat_kline(
    timestamp: int = 0,
    price: Any = "1",
    symbol: str = "US:A",
    interval: int = Interval.MIN_1,
    **fields: Any,
) -> Kline[Any]:
    """Return a kline whose four prices are equal."""
    return Kline(
        symbol=symbol,
        timestamp=timestamp,
        interval=Interval(interval),
        open=price,
        high=price,
        low=price,
        close=price,
        **fields,
    )


def gap(
    topic: Topic,
    since: float | datetime,
    until: float | datetime | None = None,
    *,
    seconds: float = 1.0,
    reason: str = "cut",
    **fields: Any,
) -> Gap:
    """Return a gap that ends at ``until``, or ``seconds`` after ``since``."""
    start = _time(since)
    end = start + timedelta(seconds=seconds) if until is None else _time(until)
    return Gap(topic=topic, since=start, until=end, reason=reason, **fields)


def _time(value: float | datetime) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)


def drain(subscription: Subscription[Any]) -> list[Any]:
    """Return all buffered events, gaps included, without waiting."""
    buffer, events = subscription._queue.buffer, list[Any]()
    while buffer.has_event:
        events.append(buffer.take_event())
    return events


def gaps(events: list[Any]) -> list[Gap]:
    return [event for event in events if isinstance(event, Gap)]


def prices(events: list[Any]) -> list[int]:
    """Return the prices of the trades."""
    return [int(event.price) for event in events if isinstance(event, Trade)]
