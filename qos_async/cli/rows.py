"""Records for programs: as JSON objects, and as rows of CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from msgspec import Struct

from qos_async import Depth, SessionQuote, Tick
from qos_async.cli.jsonlines import builtins

__all__ = ["as_json", "csv_lines", "fields", "header", "table_rows"]

_SESSIONS = ("pre_market", "post_market", "overnight")
_LEVEL = ("side", "level", "price", "size")
_LIVE = ("received_at", "recovered")
_encode = msgspec.json.Encoder().encode


def as_json(row: Mapping[str, Any]) -> str:
    """Write an object as a line, without its end."""
    return _encode(row).decode()


def fields(record: Struct, *, live: bool = False) -> dict[str, Any]:
    """Take a record apart under the names of its fields, for JSON.

    ``time`` joins ``timestamp``, as ISO 8601; both are null where the server sent none.

    Args:
        record: Any of ours.
        live: Whether to tell when it came; of what was fetched, there is nothing to
            tell.
    """
    row: dict[str, Any] = {}
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if name == "timestamp":
            row |= {name: value or None, "time": _iso(value)}
        elif isinstance(value, SessionQuote):
            row[name] = fields(cast("Struct", value))
        elif live or name not in _LIVE:
            row[name] = builtins(value)
    return row


def header(kind: type[Struct], *, live: bool = False) -> list[str]:
    """Name the columns of a record's CSV."""
    if issubclass(kind, Depth):
        return [*header(Tick, live=live), *_LEVEL]
    names: list[str] = []
    for name in kind.__struct_fields__:
        if name == "timestamp":
            names += ["timestamp", "time"]
        elif name in _SESSIONS:
            names += [f"{name}_{one}" for one in header(SessionQuote)]
        elif live or name not in _LIVE:
            names.append(name)
    return names


def table_rows(record: Struct, *, live: bool = False) -> Iterator[dict[str, Any]]:
    """Take a record apart for CSV: one flat row, or one for each level of a book."""
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
    """Write rows as CSV, without a header; what is missing is empty."""
    out = io.StringIO()
    names = list(names)
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names])
    return out.getvalue()


def _cell(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _iso(timestamp: int) -> str | None:
    if not timestamp:
        return None
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%dT%H:%M:%SZ}"
