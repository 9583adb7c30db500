"""Prices as characters: candles, volume and sparklines in half and eighth blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Candle", "Scale", "candle_cells", "columns", "nice_step", "sparkline"]

_LEVELS = "▁▂▃▄▅▆▇█"
_NONE, _WICK, _BODY = range(3)
# By what is in the lower and in the upper half of a cell.
_WIDE = {
    (_BODY, _BODY): "█",
    (_BODY, _WICK): "▄",
    (_BODY, _NONE): "▄",
    (_WICK, _BODY): "▀",
    (_NONE, _BODY): "▀",
    (_WICK, _WICK): "│",
    (_WICK, _NONE): "╷",
    (_NONE, _WICK): "╵",
}
_SLIM = {
    **_WIDE,
    (_BODY, _BODY): "┃",
    (_BODY, _WICK): "╽",
    (_BODY, _NONE): "╻",
    (_WICK, _BODY): "╿",
    (_NONE, _BODY): "╹",
}
# A body of one half, by whether there is a wick below it and above it.
_THIN = {
    (False, False): "━",
    (False, True): "┷",
    (True, False): "┯",
    (True, True): "┿",
}
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


class Candle(NamedTuple):
    """One bar, as numbers to draw."""

    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def rises(self) -> bool:
        """Whether it closes at or above its open."""
        return self.close >= self.open


class Scale(NamedTuple):
    """Which half of which row a price falls into; row 0 is the lowest.

    Attributes:
        low: The price at the lower edge.
        high: The price at the upper edge, above ``low``.
        rows: How many there are.
    """

    low: float
    high: float
    rows: int

    @classmethod
    def around(cls, prices: Sequence[float], rows: int) -> Scale:
        """Fit a scale around prices, with a little air."""
        low, high = min(prices), max(prices)
        air = (high - low) * 0.03 or abs(high) * 0.0005 or 1.0
        return cls(low - air, high + air, rows)

    def half(self, price: float) -> int:
        """Give the half row, from 0 to 2 * ``rows`` - 1."""
        halves = 2 * self.rows
        place = int((price - self.low) / (self.high - self.low) * halves)
        return min(max(place, 0), halves - 1)

    def price(self, row: int) -> float:
        """Give the price in the middle of a row."""
        return self.low + (row + 0.5) / self.rows * (self.high - self.low)


def candle_cells(candle: Candle, scale: Scale, *, slim: bool = False) -> list[str]:
    """Draw a candle as a column of characters, from row 0 up."""
    low, high = scale.half(candle.low), scale.half(candle.high)
    ends = scale.half(candle.open), scale.half(candle.close)
    halves = [
        _BODY if min(ends) <= half <= max(ends) else _WICK if low <= half <= high else 0
        for half in range(2 * scale.rows)
    ]
    glyphs = _SLIM if slim else _WIDE
    pairs = zip(halves[::2], halves[1::2], strict=True)
    cells = [glyphs.get(pair, " ") for pair in pairs]
    if not slim:
        _join(cells, min(ends), max(ends), low, high)
    return cells


def _join(cells: list[str], bottom: int, top: int, low: int, high: int) -> None:
    """Let wicks touch the body: no character is half a block and half a line."""
    if bottom == top:
        cells[top // 2] = _THIN[low < bottom, high > top]
        return
    if top % 2 == 0 and high > top + 1:
        cells[top // 2] = "█"
    if bottom % 2 and low < bottom - 1:
        cells[bottom // 2] = "█"


def columns(values: Sequence[float], rows: int) -> list[list[str]]:
    """Draw values from 0 as columns of eighths, each from row 0 up."""
    most = max(values, default=0.0)
    drawn: list[list[str]] = []
    for value in values:
        eighths = round(value / most * rows * 8) if most > 0 else 0
        if value > 0:
            eighths = max(eighths, 1)
        parts = [min(max(eighths - 8 * row, 0), 8) for row in range(rows)]
        drawn.append([_LEVELS[part - 1] if part else " " for part in parts])
    return drawn


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw the newest ``width`` values on one line, right-aligned."""
    shown = values[-width:]
    if not shown or width < 1:
        return " " * width
    low, high = min(shown), max(shown)
    span = high - low
    steps = [int((v - low) / span * 7.999) if span else 3 for v in shown]
    return "".join(_LEVELS[step] for step in steps).rjust(width)


def nice_step(span: float, most: int) -> float:
    """Give the smallest round step that cuts ``span`` into ``most`` parts at most."""
    least = span / max(most, 1)
    power = 1.0
    while power > least:
        power /= 10
    while power * 10 <= least:
        power *= 10
    return next((power * step for step in _STEPS if power * step >= least), power * 10)
