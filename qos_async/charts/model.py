"""Model of a chart: candles, texts, axis labels and colours, for every output."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from qos_async._printable import printable
from qos_async._wording import percent, percent_change, plural
from qos_async.charts.ticks import AxisTick, TickLevel, fitting, levels
from qos_async.charts.zones import bar_time, zone_name
from qos_async.enums import Interval
from qos_async.models import Kline

__all__ = ["THEMES", "Average", "Candle", "ChartModel", "Look", "PriceChange"]

_GREEN, _RED = "#26a69a", "#ef5350"
_AVERAGES = ("#e0a008", "#4c8df6", "#a66bf0", "#e06fb0")
THEMES: dict[str, dict[str, str]] = {
    "light": {
        "paper": "#ffffff",
        "text": "#1f2933",
        "soft": "#6b7684",
        "grid": "#e8ecf1",
    },
    "dark": {
        "paper": "#0b0e14",
        "text": "#e6eaf0",
        "soft": "#8a94a3",
        "grid": "#1d2530",
    },
}
"""Colours of files; a terminal has its own."""
_DIGITS = 9
"""Digits of a price that are shown at most: means of floats have 17."""


class Candle(NamedTuple):
    """A kline as numbers to draw."""

    open: float
    high: float
    low: float
    close: float
    volume: float

    @classmethod
    def of(cls, kline: Kline[Any]) -> Candle:
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


class PriceChange(NamedTuple):
    """A change in percent, with what it is a change of.

    Attributes:
        text: Such as ``+1.20% in 60 bars``.
        rises: Whether it is a rise; None if it is neither a rise nor a fall.
    """

    text: str
    rises: bool | None

    @classmethod
    def between(cls, base: Decimal, value: Decimal, words: str) -> PriceChange:
        """Return the change from ``base`` to ``value``; a dash if that is unknown."""
        change = percent_change(value, base)
        return cls(f"{percent(change)} {words}", change > 0 if change else None)


class Average(NamedTuple):
    """A moving average of the closes.

    Attributes:
        name: Such as ``MA20``.
        colour: Of its line.
        values: One for each bar; None where there are too few bars before it.
    """

    name: str
    colour: str
    values: list[float | None]


class Look(NamedTuple):
    """What the user chooses about a chart.

    Attributes:
        title: Instead of symbol and interval.
        source: The server, for the foot of the chart.
        ma: The numbers of bars of the moving averages.
        zone: Of the times; None is that of this machine.
        red_up: Whether rises are red and falls green, as in China.
    """

    title: str | None = None
    source: str = ""
    ma: tuple[int, ...] = ()
    zone: tzinfo | None = UTC
    red_up: bool = False

    @property
    def colours(self) -> dict[bool, str]:
        """The colours of rises and of falls, the same in both themes."""
        return (
            {True: _RED, False: _GREEN} if self.red_up else {True: _GREEN, False: _RED}
        )


class ChartModel:
    """Klines to draw, and the texts of their chart.

    Args:
        klines: Ascending; at least one.
        look: What the user chooses.
        shown: How many of the newest to draw; the others are for moving averages.
        of: How many there are to draw, if these are not all.

    Attributes:
        klines: To draw.
        candles: The same klines as numbers.
        look: As given.
        symbol: Of the klines.
        interval: Of the klines.
    """

    def __init__(
        self,
        klines: Sequence[Kline[Decimal]],
        look: Look | None = None,
        *,
        shown: int | None = None,
        of: int | None = None,
    ) -> None:
        self.look = Look() if look is None else look
        self._all = klines
        self.klines = klines if shown is None else klines[-shown:]
        self.candles = [Candle.of(kline) for kline in self.klines]
        self._of = len(self.klines) if of is None else of
        self.symbol, self.interval = klines[-1].symbol, klines[-1].interval

    # Texts

    @property
    def title(self) -> str:
        """Symbol and interval, or what the user chose."""
        title = self.look.title
        named = f"{self.symbol}  {self.interval.short}" if title is None else title
        return printable(named)

    @property
    def span(self) -> str:
        """Times of the first and the last bar, and the number of bars."""
        first, last = self.label(0), self.label(-1)
        count = len(self.klines)
        bars = (
            plural(count, "bar")
            if count == self._of
            else f"newest {count} of {self._of}"
        )
        return (
            " ".join(filter(None, (f"{first} to {last}", self.zone_name))) + f", {bars}"
        )

    @property
    def zone_name(self) -> str:
        """The name of the time zone; empty where the bars have dates only."""
        return "" if self.interval >= Interval.DAY else zone_name(self.times[-1])

    @property
    def last(self) -> str:
        """The newest price."""
        return f"{self.klines[-1].close:,.{self.places}f}"

    @property
    def changes(self) -> list[PriceChange]:
        """The change of the last bar from the one before it, and that of all of them.

        The first is missing if there is no bar before. The second is from the first
        open to the last close.
        """
        last, count = self.klines[-1].close, len(self.klines)
        bars = plural(count, "bar")
        whole = PriceChange.between(self.klines[0].open, last, f"in {bars}")
        if len(self._all) == 1:
            return [whole]
        return [PriceChange.between(self._all[-2].close, last, "last bar"), whole]

    @property
    def credit(self) -> str:
        """The server and this program, for the foot of the chart."""
        return printable(" · ".join(filter(None, (self.look.source, "qos-async"))))

    def label(self, place: int) -> str:
        """Return the start of a bar as text."""
        day = "%Y-%m-%d"
        form = day if self.interval >= Interval.DAY else f"{day} %H:%M"
        return f"{self.times[place]:{form}}"

    def details(self, place: int) -> list[str]:
        """Return the lines that describe one bar: time, prices, volume, averages."""
        kline, before = self.klines[place], self._before(place)
        time = f"{self.times[place]:%a} {self.label(place)} {self.zone_name}".rstrip()
        prices = {name: self.price(getattr(kline, name.lower())) for name in _PRICES}
        lines = [time, *(f"{name} {price}" for name, price in prices.items())]
        if before is not None:
            change = percent_change(kline.close, before.close)
            lines[-1] += f" ({percent(change)})"
        volume = "-" if kline.volume is None else f"{kline.volume.normalize():,f}"
        lines.append(f"Volume {volume}")
        values = [(one.name, one.values[place]) for one in self.averages]
        lines += [
            f"{name} {self.round(one)}" for name, one in values if one is not None
        ]
        return lines

    def _before(self, place: int) -> Kline[Decimal] | None:
        at = len(self._all) - len(self.klines) + place
        return self._all[at - 1] if at else None

    # Numbers

    def price(self, value: Decimal) -> str:
        """Return a price as text, with as many places as the others."""
        return f"{value:.{self.places}f}"

    def round(self, value: float) -> str:
        """Return a price of an axis as text, with as many places."""
        return f"{value:,.{self.places}f}"

    @property
    def price_format(self) -> str:
        """The d3 format of prices, which plotly takes."""
        return f",.{self.places}f"

    @cached_property
    def places(self) -> int:
        """The number of places of prices after the point."""
        prices = [price for kline in self.klines for price in _prices(kline)]
        whole = max(price.adjusted() for price in prices) + 1
        return min(max(map(_places, prices)), max(_DIGITS - whole, 2))

    @cached_property
    def averages(self) -> list[Average]:
        """The moving averages of which there is a value."""
        closes = [float(kline.close) for kline in self._all]
        sums = [0.0, *accumulate(closes)]
        found: list[Average] = []
        for place, count in enumerate(self.look.ma):
            values = [
                (sums[end] - sums[end - count]) / count if end >= count else None
                for end in range(1, len(closes) + 1)
            ][-len(self.klines) :]
            colour = _AVERAGES[place % len(_AVERAGES)]
            if values[-1] is not None:
                found.append(Average(f"MA{count}", colour, values))
        return found

    # Times

    @cached_property
    def times(self) -> list[datetime]:
        """The start of each bar, in the time zone of the chart."""
        return [
            bar_time(kline.timestamp, self.interval, self.symbol, self.look.zone)
            for kline in self.klines
        ]

    @cached_property
    def tick_levels(self) -> list[TickLevel]:
        """The labels of the time axis for each period, the shortest first."""
        return levels(self.times, self.interval)

    def ticks(self, most: int) -> list[AxisTick]:
        """Return at most ``most`` labels of the time axis."""
        return fitting(self.tick_levels, most, len(self.klines))

    def newest(self, count: int) -> ChartModel:
        """Return a model of the newest ``count`` bars only."""
        shown = min(count, len(self.klines))
        return ChartModel(self._all, self.look, shown=shown, of=self._of)


_PRICES = ("Open", "High", "Low", "Close")


def _prices(kline: Kline[Decimal]) -> tuple[Decimal, ...]:
    return kline.open, kline.high, kline.low, kline.close


def _places(price: Decimal) -> int:
    exponent = price.as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0
