"""Validation of arguments: numbers and counts, with messages for users."""

from __future__ import annotations

import math
import sys
from typing import TypeGuard

__all__ = ["check_number", "check_whole", "is_finite", "is_number"]


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is an int or a float; True and False are not numbers."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a number that a float can hold, unlike inf and ``10**400``."""
    return is_number(value) and abs(value) <= sys.float_info.max


def check_number(
    name: str,
    value: object,
    *,
    above_zero: bool = False,
    most: float = math.inf,
    unit: str = "",
    optional: bool = False,
) -> None:
    """Check that an argument is a finite number from 0.

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
        return
    if is_number(value) and most < value < math.inf:
        raise ValueError(f"{name} must be at most {most:.0f} seconds, not {value!r}")
    if not is_finite(value) or value < 0 or (above_zero and value == 0):
        number = f"a number of {unit}" if unit else "a number"
        bound = "above 0" if above_zero else "from 0"
        choice = " or None" if optional else ""
        raise ValueError(f"{name} must be {number} {bound}{choice}, not {value!r}")


def check_whole(name: str, value: object, *, most: int | None = None) -> None:
    """Check that an argument is an int from 1, up to ``most`` if that is given.

    Raises:
        ValueError: With the name, the rule and the value.
    """
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or value < 1
        or (most is not None and value > most)
    ):
        up_to = "" if most is None else f" to {most}"
        raise ValueError(f"{name} must be a whole number from 1{up_to}, not {value!r}")
