"""Tables of Apache Arrow, which Parquet, duckdb and most of the rest can read."""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate
from typing import Any

from msgspec import Struct

from qos_async.frames.intake import Records
from qos_async.frames.layout import Column, Dtype, layout
from qos_async.frames.numbers import PRECISION, SCALE, Numbers, check_fit, known
from qos_async.frames.packages import load
from qos_async.frames.table import Filled, Ladders, tabulate

__all__ = ["schema", "to_arrow"]


def to_arrow(
    records: Records,
    *,
    numbers: Numbers = float,
    explode: bool = False,
    kind: type[Struct] | None = None,
) -> Any:
    """Make a ``pyarrow.Table`` with a row for each record.

    >>> pyarrow.parquet.write_table(to_arrow(trades, numbers=Decimal), "trades.parquet")

    Args:
        records: As in ``to_polars``.
        numbers: As in ``to_polars``.
        explode: As in ``to_polars``.
        kind: As in ``to_polars``.

    Raises:
        ModuleNotFoundError: Without pyarrow; the message says how to install it.
        TypeError: As in ``to_polars``.
        ValueError: As in ``to_polars``.
    """
    pa = load("pyarrow")
    filled = tabulate(records, numbers, explode=explode, kind=kind)
    found = pa.schema([_field(pa, one.column, numbers) for one in filled])
    arrays = [
        _array(pa, one, of, numbers)
        for one, of in zip(filled, found.types, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=found)


def schema(
    kind: type[Struct], *, numbers: Numbers = float, explode: bool = False
) -> Any:
    """Give the ``pyarrow.Schema`` of what ``to_arrow`` makes, for a ``ParquetWriter``.

    >>> schema(Trade, numbers=Decimal).field("price").type
    Decimal128Type(decimal128(38, 18))

    Raises:
        ModuleNotFoundError: Without pyarrow; the message says how to install it.
        TypeError: If ``kind`` is no class of records.
        ValueError: If ``explode`` is asked of what is no depth.
    """
    pa = load("pyarrow")
    found = layout(kind, explode=explode)
    return pa.schema([_field(pa, column, known(numbers)) for column in found])


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


def _array(pa: Any, filled: Filled, of: Any, numbers: Numbers) -> Any:
    column, values = filled.column, filled.cells
    if filled.ladders is not None:
        return _lists(pa, column.name, filled.ladders, of, numbers)
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
        check_fit(column.name, values)
    return pa.array(values, of)


def _lists(pa: Any, name: str, ladders: Ladders, of: Any, numbers: Numbers) -> Any:
    if numbers is Decimal:
        check_fit(f"{name}.price", ladders.prices)
        check_fit(f"{name}.size", ladders.sizes)
    rungs = pa.StructArray.from_arrays(
        [
            pa.array(ladders.prices, of.value_type.field("price").type),
            pa.array(ladders.sizes, of.value_type.field("size").type),
        ],
        fields=list(of.value_type),
    )
    offsets = pa.array(accumulate(ladders.lengths, initial=0), pa.int32())
    return pa.ListArray.from_arrays(offsets, rungs, type=of)
