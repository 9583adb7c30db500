"""Records turned into columns of plain Python values, the same for every library.

Whole columns at a time, never a row: that is what makes it fast.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, repeat
from typing import Any, NamedTuple

from msgspec import Struct

from qos_async.frames.intake import Intake, take_in
from qos_async.frames.layout import LEVEL, MARKET, Column, Dtype, layout
from qos_async.frames.numbers import Numbers, convert, known

__all__ = ["Filled", "Ladders", "tabulate"]

_PRICE, _SIZE = LEVEL[2], LEVEL[3]
_INT64 = 2**63 - 1


class Ladders(NamedTuple):
    """A column of lists of levels, laid end to end.

    Attributes:
        lengths: How many levels each row has.
        prices: Of all levels.
        sizes: Of all levels.
    """

    lengths: list[int]
    prices: list[Any]
    sizes: list[Any]


class Filled(NamedTuple):
    """A column with its values.

    Attributes:
        column: Which.
        cells: As long as there are rows; None where there is none. Words of
            enumerations, whole seconds or nanoseconds since the epoch, numbers of the
            type asked for.
        ladders: Instead of them, in a column of levels.
    """

    column: Column
    cells: list[Any]
    ladders: Ladders | None = None


def tabulate(
    records: Any, numbers: Numbers, *, explode: bool, kind: type[Struct] | None
) -> list[Filled]:
    """Read records into columns.

    Raises:
        TypeError: If they are not records, or not of one kind.
        ValueError: If there is none and nothing says of what kind; if a value does not
            fit into its column.
    """
    known(numbers)
    intake = take_in(records, kind)
    found = layout(intake.kind, explode=explode)
    if not explode:
        return [_filled(column, intake, numbers) for column in found]
    own = _levels(intake.records, numbers)
    rows = [len(one.bids) + len(one.asks) for one in intake.records]
    return [
        Filled(column, own[column.name])
        if column.name in own
        else Filled(column, _stretched(_filled(column, intake, numbers).cells, rows))
        for column in found
    ]


def _filled(column: Column, intake: Intake, numbers: Numbers) -> Filled:
    if column is MARKET:
        # The keys of fetch_calendar are markets; text, whatever a caller's are.
        keys = [None if key is None else str(key) for key in intake.keys]
        return Filled(column, keys)
    values = column.read(intake.records)
    match column.dtype:
        case Dtype.LEVELS:
            return Filled(column, [], _ladders(column.name, values, numbers))
        case Dtype.NUMBER:
            values = convert(column.name, values, numbers)
        case Dtype.WORD:
            values = list(map((column.words or {}).get, values))
        case Dtype.SECONDS | Dtype.NANOSECONDS:
            values = [at or None for at in values]
        case Dtype.INTEGER:
            _check_size(column.name, values)
        case _:
            pass
    return Filled(column, values)


def _ladders(name: str, sides: list[Any], numbers: Numbers) -> Ladders:
    rungs = list(chain.from_iterable(sides))
    return Ladders(
        list(map(len, sides)),
        convert(f"{name}.price", _PRICE.read(rungs), numbers),
        convert(f"{name}.size", _SIZE.read(rungs), numbers),
    )


def _levels(books: list[Any], numbers: Numbers) -> dict[str, list[Any]]:
    """Fill the columns that have a row for each level: bids first, best first."""
    sides = [side for book in books for side in (book.bids, book.asks)]
    lengths, prices, sizes = _ladders("levels", sides, numbers)
    words = chain.from_iterable(repeat(("bid", "ask"), len(books)))
    return {
        "side": _stretched(words, lengths),
        "level": [level for length in lengths for level in range(1, length + 1)],
        "price": prices,
        "size": sizes,
    }


def _stretched(values: Iterable[Any], lengths: list[int]) -> list[Any]:
    return list(chain.from_iterable(map(repeat, values, lengths)))


def _check_size(name: str, values: list[int | None]) -> None:
    for value in values:
        if value is not None and abs(value) > _INT64:
            raise ValueError(f"column {name}: {value} does not fit into 64 bits")
