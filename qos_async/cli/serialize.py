"""Serialization of records for programs: JSON objects and rows of CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, cast

import msgspec
from msgspec import Struct

from qos_async import Depth, SessionQuote, Tick
from qos_async.cli.times import iso
from qos_async.enums import word

__all__ = ["csv_lines", "fields", "header", "json_line", "table_rows", "to_dict"]

_SESSIONS = ("pre_market", "post_market", "overnight")
_LEVEL = ("side", "level", "price", "size")
_LIVE = ("received_at", "recovered")
_encode = msgspec.json.Encoder().encode


def json_line(row: Mapping[str, Any]) -> str:
    """Serialize an object as a line of JSON."""
    return f"{_encode(row).decode()}\n"


def to_dict(value: Any) -> Any:
    """Convert a record to what JSON knows, under the names of its fields.

    ``msgspec.to_builtins`` would use the letters of the wire.
    """
    if isinstance(value, Struct):
        return {name: to_dict(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple):
        return [to_dict(one) for one in cast("tuple[object, ...]", value)]
    if isinstance(value, Enum):
        return word(value)
    return value


def fields(record: Struct, *, live: bool = False) -> dict[str, Any]:
    """Return the fields of a record, as JSON knows them.

    ``time`` is added to ``timestamp``, as ISO 8601; both are null if the server sent none.

    Args:
        record: Any of the package's.
        live: Whether to include the fields that only ticks of a stream have.
    """
    row: dict[str, Any] = {}
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if name == "timestamp":
            row |= {name: value or None, "time": iso(value) if value else None}
        elif isinstance(value, SessionQuote):
            row[name] = fields(cast("Struct", value))
        elif live or name not in _LIVE:
            row[name] = to_dict(value)
    return row


def header(record: type[Struct], *, live: bool = False) -> list[str]:
    """Return the column names of a record's CSV."""
    if issubclass(record, Depth):
        return [*header(Tick, live=live), *_LEVEL]
    names: list[str] = []
    for name in record.__struct_fields__:
        if name == "timestamp":
            names += ["timestamp", "time"]
        elif name in _SESSIONS:
            names += [f"{name}_{one}" for one in header(SessionQuote)]
        elif live or name not in _LIVE:
            names.append(name)
    return names


def table_rows(record: Struct, *, live: bool = False) -> Iterator[dict[str, Any]]:
    """Iterate over a record's rows of CSV: one, or one for each level of a book."""
    row = fields(record, live=live)
    if isinstance(record, Depth):
        sides = {"bid": row.pop("bids"), "ask": row.pop("asks")}
        for side, levels in sides.items():
            for number, level in enumerate(levels, 1):
                yield {**row, "side": side, "level": number, **level}
        return
    for name in _SESSIONS:
        quote: dict[str, Any] = row.pop(name, None) or {}
        row |= {f"{name}_{key}": value for key, value in quote.items()}
    yield row


def csv_lines(names: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Serialize rows as CSV, without a header; missing values are empty."""
    out = io.StringIO()
    names = list(names)
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names])
    return out.getvalue()


def _cell(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value
