"""Texts of counts, of changes in percent, and of what may be meant."""

from __future__ import annotations

from decimal import Decimal

__all__ = ["did_you_mean", "percent", "percent_change", "plural"]

_LEAST_CHANGE = Decimal("0.005")


def plural(count: int, noun: str) -> str:
    """Format a count: ``1 bar``, ``1,500 bars``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def did_you_mean(*meant: str) -> str:
    """Return ``; did you mean US:AAPL, US:TSLA?``; empty if nothing is meant."""
    return f"; did you mean {', '.join(meant)}?" if meant else ""


def percent_change(value: Decimal | None, base: Decimal | None) -> Decimal | None:
    """Return the change from ``base`` to ``value`` in percent; None if unknown.

    It is relative to the absolute value of ``base``: prices may be negative, and a rise
    is positive nevertheless. A price of 0 has no meaning: nothing was traded, as in a suspended
    share. What would be shown as 0.00% is 0, so that its colour agrees with its text.
    """
    if not value or not base:
        return None
    try:
        change = 100 * (value - base) / abs(base)
        if not change.is_finite():
            return None
        return change if abs(change) > _LEAST_CHANGE else Decimal(0)
    except ArithmeticError:  # NaN, or numbers that are too far apart.
        return None


def percent(value: Decimal | None) -> str:
    """Format a change from ``percent_change``, with its sign; an unknown one is a dash."""
    if value is None:
        return "-"
    return f"{value:+.2f}%" if value else "0.00%"
