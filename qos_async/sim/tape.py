"""Tape: the simulated trades of one symbol, a seeded random walk, and their klines.

The walk goes on where ``PriceHistory`` ends, with the same volatility, whatever the rate
of trades and the price increment. Before the start there are trades in sessions only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from random import Random
from typing import NamedTuple

from qos_async.enums import Interval, Side
from qos_async.periods import bar_end, bar_start
from qos_async.sim.calendar import live_spans, local_date, trading_spans
from qos_async.sim.history import IntegerKline, PriceHistory, price_of, reversion
from qos_async.sim.instruments import SimulatedInstrument

__all__ = ["KlineSeries", "Tape", "TapeTrade", "trades_begin_at"]

_MINUTE = 60
_TRADES_KEPT = 100_000
_SIDES = (Side.BUY, Side.SELL)


class KlineSeries:
    """The klines of one interval that have trades of the tape, by start.

    ``before(start)`` returns the part of a kline from before the tape, or None.
    """

    def __init__(
        self,
        interval: Interval,
        market: str,
        before: Callable[[int], IntegerKline | None],
    ) -> None:
        self.klines: dict[int, IntegerKline] = {}
        self._interval = interval
        self._market = market
        self._before = before
        self._end = -math.inf

    def add(self, timestamp: int, part: IntegerKline) -> None:
        """Add a trade or a minute; they must come in the order of time."""
        if timestamp >= self._end:
            self._open_kline(timestamp, part)
        self.klines[self.last_start].merge(part)

    @property
    def last_start(self) -> int:
        """The start of the newest kline, in epoch seconds.

        Raises:
            StopIteration: Never after the first ``add``.
        """
        return next(reversed(self.klines))

    def _open_kline(self, timestamp: int, part: IntegerKline) -> None:
        start = bar_start(timestamp, self._interval, self._market)
        self._end = bar_end(start, self._interval, self._market)
        first = part.open
        self.klines[start] = self._before(start) or IntegerKline(
            first, first, first, first
        )


class TapeTrade(NamedTuple):
    """One trade; price and size are in the instrument's increments."""

    timestamp: int
    price: int
    size: int
    side: Side


def trades_begin_at(market: str, start: float, history: float) -> int:
    """Return the whole minute from which there are ``history`` seconds until ``start``.

    Only seconds in which the market trades count.
    """
    if not history:
        return int(start) // _MINUTE * _MINUTE
    day, left = local_date(market, start), history
    while True:
        for opens, closes in reversed(trading_spans(market, day)):
            seconds = min(closes, start) - opens
            if seconds >= left:
                return int(opens + seconds - left) // _MINUTE * _MINUTE
            left -= max(seconds, 0)
        day -= timedelta(days=1)


class Tape:
    """Every trade since ``begins_at``, and the klines they add up to.

    The trades depend only on the seed, the symbol and the times below, never on when or
    how often they are read. The last 100,000 are kept, and all klines.

    Args:
        instrument: What is traded.
        seed: Of its trades.
        begins_at: The time of the first trade; a whole minute.
        start: From then on it trades at any time, before that in sessions only.
        oldest_bars: Klines of each interval before ``begins_at``.
        real_hours: Whether it trades in sessions only after ``start``, too.

    Attributes:
        count: The number of trades so far, kept or not.
    """

    def __init__(
        self,
        instrument: SimulatedInstrument,
        seed: int,
        begins_at: int,
        start: float,
        oldest_bars: int,
        *,
        real_hours: bool,
    ) -> None:
        self.instrument = instrument
        self.begins_at = begins_at
        self.count = 0
        self.price_history = PriceHistory(instrument, seed, begins_at)
        self.trades: deque[TapeTrade] = deque(maxlen=_TRADES_KEPT)
        self._oldest_bars = oldest_bars
        self._random = Random(f"{seed}:{instrument.symbol}")
        self._spans = _open_spans(
            instrument.market, begins_at, math.inf if real_hours else start
        )
        opens, self._closes_at = next(self._spans)
        self._next_at = max(opens, begins_at)
        self._level = self._waited = 0.0
        self._reversion = reversion(instrument) / _MINUTE
        self._series: dict[Interval, KlineSeries] = {}
        self._minutes = self.series(Interval.MIN_1)
        self._append()  # There always is a last price.

    def advance(self, now: float) -> None:
        """Generate the trades until ``now``, in epoch seconds."""
        while self._next_at <= now:
            self._append()

    def trades_after(self, count: int) -> list[TapeTrade]:
        """Return the kept trades after the first ``count``, oldest first."""
        fresh = min(self.count - count, len(self.trades))
        newest_first = islice(reversed(self.trades), max(fresh, 0))
        return list(newest_first)[::-1]

    @property
    def last(self) -> TapeTrade:
        """The newest trade."""
        return self.trades[-1]

    def series(self, interval: Interval) -> KlineSeries:
        """Return the klines of an interval; they grow as the tape advances."""
        found = self._series.get(interval)
        if found is None:
            found = KlineSeries(interval, self.instrument.market, self._kline_before)
            self._series[interval] = found
            if interval is not Interval.MIN_1:
                for start, kline in self._minutes.klines.items():
                    found.add(start, kline)
        return found

    def klines_before(
        self, end: int, interval: Interval
    ) -> Iterator[tuple[int, IntegerKline]]:
        """Yield start and values of the klines before the tape, newest first.

        ``end`` is in epoch seconds; the kline that contains it comes first.
        """
        market = self.instrument.market
        first = next(iter(self.series(interval).klines))
        last = bar_start(min(end, first - 1), interval, market)
        before = min(bar_end(last, interval, market), first)
        return self.price_history.klines(interval, before, self._oldest_bars)

    def price_before(self, start: int, interval: Interval) -> int:
        """Return the last price before a kline that starts then, in increments."""
        for earlier, kline in reversed(self.series(interval).klines.items()):
            if earlier < start:
                return kline.close
        return self.price_history.price_before(start)

    def _kline_before(self, start: int) -> IntegerKline | None:
        if start >= self.begins_at:
            return None
        return self.price_history.kline_between(start, self.begins_at)

    def _append(self) -> None:
        rng, instrument = self._random, self.instrument
        size = 1 + int(rng.expovariate(1 / instrument.size))
        side = rng.choice(_SIDES)
        price = price_of(instrument, self._move(side))
        trade = TapeTrade(int(self._next_at), price, size, side)
        self._wait(rng.expovariate(instrument.rate))
        self.trades.append(trade)
        self.count += 1
        turnover = instrument.turnover(price, size)
        part = IntegerKline(price, price, price, price, size, turnover)
        for series in self._series.values():
            series.add(trade.timestamp, part)

    def _move(self, side: Side) -> float:
        """Return the new level: it rises with a buyer, and by the time that passed."""
        step = self.instrument.volatility * math.sqrt(self._waited / _MINUTE)
        step = step if side is Side.BUY else -step
        self._level += step - self._level * self._reversion * self._waited
        return self._level

    def _wait(self, seconds: float) -> None:
        """Go to the next trade, after so many seconds in which the market is open."""
        self._waited = seconds
        self._next_at += seconds
        while self._next_at >= self._closes_at:
            opens, self._closes_at = next(self._spans)
            self._next_at = max(self._next_at, opens)


def _open_spans(
    market: str, begins_at: int, always_from: float
) -> Iterator[tuple[float, float]]:
    """Yield when it trades: in sessions, and after a time without end."""
    for opens, closes in live_spans(market, begins_at):
        if opens >= always_from:
            break
        yield opens, min(closes, always_from)
    yield always_from, math.inf
