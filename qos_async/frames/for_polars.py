"""Frames of polars."""

from __future__ import annotations

from itertools import chain, count, repeat
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from qos_async.frames.intake import Records
from qos_async.frames.layout import Column, Dtype
from qos_async.frames.numbers import PRECISION, SCALE, Numbers, check_fit
from qos_async.frames.packages import load
from qos_async.frames.table import Filled, Ladders, tabulate

if TYPE_CHECKING:  # An optional package.
    import polars as pl

__all__ = ["to_polars"]


def to_polars(
    records: Records,
    *,
    numbers: Numbers = float,
    explode: bool = False,
    kind: type[Struct] | None = None,
) -> pl.DataFrame:
    """Make a polars DataFrame with a row for each record.

    >>> to_polars(await client.fetch_klines("US:AAPL", interval="1d"), numbers=Decimal)

    Args:
        records: Records of one kind: a ``Result``, what ``fetch_calendar`` and
            ``fetch_products`` give, or any iterable.
        numbers: The type of prices, sizes and volumes: ``float``; ``Decimal``, exact to
            18 digits after the point; or ``str``, whatever the client's own is.
        explode: Of depth, make a row for each level, with its ``side`` (``"bid"``,
            ``"ask"``), ``level`` (1 is the best), ``price`` and ``size``, instead of
            the lists ``bids`` and ``asks``. An empty book has no row.
        kind: The class of the records, such as ``Trade``: the columns of an empty frame,
            where ``records`` may be empty and is no ``Result`` of a client.

    Raises:
        ModuleNotFoundError: Without polars; the message says how to install it.
        TypeError: If ``records`` are not records, or not of one kind.
        ValueError: If there is none and nothing says of what kind; for a number that
            does not fit; if ``explode`` is asked of what is no depth.
    """
    polars = load("polars")
    filled = tabulate(records, numbers, explode=explode, kind=kind)
    frame: pl.DataFrame = polars.DataFrame(
        [_series(polars, one, numbers) for one in filled]
    )
    return frame


def _series(polars: Any, filled: Filled, numbers: Numbers) -> Any:
    column, values = filled.column, filled.cells
    if filled.ladders is not None:
        return _lists(polars, column.name, filled.ladders, numbers)
    if column.dtype is Dtype.NUMBER:
        return _numbers(polars, column.name, values, numbers)
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


def _numbers(polars: Any, name: str, values: list[Any], numbers: Numbers) -> Any:
    if numbers is float:
        return polars.Series(name, values, dtype=polars.Float64)
    if numbers is str:
        return polars.Series(name, values, dtype=polars.String)
    check_fit(name, values)
    # By way of text it is twice as fast as to hand over Decimals. Without exponents:
    # not every polars reads those.
    texts = [None if value is None else f"{value:f}" for value in values]
    return polars.Series(name, texts, dtype=polars.String).cast(
        polars.Decimal(PRECISION, SCALE)
    )


def _lists(polars: Any, name: str, ladders: Ladders, numbers: Numbers) -> Any:
    """Lay levels end to end into lists, of which polars lets nobody give the lengths."""
    rungs = polars.DataFrame(
        {
            "price": _numbers(polars, f"{name}.price", ladders.prices, numbers),
            "size": _numbers(polars, f"{name}.size", ladders.sizes, numbers),
        }
    )
    rows = polars.DataFrame(
        {"row": polars.Series(range(len(ladders.lengths)), dtype=polars.UInt32)}
    )
    row_of = list(chain.from_iterable(map(repeat, count(), ladders.lengths)))
    lists = (
        rungs.with_columns(polars.Series("row", row_of, dtype=polars.UInt32))
        .group_by("row", maintain_order=True)
        .agg(polars.struct("price", "size").alias(name))
    )
    empty = polars.Series([[]], dtype=lists.schema[name])
    joined = rows.join(lists, on="row", how="left", maintain_order="left")
    return joined[name].fill_null(empty)
