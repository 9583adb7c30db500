"""What the roles of a text look like."""

from __future__ import annotations

from functools import lru_cache

from rich.style import Style

__all__ = ["BACKGROUND", "style_of"]

BACKGROUND = "#0b0e14"
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
_TEXT = Style(color="#c9d1d9", bgcolor=BACKGROUND)
_SWAPPED = {"up": "down", "down": "up"}


@lru_cache(maxsize=512)
def style_of(roles: str, *, red_up: bool = False) -> Style:
    """Give the style of a text with these roles, the later ones over the earlier.

    With ``red_up`` rises are red and falls green, as in mainland China.
    """
    style = _TEXT
    for role in roles.split():
        style += _ROLES[_swapped(role) if red_up else role]
    return style


def _swapped(role: str) -> str:
    """Change ``up`` for ``down``, also as a part: ``flash_up``, ``up_bar``."""
    return "_".join(_SWAPPED.get(part, part) for part in role.split("_"))
