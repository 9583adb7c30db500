"""Frames of pandas."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from qos_async.frames.intake import Records
from qos_async.frames.layout import Dtype
from qos_async.frames.numbers import Numbers
from qos_async.frames.packages import load
from qos_async.frames.table import Filled, Ladders, tabulate

if TYPE_CHECKING:  # An optional package.
    import pandas as pd

__all__ = ["to_pandas"]

_NOT_A_TIME = -(2**63)  # As numpy writes it.


def to_pandas(
    records: Records,
    *,
    numbers: Numbers = float,
    explode: bool = False,
    kind: type[Struct] | None = None,
) -> pd.DataFrame:
    """Make a pandas DataFrame with a row for each record.

    Exact numbers are ``Decimal`` objects: slow, but nothing is lost, however many digits
    there are, and they can be reckoned with. (The product of two columns of pyarrow's
    ``decimal128(38, 18)`` raises, for want of digits.)

    >>> to_pandas(await client.fetch_trades("US:AAPL", count=50)).set_index("time")

    Args:
        records: As in ``to_polars``.
        numbers: As in ``to_polars``; here ``Decimal`` knows no bounds.
        explode: As in ``to_polars``.
        kind: As in ``to_polars``.

    Raises:
        ModuleNotFoundError: Without pandas; the message says how to install it.
        TypeError: As in ``to_polars``.
        ValueError: As in ``to_polars``.
    """
    pandas = load("pandas")
    filled = tabulate(records, numbers, explode=explode, kind=kind)
    frame: pd.DataFrame = pandas.DataFrame(
        {one.column.name: _values(pandas, one, numbers) for one in filled}, copy=False
    )
    return frame


def _values(pandas: Any, filled: Filled, numbers: Numbers) -> Any:
    column, values = filled.column, filled.cells
    if filled.ladders is not None:
        return pandas.Series(_lists(filled.ladders), dtype=object)
    if column.words is not None:
        return pandas.Categorical(values, categories=list(column.words.values()))
    if column.dtype is Dtype.NUMBER:
        exact = "str" if numbers is str else object
        return pandas.Series(values, dtype="float64" if numbers is float else exact)
    if column.dtype is Dtype.SECONDS:
        return _times(pandas, values, "us", 1_000_000)
    if column.dtype is Dtype.NANOSECONDS:
        return _times(pandas, values, "ns", 1)
    dtype = {
        Dtype.TEXT: "str",
        Dtype.INTEGER: "Int64",
        Dtype.FLAG: "bool",
        Dtype.DATE: "datetime64[us]",
    }[column.dtype]
    return pandas.Series(values, dtype=dtype)


def _times(pandas: Any, values: list[int | None], unit: str, scale: int) -> Any:
    ticks = [_NOT_A_TIME if at is None else at * scale for at in values]
    naive = pandas.Series(ticks, dtype="int64").array.view(f"datetime64[{unit}]")
    return pandas.DatetimeIndex(naive).tz_localize("UTC")


def _lists(ladders: Ladders) -> list[list[dict[str, Any]]]:
    rungs = (
        {"price": price, "size": size}
        for price, size in zip(ladders.prices, ladders.sizes, strict=True)
    )
    return [list(islice(rungs, length)) for length in ladders.lengths]
