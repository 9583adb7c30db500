"""Trades and klines of the past: from records, results, and frames or their rows."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from msgspec import Struct

from qos_async._validation import as_whole
from qos_async.enums import Interval
from qos_async.frames.reading import frame_rows, is_frame, is_missing, plain, seconds
from qos_async.models import Trade
from qos_async.periods import bar_end
from qos_async.symbols import canonical, market_of

__all__ = ["FineBar", "clock", "fine_bars", "is_rows", "rows_of", "trade_of"]


class FineBar(NamedTuple):
    """A kline, or a bar of ``bars`` or ``resample``; times in epoch seconds."""

    symbol: str
    interval: Interval
    start: int
    end: int
    open: Any
    high: Any
    low: Any
    close: Any
    volume: Any
    turnover: Any
    trades: int
    final: bool
    complete: bool


def is_rows(source: object) -> bool:
    """Return whether ``rows_of`` takes a source."""
    if isinstance(source, (str, bytes, Struct, AsyncIterable)):
        return False
    return is_frame(source) or isinstance(source, Iterable)


def rows_of(source: Any) -> Iterator[object]:
    """Yield the rows of a frame, the records of a ``Result``, or the items."""
    if is_frame(source):
        return frame_rows(source)
    if isinstance(source, Mapping):
        return _records(cast("Mapping[object, object]", source))
    return iter(source)


def _records(result: Mapping[object, object]) -> Iterator[object]:
    for value in result.values():
        yield from cast("list[object]", value) if isinstance(value, list) else (value,)


def trade_of(row: object) -> object:
    """Return a row of a frame as a trade; records as they are.

    Raises:
        ValueError: If it is no row of trades.
    """
    if isinstance(row, (Struct, list)):
        return cast("object", row)
    get = _getter(row)
    symbol, price = get("symbol"), get("price")
    if not isinstance(symbol, str) or is_missing(price):
        raise ValueError(
            "bars builds bars from trades: records of Trade, or rows with symbol, time, "
            f"price and, if there is one, size; not {_name(row)}"
        )
    size = get("size")
    return Trade(
        symbol=canonical(symbol),
        price=plain(price),
        size=None if is_missing(size) else plain(size),
        timestamp=_time(get),
    )


def fine_bars(source: object) -> Iterator[FineBar]:
    """Yield klines.

    Raises:
        ValueError: If there is something else, or a value is missing.
    """
    for row in rows_of(source):
        yield _fine_bar(row)


_PRICES = ("open", "high", "low", "close")


def _fine_bar(row: object) -> FineBar:
    get = _getter(row)
    symbol, interval = get("symbol"), get("interval")
    if not isinstance(symbol, str) or interval is None:
        raise ValueError(
            "resample takes klines: records of Kline or Bar, or rows with symbol, "
            "interval, time, open, high, low, close and, if there is one, volume; not "
            f"{_name(row)}"
        )
    symbol, start = canonical(symbol), _time(get)
    if interval == Interval.UNKNOWN:
        raise ValueError(f"a kline of {symbol} has an unknown interval: leave it out")
    length = Interval.parse(interval)
    prices = {name: plain(get(name)) for name in _PRICES}
    absent = [name for name, price in prices.items() if is_missing(price)]
    if absent:
        raise ValueError(
            f"{symbol}: the kline of {clock(start)} has no {absent[0]}: leave it out"
        )
    end: Any = get("end_timestamp")
    end = get("end_time") if end is None else end
    return FineBar(
        symbol=symbol,
        interval=length,
        start=start,
        end=bar_end(start, length, market_of(symbol)) if end is None else seconds(end),
        **prices,
        volume=_amount(get("volume")),
        turnover=_amount(get("turnover")),
        trades=as_whole(get("count")) or 0,
        final=bool(get("final")),
        complete=get("complete") in {None, True},
    )


def clock(second: int) -> str:
    """Return a time for messages."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M} UTC"


def _getter(row: object) -> Callable[[str], Any]:
    if isinstance(row, Mapping):
        return cast("Mapping[str, Any]", row).get
    return lambda name: getattr(row, name, None)


def _time(get: Callable[[str], Any]) -> int:
    second = get("timestamp")
    return seconds(get("time") if second is None else second)


def _amount(value: Any) -> Any:
    return None if is_missing(value) else plain(value)


def _name(row: object) -> str:
    if isinstance(row, Mapping):
        return f"a row with {', '.join(map(str, cast('Mapping[object, object]', row)))}"
    return type(row).__name__
