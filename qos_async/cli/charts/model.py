"""Model of a chart: candles, texts, axis labels and colours, for every output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from qos_async import Interval, Kline
from qos_async._printable import printable
from qos_async.cli.formatting import percent, percent_change, plural
from qos_async.cli.times import local_time
from qos_async.periods import market_zone
from qos_async.symbols import market_of

__all__ = ["THEMES", "Candle", "ChartModel", "kline_time"]

_RISE, _FALL = "#26a69a", "#ef5350"
THEMES: dict[str, dict[str, str]] = {
    "light": {
        "paper": "#ffffff",
        "text": "#1f2933",
        "soft": "#6b7684",
        "grid": "#e8ecf1",
        "rise": _RISE,
        "fall": _FALL,
    },
    "dark": {
        "paper": "#0b0e14",
        "text": "#e6eaf0",
        "soft": "#8a94a3",
        "grid": "#1d2530",
        "rise": _RISE,
        "fall": _FALL,
    },
}
"""Colours of files; a terminal has its own."""


class Candle(NamedTuple):
    """A kline as numbers to draw."""

    open: float
    high: float
    low: float
    close: float
    volume: float

    @classmethod
    def of(cls, kline: Kline) -> Candle:
        """Return the candle of a kline; a missing volume is drawn as none."""
        return cls(
            open=float(kline.open),
            high=float(kline.high),
            low=float(kline.low),
            close=float(kline.close),
            volume=float(kline.volume or 0),
        )

    @property
    def rises(self) -> bool:
        """Whether it closes at or above its open."""
        return self.close >= self.open


class ChartModel:
    """Klines to draw, and the texts of their chart.

    Args:
        klines: Ascending; at least one.
        source: The server they came from.
        of: How many there are, if these are not all.

    Attributes:
        klines: As given.
        source: As given.
        candles: The same klines as numbers.
        symbol: Of the klines.
        interval: Of the klines.
    """

    def __init__(
        self, klines: Sequence[Kline], source: str, *, of: int | None = None
    ) -> None:
        self.klines, self.source = klines, source
        self.candles = [Candle.of(kline) for kline in klines]
        self._of = len(klines) if of is None else of
        first = klines[0]
        self.symbol, self.interval = first.symbol, first.interval
        prices = (
            price
            for kline in klines
            for price in (kline.open, kline.high, kline.low, kline.close)
        )
        self._places = max(map(_places, prices))

    @property
    def title(self) -> str:
        """Symbol and interval."""
        return printable(f"{self.symbol}  {self.interval.short}")

    @property
    def span(self) -> str:
        """Times of the first and the last bar, and the number of bars."""
        first, last = self.label(self.klines[0]), self.label(self.klines[-1])
        zone = "" if self.interval >= Interval.DAY else " UTC"
        count = len(self.klines)
        bars = (
            plural(count, "bar")
            if count == self._of
            else f"newest {count} of {self._of}"
        )
        return f"{first} to {last}{zone}, {bars}"

    @property
    def last(self) -> str:
        """The newest price."""
        return self.price(self.klines[-1].close)

    @property
    def change(self) -> str:
        """Percent from the first open to the newest price; a dash if that is unknown."""
        return percent(self._change)

    @property
    def rises(self) -> bool | None:
        """Whether ``change`` is a rise; None if it is neither a rise nor a fall."""
        return self._change > 0 if self._change else None

    @property
    def _change(self) -> Decimal | None:
        return percent_change(self.klines[-1].close, self.klines[0].open)

    @property
    def credit(self) -> str:
        """The server and this program, for the foot of the chart."""
        return printable(f"{self.source} · qos-async")

    def newest(self, count: int) -> ChartModel:
        """Return a model of the newest ``count`` bars only."""
        return ChartModel(self.klines[-count:], self.source, of=self._of)

    def label(self, kline: Kline) -> str:
        """Return the start of a bar as text."""
        return local_time(kline.timestamp, self.symbol, self.interval)

    def price(self, value: Decimal) -> str:
        """Return a price as text, with as many places as the others."""
        return f"{value:.{self._places}f}"

    def round(self, value: float) -> str:
        """Return a price of an axis as text, with as many places."""
        return f"{value:,.{self._places}f}"

    @property
    def price_format(self) -> str:
        """The d3 format of prices, which plotly takes."""
        return f",.{self._places}f"

    def ticks(self, most: int) -> dict[int, str]:
        """Return the labels of the time axis by the index of their bar.

        The bars are the first ones of their hour, day or month: of the shortest
        period that gives at most ``most`` labels.
        """
        times = [kline_time(kline) for kline in self.klines]
        daily = self.interval >= Interval.DAY
        choices = (
            _first_of_each([period(time) for time in times])
            for period in (_DATES if daily else _TIMES)
        )
        places = next((one for one in choices if len(one) <= most), [0])
        ticks: dict[int, str] = {}
        before = None
        for place in places:
            ticks[place] = _label(times[place], before, self.interval)
            before = times[place]
        return ticks


def kline_time(kline: Kline) -> datetime:
    """Return the start of a kline: the day in its market's time zone, otherwise UTC."""
    daily = kline.interval >= Interval.DAY
    zone = market_zone(market_of(kline.symbol)) if daily else UTC
    return datetime.fromtimestamp(kline.timestamp, zone)


_Period = Callable[[datetime], Any]


def _minutes(count: int) -> _Period:
    return lambda time: time.timestamp() // (60 * count)


def _months(count: int) -> _Period:
    return lambda time: (time.year * 12 + time.month - 1) // count


def _years(count: int) -> _Period:
    return lambda time: time.year // count


_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 240, 360, 720, 1440, 2880, 7200, 14400)
_TIMES = [*map(_minutes, _MINUTES), *map(_months, (1, 2, 3, 6))]
_DATES: list[_Period] = [
    datetime.toordinal,
    lambda time: (time.toordinal() - 1) // 7,  # Day 1 was a Monday.
    lambda time: (time.toordinal() - 1) // 14,
    *map(_months, (1, 2, 3, 6)),
    *map(_years, (1, 2, 5, 10, 20, 50, 1000)),
]


def _first_of_each(periods: list[Any]) -> list[int]:
    """Return where a new period begins; the very first may have begun before."""
    firsts = [
        place
        for place, (one, before) in enumerate(
            zip(periods[1:], periods, strict=False), 1
        )
        if one != before
    ]
    return firsts or [0]


def _label(time: datetime, before: datetime | None, interval: Interval) -> str:
    """Return the part of a time that differs from the label before."""
    new_year = before is None or before.year != time.year
    if interval >= Interval.MONTH:
        return f"{time:%Y}" if interval is Interval.YEAR else f"{time:%b %Y}"
    if interval >= Interval.DAY:
        return f"{time:%d %b %Y}" if new_year else f"{time:%d %b}"
    if before is None or before.date() != time.date():
        midnight = time.hour == time.minute == 0
        return f"{time:%d %b}" if midnight else f"{time:%d %b %H:%M}"
    return f"{time:%H:%M}"


def _places(price: Decimal) -> int:
    exponent = price.as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0
