"""What stands on a chart, whatever it is drawn with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from qos_async import Interval, Kline
from qos_async.cli.formatting import percent, percent_change, plural
from qos_async.cli.times import local_time
from qos_async.periods import market_zone
from qos_async.symbols import market_of

__all__ = ["Picture"]


class Picture:
    """Klines, and the words about them.

    Attributes:
        klines: Ascending; at least one.
        source: Who gave them.
    """

    def __init__(
        self, klines: Sequence[Kline], source: str, *, of: int | None = None
    ) -> None:
        """Take them in; ``of`` is how many there are, if these are not all."""
        self.klines, self.source = klines, source
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
        return f"{self.symbol}  {self.interval.short}"

    @property
    def span(self) -> str:
        """From the first bar to the last, and how many there are."""
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
        """From the first open to the newest price, in percent; empty if it is unknown."""
        first, last = self.klines[0].open, self.klines[-1].close
        return percent(percent_change(last, first)) if first else ""

    @property
    def rises(self) -> bool:
        """Whether it ends no lower than it begins."""
        return self.klines[-1].close >= self.klines[0].open

    @property
    def credit(self) -> str:
        """Who gave the klines, and who drew them."""
        return f"{self.source} · qos-async"

    def newest(self, count: int) -> Picture:
        """Leave out what does not fit."""
        return Picture(self.klines[-count:], self.source, of=self._of)

    def label(self, kline: Kline) -> str:
        """Say when a bar starts."""
        return local_time(kline.timestamp, self.symbol, self.interval)

    def price(self, value: Decimal) -> str:
        """Write a price with as many places as any other."""
        return f"{value:.{self._places}f}"

    def round(self, value: float) -> str:
        """Write a price of an axis alike."""
        return f"{value:,.{self._places}f}"

    @property
    def format(self) -> str:
        """How d3, and so plotly, is told to write prices."""
        return f",.{self._places}f"

    def ticks(self, most: int) -> dict[int, str]:
        """Choose bars to stand on the axis, by their place, and what to write there.

        They are the first ones of their hour, day, month or whatever leaves no more
        than ``most``.
        """
        moments = [self._moment(kline) for kline in self.klines]
        daily = self.interval >= Interval.DAY
        choices = (
            _firsts([period(moment) for moment in moments])
            for period in (_DATES if daily else _TIMES)
        )
        places = next((one for one in choices if len(one) <= most), [0])
        ticks: dict[int, str] = {}
        before = None
        for place in places:
            ticks[place] = _mark(moments[place], before, self.interval)
            before = moments[place]
        return ticks

    def _moment(self, kline: Kline) -> datetime:
        daily = self.interval >= Interval.DAY
        zone = market_zone(market_of(self.symbol)) if daily else UTC
        return datetime.fromtimestamp(kline.timestamp, zone)


_Period = Callable[[datetime], Any]


def _minutes(count: int) -> _Period:
    return lambda moment: moment.timestamp() // (60 * count)


def _months(count: int) -> _Period:
    return lambda moment: (moment.year * 12 + moment.month - 1) // count


def _years(count: int) -> _Period:
    return lambda moment: moment.year // count


_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 240, 360, 720, 1440, 2880, 7200, 14400)
_TIMES = [*map(_minutes, _MINUTES), *map(_months, (1, 2, 3, 6))]
_DATES: list[_Period] = [
    datetime.toordinal,
    lambda moment: (moment.toordinal() - 1) // 7,  # Day 1 was a Monday.
    lambda moment: (moment.toordinal() - 1) // 14,
    *map(_months, (1, 2, 3, 6)),
    *map(_years, (1, 2, 5, 10, 20, 50, 1000)),
]


def _firsts(periods: list[Any]) -> list[int]:
    """Find where a new one begins; the very first may have begun before."""
    firsts = [
        place
        for place, (one, before) in enumerate(
            zip(periods[1:], periods, strict=False), 1
        )
        if one != before
    ]
    return firsts or [0]


def _mark(moment: datetime, before: datetime | None, interval: Interval) -> str:
    """Write what is new since the mark before."""
    new_year = before is None or before.year != moment.year
    if interval >= Interval.MONTH:
        return f"{moment:%Y}" if interval is Interval.YEAR else f"{moment:%b %Y}"
    if interval >= Interval.DAY:
        return f"{moment:%d %b %Y}" if new_year else f"{moment:%d %b}"
    if before is None or before.date() != moment.date():
        midnight = moment.hour == moment.minute == 0
        return f"{moment:%d %b}" if midnight else f"{moment:%d %b %H:%M}"
    return f"{moment:%H:%M}"


def _places(price: Decimal) -> int:
    exponent = price.as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0
