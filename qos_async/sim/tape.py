"""The trades of one symbol: a seeded random walk, written as time goes by."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import NamedTuple

from qos_async.enums import Interval, Side
from qos_async.periods import bar_end, bar_start
from qos_async.sim.instruments import SimulatedInstrument
from qos_async.sim.klines import (
    IntegerKline,
    KlineSeries,
    PriceHistory,
    nominal_seconds,
)

__all__ = ["Tape", "TapeTrade"]

_KEPT = 100_000
_WALK = 0.25  # Of the walk: how far from its first price it may go.
_SIDES = (Side.BUY, Side.SELL)


class TapeTrade(NamedTuple):
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
        self,
        instrument: SimulatedInstrument,
        seed: int,
        begins_at: int,
        oldest_bars: int,
    ) -> None:
        self.instrument = instrument
        self.begins_at = begins_at
        self.count = 0
        """How many trades there were, kept or not."""
        self.price_history = PriceHistory(instrument, seed, begins_at)
        self.trades: deque[TapeTrade] = deque(maxlen=_KEPT)
        self._oldest_bars = oldest_bars
        self._random = Random(f"{seed}:{instrument.symbol}")
        self._next_at = begins_at + self._random.random()
        self._series: dict[Interval, KlineSeries] = {}
        self._minutes = self.series(Interval.MIN_1)
        self._append(instrument.price)  # So that there always is a last price.

    def advance(self, now: float) -> None:
        """Write down what is traded until ``now``, in epoch seconds."""
        while self._next_at <= now:
            self._append(self._next_price())

    def trades_after(self, count: int) -> list[TapeTrade]:
        """Give the kept trades after the first ``count``, oldest first."""
        fresh = min(self.count - count, len(self.trades))
        newest_first = islice(reversed(self.trades), max(fresh, 0))
        return list(newest_first)[::-1]

    @property
    def last(self) -> TapeTrade:
        """The newest trade."""
        return self.trades[-1]

    def series(self, interval: Interval) -> KlineSeries:
        """Give the bars of an interval; they grow as the tape advances."""
        found = self._series.get(interval)
        if found is None:
            found = KlineSeries(interval, self.instrument.market, self._kline_before)
            self._series[interval] = found
            if interval is not Interval.MIN_1:
                for start, bar in self._minutes.klines.items():
                    found.add(start, bar)
        return found

    def klines_before(
        self, end: int, interval: Interval
    ) -> Iterator[tuple[int, IntegerKline]]:
        """Draw the bars that lie before the tape, newest first.

        ``end`` is in epoch seconds; the bar that it falls into comes first.
        """
        market = self.instrument.market
        first = next(iter(self.series(interval).klines))
        oldest = self.begins_at - self._oldest_bars * nominal_seconds(interval)
        start = bar_start(min(end, first - 1), interval, market)
        following = bar_end(start, interval, market)
        while start >= max(oldest, 0):
            yield start, self.price_history.kline(start, following)
            following, start = start, bar_start(start - 1, interval, market)

    def _kline_before(self, start: int) -> IntegerKline | None:
        if start >= self.begins_at:
            return None
        return self.price_history.kline(start, self.begins_at)

    def _next_price(self) -> int:
        first, last = self.instrument.price, self.last.price
        step = max(1, round(last * self.instrument.volatility / 8))
        if step == 1 and self._random.random() < 0.6:  # noqa: PLR2004
            return last  # A coarse grid: most trades repeat the price.
        moved = last + self._random.randint(-step, step)
        return min(
            max(moved, round(first * (1 - _WALK)), 1), round(first * (1 + _WALK))
        )

    def _append(self, price: int) -> None:
        draw, instrument = self._random, self.instrument
        size = 1 + int(draw.expovariate(1 / instrument.size))
        trade = TapeTrade(int(self._next_at), price, size, draw.choice(_SIDES))
        self._next_at += draw.expovariate(instrument.rate)
        self.trades.append(trade)
        self.count += 1
        turnover = instrument.turnover(price, size)
        part = IntegerKline(price, price, price, price, size, turnover)
        for series in self._series.values():
            series.add(trade.timestamp, part)
