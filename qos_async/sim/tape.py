"""The trades of one symbol: a seeded random walk, written as time goes by."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import NamedTuple

from qos_async.enums import Interval, Side
from qos_async.periods import bar_end, bar_start
from qos_async.sim.instruments import Instrument
from qos_async.sim.klines import Bar, Path, Series, nominal_length

__all__ = ["Print", "Tape"]

_KEPT = 100_000
_WALK = 0.25  # Of the walk: how far from its first price it may go.
_SIDES = (Side.BUY, Side.SELL)


class Print(NamedTuple):
    """One trade; the price is in ticks, the size in steps."""

    timestamp: int
    price: int
    size: int
    side: Side


class Tape:
    """Every trade since ``begins_at``, and the bars they add up to.

    The trades depend on the seed, the symbol and ``begins_at`` alone, never on when
    or how often somebody looks. The last 100,000 are kept; bars are kept for ever.
    """

    def __init__(
        self, instrument: Instrument, seed: int, begins_at: int, oldest_bars: int
    ) -> None:
        self.instrument = instrument
        self.begins_at = begins_at
        self.count = 0
        """How many trades there were, kept or not."""
        self.path = Path(instrument, seed, begins_at)
        self.prints: deque[Print] = deque(maxlen=_KEPT)
        self._oldest_bars = oldest_bars
        self._random = Random(f"{seed}:{instrument.symbol}")
        self._next_at = begins_at + self._random.random()
        self._series: dict[Interval, Series] = {}
        self._minutes = self.series(Interval.MIN_1)
        self._print(instrument.price)  # So that there always is a last price.

    def advance(self, now: float) -> None:
        """Write down what is traded until ``now``, in epoch seconds."""
        while self._next_at <= now:
            self._print(self._walk())

    def since(self, count: int) -> list[Print]:
        """Give the kept trades after the first ``count``, oldest first."""
        fresh = min(self.count - count, len(self.prints))
        newest_first = islice(reversed(self.prints), max(fresh, 0))
        return list(newest_first)[::-1]

    @property
    def last(self) -> Print:
        """The newest trade."""
        return self.prints[-1]

    def series(self, interval: Interval) -> Series:
        """Give the bars of an interval; they grow as the tape advances."""
        found = self._series.get(interval)
        if found is None:
            found = Series(interval, self.instrument.market, self._before)
            self._series[interval] = found
            if interval is not Interval.MIN_1:
                for start, bar in self._minutes.bars.items():
                    found.add(start, bar)
        return found

    def bars_before(self, end: int, interval: Interval) -> Iterator[tuple[int, Bar]]:
        """Draw the bars that lie before the tape, newest first.

        ``end`` is in epoch seconds; the bar that it falls into comes first.
        """
        market = self.instrument.market
        first = next(iter(self.series(interval).bars))
        oldest = self.begins_at - self._oldest_bars * nominal_length(interval)
        start = bar_start(min(end, first - 1), interval, market)
        following = bar_end(start, interval, market)
        while start >= max(oldest, 0):
            yield start, self.path.bar(start, following)
            following, start = start, bar_start(start - 1, interval, market)

    def _before(self, start: int) -> Bar | None:
        if start >= self.begins_at:
            return None
        return self.path.bar(start, self.begins_at)

    def _walk(self) -> int:
        first, last = self.instrument.price, self.last.price
        step = max(1, round(last * self.instrument.volatility / 8))
        if step == 1 and self._random.random() < 0.6:  # noqa: PLR2004
            return last  # A coarse grid: most trades repeat the price.
        moved = last + self._random.randint(-step, step)
        return min(
            max(moved, round(first * (1 - _WALK)), 1), round(first * (1 + _WALK))
        )

    def _print(self, price: int) -> None:
        draw, instrument = self._random, self.instrument
        size = 1 + int(draw.expovariate(1 / instrument.size))
        trade = Print(int(self._next_at), price, size, draw.choice(_SIDES))
        self._next_at += draw.expovariate(instrument.rate)
        self.prints.append(trade)
        self.count += 1
        turnover = instrument.turnover(price, size)
        part = Bar(price, price, price, price, size, turnover)
        for series in self._series.values():
            series.add(trade.timestamp, part)
