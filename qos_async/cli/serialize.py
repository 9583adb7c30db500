"""Serialization of records for programs: JSON objects and rows of CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import tzinfo
from typing import Any

import msgspec

from qos_async import Depth, Interval, Kline, SessionQuote, Tick
from qos_async._printable import printable, printable_json
from qos_async.cli.display import IN_UTC, Display
from qos_async.cli.times import iso
from qos_async.models import PLACE, Record

__all__ = ["csv_lines", "fields", "header", "json_line", "table_rows"]

_SESSIONS = ("pre_market", "post_market", "overnight")
_LEVEL = ("side", "level", "price", "size")
_DATE = "date"
_LIVE = ("received_at", "recovered")
# What a spreadsheet evaluates when it opens a file; full-width characters, too.
_FORMULA = re.compile(r"[=+\-@\uff1d\uff0b\uff0d\uff20].")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)
_encode = msgspec.json.Encoder().encode


def json_line(row: Mapping[str, Any]) -> str:
    """Serialize an object as a line of JSON; what a terminal would obey is escaped."""
    return f"{printable_json(_encode(row).decode())}\n"


def fields(
    record: Record, *, live: bool = False, display: Display = IN_UTC
) -> dict[str, Any]:
    """Return the fields of a record, as JSON knows them.

    ``time`` is added to ``timestamp``, as ISO 8601; both are null if the server sent none.
    Bars of a day or longer have their ``date``, too, in the time zone of their market.

    Args:
        record: Any of the package's.
        live: Whether to include the fields that only ticks of a stream have.
        display: Its zone is that of ``time``.
    """
    zone = display.zone(getattr(record, "symbol", ""))
    return _with_time(record.to_dict(), zone, _date(record), live=live)


def _date(record: Record) -> dict[str, str | None]:
    if not isinstance(record, Kline) or record.interval < Interval.DAY:
        return {}
    return {_DATE: record.date.isoformat() if record.timestamp else None}


def _with_time(
    values: dict[str, Any],
    zone: tzinfo | None,
    dates: Mapping[str, Any] = {},
    *,
    live: bool = False,
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in values.items():
        if name == "timestamp":
            time = iso(value, zone) if value else None
            row |= {name: value or None, "time": time, **dates}
        elif name in _SESSIONS and value is not None:
            row[name] = _with_time(value, zone)
        elif live or name not in _LIVE:
            row[name] = value
    return row


def header(
    record: type[Record], *, live: bool = False, dates: bool = False
) -> list[str]:
    """Return the column names of a record's CSV.

    Args:
        record: Its class.
        live: As in ``fields``.
        dates: Whether bars have their ``date``, those of a day or longer.
    """
    if issubclass(record, Depth):
        return [*header(Tick, live=live), *_LEVEL]
    names: list[str] = []
    for name in record.__struct_fields__:
        if name == "timestamp":
            names += ["timestamp", "time", *([_DATE] if dates else [])]
        elif name in _SESSIONS:
            names += [f"{name}_{one}" for one in header(SessionQuote)]
        elif name != PLACE and (live or name not in _LIVE):
            names.append(name)
    return names


def table_rows(
    record: Record, *, live: bool = False, display: Display = IN_UTC
) -> Iterator[dict[str, Any]]:
    """Iterate over a record's rows of CSV: one, or one for each level of a book."""
    row = fields(record, live=live, display=display)
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
    """Serialize rows as CSV, without a header; missing values are empty.

    In text, what a terminal would obey is escaped, and what a spreadsheet would evaluate
    begins with an apostrophe.
    """
    out = io.StringIO()
    names = list(names)
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str):
        text = printable(value)
        return f"'{text}" if _FORMULA.match(text) and not _NUMBER.match(text) else text
    return str(value).lower() if isinstance(value, bool) else value
