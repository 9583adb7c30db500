"""Prices, sizes and volumes, in the type that was asked for."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from decimal import Context, Decimal, Inexact, InvalidOperation
from types import NoneType
from typing import Any, TypeAlias

__all__ = ["PRECISION", "SCALE", "Numbers", "check_fit", "convert", "known"]

Numbers: TypeAlias = type[float] | type[Decimal] | type[str]
"""The type of the numbers in a frame: ``float``, ``Decimal`` or ``str``."""

# The widest decimal that polars, arrow, Parquet and duckdb all know, fixed so that no
# column's type hangs on its values. 18 digits after the point are the finest that
# coins are divided into; the 20 before it hold any turnover.
PRECISION, SCALE = 38, 18

_LAST_DIGIT = Decimal(1).scaleb(-SCALE)
_fit = Context(prec=PRECISION, traps=[Inexact, InvalidOperation]).quantize


def known(numbers: Numbers) -> Numbers:
    """Let through what numbers can be.

    Raises:
        ValueError: For anything else.
    """
    if numbers not in tuple(_CONVERSIONS):  # Compared: what comes may not be hashable.
        raise ValueError(f"numbers must be float, Decimal or str, not {numbers!r}")
    return numbers


def convert(name: str, values: list[Any], numbers: Numbers) -> list[Any]:
    """Make ``numbers`` of decimals, floats or texts; None stays.

    A float as a Decimal is the shortest decimal that reads as that float, which is what
    the wire said, up to 15 digits.

    Raises:
        ValueError: For a text that is no number; the message names the column and the
            value.
    """
    if set(map(type, values)) <= {numbers, NoneType}:
        return values
    to = _CONVERSIONS[numbers]
    try:
        return [None if value is None else to(value) for value in values]
    except (ValueError, decimal.InvalidOperation):
        bad = next(value for value in values if _fails(to, value))
    raise ValueError(
        f"column {name}: {bad!r} is not a number; numbers=str keeps it as it is"
    )


def check_fit(name: str, values: list[Decimal | None]) -> None:
    """Check that no digit would be lost in a column of Decimal(38, 18).

    Arrow sees to that itself, but polars rounds silently and makes null of what is
    too large.

    Raises:
        ValueError: The message names the column and the value.
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
    # As the wire writes it: a Decimal of its own accord makes 1E-8 of 0.00000001.
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
