"""Values of columns, as plain Python objects for each of the libraries.

They are read a column at a time, never a row: that is what makes it fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, repeat
from typing import Any, NamedTuple, TypeAlias, cast

from msgspec import Struct

from qos_async.enums import Interval
from qos_async.frames.column_types import (
    DATE,
    LEVEL,
    MARKET,
    Column,
    Dtype,
    Numbers,
    base_type,
    check_numbers,
    convert,
    layout,
)
from qos_async.models import Tick

__all__ = [
    "Collected",
    "ColumnValues",
    "LevelLists",
    "Records",
    "collect",
    "items",
    "tabulate",
]

Records: TypeAlias = (
    Iterable[Struct]
    | Mapping[Any, Struct]
    | Mapping[Any, list[Any]]
    | Mapping[str, Any]
)
"""Records of one kind: any iterable, a ``Result``, or a dict of them or of lists."""


class Collected(NamedTuple):
    """Records of one kind, as a list.

    Attributes:
        kind: Their class.
        records: The records, in order.
        keys: For each, its key if they came in a mapping, else None.
    """

    kind: type[Struct]
    records: list[Any]
    keys: list[Any]


def collect(records: Any, kind: type[Struct] | None) -> Collected:
    """Return the records of any argument of ``to_polars``.

    Raises:
        TypeError: If it has no records, or records of several kinds.
        ValueError: If it is empty and the kind is unknown.
    """
    if isinstance(records, Mapping):
        given = cast("Mapping[object, Any]", records)
        kind = kind or getattr(given, "kind", None)
        found = list(items(given))
        keys, rows = [key for key, _ in found], [row for _, row in found]
    elif isinstance(records, Iterable) and not isinstance(records, str | bytes):
        rows = list[Any](cast("Iterable[object]", records))
        keys = [None] * len(rows)
    else:
        raise TypeError(
            "expected a Result or an iterable of records, not "
            f"{_name(type(records))}{_hint(records)}"
        )
    return Collected(_common_kind(rows, base_type(kind)), rows, keys)


def _has_live(rows: list[Any]) -> bool:
    """Return whether ticks of a stream are among records of one kind."""
    if not rows or not isinstance(rows[0], Tick):
        return False
    return any(row.received_at or row.recovered for row in rows)


def _has_days(records: Any, rows: list[Any]) -> bool:
    """Return whether bars of a day or longer are among records of one kind."""
    if not rows:  # A Result of klines knows what was requested.
        return getattr(records, "interval", None) in _DAYS
    if not hasattr(rows[0], DATE.name) or not hasattr(rows[0], "interval"):
        return False
    return any(row.interval in _DAYS for row in rows)


def items(records: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each record of a mapping, or of the lists in it, with its key."""
    for key, value in records.items():
        for row in _rows(value):
            yield key, row


def _rows(value: Any) -> Iterable[Any]:
    return cast("list[object]", value) if isinstance(value, list) else (value,)


def _common_kind(rows: list[Any], kind: type[Struct] | None) -> type[Struct]:
    found = list(dict.fromkeys(map(type, rows)))
    if not found:
        if kind is None:
            raise ValueError(
                "there are no records, so the columns are unknown: pass kind=, such as "
                "kind=Trade"
            )
        return kind
    if not all(issubclass(one, Struct) for one in found):
        raise TypeError(
            "expected records such as Trade or Kline, found "
            + next(_name(one) for one in found if not issubclass(one, Struct))
        )
    if len(found) > 1:
        raise TypeError(
            f"a frame holds records of one kind, found {', '.join(map(_name, found))}: "
            "make a frame of each, such as "
            f"[r for r in records if isinstance(r, {_name(found[0])})]"
        )
    if kind is not None and found != [kind]:
        raise TypeError(f"kind={_name(kind)}, but the records are {_name(found[0])}")
    return found[0]


def _hint(records: object) -> str:
    if isinstance(records, Struct):
        return ": put it into a list"
    if hasattr(records, "to_polars"):
        return ": call its own to_polars(), to_pandas() or to_arrow()"
    if hasattr(records, "__aiter__"):
        return ": read it first, [r async for r in ...]"
    return ""


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", repr(kind))


_PRICE, _SIZE = LEVEL[2], LEVEL[3]
_INT64 = 2**63 - 1
_DAYS = frozenset(one for one in Interval if one >= Interval.DAY)


class LevelLists(NamedTuple):
    """A column of lists of levels, concatenated.

    Attributes:
        lengths: The number of levels of each row.
        prices: The prices of all levels.
        sizes: The sizes of all levels.
    """

    lengths: list[int]
    prices: list[Any]
    sizes: list[Any]


class ColumnValues(NamedTuple):
    """A column with its values.

    Attributes:
        column: The column.
        values: One for each row, or None. Enumerations are words, times whole seconds
            or nanoseconds since the epoch, numbers of the requested type.
        levels: In their place, for a column of levels.
    """

    column: Column
    values: list[Any]
    levels: LevelLists | None = None


def tabulate(
    records: Any,
    numbers: Numbers,
    *,
    explode: bool,
    kind: type[Struct] | None,
    live: bool | None = None,
    dates: bool | None = None,
) -> list[ColumnValues]:
    """Return the columns of records.

    Args:
        records: As in ``to_polars``.
        numbers: As in ``to_polars``.
        explode: As in ``to_polars``.
        kind: As in ``to_polars``.
        live: Whether ticks have the columns ``received_at`` and ``recovered``. By
            default with ``kind``, and where a record has them.
        dates: Whether bars have the column ``date``. By default where one is of a day or
            longer.

    Raises:
        TypeError: If something is not a record, or the records are of several kinds.
        ValueError: If there are no records and the kind is unknown; if a value does not fit
            into its column.
    """
    check_numbers(numbers)
    collected = collect(records, kind)
    if live is None:
        live = kind is not None or _has_live(collected.records)
    if dates is None:
        dates = _has_days(records, collected.records)
    found = layout(collected.kind, explode=explode, live=live, dates=dates)
    if not explode:
        return [_column_values(column, collected, numbers) for column in found]
    own = _exploded_levels(collected.records, numbers)
    rows = [len(one.bids) + len(one.asks) for one in collected.records]
    return [
        ColumnValues(column, own[column.name])
        if column.name in own
        else ColumnValues(
            column, _expand(_column_values(column, collected, numbers).values, rows)
        )
        for column in found
    ]


def _column_values(
    column: Column, collected: Collected, numbers: Numbers
) -> ColumnValues:
    if column is MARKET:
        # Markets, in the result of fetch_calendar; a caller may have other keys.
        keys = [None if key is None else str(key) for key in collected.keys]
        return ColumnValues(column, keys)
    if column is DATE:
        return ColumnValues(column, _trading_dates(collected.records))
    values = column.read(collected.records)
    match column.dtype:
        case Dtype.LEVELS:
            return ColumnValues(column, [], _level_lists(column.name, values, numbers))
        case Dtype.NUMBER:
            values = convert(column.name, values, numbers)
        case Dtype.WORD:
            values = list(map((column.words or {}).get, values))
        case Dtype.SECONDS | Dtype.NANOSECONDS:
            values = [at or None for at in values]
        case Dtype.INTEGER:
            _check_int64(column.name, values)
        case _:
            pass
    return ColumnValues(column, values)


def _trading_dates(bars: list[Any]) -> list[Any]:
    """Return the trading date of each bar; None for bars of less than a day."""
    return [
        bar.date if bar.timestamp and bar.interval in _DAYS else None for bar in bars
    ]


def _level_lists(name: str, sides: list[Any], numbers: Numbers) -> LevelLists:
    levels = list(chain.from_iterable(sides))
    return LevelLists(
        list(map(len, sides)),
        convert(f"{name}.price", _PRICE.read(levels), numbers),
        convert(f"{name}.size", _SIZE.read(levels), numbers),
    )


def _exploded_levels(books: list[Any], numbers: Numbers) -> dict[str, list[Any]]:
    """Return the columns with a row for each level: bids first, best first."""
    sides = [side for book in books for side in (book.bids, book.asks)]
    lengths, prices, sizes = _level_lists("levels", sides, numbers)
    words = chain.from_iterable(repeat(("bid", "ask"), len(books)))
    return {
        "side": _expand(words, lengths),
        "level": [level for length in lengths for level in range(1, length + 1)],
        "price": prices,
        "size": sizes,
    }


def _expand(values: Iterable[Any], lengths: list[int]) -> list[Any]:
    return list(chain.from_iterable(map(repeat, values, lengths)))


def _check_int64(name: str, values: list[int | None]) -> None:
    for value in values:
        if value is not None and abs(value) > _INT64:
            raise ValueError(f"column {name}: {value} does not fit into 64 bits")
