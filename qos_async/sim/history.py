"""Price history: what a simulated symbol did before its first trade on the tape.

The price is a random walk in trading time: it moves in sessions only, by the instrument's
volatility, and meets the tape's first trade. A day consists of blocks of half an hour from
a fixed set, chosen by a hash of seed, symbol and date, each with the highest and lowest
value of its minutes. So the kline of a day, or of any other period, is computed without
its minutes, and is what they add up to, exactly: rounding to the price increment is the
last step and preserves order.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import add
from random import Random

from msgspec import Struct

from qos_async.enums import Interval
from qos_async.periods import bar_start
from qos_async.sim.calendar import TimeSpan, local_date, trading_spans
from qos_async.sim.instruments import SimulatedInstrument

__all__ = ["IntegerKline", "PriceHistory", "price_of", "reversion"]

_MINUTE = 60
_BLOCK = 30  # Minutes; the sessions of all markets are multiples of it.
_WALKS = 32  # And as many upside down, so that the set has no trend.
_SPREAD = 0.35  # Standard deviation of the logarithm of the price over decades.
_DAYS = {
    Interval.DAY: 1,
    Interval.WEEK: 7,
    Interval.MONTH: 31,
    Interval.YEAR: 366,
}
"""At most so many trading days in a kline."""
_FIRST_YEAR = 1970
_DAY = timedelta(days=1)
_EVEN = 128  # Half of the values of a byte.


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


def price_of(instrument: SimulatedInstrument, level: float) -> int:
    """Return the price, in increments, at a level: the logarithm of its relative change."""
    return max(1, round(instrument.price * math.exp(level)))


def reversion(instrument: SimulatedInstrument) -> float:
    """Return the share of its level that a price returns towards its first, in a minute.

    It is too weak to be seen in a chart, and keeps prices plausible over decades.
    """
    return (instrument.volatility / _SPREAD) ** 2 / 2


class Blocks(Struct, frozen=True):
    """Random walks of 30 minutes with steps of variance 1, by index.

    Attributes:
        ends: The value at the start, and at the end of each minute.
        highs: The highest value in each minute.
        lows: The lowest value in each minute.
        volumes: The share of the volume before each minute, in mean minutes.
        last: The value at the end.
        high: The highest value of all.
        low: The lowest value of all.
    """

    ends: list[tuple[float, ...]]
    highs: list[tuple[float, ...]]
    lows: list[tuple[float, ...]]
    volumes: list[tuple[float, ...]]
    last: list[float]
    high: list[float]
    low: list[float]


@lru_cache(maxsize=1)
def _blocks() -> Blocks:
    """Return 256 blocks, so that every byte is an index; half of them upside down."""
    rng = Random("blocks")
    ends = list[tuple[float, ...]]()
    highs, lows, volumes = ends[:], ends[:], ends[:]
    for walk in _walks(rng):
        tops, bottoms = zip(
            *(_reach(*step, rng) for step in pairwise(walk)), strict=True
        )
        shares = list(accumulate((0.5 + rng.random() for _ in tops), initial=0.0))
        volumes += [tuple(one * _BLOCK / shares[-1] for one in shares)] * 2
        ends += [walk, tuple(-one for one in walk)]
        highs += [tops, tuple(-one for one in bottoms)]
        lows += [bottoms, tuple(-one for one in tops)]
    times = 256 // len(ends)
    ends, highs, lows, volumes = (one * times for one in (ends, highs, lows, volumes))
    last = [one[-1] for one in ends]
    return Blocks(
        ends, highs, lows, volumes, last, [*map(max, highs)], [*map(min, lows)]
    )


def _walks(rng: Random) -> list[tuple[float, ...]]:
    """Return walks whose minutes, and whose ends, have exactly the variance they should."""
    bridges = [_bridge(rng) for _ in range(_WALKS)]
    total = sum(step * step for steps in bridges for step in steps)
    scale = math.sqrt(_WALKS * (_BLOCK - 1) / total)
    ends = [rng.gauss(0.0, 1.0) for _ in range(_WALKS)]
    reach = math.sqrt(_WALKS * _BLOCK / sum(end * end for end in ends))
    return [
        tuple(accumulate((step * scale + drift for step in steps), initial=0.0))
        for steps, drift in zip(
            bridges, (end * reach / _BLOCK for end in ends), strict=True
        )
    ]


def _bridge(rng: Random) -> list[float]:
    """Return steps that end where they began."""
    steps = [rng.gauss(0.0, 1.0) for _ in range(_BLOCK)]
    mean = sum(steps) / _BLOCK
    return [step - mean for step in steps]


def _reach(first: float, last: float, rng: Random) -> tuple[float, float]:
    """Return extremes of a minute, distributed as those of a Brownian motion."""
    up, down = (
        math.hypot(last - first, math.sqrt(-2 * math.log(1 - rng.random())))
        for _ in range(2)
    )
    middle = (first + last) / 2
    return max(middle + up / 2, first, last), min(middle - down / 2, first, last)


@lru_cache(maxsize=128)
def _offsets(blocks: bytes) -> tuple[float, ...]:
    """Return the level of each block's start above that of the day, and of its end."""
    return tuple(accumulate(map(_blocks().last.__getitem__, blocks), initial=0.0))


class PricePath(Struct, frozen=True):
    """The prices of one trading day.

    Attributes:
        spans: When it trades.
        blocks: The indexes of its blocks.
        scale: The volatility, with the sign of the day.
        level: The level at the open.
        volume: The mean volume of a minute.
    """

    spans: tuple[TimeSpan, ...]
    blocks: bytes
    scale: float
    level: float
    volume: float

    def level_at(self, minute: int) -> float:
        """Return the level after so many minutes."""
        return self.level + self.scale * _walk(self.blocks, minute)

    def kline(
        self, instrument: SimulatedInstrument, low: int, high: int
    ) -> IntegerKline:
        """Return the kline of the minutes from ``low`` to ``high`` (exclusive)."""
        up, down = self._extremes(low, high)
        if self.scale < 0:
            up, down = down, up
        first = price_of(instrument, self.level_at(low))
        last = price_of(instrument, self.level_at(high))
        top = price_of(instrument, self.level + self.scale * up)
        bottom = price_of(instrument, self.level + self.scale * down)
        volume = self._volume_before(high) - self._volume_before(low)
        turnover = instrument.turnover((first + last + top + bottom) // 4, volume)
        return IntegerKline(first, top, bottom, last, volume, turnover)

    def _extremes(self, low: int, high: int) -> tuple[float, float]:
        """Return the highest and the lowest value of the walk."""
        known, blocks, offsets = _blocks(), self.blocks, _offsets(self.blocks)
        first, begins = divmod(low, _BLOCK)
        last, ends = divmod(high, _BLOCK)
        whole = slice(first + (begins > 0), last)
        tops = [*map(add, offsets[whole], map(known.high.__getitem__, blocks[whole]))]
        bottoms = [*map(add, offsets[whole], map(known.low.__getitem__, blocks[whole]))]
        edges = [(first, begins, high - first * _BLOCK)] if begins else []
        if ends and not (begins and first == last):
            edges.append((last, 0, ends))
        for place, start, end in edges:
            block, offset = blocks[place], offsets[place]
            tops.append(offset + max(known.highs[block][start:end]))
            bottoms.append(offset + min(known.lows[block][start:end]))
        return max(tops), min(bottoms)

    def _volume_before(self, minute: int) -> int:
        """Return the volume of the first minutes; each has some."""
        place, rest = divmod(minute, _BLOCK)
        shares: float = place * _BLOCK
        if rest:
            shares += _blocks().volumes[self.blocks[place]][rest]
        return minute + int(self.volume * shares)


def _walk(blocks: bytes, minute: int) -> float:
    """Return the value of a day's walk after so many minutes."""
    place, rest = divmod(minute, _BLOCK)
    offset = _offsets(blocks)[place]
    return offset + _blocks().ends[blocks[place]][rest] if rest else offset


def _minutes_before(spans: tuple[TimeSpan, ...], second: int) -> int:
    """Return the number of minutes of the spans before a time."""
    minutes = 0
    for opens, closes in spans:
        if second <= opens:
            break
        minutes += (min(second, closes) - opens) // _MINUTE
    return minutes


class PriceHistory:
    """The prices before ``joins_at``, where they meet the instrument's first price."""

    def __init__(
        self, instrument: SimulatedInstrument, seed: int, joins_at: int
    ) -> None:
        self._instrument = instrument
        self._salt = f"{seed}:{instrument.symbol}"
        self._joins_at = joins_at
        self._next_date = local_date(instrument.market, joins_at - 1)
        self._paths: list[PricePath] = []  # The newest first.
        # Of each: its open, negative so that they ascend, and the minutes after its close.
        self._opens: list[int] = []
        self._minutes_after: list[int] = [0]
        # Each pushed snapshot has the previous close.
        self.price_before = lru_cache(maxsize=64)(self._price_before)

    def klines(
        self, interval: Interval, before: int, oldest: int
    ) -> Iterator[tuple[int, IntegerKline]]:
        """Yield start and values of the klines until ``before``, newest first.

        There are at least ``oldest`` klines of the interval before ``joins_at``, but none
        from before 1970.
        """
        market, start = self._instrument.market, math.inf
        kline: IntegerKline | None = None
        for index, path in self._paths_before(before, interval, oldest):
            for opens, closes in reversed(path.spans):
                at = min(closes, before)
                while at > opens:
                    if at <= start:
                        if kline is not None:
                            yield int(start), kline
                        start, kline = bar_start(at - 1, interval, market), None
                        if start < 0 or self._is_enough(index, interval, oldest):
                            return
                    low = max(int(start), opens)
                    kline = self._merged(path, low, at, kline)
                    at = low
        if kline is not None:
            yield int(start), kline

    def kline_between(self, start: int, end: int) -> IntegerKline | None:
        """Return the kline of a period until ``joins_at``; None without trading in it."""
        kline: IntegerKline | None = None
        for _, path in self._paths_before(end):
            kline = self._merged(path, start, end, kline)
            if start >= path.spans[0][0]:
                break
        return kline

    def _price_before(self, second: int) -> int:
        """Return the last price before a time, in increments."""
        for _, path in self._paths_before(second):
            level = path.level_at(_minutes_before(path.spans, second))
            return price_of(self._instrument, level)
        return self._instrument.price

    def _merged(
        self, path: PricePath, start: int, end: int, later: IntegerKline | None
    ) -> IntegerKline | None:
        """Return the kline of a part of a day with a later one merged into it."""
        low, high = (_minutes_before(path.spans, one) for one in (start, end))
        if low == high:
            return later
        kline = path.kline(self._instrument, low, high)
        if later is not None:
            kline.merge(later)
        return kline

    def _paths_before(
        self, second: int, interval: Interval = Interval.DAY, oldest: float = math.inf
    ) -> Iterator[tuple[int, PricePath]]:
        """Yield the days that began before a time, newest first, with their indexes."""
        index = bisect_right(self._opens, -second)
        while index < len(self._paths) or self._extend():
            path = self._paths[index]
            if path.spans[0][0] < second:
                yield index, path
            elif self._is_enough(index, interval, oldest):
                return
            index += 1

    def _is_enough(self, index: int, interval: Interval, oldest: float) -> bool:
        """Whether the days before an index have at least ``oldest`` klines."""
        if interval < Interval.DAY:
            return self._minutes_after[index] >= oldest * interval
        return index >= oldest * _DAYS[interval]

    def _extend(self) -> bool:
        """Add the day before the oldest one; return False in 1970."""
        market, spans = self._instrument.market, tuple[TimeSpan, ...]()
        day = self._next_date
        while not spans:
            day, self._next_date = self._next_date, self._next_date - _DAY
            if day.year < _FIRST_YEAR:
                self._next_date = day
                return False
            spans = tuple(
                (opens, min(closes, self._joins_at))
                for opens, closes in trading_spans(market, day)
                if opens < self._joins_at
            )
        path = self._path(day, spans)
        self._paths.append(path)
        self._opens.append(-spans[0][0])
        minutes = _minutes_before(spans, spans[-1][1])
        self._minutes_after.append(self._minutes_after[-1] + minutes)
        return True

    def _path(self, day: date, spans: tuple[TimeSpan, ...]) -> PricePath:
        """Return the path of a day that ends where the following one begins."""
        instrument, known = self._instrument, self._paths
        level = known[-1].level if known else 0.0
        minutes = _minutes_before(spans, spans[-1][1])
        count = -(-minutes // _BLOCK)
        key = f"{self._salt}:{day}".encode()
        digest = hashlib.blake2b(key, digest_size=count + 2).digest()
        blocks, (chance, busy) = digest[:count], digest[count:]
        walked = _walk(blocks, minutes)
        # A little more often the day leads towards the first price than away from it.
        usual = instrument.volatility * math.sqrt(minutes)
        nearer = chance < _EVEN * (1 + usual * abs(level) / (1.6 * _SPREAD**2))
        sign = 1 if (walked * level >= 0) is nearer else -1
        scale = sign * instrument.volatility
        volume = instrument.rate * instrument.size * _MINUTE * (0.5 + busy / 255)
        return PricePath(spans, blocks, scale, level - scale * walked, volume)
