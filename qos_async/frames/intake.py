"""Everything that records come in, read as one list of one kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, cast

from msgspec import Struct

from qos_async.frames.layout import plain

__all__ = ["Intake", "Records", "pairs", "take_in"]

Records: TypeAlias = (
    Iterable[Struct]
    | Mapping[Any, Struct]
    | Mapping[Any, list[Any]]
    | Mapping[str, Any]
)
"""Records of one kind: any iterable, a ``Result``, or a dict of them or of lists."""


class Intake(NamedTuple):
    """Records and what is known of them.

    Attributes:
        kind: Their class.
        records: All of them, in order.
        keys: For each, the key of the mapping that it came in; None if it came in none.
    """

    kind: type[Struct]
    records: list[Any]
    keys: list[Any]


def take_in(records: Any, kind: type[Struct] | None) -> Intake:
    """Read what a caller gave.

    Raises:
        TypeError: If it is not records, or not of one kind.
        ValueError: If there is none and nothing says of what kind.
    """
    if isinstance(records, Mapping):
        given = cast("Mapping[object, Any]", records)
        kind = kind or getattr(given, "kind", None)
        found = list(pairs(given))
        keys, rows = [key for key, _ in found], [row for _, row in found]
    elif isinstance(records, Iterable) and not isinstance(records, str | bytes):
        rows = list[Any](cast("Iterable[object]", records))
        keys = [None] * len(rows)
    else:
        raise TypeError(
            "expected a Result or an iterable of records, not "
            f"{_name(type(records))}{_hint(records)}"
        )
    return Intake(_kind(rows, plain(kind)), rows, keys)


def pairs(records: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Give each record of a mapping, or of the lists in it, with its key."""
    for key, value in records.items():
        for row in _rows(value):
            yield key, row


def _rows(value: Any) -> Iterable[Any]:
    return cast("list[object]", value) if isinstance(value, list) else (value,)


def _kind(rows: list[Any], kind: type[Struct] | None) -> type[Struct]:
    found = list(dict.fromkeys(map(type, rows)))
    if not found:
        if kind is None:
            raise ValueError(
                "there are no records, so nothing says which columns to make: "
                "give kind=, such as kind=Trade"
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
        return ": put it in a list"
    if hasattr(records, "to_polars"):
        return ": it has methods to_polars(), to_pandas() and to_arrow() of its own"
    if hasattr(records, "__aiter__"):
        return ": read it first, [r async for r in ...]"
    return ""


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", repr(kind))
