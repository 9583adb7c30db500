"""Which columns a kind of record has. The Struct is the schema: all is read from it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from enum import Enum, unique
from functools import cache
from operator import attrgetter
from types import NoneType
from typing import Annotated, Any, NamedTuple, TypeVar, cast, get_args, get_origin

from msgspec import Struct
from msgspec.structs import fields

from qos_async.enums import Side, word
from qos_async.models import PriceLevel, TradingDay

__all__ = [
    "LEVEL",
    "MARKET",
    "Column",
    "Dtype",
    "columns",
    "is_book",
    "layout",
    "plain",
]


@unique
class Dtype(Enum):
    """What a column holds; each library has its own type for it."""

    TEXT = "text"
    WORD = "one of a few words"
    NUMBER = "a price, size or volume"
    INTEGER = "a whole number"
    FLAG = "yes or no"
    SECONDS = "a time in seconds since the epoch"
    NANOSECONDS = "a time in nanoseconds since the epoch"
    DATE = "a day"
    LEVELS = "rungs of an order book"


class Column(NamedTuple):
    """A column of a frame.

    Attributes:
        name: Its head.
        dtype: What it holds.
        field: Where a record has it.
        within: The field of the record that has this field, if not the record itself.
        words: Of a column of words, each value's word.
    """

    name: str
    dtype: Dtype
    field: str
    within: str = ""
    words: dict[Any, str] | None = None

    def read(self, records: list[Any]) -> list[Any]:
        """Take the values out of records, as they are."""
        own = attrgetter(self.field)
        if not self.within:
            return list(map(own, records))
        parts = map(attrgetter(self.within), records)
        return [None if part is None else own(part) for part in parts]


# A trading day does not say its market; the answer it came in does.
MARKET = Column("market", Dtype.TEXT, "")

# What stands in the place of bids and asks where each level has a row.
LEVEL = (
    Column("side", Dtype.WORD, "", words={Side.BUY: "bid", Side.SELL: "ask"}),
    Column("level", Dtype.INTEGER, ""),
    Column("price", Dtype.NUMBER, "price"),
    Column("size", Dtype.NUMBER, "size"),
)

_STAMP = "timestamp"
_FIRST = ("market", "symbol", "time")
_LAST = ("received_at", "recovered")

_PLAIN = {
    str: Dtype.TEXT,
    bool: Dtype.FLAG,
    int: Dtype.INTEGER,
    dt.date: Dtype.DATE,
}


def columns(kind: type[Struct], *, explode: bool = False) -> tuple[str, ...]:
    """Name the columns of the frames of a kind of record; no package is needed.

    >>> columns(TradingDay)
    ('market', 'date', 'half_day')

    Args:
        kind: The class of the records, such as ``Trade``.
        explode: Of depth, the columns with a row for each level.

    Raises:
        TypeError: If ``kind`` is no class of records.
        ValueError: If ``explode`` is asked of what is no depth.
    """
    return tuple(column.name for column in layout(kind, explode=explode))


def layout(kind: Any, *, explode: bool) -> tuple[Column, ...]:
    """Give the columns of a kind of record.

    Raises:
        TypeError: If ``kind`` is no class of records.
        ValueError: If ``explode`` is asked of what is no depth.
    """
    found = plain(kind)
    if not (isinstance(found, type) and issubclass(found, Struct)):
        raise TypeError(
            f"expected a class of records, such as Trade or Kline, not {kind!r}"
        )
    return _layout(found, explode)


def plain(kind: Any) -> Any:
    """Take parameters away from a record's class: of ``Trade[float]``, give ``Trade``."""
    origin = get_origin(kind)
    return origin if isinstance(origin, type) and issubclass(origin, Struct) else kind


def is_book(kind: Any) -> bool:
    """Tell whether records of this kind have levels."""
    return any(column.dtype is Dtype.LEVELS for column in layout(kind, explode=False))


@cache
def _layout(kind: Any, explode: bool) -> tuple[Column, ...]:  # noqa: FBT001 - cached
    found = [MARKET] if issubclass(kind, TradingDay) else []
    found += _columns(kind)
    if explode:
        found = [*_exploded(kind, found)]
    return (
        *(column for name in _FIRST for column in found if column.name == name),
        *(column for column in found if column.name not in _FIRST + _LAST),
        *(column for name in _LAST for column in found if column.name == name),
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
        of = _bare(field.type)
        if isinstance(of, type) and issubclass(of, Struct):
            yield from _columns(of, field.name)
            continue
        name = f"{within}_{field.name}" if within else field.name
        if name.endswith(_STAMP):
            name = f"{name.removesuffix(_STAMP)}time"
        dtype = _dtype(field.name, of)
        if dtype is None:
            raise TypeError(
                f"{kind.__name__} does not fit into a frame: "
                f"no column can hold its {field.name}"
            )
        yield Column(name, dtype, field.name, within, _words(of, dtype))


def _words(of: Any, dtype: Dtype) -> dict[Any, str] | None:
    return {one: word(one) for one in of} if dtype is Dtype.WORD else None


def _bare(of: Any) -> Any:
    """Take ``None`` and annotations away from a type, and parameters from a record."""
    if get_origin(of) is Annotated:
        return _bare(get_args(of)[0])
    some = [one for one in get_args(of) if one is not NoneType]
    if len(some) < len(get_args(of)) and len(some) == 1:
        return _bare(some[0])
    return plain(of)


def _dtype(name: str, of: Any) -> Dtype | None:
    if name.endswith(_STAMP):
        return Dtype.SECONDS
    if name == "received_at":
        return Dtype.NANOSECONDS
    if isinstance(of, TypeVar):
        return Dtype.NUMBER
    if isinstance(of, type) and issubclass(of, Enum):
        return Dtype.WORD
    if get_origin(of) is tuple and _bare(get_args(of)[0]) is PriceLevel:
        return Dtype.LEVELS
    return _PLAIN.get(cast("Any", of))
