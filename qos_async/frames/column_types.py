"""Columns and column types of each kind of record, derived from its Struct."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Iterator
from decimal import Context, Decimal, Inexact, InvalidOperation
from enum import Enum, unique
from functools import cache
from operator import attrgetter
from types import NoneType
from typing import (
    Annotated,
    Any,
    NamedTuple,
    TypeAlias,
    TypeVar,
    cast,
    get_args,
    get_origin,
)

from msgspec import Struct
from msgspec.structs import fields

from qos_async.enums import Side
from qos_async.models import PLACE, PriceLevel, TradingDay

__all__ = [
    "DATE",
    "LEVEL",
    "LIVE",
    "MARKET",
    "PRECISION",
    "SCALE",
    "Column",
    "Dtype",
    "Numbers",
    "base_type",
    "check_numbers",
    "check_range",
    "columns",
    "convert",
    "is_book",
    "layout",
]


@unique
class Dtype(Enum):
    """The type of a column, independent of the library."""

    TEXT = "text"
    WORD = "one of a few words"
    NUMBER = "a price, size or volume"
    INTEGER = "a whole number"
    FLAG = "yes or no"
    SECONDS = "a time in seconds since the epoch"
    NANOSECONDS = "a time in nanoseconds since the epoch"
    DATE = "a day"
    LEVELS = "levels of an order book"


class Column(NamedTuple):
    """A column of a frame.

    Attributes:
        name: Its name.
        dtype: Its type.
        field: The field of the record.
        within: The field of the nested record that has this field, if any.
        words: Of a column of words, the word of each value.
    """

    name: str
    dtype: Dtype
    field: str
    within: str = ""
    words: dict[Any, str] | None = None

    def read(self, records: list[Any]) -> list[Any]:
        """Return the values of records, unconverted."""
        own = attrgetter(self.field)
        if not self.within:
            return list(map(own, records))
        parts = map(attrgetter(self.within), records)
        return [None if part is None else own(part) for part in parts]


# A trading day has no field for its market: it is the key of the calendar.
MARKET = Column("market", Dtype.TEXT, "")

# Replaces bids and asks where each level has a row.
LEVEL = (
    Column("side", Dtype.WORD, "", words={Side.BUY: "bid", Side.SELL: "ask"}),
    Column("level", Dtype.INTEGER, ""),
    Column("price", Dtype.NUMBER, "price"),
    Column("size", Dtype.NUMBER, "size"),
)

_TIMESTAMP = "timestamp"
# The trading date of a bar of a day or longer: its time is of the day before in UTC,
# where the market is east of it.
DATE = Column("date", Dtype.DATE, "date")

_FIRST = ("market", "symbol", "time", DATE.name)
LIVE = ("received_at", "recovered")

_BUILTIN_DTYPES = {
    str: Dtype.TEXT,
    bool: Dtype.FLAG,
    int: Dtype.INTEGER,
    dt.date: Dtype.DATE,
}


def columns(
    kind: type[Struct],
    *,
    explode: bool = False,
    live: bool = True,
    dates: bool = False,
) -> tuple[str, ...]:
    """Return the names of the columns for a kind of record; needs no other package.

    >>> columns(TradingDay)
    ('market', 'date', 'half_day')

    Args:
        kind: The class of the records, such as ``Trade``.
        explode: For Depth, the columns with a row for each level.
        live: Whether ticks have the columns ``received_at`` and ``recovered``, as in
            frames of live ticks; those of fetched ones have not.
        dates: Whether bars have the column ``date``, as in frames with bars of a day or
            longer.

    Raises:
        TypeError: If ``kind`` is not a class of records.
        ValueError: For ``explode`` with another kind than Depth.
    """
    found = layout(kind, explode=explode, live=live, dates=dates)
    return tuple(column.name for column in found)


def layout(
    kind: Any, *, explode: bool, live: bool = True, dates: bool = False
) -> tuple[Column, ...]:
    """Return the columns of a kind of record.

    Raises:
        TypeError: If ``kind`` is not a class of records.
        ValueError: For ``explode`` with another kind than Depth.
    """
    found = base_type(kind)
    if not (isinstance(found, type) and issubclass(found, Struct)):
        raise TypeError(
            f"expected a class of records, such as Trade or Kline, not {kind!r}"
        )
    return _cached_layout(found, explode, live, dates)


def base_type(kind: Any) -> Any:
    """Return a record's class without type parameters: ``Trade`` for ``Trade[float]``."""
    origin = get_origin(kind)
    return origin if isinstance(origin, type) and issubclass(origin, Struct) else kind


def is_book(kind: Any) -> bool:
    """Return whether records of this kind have levels."""
    return any(column.dtype is Dtype.LEVELS for column in layout(kind, explode=False))


@cache
def _cached_layout(
    kind: Any,
    explode: bool,  # noqa: FBT001 - a key of the cache, as the others
    live: bool,  # noqa: FBT001
    dates: bool,  # noqa: FBT001
) -> tuple[Column, ...]:
    found = [MARKET] if issubclass(kind, TradingDay) else []
    found += [column for column in _columns(kind) if live or column.name not in LIVE]
    if dates and hasattr(kind, "interval"):
        found.append(DATE)
    if explode:
        found = [*_exploded(kind, found)]
    return (
        *(column for name in _FIRST for column in found if column.name == name),
        *(column for column in found if column.name not in _FIRST + LIVE),
        *(column for name in LIVE for column in found if column.name == name),
    )


def _exploded(kind: Any, found: list[Column]) -> Iterator[Column]:
    if not is_book(kind):
        raise ValueError(
            f"explode=True is for Depth: {kind.__name__} has no levels to explode"
        )
    yield from (column for column in found if column.dtype is not Dtype.LEVELS)
    yield from LEVEL


def _columns(kind: Any, within: str = "") -> Iterator[Column]:
    for field in fields(kind):
        if field.name == PLACE:  # Ticks of the service have none.
            continue
        of = _unwrapped(field.type)
        if isinstance(of, type) and issubclass(of, Struct):
            yield from _columns(of, field.name)
            continue
        name = f"{within}_{field.name}" if within else field.name
        if name.endswith(_TIMESTAMP):
            name = f"{name.removesuffix(_TIMESTAMP)}time"
        dtype = _dtype(field.name, of)
        if dtype is None:
            raise TypeError(
                f"{kind.__name__} does not fit into a frame: "
                f"no column can hold its {field.name}"
            )
        yield Column(name, dtype, field.name, within, _words(of, dtype))


def _words(of: Any, dtype: Dtype) -> dict[Any, str] | None:
    return {one: str(one) for one in of} if dtype is Dtype.WORD else None


def _unwrapped(of: Any) -> Any:
    """Return a type without ``None``, annotations and type parameters."""
    if get_origin(of) is Annotated:
        return _unwrapped(get_args(of)[0])
    some = [one for one in get_args(of) if one is not NoneType]
    if len(some) < len(get_args(of)) and len(some) == 1:
        return _unwrapped(some[0])
    return base_type(of)


def _dtype(name: str, of: Any) -> Dtype | None:
    if name.endswith(_TIMESTAMP):
        return Dtype.SECONDS
    if name == "received_at":
        return Dtype.NANOSECONDS
    if isinstance(of, TypeVar):
        return Dtype.NUMBER
    if isinstance(of, type) and issubclass(of, Enum):
        return Dtype.WORD
    if get_origin(of) is tuple and _unwrapped(get_args(of)[0]) is PriceLevel:
        return Dtype.LEVELS
    return _BUILTIN_DTYPES.get(cast("Any", of))


Numbers: TypeAlias = type[float] | type[Decimal] | type[str]
"""The type of the numbers in a frame: ``float``, ``Decimal`` or ``str``."""

# The widest decimal that polars, arrow, Parquet and duckdb all support, fixed so that the
# type of a column does not depend on its values. No coin has more than 18 digits after
# the point; 20 before it are enough for any turnover.
PRECISION, SCALE = 38, 18

_LAST_DIGIT = Decimal(1).scaleb(-SCALE)
_fit = Context(prec=PRECISION, traps=[Inexact, InvalidOperation]).quantize


def check_numbers(numbers: Numbers) -> Numbers:
    """Return ``numbers`` if it is a supported type.

    Raises:
        ValueError: If it is not.
    """
    if numbers not in tuple(
        _CONVERSIONS
    ):  # A tuple, since an invalid value may be unhashable.
        raise ValueError(f"numbers must be float, Decimal or str, not {numbers!r}")
    return numbers


def convert(name: str, values: list[Any], numbers: Numbers) -> list[Any]:
    """Convert decimals, floats or strings to ``numbers``; None stays.

    A float becomes the shortest decimal that reads as that float: up to 15 digits, the
    number on the wire.

    Raises:
        ValueError: For a string that is not a number; the message has the column and
            the value.
    """
    if set(map(type, values)) <= {numbers, NoneType}:
        return values
    to = _CONVERSIONS[numbers]
    try:
        return [None if value is None else to(value) for value in values]
    except (ValueError, decimal.InvalidOperation):
        bad = next(value for value in values if _fails(to, value))
    raise ValueError(f"column {name}: {bad!r} is not a number; numbers=str keeps it")


def check_range(name: str, values: list[Decimal | None]) -> None:
    """Check that no digit would be lost in a column of Decimal(38, 18).

    Arrow checks this itself, but polars rounds silently, and turns what is too large
    into null.

    Raises:
        ValueError: With the column and the value.
    """
    try:
        found = [_fit(value, _LAST_DIGIT) for value in values if value is not None]
        if not any(map(Decimal.is_nan, found)):
            return
    except decimal.DecimalException:
        pass
    bad = next(value for value in values if _fails(_must_fit, value))
    raise ValueError(
        f"column {name}: {bad!s} does not fit into Decimal({PRECISION}, {SCALE}), "
        f"{PRECISION - SCALE} digits before the point and {SCALE} after it; "
        "numbers=str keeps every digit, numbers=float rounds"
    )


def _must_fit(value: Decimal) -> None:
    if _fit(value, _LAST_DIGIT).is_nan():
        raise InvalidOperation


def _exact(value: Any) -> Decimal:
    return value if type(value) is Decimal else Decimal(str(value))


def _text(value: Any) -> str:
    # As on the wire: str(Decimal("0.00000001")) would be 1E-8.
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _fails(to: Callable[[Any], object], value: Any) -> bool:
    if value is None:
        return False
    try:
        to(value)
    except (ValueError, decimal.DecimalException):
        return True
    return False


_CONVERSIONS: dict[Any, Callable[[Any], Any]] = {
    float: float,
    Decimal: _exact,
    str: _text,
}
