"""Tables of Apache Arrow, for Parquet, duckdb and others."""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate
from typing import Any

from msgspec import Struct

from qos_async.frames.column_types import (
    PRECISION,
    SCALE,
    Column,
    Dtype,
    Numbers,
    check_numbers,
    check_range,
    layout,
)
from qos_async.frames.column_values import ColumnValues, LevelLists, Records, tabulate
from qos_async.frames.packages import load

__all__ = ["schema", "to_arrow"]


def to_arrow(
    records: Records,
    *,
    numbers: Numbers = float,
    explode: bool = False,
    kind: type[Struct] | None = None,
    live: bool | None = None,
    dates: bool | None = None,
) -> Any:
    """Return a ``pyarrow.Table`` with a row for each record.

    >>> pyarrow.parquet.write_table(to_arrow(trades, numbers=Decimal), "trades.parquet")

    Args:
        records: As in ``to_polars``.
        numbers: As in ``to_polars``.
        explode: As in ``to_polars``.
        kind: As in ``to_polars``.
        live: As in ``to_polars``.
        dates: As in ``to_polars``.

    Raises:
        ModuleNotFoundError: Without pyarrow; the message has the command to install it.
        TypeError: As in ``to_polars``.
        ValueError: As in ``to_polars``.
    """
    pa = load("pyarrow")
    columns = tabulate(
        records, numbers, explode=explode, kind=kind, live=live, dates=dates
    )
    found = pa.schema([_field(pa, one.column, numbers) for one in columns])
    arrays = [
        _array(pa, one, of, numbers)
        for one, of in zip(columns, found.types, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=found)


def schema(
    kind: type[Struct],
    *,
    numbers: Numbers = float,
    explode: bool = False,
    live: bool = True,
    dates: bool = False,
) -> Any:
    """Return the ``pyarrow.Schema`` of ``to_arrow``, for a ``ParquetWriter``.

    Pass ``live`` and ``dates`` to both functions: here they are as in ``columns``, and by
    default those of live ticks.

    >>> schema(Trade, numbers=Decimal).field("price").type
    Decimal128Type(decimal128(38, 18))

    Raises:
        ModuleNotFoundError: Without pyarrow; the message has the command to install it.
        TypeError: If ``kind`` is not a class of records.
        ValueError: For ``explode`` with another kind than Depth.
    """
    pa = load("pyarrow")
    found = layout(kind, explode=explode, live=live, dates=dates)
    return pa.schema([_field(pa, column, check_numbers(numbers)) for column in found])


def _field(pa: Any, column: Column, numbers: Numbers) -> Any:
    return pa.field(column.name, _dtype(pa, column, numbers))


def _dtype(pa: Any, column: Column, numbers: Numbers) -> Any:
    number = {
        float: pa.float64(),
        Decimal: pa.decimal128(PRECISION, SCALE),
        str: pa.string(),
    }[numbers]
    return {
        Dtype.TEXT: pa.string(),
        Dtype.WORD: pa.dictionary(pa.int8(), pa.string()),
        Dtype.NUMBER: number,
        Dtype.INTEGER: pa.int64(),
        Dtype.FLAG: pa.bool_(),
        Dtype.SECONDS: pa.timestamp("us", "UTC"),
        Dtype.NANOSECONDS: pa.timestamp("ns", "UTC"),
        Dtype.DATE: pa.date32(),
        Dtype.LEVELS: pa.list_(pa.struct({"price": number, "size": number})),
    }[column.dtype]


def _array(pa: Any, column_values: ColumnValues, of: Any, numbers: Numbers) -> Any:
    column, values, levels = column_values
    if levels is not None:
        return _level_array(pa, column.name, levels, of, numbers)
    if column.words is not None:
        words = list(column.words.values())
        codes = {word: code for code, word in enumerate(words)}
        return pa.DictionaryArray.from_arrays(
            pa.array(map(codes.get, values), pa.int8(), size=len(values)),
            pa.array(words, pa.string()),
        )
    if column.dtype is Dtype.SECONDS:
        return pa.array(values, pa.timestamp("s", "UTC")).cast(of)
    if numbers is Decimal and column.dtype is Dtype.NUMBER:
        check_range(column.name, values)
    return pa.array(values, of)


def _level_array(
    pa: Any, name: str, levels: LevelLists, of: Any, numbers: Numbers
) -> Any:
    if numbers is Decimal:
        check_range(f"{name}.price", levels.prices)
        check_range(f"{name}.size", levels.sizes)
    rows = pa.StructArray.from_arrays(
        [
            pa.array(levels.prices, of.value_type.field("price").type),
            pa.array(levels.sizes, of.value_type.field("size").type),
        ],
        fields=list(of.value_type),
    )
    offsets = pa.array(accumulate(levels.lengths, initial=0), pa.int32())
    return pa.ListArray.from_arrays(offsets, rows, type=of)
