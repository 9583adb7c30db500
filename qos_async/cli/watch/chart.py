"""The klines of the chosen symbol: candles, volume, and an axis on two sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from qos_async import Interval, Kline
from qos_async.cli.watch.blocks import Candle, Scale, candle_cells, columns, nice_step
from qos_async.cli.watch.lines import Line, fit
from qos_async.cli.watch.model import Model
from qos_async.periods import market_zone
from qos_async.symbols import market_of

__all__ = ["chart_title", "draw_chart", "draw_klines"]

_VOLUME_FROM = 9
"""The height from which on there is room for the volume strip."""
_LABEL_ROWS = 3
"""Rows between two prices on the axis, at least."""
_LABEL_COLUMNS = 14
_STEPS = (5, 10, 15, 30, 60, 120, 240, 480, 720, 1440, 2880, 7200, 14400)
"""Minutes between two times on the axis."""
_TITLE_EDGES = 6
_HOUR = 3600
_FORMATS = {
    Interval.DAY: "%d %b",
    Interval.WEEK: "%d %b %y",
    Interval.MONTH: "%b %Y",
    Interval.YEAR: "%Y",
}


def draw_chart(model: Model, width: int, height: int, *, pitch: int = 2) -> list[Line]:
    """Draw the newest candles that fit, ``pitch`` columns for each."""
    klines = model.bars.of(model.symbol)
    price = model.quote.price
    if not klines or width < 20 or height < 3:  # noqa: PLR2004 - no room for an axis.
        words = model.notes.get(model.symbol, "no klines yet")
        blank = [fit([], width)] * (height - 1)
        return [fit([(f" {words}", "dim")], width), *blank]
    return draw_klines(klines, price, width, height, pitch=pitch)


def draw_klines(
    klines: Sequence[Kline],
    price: Callable[..., str],
    width: int,
    height: int,
    *,
    pitch: int = 2,
) -> list[Line]:
    """Draw the newest klines that fit; ``price`` writes their prices."""
    axis = max(len(price(kline.high)) for kline in klines) + 2
    shown = klines[-max((width - axis) // pitch, 1) :]
    chart = _Chart(shown, price, width=width, height=height, axis=axis, pitch=pitch)
    return chart.lines


def chart_title(model: Model, width: int, now: float) -> str:
    """Tell the newest bar in words: how long it still grows, and its four prices."""
    klines = model.bars.of(model.symbol)
    title = f"{model.symbol}  {model.interval.short}"
    if not klines:
        return title
    bar, price = klines[-1], model.quote.price
    end = bar.end.timestamp()
    left = int(end - now - (model.stats.clock_offset or 0.0))
    most = min(end - bar.timestamp + 1, _HOUR)
    prices = zip("OHLC", (bar.open, bar.high, bar.low, bar.close), strict=True)
    parts = [
        f"  {left // 60}:{left % 60:02} left" if 0 <= left < most else "",
        "  " + "  ".join(f"{letter} {price(value)}" for letter, value in prices),
    ]
    for part in parts:
        if len(title) + len(part) <= width - _TITLE_EDGES:
            title += part
    return title


class _Chart:
    def __init__(
        self,
        klines: Sequence[Kline],
        price: Callable[..., str],
        *,
        width: int,
        height: int,
        axis: int,
        pitch: int,
    ) -> None:
        self._klines, self._price = klines, price
        self._width, self._axis, self._pitch = width, axis, pitch
        self._volume = min(height // 5, 8) if height >= _VOLUME_FROM else 0
        self._rows = height - 1 - self._volume
        self._candles = [_candle(kline) for kline in klines]
        extremes = [p for candle in self._candles for p in (candle.low, candle.high)]
        self._scale = Scale.around(extremes, self._rows)
        self._places = len(price(klines[-1].close).partition(".")[2])

    @property
    def lines(self) -> list[Line]:
        """Prices from the highest down, then volume, then the times."""
        drawn = [
            candle_cells(candle, self._scale, slim=self._pitch == 1)
            for candle in self._candles
        ]
        labels, last = self._labels(), self._scale.half(self._candles[-1].close) // 2
        lines = [
            self._row(row, [cells[row] for cells in drawn], labels, last)
            for row in reversed(range(self._rows))
        ]
        strips = columns([candle.volume for candle in self._candles], self._volume)
        volume = [
            self._strip([strip[row] for strip in strips], row)
            for row in reversed(range(self._volume))
        ]
        return [*lines, *volume, self._times()]

    def _row(
        self, row: int, cells: list[str], labels: dict[int, str], last: int
    ) -> Line:
        ground = "╌" if row == last else "┈" if row in labels else " "
        line = self._spread(cells, ground, "last" if row == last else "grid", "")
        if row != last:
            label = labels.get(row, "")
            return [*line, (f" {label:>{self._axis - 2}} ", "axis")]
        newest = self._candles[-1]
        tag = f" {self._price(self._klines[-1].close):>{self._axis - 2}} "
        return [*line, (tag, "tag_up" if newest.rises else "tag_down")]

    def _strip(self, cells: list[str], row: int) -> Line:
        line = self._spread(cells, " ", "", "_bar")
        word = "vol" if row == self._volume - 1 else ""
        return [*line, (f" {word:>{self._axis - 2}} ", "axis")]

    def _spread(
        self, cells: list[str], ground: str, ground_role: str, suffix: str
    ) -> Line:
        room = self._width - self._axis - len(cells) * self._pitch
        line: Line = [(ground * room, ground_role)]
        gap = ground * (self._pitch - 1)
        for cell, candle in zip(cells, self._candles, strict=True):
            role = "up" if candle.rises else "down"
            if cell == " ":
                line.append((ground + gap, ground_role))
            else:
                line += [(cell, role + suffix), (gap, ground_role)]
        return _joined(line)

    def _labels(self) -> dict[int, str]:
        """Round prices, by the row that each stands beside."""
        low, high = self._scale.low, self._scale.high
        step = nice_step(high - low, max(self._rows // _LABEL_ROWS, 1))
        first = int(low / step) + 1
        prices = [first * step + step * n for n in range(int((high - low) / step) + 1)]
        return {
            self._scale.half(price) // 2: f"{price:.{self._places}f}"
            for price in prices
            if price < high
        }

    def _times(self) -> Line:
        room = self._width - self._axis - len(self._klines) * self._pitch
        text, before = "", None
        for place in self._marks():
            at = room + place * self._pitch
            moment = _local(self._klines[place])
            label = _label(moment, before, self._klines[place].interval)
            before = moment
            if at + len(label) <= self._width - self._axis:
                text = text.ljust(at) + label
        return fit([(text, "axis")], self._width)

    def _marks(self) -> list[int]:
        """Choose the bars that a time stands below: round ones, far enough apart."""
        every = max(-(-_LABEL_COLUMNS // self._pitch), 1)
        minutes = int(self._klines[0].interval)
        if minutes >= Interval.DAY:
            return list(range(every // 2, len(self._klines), every))
        step = next((s for s in _STEPS if s >= every * minutes), _STEPS[-1])
        marks: list[int] = []
        for place, kline in enumerate(self._klines):
            far = not marks or place - marks[-1] >= every
            if far and kline.timestamp // 60 % step == 0:
                marks.append(place)
        return marks


def _candle(kline: Kline) -> Candle:
    return Candle(
        open=float(kline.open),
        high=float(kline.high),
        low=float(kline.low),
        close=float(kline.close),
        volume=float(kline.volume or 0),
    )


def _local(kline: Kline) -> datetime:
    """Give the day of a bar where its market is; intraday bars are told in UTC."""
    daily = kline.interval >= Interval.DAY
    zone = market_zone(market_of(kline.symbol)) if daily else UTC
    return datetime.fromtimestamp(kline.timestamp, zone)


def _label(moment: datetime, before: datetime | None, interval: Interval) -> str:
    form = _FORMATS.get(interval)
    if form is not None:
        return f"{moment:{form}}"
    new_day = before is not None and before.date() != moment.date()
    return f"{moment:%d %b}" if new_day else f"{moment:%H:%M}"


def _joined(line: Line) -> Line:
    """Join neighbours of one role: a terminal takes them at once."""
    joined: Line = []
    for text, role in line:
        if joined and joined[-1][1] == role:
            joined[-1] = (joined[-1][0] + text, role)
        elif text:
            joined.append((text, role))
    return joined
