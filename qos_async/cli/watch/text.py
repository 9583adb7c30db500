"""Styled lines of text: segments with roles, the styles of the roles, padding, sizes.

The drawing functions name roles (``up``, ``dim``, ``cursor``) and no colours, so that
tests compare plain tuples and red can change places with green in one spot.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal
from functools import lru_cache
from typing import TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.style import Style

from qos_async._printable import printable

__all__ = [
    "BACKGROUND",
    "LIGHT_BACKGROUND",
    "Line",
    "Segment",
    "format_size",
    "horizontal_bar",
    "justify",
    "line_width",
    "pad_or_cut",
    "plain_text",
    "style_of",
]

Segment: TypeAlias = tuple[str, str]
"""A text and its roles: keys of ``_ROLES``, separated by spaces."""
Line: TypeAlias = list[Segment]

BACKGROUND, LIGHT_BACKGROUND = "#0b0e14", "#ffffff"
_UP, _DOWN = "#2ebd85", "#f6465d"
_ROLES = {
    "accent": Style(color="#f0b90b"),
    "axis": Style(color="#6b7684"),
    "bad": Style(color="#f6465d", bold=True),
    "band": Style(bgcolor="#161c26"),
    "bold": Style(color="#eaeef3", bold=True),
    "brand": Style(color="#0b0e14", bgcolor="#f0b90b", bold=True),
    "cursor": Style(bgcolor="#1c2533"),
    "dim": Style(color="#6b7684"),
    "down": Style(color=_DOWN),
    "down_bar": Style(color="#84303c"),
    "down_trend": Style(color="#93323f"),
    "flash_down": Style(color="#0b0e14", bgcolor=_DOWN, bold=True),
    "flash_up": Style(color="#0b0e14", bgcolor=_UP, bold=True),
    "good": Style(color=_UP, bold=True),
    "grid": Style(color="#1d2530"),
    "head": Style(color="#6b7684"),
    "last": Style(color="#4a5563"),
    "mark": Style(color="#58a6ff"),
    "soft": Style(color="#9aa5b1"),
    "tag_down": Style(color="#0b0e14", bgcolor=_DOWN, bold=True),
    "tag_up": Style(color="#0b0e14", bgcolor=_UP, bold=True),
    "top": Style(bgcolor="#121822"),
    "up": Style(color=_UP),
    "up_bar": Style(color="#1d6b4e"),
    "up_trend": Style(color="#1f7050"),
    "warn": Style(color="#f0b90b"),
}
_LIGHT_UP, _LIGHT_DOWN = "#0a7a4b", "#c9182e"
_LIGHT_ROLES = _ROLES | {
    "accent": Style(color="#8a6100"),
    "axis": Style(color="#6a737d"),
    "bad": Style(color=_LIGHT_DOWN, bold=True),
    "band": Style(bgcolor="#eaeef2"),
    "bold": Style(color="#0b0e14", bold=True),
    "cursor": Style(bgcolor="#dbe7f5"),
    "dim": Style(color="#6a737d"),
    "down": Style(color=_LIGHT_DOWN),
    "down_bar": Style(color="#f0a8b0"),
    "down_trend": Style(color="#d9737f"),
    "flash_down": Style(color="#ffffff", bgcolor=_LIGHT_DOWN, bold=True),
    "flash_up": Style(color="#ffffff", bgcolor=_LIGHT_UP, bold=True),
    "good": Style(color=_LIGHT_UP, bold=True),
    "grid": Style(color="#e1e5ea"),
    "head": Style(color="#6a737d"),
    "last": Style(color="#9aa5b1"),
    "mark": Style(color="#0550ae"),
    "soft": Style(color="#57606a"),
    "tag_down": Style(color="#ffffff", bgcolor=_LIGHT_DOWN, bold=True),
    "tag_up": Style(color="#ffffff", bgcolor=_LIGHT_UP, bold=True),
    "top": Style(bgcolor="#eaeef2"),
    "up": Style(color=_LIGHT_UP),
    "up_bar": Style(color="#9bd5ba"),
    "up_trend": Style(color="#5fae8b"),
    "warn": Style(color="#8a6100"),
}
_DEFAULT = Style(color="#c9d1d9", bgcolor=BACKGROUND)
_LIGHT_DEFAULT = Style(color="#24292f", bgcolor=LIGHT_BACKGROUND)
_SWAPPED = {"up": "down", "down": "up"}

_CUT_OFF = "…"
_EIGHTHS = " ▏▎▍▌▋▊▉"
_SUFFIXES = "kMBT"
_THREE, _FOUR = Context(prec=3), Context(prec=4)
_FOUR_DIGITS_END = Decimal("9999.5")
# Powers of ten: of the first suffix, and of the ends of what has no exponent.
_SUFFIXED, _SMALLEST, _LARGEST = 4, -8, 15


# Cached: called for each segment of each line that is drawn, five times a second.
@lru_cache(maxsize=512)
def style_of(roles: str, *, red_up: bool = False, light: bool = False) -> Style:
    """Return the style of a text with these roles, later ones over earlier ones.

    With ``red_up`` rises are red and falls are green, as in mainland China; with
    ``light`` the colours are for a white background.
    """
    style, styles = (_LIGHT_DEFAULT, _LIGHT_ROLES) if light else (_DEFAULT, _ROLES)
    for role in roles.split():
        style += styles[_swap_up_and_down(role) if red_up else role]
    return style


def _swap_up_and_down(role: str) -> str:
    """Return the opposite role, also of compound ones: ``flash_up``, ``up_bar``."""
    return "_".join(_SWAPPED.get(part, part) for part in role.split("_"))


def plain_text(line: Iterable[Segment]) -> str:
    """Return the text without its roles."""
    return "".join(text for text, _ in line)


def printable_line(line: Iterable[Segment]) -> Line:
    """Return the line without characters that would move the cursor."""
    return [(printable(text), roles) for text, roles in line]


def line_width(line: Iterable[Segment]) -> int:
    """Return the number of terminal columns; a Chinese character takes two."""
    return sum(cell_len(text) for text, _ in line)


def pad_or_cut(line: Iterable[Segment], width: int, role: str = "") -> Line:
    """Return the line with exactly ``width`` columns; ``role`` is added to all of it.

    One that loses text ends with ``…``: a number without its end looks like another one.
    """
    line, fitted = printable_line(line), Line()
    is_cut = cell_len(plain_text(line).rstrip()) > width > 0
    left = width - is_cut
    for text, own in line:
        columns, roles = cell_len(text), f"{role} {own}".strip()
        if is_cut and columns > left:
            return [*fitted, (set_cell_size(text, left) + _CUT_OFF, roles)]
        shown = text if columns <= left else set_cell_size(text, left)
        if shown:
            fitted.append((shown, roles))
        left -= min(columns, left)
    if left > 0:
        fitted.append((" " * left, role))
    return fitted


def justify(left: Line, right: Line, width: int) -> Line:
    """Return both texts at the ends of one line; without room, only the left one."""
    left, right = printable_line(left), printable_line(right)
    space = width - line_width(left) - line_width(right)
    if space < 1:
        return pad_or_cut(left, width)
    return [*left, (" " * space, ""), *right]


def horizontal_bar(fraction: float, width: int) -> str:
    """Return a bar that fills ``fraction`` (0 to 1) of ``width``, in eighths."""
    eighths = round(min(max(fraction, 0.0), 1.0) * width * 8)
    whole, part = divmod(eighths, 8)
    return ("█" * whole + _EIGHTHS[part].strip())[:width].ljust(width)


def format_size(value: Decimal | None) -> str:
    """Return a size or a volume in few characters: ``12.3M``, ``4071``, ``0.125``.

    Four digits from 1 to 9999, else three. Very small and very large ones have an
    exponent: ``1.00e-9``.
    """
    if value is None:
        return "-"
    # Rounded first: 9999.6 is 10.0k, and 999,999 is 1.00M.
    rounded = (_FOUR if 1 <= abs(value) < _FOUR_DIGITS_END else _THREE).plus(value)
    exponent = rounded.adjusted() if rounded else 0
    if not _SMALLEST <= exponent <= _LARGEST:
        return f"{rounded:.2e}"
    if exponent < _SUFFIXED:
        return f"{rounded.normalize():f}"
    thousands = min(exponent // 3, len(_SUFFIXES))
    places = max(2 - (exponent - 3 * thousands), 0)
    return f"{rounded.scaleb(-3 * thousands):.{places}f}{_SUFFIXES[thousands - 1]}"
