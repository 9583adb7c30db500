"""What counts as a number among the arguments of users."""

from __future__ import annotations

import sys
from typing import TypeGuard

__all__ = ["is_finite", "is_number"]


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is an int or a float; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that a float can hold: ``10**400`` is none, nor is inf."""
    return is_number(value) and abs(value) <= sys.float_info.max
