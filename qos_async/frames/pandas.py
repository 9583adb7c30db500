"""DataFrames of pandas."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from qos_async.frames.column_types import Dtype, Numbers
from qos_async.frames.column_values import ColumnValues, LevelLists, Records, tabulate
from qos_async.frames.packages import load

if TYPE_CHECKING:  # An optional package.
    import pandas as pd

__all__ = ["to_pandas"]

_NAT = -(2**63)  # numpy's NaT as an integer.


def to_pandas(
    records: Records,
    *,
    numbers: Numbers = float,
    explode: bool = False,
    kind: type[Struct] | None = None,
    live: bool | None = None,
    dates: bool | None = None,
) -> pd.DataFrame:
    """Return a pandas DataFrame with a row for each record.

    With ``numbers=Decimal`` they are ``Decimal`` objects: slow, but exact for any number
    of digits, also in calculations. (The product of two columns of pyarrow's
    ``decimal128(38, 18)`` raises, since it has too many digits.) The column ``date`` is
    ``datetime64``, at midnight: pandas has no dates, and ``pandas.read_parquet`` makes
    Python objects of those in files. ``pandas.to_datetime`` makes both alike.

    >>> to_pandas(await client.fetch_trades("US:AAPL", count=50)).set_index("time")

    Args:
        records: As in ``to_polars``.
        numbers: As in ``to_polars``; here ``Decimal`` has no limit of digits.
        explode: As in ``to_polars``.
        kind: As in ``to_polars``.
        live: As in ``to_polars``.
        dates: As in ``to_polars``.

    Raises:
        ModuleNotFoundError: Without pandas; the message has the command to install it.
        TypeError: As in ``to_polars``.
        ValueError: As in ``to_polars``.
    """
    pandas = load("pandas")
    columns = tabulate(
        records, numbers, explode=explode, kind=kind, live=live, dates=dates
    )
    frame: pd.DataFrame = pandas.DataFrame(
        {one.column.name: _values(pandas, one, numbers) for one in columns}, copy=False
    )
    return frame


def _values(pandas: Any, column_values: ColumnValues, numbers: Numbers) -> Any:
    column, values, levels = column_values
    if levels is not None:
        return pandas.Series(_level_dicts(levels), dtype=object)
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
    ticks = [_NAT if at is None else at * scale for at in values]
    naive = pandas.Series(ticks, dtype="int64").array.view(f"datetime64[{unit}]")
    return pandas.DatetimeIndex(naive).tz_localize("UTC")


def _level_dicts(levels: LevelLists) -> list[list[dict[str, Any]]]:
    rows = (
        {"price": price, "size": size}
        for price, size in zip(levels.prices, levels.sizes, strict=True)
    )
    return [list(islice(rows, length)) for length in levels.lengths]
