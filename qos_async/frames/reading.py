"""Values of frames that users pass: of pandas, polars and Arrow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

__all__ = ["column_values", "frame_rows", "is_frame", "is_missing", "plain", "seconds"]

_ARROW_EXPONENT = -18


def is_frame(value: object) -> bool:
    """Return whether a value is a frame of pandas, polars or Arrow."""
    return hasattr(value, "__getitem__") and (
        hasattr(value, "columns") or hasattr(value, "column_names")
    )


def frame_rows(frame: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a frame, as dicts by column."""
    if getattr(getattr(frame, "index", None), "name", None) in {"time", "timestamp"}:
        frame = frame.reset_index()
    names = list(getattr(frame, "column_names", None) or frame.columns)
    columns = [column_values(frame[name]) for name in names]
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def column_values(column: Any) -> list[Any]:
    """Return a column as a list.

    Raises:
        TypeError: If it is no column of pandas, polars or Arrow.
    """
    for name in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, name):
            values: list[Any] = getattr(column, name)()
            return values
    raise TypeError(
        "expected a DataFrame of pandas or polars or a table of pyarrow; a column of it "
        f"is {type(column).__name__}"
    )


def seconds(value: Any) -> int:
    """Return the epoch seconds of a time.

    Raises:
        ValueError: If it has no time zone, or is no time.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(
                f"the time {value} of the frame has no time zone: make it UTC, as in "
                "frames of this package"
            )
        value = value.timestamp()
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"the frame has a time that is none: {value!r}") from None


def is_missing(value: Any) -> bool:
    """Return whether a value is None, or NaN, as pandas has it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def plain(value: Any) -> Any:
    """Return a number without the zeros that a decimal of Arrow ends in."""
    if not isinstance(value, Decimal):
        return value
    # It has 18 places, whatever was sent.
    exponent = value.as_tuple().exponent
    return (
        value.normalize()
        if isinstance(exponent, int) and exponent <= _ARROW_EXPONENT
        else value
    )
