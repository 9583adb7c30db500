"""HTML tables of records, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import Enum
from html import escape
from typing import Any, cast

from msgspec import Struct

from qos_async._printable import printable
from qos_async.enums import Interval

__all__ = ["record_table", "records_table"]

_ROWS = 10  # A notebook shows about as many without scrolling.
_WIDTH = 60
_LEVELS = 3


def record_table(record: Struct) -> str:
    """Return a table of the fields of one record, without the empty ones."""
    cells = [(name, _cell(record, name)) for name in _names(record)]
    rows = "".join(
        f"<tr><th>{_clean(name)}</th><td>{_clean(text)}</td></tr>"
        for name, text in cells
        if text
    )
    return f"<table><caption>{type(record).__name__}</caption>{rows}</table>"


def records_table(records: Sequence[Struct], caption: str) -> str:
    """Return a table of records of one kind: ten rows at most, no empty columns."""
    half = _ROWS // 2
    cut = len(records) > _ROWS
    rows = [*records[:half], *records[-half:]] if cut else list(records)
    names = _names(rows[0]) if rows else ()
    texts = {name: [_cell(row, name) for row in rows] for name in names}
    shown = {name: cells for name, cells in texts.items() if any(cells)}
    lines = [_line(cells) for cells in zip(*shown.values(), strict=True)]
    if cut:
        lines.insert(half, _line(["⋮"] * len(shown)))
    heads = "".join(f"<th>{_clean(name)}</th>" for name in shown)
    return (
        f"<table><caption>{escape(printable(caption))}</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _names(record: Any) -> list[str]:
    """Return the fields; of a bar with its trading date, which may not be that of UTC."""
    names = list(record.__struct_fields__)
    if hasattr(record, "date") and "date" not in names:
        names.insert(names.index("timestamp") + 1, "date")
    return names


def _line(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<td>{_clean(cell)}</td>' for cell in cells)}</tr>"


def _cell(record: Struct, name: str) -> str:
    value = getattr(record, name)
    if name == "timestamp":
        return _time(value, 1)
    if name == "received_at":
        return _time(value, 10**9)
    if name == "date" and "date" not in record.__struct_fields__:
        bar = cast("Any", record)
        is_day = bar.timestamp and bar.interval >= Interval.DAY
        return str(value) if is_day else ""
    return _text(value)


def _text(value: Any) -> str:
    if value is None or value is False or value == ():
        return ""
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, Struct):
        fields = ((name, _cell(value, name)) for name in value.__struct_fields__)
        return ", ".join(f"{name} {text}" for name, text in fields if text)
    if isinstance(value, tuple):
        return _levels(cast("tuple[object, ...]", value))
    return "yes" if value is True else str(value)


def _levels(levels: Iterable[Any]) -> str:
    levels = list(levels)
    best = [f"{level.price} x {level.size}" for level in levels[:_LEVELS]]
    more = [f"… {len(levels) - _LEVELS} more"] if len(levels) > _LEVELS else []
    return ", ".join(best + more)


def _time(at: int, unit: int) -> str:
    if not at:
        return ""
    whole, rest = divmod(at, unit)
    time = datetime.fromtimestamp(whole, UTC).replace(microsecond=rest * 10**6 // unit)
    return f"{time:%Y-%m-%d %H:%M:%S}{f'.{time.microsecond:06}' if rest else ''} UTC"


def _clean(text: str) -> str:
    text = printable(text)
    return escape(text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…")
