"""Tape: the simulated trades of one symbol, a seeded random walk, and their klines.

``PriceHistory`` is the price before the first trade as a fixed function of time. So a
kline of that time is the same at every request, klines of all intervals meet at their
edges, and the last of them meets the first trade.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from random import Random
from typing import NamedTuple

from msgspec import Struct

from qos_async.enums import Interval, Side
from qos_async.periods import bar_end, bar_start
from qos_async.sim.instruments import SimulatedInstrument

__all__ = [
    "IntegerKline",
    "KlineSeries",
    "PriceHistory",
    "Tape",
    "TapeTrade",
    "nominal_seconds",
]

_TRADES_KEPT = 100_000
_MAX_WALK = 0.25  # Of the first price: how far a walk may go from it.
_SIDES = (Side.BUY, Side.SELL)
_OCTAVES = 13  # 60 s * 4 ** 13 is over a hundred years.
_MAX_SWING = 0.2  # Keeps prices plausible over years.
_NOMINAL_DAYS = {
    Interval.DAY: 1.0,
    Interval.WEEK: 7.0,
    Interval.MONTH: 30.4,
    Interval.YEAR: 365.25,
}


class IntegerKline(Struct):
    """A kline in integers: prices and volume in the instrument's increments."""

    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    turnover: int = 0

    def merge(self, other: IntegerKline) -> None:
        """Add the trades of a later kline of the same period."""
        self.high = max(self.high, other.high)
        self.low = min(self.low, other.low)
        self.close = other.close
        self.volume += other.volume
        self.turnover += other.turnover


class PriceHistory:
    """The price before ``joins_at``, where it meets the instrument's first price."""

    def __init__(
        self, instrument: SimulatedInstrument, seed: int, joins_at: int
    ) -> None:
        self._instrument = instrument
        self._salt = f"{seed}:{instrument.symbol}"
        self._level = self._fractal_noise(joins_at)
        # The end of one kline is the start of the next, so half of the calls are hits.
        self.price_at = lru_cache(maxsize=64)(self._price_at)

    def _price_at(self, at: int) -> int:
        """Return the price at a time in epoch seconds, in increments; never below 1."""
        swing = math.exp(self._fractal_noise(at) - self._level)
        return max(1, round(self._instrument.price * swing))

    def kline(self, start: int, end: int) -> IntegerKline:
        """Return the kline from ``start`` to ``end``."""
        first, last = self.price_at(start), self.price_at(end)
        seconds = end - start
        up, down, busy = _three_randoms(self._salt, start, end)
        reach = first * min(
            _MAX_SWING, self._instrument.volatility * math.sqrt(seconds / 60)
        )
        volume = self._volume(seconds * (0.5 + busy))
        middle = (first + last) // 2
        return IntegerKline(
            first,
            max(first, last) + round(reach * up),
            max(1, min(first, last) - round(reach * down)),
            last,
            volume,
            self._instrument.turnover(middle, volume),
        )

    def _volume(self, seconds: float) -> int:
        return round(self._instrument.rate * self._instrument.size * seconds)

    def _fractal_noise(self, at: int) -> float:
        """Return a sum of noises, each four times longer and twice as high as the last."""
        height, period, total = self._instrument.volatility, 60, 0.0
        for octave in range(_OCTAVES):
            index, rest = divmod(at, period)
            left = _noise(self._salt, octave, index)
            right = _noise(self._salt, octave, index + 1)
            total += height * (left + (right - left) * rest / period)
            height, period = min(height * 2, _MAX_SWING), period * 4
        return total


@lru_cache(maxsize=1 << 16)
def _noise(salt: str, octave: int, index: int) -> float:
    digest = hashlib.blake2b(f"{salt}:{octave}:{index}".encode(), digest_size=4)
    return int.from_bytes(digest.digest(), "big") / 0x7FFF_FFFF - 1.0


def _three_randoms(salt: str, start: int, end: int) -> list[float]:
    """Return three random numbers for one kline, each from 0 to 1."""
    digest = hashlib.blake2b(f"{salt}:{start}-{end}".encode(), digest_size=6).digest()
    return [int.from_bytes(digest[n : n + 2], "big") / 0xFFFF for n in (0, 2, 4)]


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


def nominal_seconds(interval: Interval) -> float:
    """Return the length of a kline in seconds, on average."""
    if interval < Interval.DAY:
        return interval * 60.0
    return _NOMINAL_DAYS[interval] * 86_400


class TapeTrade(NamedTuple):
    """One trade; price and size are in the instrument's increments."""

    timestamp: int
    price: int
    size: int
    side: Side


class Tape:
    """Every trade since ``begins_at``, and the klines they add up to.

    The trades depend only on the seed, the symbol and ``begins_at``, never on when or
    how often they are read. The last 100,000 are kept, and all klines.

    Attributes:
        count: The number of trades so far, kept or not.
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
        self.price_history = PriceHistory(instrument, seed, begins_at)
        self.trades: deque[TapeTrade] = deque(maxlen=_TRADES_KEPT)
        self._oldest_bars = oldest_bars
        self._random = Random(f"{seed}:{instrument.symbol}")
        self._next_at = begins_at + self._random.random()
        self._series: dict[Interval, KlineSeries] = {}
        self._minutes = self.series(Interval.MIN_1)
        self._append(instrument.price)  # There always is a last price.

    def advance(self, now: float) -> None:
        """Generate the trades until ``now``, in epoch seconds."""
        while self._next_at <= now:
            self._append(self._next_price())

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
            return last  # With a coarse increment most trades repeat the price.
        moved = last + self._random.randint(-step, step)
        return min(
            max(moved, round(first * (1 - _MAX_WALK)), 1),
            round(first * (1 + _MAX_WALK)),
        )

    def _append(self, price: int) -> None:
        rng, instrument = self._random, self.instrument
        size = 1 + int(rng.expovariate(1 / instrument.size))
        trade = TapeTrade(int(self._next_at), price, size, rng.choice(_SIDES))
        self._next_at += rng.expovariate(instrument.rate)
        self.trades.append(trade)
        self.count += 1
        turnover = instrument.turnover(price, size)
        part = IntegerKline(price, price, price, price, size, turnover)
        for series in self._series.values():
            series.add(trade.timestamp, part)
