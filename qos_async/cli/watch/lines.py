"""Lines of text whose parts know what they are, not what they look like."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TypeAlias

from rich.cells import cell_len, set_cell_size

__all__ = ["Line", "Piece", "amount", "bar", "between", "fit", "line_width", "plain"]

Piece: TypeAlias = tuple[str, str]
"""A text, and its roles: words that ``palette`` knows, with spaces between."""
Line: TypeAlias = list[Piece]

_EIGHTHS = " ▏▎▍▌▋▊▉"
_SUFFIXES = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**4, "k"))
_DIGITS = 4


def plain(line: Iterable[Piece]) -> str:
    """Give the text alone."""
    return "".join(text for text, _ in line)


def line_width(line: Iterable[Piece]) -> int:
    """Count the columns that a line takes on a terminal."""
    return sum(cell_len(text) for text, _ in line)


def fit(line: Iterable[Piece], width: int, role: str = "") -> Line:
    """Cut a line, or fill it up, to ``width`` columns; ``role`` is added to all of it."""
    fitted: Line = []
    room = width
    for text, own in line:
        wide = cell_len(text)
        shown = text if wide <= room else set_cell_size(text, room)
        if shown:
            fitted.append((shown, f"{role} {own}".strip()))
        room -= min(wide, room)
    if room > 0:
        fitted.append((" " * room, role))
    return fitted


def between(left: Line, right: Line, width: int) -> Line:
    """Put two texts on the ends of one line; the right one goes if both do not fit."""
    space = width - line_width(left) - line_width(right)
    if space < 1:
        return fit(left, width)
    return [*left, (" " * space, ""), *right]


def bar(share: float, width: int) -> str:
    """Draw a bar from the left, ``share`` (0 to 1) of ``width`` long, in eighths."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, part = divmod(eighths, 8)
    return ("█" * whole + _EIGHTHS[part].strip())[:width].ljust(width)


def amount(value: Decimal | None) -> str:
    """Write a size or a volume in few characters: ``12.3M``, ``4071``, ``0.125``."""
    if value is None:
        return "-"
    for unit, suffix in _SUFFIXES:
        if abs(value) >= unit:
            scaled = value / min(unit, 1000) if suffix == "k" else value / unit
            return (
                f"{scaled:.{max(_DIGITS - 1 - len(f'{abs(scaled):.0f}'), 0)}f}{suffix}"
            )
    whole = len(f"{abs(value):.0f}")
    return (
        f"{value:.{max(_DIGITS - whole, 0)}f}".rstrip("0").rstrip(".")
        if (value % 1)
        else f"{value:.0f}"
    )
