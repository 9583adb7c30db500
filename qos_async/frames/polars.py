"""DataFrames of polars."""

from __future__ import annotations

from itertools import chain, count, repeat
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from qos_async.frames.column_types import (
    PRECISION,
    SCALE,
    Column,
    Dtype,
    Numbers,
    check_range,
)
from qos_async.frames.column_values import ColumnValues, LevelLists, Records, tabulate
from qos_async.frames.packages import load

if TYPE_CHECKING:  # An optional package.
    import polars as pl

__all__ = ["to_polars"]


def to_polars(
    records: Records,
    *,
    numbers: Numbers = float,
    explode: bool = False,
    kind: type[Struct] | None = None,
    live: bool | None = None,
    dates: bool | None = None,
) -> pl.DataFrame:
    """Return a polars DataFrame with a row for each record.

    >>> to_polars(await client.fetch_klines("US:AAPL", interval="1d"), numbers=Decimal)

    Args:
        records: Records of one kind: a ``Result``, the result of ``fetch_calendar`` or
            ``fetch_products``, or any iterable.
        numbers: The type of prices, sizes and volumes, independent of the client's:
            ``float``; ``Decimal``, exact to 18 digits after the point; or ``str``.
        explode: For Depth, make a row for each level, with its ``side`` (``"bid"``,
            ``"ask"``), ``level`` (1 is the best), ``price`` and ``size``, instead of
            the lists ``bids`` and ``asks``. An empty book has no row.
        kind: The class of the records, such as ``Trade``. Needed for the columns of an
            empty frame, unless ``records`` is a ``Result`` of a client.
        live: Whether ticks have the columns ``received_at`` and ``recovered``. By
            default where a record has been received live or recovered, and with
            ``kind``; a frame of fetched records has neither.
        dates: Whether bars have the column ``date``, the trading date in the time zone
            of their market; null for bars of less than a day. By default where a bar
            is of a day or longer.

    Raises:
        ModuleNotFoundError: Without polars; the message has the command to install it.
        TypeError: If ``records`` has no records, or records of several kinds.
        ValueError: If it is empty and the kind is unknown; for a number that does not
            fit; for ``explode`` with another kind than Depth.
    """
    polars = load("polars")
    columns = tabulate(
        records, numbers, explode=explode, kind=kind, live=live, dates=dates
    )
    frame: pl.DataFrame = polars.DataFrame(
        [_series(polars, one, numbers) for one in columns]
    )
    return frame


def _series(polars: Any, column_values: ColumnValues, numbers: Numbers) -> Any:
    column, values, levels = column_values
    if levels is not None:
        return _level_series(polars, column.name, levels, numbers)
    if column.dtype is Dtype.NUMBER:
        return _number_series(polars, column.name, values, numbers)
    if column.dtype is Dtype.SECONDS:
        micros = polars.Series(column.name, values, dtype=polars.Int64) * 1_000_000
        return micros.cast(polars.Datetime("us", "UTC"))
    if column.dtype is Dtype.NANOSECONDS:
        nanos = polars.Series(column.name, values, dtype=polars.Int64)
        return nanos.cast(polars.Datetime("ns", "UTC"))
    return polars.Series(column.name, values, dtype=_dtype(polars, column))


def _dtype(polars: Any, column: Column) -> Any:
    if column.words is not None:
        return polars.Enum(list(column.words.values()))
    return {
        Dtype.TEXT: polars.String,
        Dtype.INTEGER: polars.Int64,
        Dtype.FLAG: polars.Boolean,
        Dtype.DATE: polars.Date,
    }[column.dtype]


def _number_series(polars: Any, name: str, values: list[Any], numbers: Numbers) -> Any:
    if numbers is float:
        return polars.Series(name, values, dtype=polars.Float64)
    if numbers is str:
        return polars.Series(name, values, dtype=polars.String)
    check_range(name, values)
    # Converting by way of strings is twice as fast as passing Decimals. Without
    # exponents, which not every version of polars reads.
    texts = [None if value is None else f"{value:f}" for value in values]
    return polars.Series(name, texts, dtype=polars.String).cast(
        polars.Decimal(PRECISION, SCALE)
    )


def _level_series(polars: Any, name: str, levels: LevelLists, numbers: Numbers) -> Any:
    """Group concatenated levels into lists; polars has no constructor from lengths."""
    levels_frame = polars.DataFrame(
        {
            "price": _number_series(polars, f"{name}.price", levels.prices, numbers),
            "size": _number_series(polars, f"{name}.size", levels.sizes, numbers),
        }
    )
    rows = polars.DataFrame(
        {"row": polars.Series(range(len(levels.lengths)), dtype=polars.UInt32)}
    )
    row_of = list(chain.from_iterable(map(repeat, count(), levels.lengths)))
    lists = (
        levels_frame.with_columns(polars.Series("row", row_of, dtype=polars.UInt32))
        .group_by("row", maintain_order=True)
        .agg(polars.struct("price", "size").alias(name))
    )
    empty = polars.Series([[]], dtype=lists.schema[name])
    joined = rows.join(lists, on="row", how="left", maintain_order="left")
    return joined[name].fill_null(empty)
