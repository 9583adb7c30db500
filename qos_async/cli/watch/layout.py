"""What fits on a screen: which panels, where, and how large."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Box", "Layout", "arrange"]

_SIDE, _SIDE_WIDE = 38, 46
"""Columns of ladder and tape, frame included."""
_SIDE_FROM = 96
"""The width from which on they stand beside everything else."""
_TWO_SIDES_FROM = 160
_BELOW_FROM = 72
"""The width from which on one of them stands beside the chart."""
_FRAMES_FROM = 28
"""The height from which on panels have a frame all around; else a line on top."""
_CHART_LEAST = 7
_BOARD_LEAST = 5
_ALONE = {"ladder": "chart", "tape": "ladder", "chart": "tape"}
"""Where only one panel fits below the board: the chart comes first."""
_EDGE = 1
"""Lines at the top; at the bottom are two, the news and the keys."""


class Box(NamedTuple):
    """A place on the screen, in characters, the frame included."""

    x: int
    y: int
    width: int
    height: int


class Layout(NamedTuple):
    """Where each panel is, by name; what is missing has no room.

    Attributes:
        boxes: ``board``, ``chart``, ``ladder``, ``tape``.
        framed: Whether panels have a frame all around, or a line on top.
    """

    boxes: dict[str, Box]
    framed: bool

    def inner(self, name: str) -> tuple[int, int]:
        """Give width and height of what a panel holds."""
        box = self.boxes[name]
        if self.framed:
            return max(box.width - 2, 0), max(box.height - 2, 0)
        return box.width, max(box.height - 1, 0)


def arrange(width: int, height: int, symbols: int, beside: str = "ladder") -> Layout:
    """Arrange the panels.

    Args:
        width: Of the screen.
        height: Of the screen.
        symbols: How many rows the board wants.
        beside: Where ladder and tape do not both fit: the one to show beside the chart,
            or ``"chart"`` for that alone. Where one panel fits, each means another.
    """
    framed = height >= _FRAMES_FROM and width >= _SIDE_FROM
    top, room = _EDGE, max(height - _EDGE - 2, 1)
    if not framed:
        return Layout(_small(width, top, room, symbols, beside), framed)
    return Layout(_large(width, top, room, symbols), framed)


def _large(width: int, top: int, room: int, symbols: int) -> dict[str, Box]:
    side = _SIDE_WIDE if width >= _TWO_SIDES_FROM else _SIDE
    many = 2 if width >= _TWO_SIDES_FROM else 1
    main = width - many * side
    board = _board(room, symbols + 3)
    boxes = {
        "board": Box(0, top, main, board),
        "chart": Box(0, top + board, main, room - board),
    }
    if many > 1:
        boxes["ladder"] = Box(main, top, side, room)
        boxes["tape"] = Box(main + side, top, side, room)
    else:
        ladder = max(room * 11 // 20, 8)
        boxes["ladder"] = Box(main, top, side, ladder)
        boxes["tape"] = Box(main, top + ladder, side, room - ladder)
    return boxes


def _small(
    width: int, top: int, room: int, symbols: int, beside: str
) -> dict[str, Box]:
    board = _board(room, symbols + 2)
    boxes = {"board": Box(0, top, width, board)}
    below = room - board
    if not below:
        return boxes
    if beside == "chart" and width >= _BELOW_FROM:
        boxes["chart"] = Box(0, top + board, width, below)
    elif width < _BELOW_FROM:
        boxes[_ALONE[beside]] = Box(0, top + board, width, below)
    else:
        side = min(_SIDE - 2, width * 2 // 5)
        boxes["chart"] = Box(0, top + board, width - side - 1, below)
        boxes[beside] = Box(width - side, top + board, side, below)
    return boxes


def _board(room: int, wants: int) -> int:
    """Give the board's height: what it wants, if that leaves enough for a chart."""
    if room < _BOARD_LEAST + _CHART_LEAST:
        return room
    return min(wants, room - _CHART_LEAST)
