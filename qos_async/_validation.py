"""Validation of arguments: numbers and counts, with messages for users.

What is taken is converted to an ``int`` or ``float``, so that nothing behind it meets a
number of numpy, a ``Decimal`` or a ``Fraction``.
"""

from __future__ import annotations

import math
import operator
import sys
from numbers import Number
from typing import Any, Literal, overload

__all__ = ["as_number", "as_whole", "check_number", "check_whole"]


def as_whole(value: object) -> int | None:
    """Return anything with ``__index__`` as an int; None for others, and for bools."""
    if isinstance(value, bool) or _is_span(value):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type] # it raises TypeError
    except TypeError:
        return None


def as_number(value: object) -> float | None:
    """Return a number as an int or a float; None for anything else.

    True and False are not numbers, and neither is one that no float can hold, such as
    infinity, NaN and ``10**400``.
    """
    whole = as_whole(value)
    if whole is None and (isinstance(value, bool) or not isinstance(value, Number)):
        return None
    if _is_span(value):
        return None
    try:
        number: float = float(value) if whole is None else whole  # type: ignore[arg-type] # a complex raises TypeError
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) <= sys.float_info.max else None


@overload
def check_number(
    name: str,
    value: object,
    *,
    above_zero: bool = False,
    most: float = math.inf,
    unit: str = "",
    optional: Literal[False] = False,
) -> float: ...
@overload
def check_number(
    name: str,
    value: object,
    *,
    above_zero: bool = False,
    most: float = math.inf,
    unit: str = "",
    optional: Literal[True],
) -> float | None: ...
def check_number(
    name: str,
    value: object,
    *,
    above_zero: bool = False,
    most: float = math.inf,
    unit: str = "",
    optional: bool = False,
) -> float | None:
    """Return an argument that is a finite number from 0 as an int or a float.

    Args:
        name: The argument, for the message.
        value: Its value.
        above_zero: Whether 0 is refused as well.
        most: The largest allowed value, in seconds.
        unit: Of the number, for the message.
        optional: Whether None is allowed.

    Raises:
        ValueError: With the name, the rule and the value.
    """
    if value is None and optional:
        return None
    number = as_number(value)
    size = as_whole(value) if number is None else number
    if size is not None and most < size:
        raise ValueError(f"{name} must be at most {most:.0f} seconds, not {value!r}")
    if number is None or number < 0 or (above_zero and number == 0):
        kind = f"a number of {unit}" if unit else "a number"
        bound = "above 0" if above_zero else "from 0"
        choice = " or None" if optional else ""
        raise ValueError(f"{name} must be {kind} {bound}{choice}, not {value!r}")
    return number


def check_whole(
    name: str, value: object, *, least: int = 1, most: int | None = None
) -> int:
    """Return an argument that is a whole number from ``least`` to ``most`` as an int.

    Raises:
        ValueError: With the name, the rule and the value.
    """
    whole = as_whole(value)
    if whole is None or whole < least or (most is not None and whole > most):
        up_to = "" if most is None else f" to {most}"
        raise ValueError(
            f"{name} must be a whole number from {least}{up_to}, not {value!r}"
        )
    return whole


def _is_span(value: Any) -> bool:
    """Whether a value is a ``timedelta64`` or ``datetime64`` of numpy, in its own unit."""
    return getattr(getattr(value, "dtype", None), "kind", "") in {"m", "M"}
