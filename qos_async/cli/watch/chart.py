"""Chart of klines in a terminal: candles, volume, price and time axes.

Everything is made of block characters. Candles use half blocks, so that a price falls
into the upper or the lower half of a row; volume and sparklines use eighths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, tzinfo
from typing import Any, NamedTuple

from qos_async import Kline
from qos_async.charts.model import Average, Candle
from qos_async.charts.ticks import AxisTick, fitting, levels
from qos_async.charts.zones import bar_time
from qos_async.cli.watch.model import Model
from qos_async.cli.watch.text import Line, pad_or_cut

__all__ = [
    "ChartDrawing",
    "Scale",
    "candle_cells",
    "chart_title",
    "columns",
    "draw_chart",
    "draw_klines",
    "label_width",
    "nice_step",
    "sparkline",
]

# Characters

_LABEL_MIN = 3  # "vol".
_LEVELS = "▁▂▃▄▅▆▇█"
_NONE, _WICK, _BODY = range(3)
# Keys: what is in the lower half of a cell, and in the upper half.
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
# A body of half a row. Keys: whether there is a wick below it, and above it.
_THIN = {
    (False, False): "━",
    (False, True): "┷",
    (True, False): "┯",
    (True, True): "┿",
}
_AVERAGE = "•"
_ROUND_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


class Scale(NamedTuple):
    """Maps prices to half rows; row 0 is the lowest.

    Attributes:
        low: The price at the lower edge.
        high: The price at the upper edge, above ``low``.
        rows: Number of rows.
    """

    low: float
    high: float
    rows: int

    @classmethod
    def around(cls, prices: Sequence[float], rows: int) -> Scale:
        """Return a scale for these prices with a margin of 3 % on both sides."""
        low, high = min(prices), max(prices)
        # The alternatives are for prices that are all the same, or all zero.
        margin = (high - low) * 0.03 or abs(high) * 0.0005 or 1.0
        return cls(low - margin, high + margin, rows)

    def half(self, price: float) -> int:
        """Return the half row of a price, from 0 to 2 * ``rows`` - 1."""
        halves = 2 * self.rows
        place = int((price - self.low) / (self.high - self.low) * halves)
        return min(max(place, 0), halves - 1)

    def price(self, row: int) -> float:
        """Return the price in the middle of a row."""
        return self.low + (row + 0.5) / self.rows * (self.high - self.low)


def candle_cells(candle: Candle, scale: Scale, *, slim: bool = False) -> list[str]:
    """Return a candle as a column of characters, from row 0 up."""
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
        _join_wicks(cells, min(ends), max(ends), low, high)
    return cells


def _join_wicks(cells: list[str], bottom: int, top: int, low: int, high: int) -> None:
    """Make wicks touch the body.

    No character is half a block and half a line, so a body that ends within a row is
    drawn to the end of that row if a wick goes on from there.
    """
    if bottom == top:
        cells[top // 2] = _THIN[low < bottom, high > top]
        return
    if top % 2 == 0 and high > top + 1:
        cells[top // 2] = "█"
    if bottom % 2 and low < bottom - 1:
        cells[bottom // 2] = "█"


def columns(values: Sequence[float], rows: int) -> list[list[str]]:
    """Return values as columns that begin at 0, in eighths, each from row 0 up."""
    largest = max(values, default=0.0)
    drawn: list[list[str]] = []
    for value in values:
        eighths = round(value / largest * rows * 8) if largest > 0 else 0
        if value > 0:
            eighths = max(eighths, 1)  # Little volume is not the same as none.
        parts = [min(max(eighths - 8 * row, 0), 8) for row in range(rows)]
        drawn.append([_LEVELS[part - 1] if part else " " for part in parts])
    return drawn


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the newest ``width`` values as one line, right-aligned."""
    shown = values[-width:]
    if not shown or width < 1:
        return " " * width
    low, high = min(shown), max(shown)
    span = high - low
    steps = [int((v - low) / span * 7.999) if span else 3 for v in shown]
    return "".join(_LEVELS[step] for step in steps).rjust(width)


def nice_step(span: float, parts: int) -> float:
    """Return the smallest round step that cuts ``span`` into at most ``parts`` parts."""
    least = span / max(parts, 1)
    power = 1.0
    while power > least:
        power /= 10
    while power * 10 <= least:
        power *= 10
    return next(
        (power * step for step in _ROUND_STEPS if power * step >= least), power * 10
    )


# Chart

_MIN_HEIGHT_WITH_VOLUME = 9
_LABEL_ROWS = 3
"""Least number of rows between two prices on the axis."""
_LABEL_COLUMNS = 12
"""Columns of the axis for each label, on average."""
_FRAME_COLUMNS = 6
"""What the frame takes of the width of a title."""
_HOUR = 3600


def draw_chart(
    model: Model, width: int, height: int, *, candle_width: int = 2
) -> list[Line]:
    """Draw the newest klines of the selected symbol, ``candle_width`` columns each."""
    klines = model.bars.of(model.symbol)
    price = model.quote.price
    if not klines or width < 20 or height < 3:  # noqa: PLR2004 - no room for an axis.
        message = model.notes.get(model.symbol, "no klines yet")
        blank = [pad_or_cut([], width)] * (height - 1)
        return [pad_or_cut([(f" {message}", "dim")], width), *blank]
    return draw_klines(
        klines,
        price,
        width,
        height,
        candle_width=candle_width,
        zone=model.display.zone(model.symbol),
    )


def draw_klines(
    klines: Sequence[Kline[Any]],
    price: Callable[..., str],
    width: int,
    height: int,
    *,
    candle_width: int = 2,
    zone: tzinfo | None = UTC,
    averages: Sequence[Average] = (),
) -> list[Line]:
    """Draw the newest klines that fit.

    Args:
        klines: Ascending.
        price: Turns prices into text.
        width: Columns.
        height: Rows.
        candle_width: Columns of a candle.
        zone: Of intraday times; None is that of this machine.
        averages: With a value for each kline; the first has the role ``ma0``.
    """
    axis = label_width(klines, price) + 2
    count = min(max((width - axis) // candle_width, 1), len(klines))
    chart = ChartDrawing(
        klines[-count:],
        price,
        width=width,
        height=height,
        axis=axis,
        candle_width=candle_width,
    )
    chart.zone = zone
    chart.averages = [average.values[-count:] for average in averages]
    return chart.lines


def label_width(klines: Iterable[Kline[Any]], price: Callable[..., str]) -> int:
    """Return the width of the longest label: of a low, where prices are negative."""
    prices = (one for kline in klines for one in (kline.high, kline.low))
    return max(_LABEL_MIN, *map(len, map(price, prices)))


def chart_title(model: Model, width: int, now: float) -> str:
    """Return symbol, interval, and as far as they fit: time left and prices of the bar."""
    klines = model.bars.of(model.symbol)
    title = f"{model.symbol}  {model.interval.short}"
    if not klines:
        return title
    bar, price = klines[-1], model.quote.price
    end = bar.end.timestamp()
    left = int(end - now - (model.stats.clock_offset or 0.0))
    longest = min(end - bar.timestamp + 1, _HOUR)  # No countdown for days.
    prices = zip("OHLC", (bar.open, bar.high, bar.low, bar.close), strict=True)
    parts = [
        f"  {left // 60}:{left % 60:02} left" if 0 <= left < longest else "",
        "  " + "  ".join(f"{letter} {price(value)}" for letter, value in prices),
    ]
    for part in parts:
        if len(title) + len(part) <= width - _FRAME_COLUMNS:
            title += part
    return title


class ChartDrawing:
    """One drawing of klines with axes: prices on the right, times below."""

    def __init__(
        self,
        klines: Sequence[Kline[Any]],
        price: Callable[..., str],
        *,
        width: int,
        height: int,
        axis: int,
        candle_width: int,
    ) -> None:
        self.zone: tzinfo | None = UTC
        self.averages: list[list[float | None]] = []
        self._klines, self._price = klines, price
        self._width, self._axis, self._candle_width = width, axis, candle_width
        self._volume_rows = (
            min(height // 5, 8) if height >= _MIN_HEIGHT_WITH_VOLUME else 0
        )
        self._rows = height - 1 - self._volume_rows
        self._candles = [Candle.of(kline) for kline in klines]
        extremes = [p for candle in self._candles for p in (candle.low, candle.high)]
        self._scale = Scale.around(extremes, self._rows)
        self._places = len(price(klines[-1].close).partition(".")[2])

    @property
    def lines(self) -> list[Line]:
        """The rows of prices from the highest down, then volume, then times."""
        drawn = [
            candle_cells(candle, self._scale, slim=self._candle_width == 1)
            for candle in self._candles
        ]
        labels, last = (
            self._price_labels(),
            self._scale.half(self._candles[-1].close) // 2,
        )
        lines = [
            self._price_row(row, [cells[row] for cells in drawn], labels, last)
            for row in reversed(range(self._rows))
        ]
        strips = columns([candle.volume for candle in self._candles], self._volume_rows)
        volume = [
            self._volume_row([strip[row] for strip in strips], row)
            for row in reversed(range(self._volume_rows))
        ]
        return [*lines, *volume, self._time_axis()]

    def _price_row(
        self, row: int, cells: list[str], labels: dict[int, str], last: int
    ) -> Line:
        ground = "╌" if row == last else "┈" if row in labels else " "
        role, over = "last" if row == last else "grid", self._average_roles(row)
        line = self._spread(cells, ground, role, "", over)
        if row != last:
            label = labels.get(row, "")
            return [*line, (f" {label:>{self._axis - 2}} ", "axis")]
        newest = self._candles[-1]
        tag = f" {self._price(self._klines[-1].close):>{self._axis - 2}} "
        return [*line, (tag, "tag_up" if newest.rises else "tag_down")]

    def _volume_row(self, cells: list[str], row: int) -> Line:
        line = self._spread(cells, " ", "", "_bar")
        label = "vol" if row == self._volume_rows - 1 else ""
        return [*line, (f" {label:>{self._axis - 2}} ", "axis")]

    def _spread(
        self,
        cells: list[str],
        ground: str,
        ground_role: str,
        suffix: str,
        over: Sequence[str] = (),
    ) -> Line:
        """Return a row of cells; where one is empty, ``over`` has a role or nothing."""
        room = self._width - self._axis - len(cells) * self._candle_width
        line: Line = [(ground * room, ground_role)]
        gap = ground * (self._candle_width - 1)
        roles = over or [""] * len(cells)
        for cell, role, candle in zip(cells, roles, self._candles, strict=True):
            trend = ("up" if candle.rises else "down") + suffix
            if cell != " ":
                line += [(cell, trend), (gap, ground_role)]
            elif role:
                line += [(_AVERAGE, role), (gap, ground_role)]
            else:
                line.append((ground + gap, ground_role))
        return _merge_roles(line)

    def _average_roles(self, row: int) -> list[str]:
        """Return the role of the average that goes through each cell of a row."""
        roles = [""] * len(self._candles)
        for number, values in enumerate(self.averages):
            for place, value in enumerate(values):
                if value is None or not self._scale.low <= value <= self._scale.high:
                    continue
                if self._scale.half(value) // 2 == row:
                    roles[place] = f"ma{number}"
        return roles

    def _price_labels(self) -> dict[int, str]:
        """Return round prices by their row."""
        low, high = self._scale.low, self._scale.high
        step = nice_step(high - low, max(self._rows // _LABEL_ROWS, 1))
        first = int(low / step) + 1
        prices = [first * step + step * n for n in range(int((high - low) / step) + 1)]
        return {
            self._scale.half(price) // 2: f"{price:.{self._places}f}"
            for price in prices
            if price < high
        }

    def _time_axis(self) -> Line:
        """Return the times, each with its middle under its bar."""
        left = self._width - self._axis - len(self._klines) * self._candle_width
        text = ""
        for tick in self._ticks():
            middle = left + tick.place * self._candle_width
            latest = self._width - self._axis - len(tick.text)
            at = max(min(middle - len(tick.text) // 2, latest), 0)
            if at > len(text) or not text:
                text = text.ljust(at) + tick.text
        return pad_or_cut([(text, "axis")], self._width)

    def _ticks(self) -> list[AxisTick]:
        interval = self._klines[0].interval
        times = [
            bar_time(kline.timestamp, interval, kline.symbol, self.zone)
            for kline in self._klines
        ]
        columns = len(times) * self._candle_width
        most = max(columns // _LABEL_COLUMNS, 2)
        return fitting(levels(times, interval), most, len(times))


def _merge_roles(line: Line) -> Line:
    """Return the line with neighbours of one role joined: fewer escape sequences."""
    joined: Line = []
    for text, role in line:
        if joined and joined[-1][1] == role:
            joined[-1] = (joined[-1][0] + text, role)
        elif text:
            joined.append((text, role))
    return joined
