"""Klines: what the tape's trades add up to, and what came before the tape.

``Path`` is the price before the tape as a fixed function of time, so a bar that is
drawn from it is the same whenever it is asked for, bars of every interval meet at
their edges, and the last of them meets the first trade.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import lru_cache

from msgspec import Struct

from qos_async.enums import Interval
from qos_async.periods import bar_end, bar_start
from qos_async.sim.instruments import SimulatedInstrument

__all__ = ["IntegerKline", "KlineSeries", "PriceHistory", "nominal_seconds"]

_OCTAVES = 13  # 60 s * 4 ** 13 is over a hundred years.
_LONGEST_SWING = 0.2  # So that a year does not take a stock to the moon.
_NOMINAL_DAYS = {
    Interval.DAY: 1.0,
    Interval.WEEK: 7.0,
    Interval.MONTH: 30.4,
    Interval.YEAR: 365.25,
}


class IntegerKline(Struct):
    """Open, high, low and close in ticks; volume in steps; turnover."""

    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    turnover: int = 0

    def merge(self, other: IntegerKline) -> None:
        """Take in what came after."""
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
        # The end of one bar is the start of the next: half the work is remembered.
        self.price_at = lru_cache(maxsize=64)(self._price_at)

    def _price_at(self, at: int) -> int:
        """Give the price at a time in epoch seconds, in ticks; never below 1."""
        swing = math.exp(self._fractal_noise(at) - self._level)
        return max(1, round(self._instrument.price * swing))

    def kline(self, start: int, end: int) -> IntegerKline:
        """Draw what happened from ``start`` to ``end``."""
        first, last = self.price_at(start), self.price_at(end)
        seconds = end - start
        up, down, busy = _three_randoms(self._salt, start, end)
        reach = first * min(
            _LONGEST_SWING, self._instrument.volatility * math.sqrt(seconds / 60)
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
        """Add up noise of many lengths, each four times longer and twice as high."""
        height, period, total = self._instrument.volatility, 60, 0.0
        for octave in range(_OCTAVES):
            index, rest = divmod(at, period)
            left = _noise(self._salt, octave, index)
            right = _noise(self._salt, octave, index + 1)
            total += height * (left + (right - left) * rest / period)
            height, period = min(height * 2, _LONGEST_SWING), period * 4
        return total


@lru_cache(maxsize=1 << 16)
def _noise(salt: str, octave: int, index: int) -> float:
    digest = hashlib.blake2b(f"{salt}:{octave}:{index}".encode(), digest_size=4)
    return int.from_bytes(digest.digest(), "big") / 0x7FFF_FFFF - 1.0


def _three_randoms(salt: str, start: int, end: int) -> list[float]:
    """Throw three dice for one bar, each from 0 to 1."""
    digest = hashlib.blake2b(f"{salt}:{start}-{end}".encode(), digest_size=6).digest()
    return [int.from_bytes(digest[n : n + 2], "big") / 0xFFFF for n in (0, 2, 4)]


class KlineSeries:
    """The bars of one interval that the tape's trades fall into, by start.

    ``before(start)`` gives the part of a bar that lies before the tape, or None.
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
        """Take in a trade or a minute; they come in the order of time."""
        if timestamp >= self._end:
            self._open_kline(timestamp, part)
        self.klines[self.last_start].merge(part)

    @property
    def last_start(self) -> int:
        """When the newest bar starts.

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
    """Give the length of a bar in seconds, on average."""
    if interval < Interval.DAY:
        return interval * 60.0
    return _NOMINAL_DAYS[interval] * 86_400
