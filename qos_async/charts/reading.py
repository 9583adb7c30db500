"""Bars for a chart, from records or a frame."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from msgspec import Struct

from qos_async.enums import Interval
from qos_async.frames.reading import column_values, is_frame, is_missing, plain, seconds
from qos_async.models import Kline
from qos_async.symbols import canonical

__all__ = ["read_bars"]

_PRICES = ("open", "high", "low", "close")
_FIELDS = ("symbol", "interval", *_PRICES)
_COLUMNS = "symbol, interval, time, open, high, low, close and, if there is one, volume"
_HOW = (
    "expected klines of one symbol: a list of Kline, bars of qos_async.markets.bars, or "
    f"a DataFrame with the columns {_COLUMNS}"
)


def read_bars(bars: object) -> list[Kline[Decimal]]:
    """Return the bars as klines, ascending, of each time the last one.

    Args:
        bars: As in ``candles``.

    Raises:
        TypeError: If it is nothing that has bars.
        ValueError: If there is no bar, or bars of several symbols or intervals, or a
            value that cannot be drawn.
    """
    rows = _frame_rows(bars) if is_frame(bars) else _record_rows(bars)
    found = {row.timestamp: row for row in map(_kline, rows)}
    if not found:
        raise ValueError("there are no bars to draw: the list or the frame is empty")
    for name in ("symbol", "interval"):
        values = sorted({str(getattr(row, name)) for row in found.values()})
        if len(values) > 1:
            raise ValueError(
                f"a chart has one {name}, not {len(values)} ({', '.join(values[:5])}): "
                "pass the bars of one of them"
            )
    return [found[timestamp] for timestamp in sorted(found)]


# Records


def _record_rows(bars: object) -> Iterator[dict[str, Any]]:
    if isinstance(bars, Mapping):
        yield from _mapped_rows(cast("Mapping[Any, object]", bars))
        return
    if isinstance(bars, AsyncIterable):
        raise TypeError(
            "candles() takes no asynchronous iterator: collect it first, as in "
            "[bar async for bar in bars], or await pages.to_polars()"
        )
    if isinstance(bars, (str, bytes)) or not isinstance(bars, Iterable):
        raise TypeError(f"{_HOW}; not {type(bars).__name__}")
    for bar in cast("Iterable[object]", bars):
        if not all(hasattr(bar, name) for name in (*_FIELDS, "timestamp")):
            hint = " (bars of trades: qos_async.markets.bars)" * isinstance(bar, Struct)
            raise TypeError(f"{_HOW}; not records of {type(bar).__name__}{hint}")
        names = (*_FIELDS, "timestamp", "volume")
        yield {name: getattr(bar, name, None) for name in names}


def _mapped_rows(result: Mapping[Any, object]) -> Iterator[dict[str, Any]]:
    """Return the rows of a ``Result``, or of another mapping by symbol."""
    if not result:
        missing = ", ".join(getattr(result, "missing", ()))
        why = f": the service sent none of {missing}" if missing else ""
        raise ValueError(f"there are no bars to draw{why}")
    if len(result) > 1:
        names = [str(key) for key in result]
        more = ", …" if len(names) > 5 else ""  # noqa: PLR2004 - enough to recognize it
        raise ValueError(
            f"a chart has one symbol, not {len(names)} ({', '.join(names[:5])}{more}): "
            f"pass the bars of one, such as candles(result[{names[0]!r}])"
        )
    [records] = result.values()
    return _record_rows(records)


# Frames


def _frame_rows(frame: Any) -> Iterator[dict[str, Any]]:
    if getattr(getattr(frame, "index", None), "name", None) in {"time", "timestamp"}:
        frame = frame.reset_index()
    names = list(getattr(frame, "column_names", None) or frame.columns)
    time = "time" if "time" in names else "timestamp"
    absent = [name for name in (*_FIELDS, time) if name not in names]
    if absent:
        raise ValueError(
            f"the frame has no column {', '.join(absent)}: a chart needs {_COLUMNS}"
        )
    columns = {name: column_values(frame[name]) for name in (*_FIELDS, time)}
    columns["volume"] = (
        column_values(frame["volume"])
        if "volume" in names
        else [None] * len(columns[time])
    )
    columns["timestamp"] = [seconds(value) for value in columns.pop(time)]
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, row, strict=True))


# Values


def _kline(row: dict[str, Any]) -> Kline[Decimal]:
    timestamp = int(row["timestamp"])
    place = _place(timestamp)
    prices: dict[str, Any] = {name: _price(name, row[name], place) for name in _PRICES}
    volume = row["volume"]
    return Kline(
        symbol=canonical(row["symbol"]),
        interval=_interval(row["interval"]),
        timestamp=timestamp,
        volume=None if is_missing(volume) else _price("volume", volume, place),
        **prices,
    )


def _interval(value: Any) -> Interval:
    known = isinstance(value, Interval)
    return value if known else Interval.parse(value)


def _place(timestamp: int) -> str:
    try:
        return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"the time {timestamp} of a bar is out of range: it is in seconds since 1970"
        ) from None


def _price(name: str, value: Any, place: str) -> Decimal:
    if is_missing(value):
        raise ValueError(f"the bar of {place} has no {name}: leave it out")
    try:
        number = _decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        number = Decimal("nan")
    if not number.is_finite():
        raise ValueError(f"the {name} of the bar of {place} is no number: {value!r}")
    return number


def _decimal(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        found: Decimal = plain(value)
        return found
    if isinstance(value, str):
        return Decimal(value)
    return Decimal(repr(float(value)))  # Also a number of numpy.
