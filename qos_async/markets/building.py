"""Adding trades up to bars; nothing here waits or reads a clock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Generic, cast

from msgspec import Struct

from qos_async._core.recovery.gaps import Dropped, Gap
from qos_async.enums import Channel, Interval, Session
from qos_async.markets.placing import Period, Periods
from qos_async.models import N, Trade
from qos_async.symbols import market_of

__all__ = ["Bar", "Builder"]

_LOTS = {"SH": 100, "SZ": 100}
_SLACK = 2.0  # Seconds: stamps are whole, and clocks are not quite right.
_AGREEMENT = 5.0  # Seconds that a trade may take from its stamp to this machine.


class Bar(Struct, Generic[N], frozen=True, kw_only=True, gc=False):
    """One kline, built from trades.

    Attributes:
        symbol: Canonical, such as ``"US:AAPL"``.
        interval: Its nominal length.
        timestamp: When it starts, in epoch seconds.
        end_timestamp: When it is over, in epoch seconds (exclusive): with its session at
            the latest.
        open: The first price.
        high: The highest price.
        low: The lowest price.
        close: The last price.
        volume: The sizes added up, in the units of ``Trade.size``; None if no trade had
            one.
        turnover: Price times size added up, in the trading currency (the lots of 100 of
            SH and SZ multiplied out); None like ``volume``.
        count: How many trades.
        session: The part of the trading day; None for a day or longer, and in a closed
            market.
        final: Whether it is over.
        complete: Whether no trade of it was missed, as far as anybody can tell.
    """

    symbol: str
    interval: Interval
    timestamp: int
    end_timestamp: int
    open: N
    high: N
    low: N
    close: N
    volume: N | None = None
    turnover: N | None = None
    count: int = 0
    session: Session | None = None
    final: bool = False
    complete: bool = False

    @property
    def time(self) -> datetime:
        """When it starts, as an aware UTC datetime."""
        return datetime.fromtimestamp(self.timestamp, UTC)

    @property
    def end(self) -> datetime:
        """When it is over, as an aware UTC datetime (exclusive)."""
        return datetime.fromtimestamp(self.end_timestamp, UTC)

    @property
    def vwap(self) -> N | None:
        """The average price, weighted by size; None if no trade had a size."""
        if self.volume is None or self.turnover is None:
            return None
        volume = _number(self.volume) * _LOTS.get(market_of(self.symbol), 1)
        return _as(self.open, _number(self.turnover) / volume) if volume else None


class _Growing:
    """A bar while it grows.

    Attributes:
        period: Where it lies.
        complete: Whether nothing of it was missed so far.
        given: Whether it was given as final.
        passed: Whether a later trade ended it, for good.
    """

    __slots__ = (
        "close",
        "complete",
        "count",
        "given",
        "high",
        "low",
        "open",
        "passed",
        "period",
        "turnover",
        "volume",
    )

    def __init__(self, trade: Trade[Any], period: Period, *, complete: bool) -> None:
        self.period = period
        self.complete = complete
        self.given = self.passed = False
        self.open = self.high = self.low = self.close = trade.price
        self.volume: Any = None
        self.turnover: Any = None
        self.count = 0

    def absorb(self, trade: Trade[Any]) -> None:
        """Take a trade in."""
        price: Any = trade.price
        number = _number(price)
        if number > _number(self.high):
            self.high = price
        if number < _number(self.low):
            self.low = price
        self.close = price
        self.count += 1
        self.given = False
        if trade.size is not None:
            size = _number(trade.size)
            money = number * size * _LOTS.get(market_of(trade.symbol), 1)
            self.volume = size if self.volume is None else self.volume + size
            self.turnover = money if self.turnover is None else self.turnover + money

    def spoil(self) -> None:
        """Something of it was missed: if it was given as complete, it was so in vain."""
        if self.complete and not self.passed:
            self.complete = self.given = False

    def bar(self, symbol: str, interval: Interval, *, final: bool) -> Bar[Any]:
        """Show it as it is."""
        period = self.period
        return Bar(
            symbol=symbol,
            interval=interval,
            timestamp=period.start,
            end_timestamp=period.end,
            open=self.open,
            high=self.high,
            low=self.low,
            close=self.close,
            volume=_as(self.open, self.volume),
            turnover=_as(self.open, self.turnover),
            count=self.count,
            session=period.session,
            final=final,
            complete=self.complete,
        )


class Builder(Generic[N]):
    """Takes trades and notices in, and gives bars."""

    def __init__(self, interval: Interval, periods: Periods, *, growing: bool) -> None:
        self._interval = interval
        self._periods = periods
        self._shows_growth = growing
        self._newest: dict[str, _Growing] = {}
        self._holes: dict[str, list[tuple[float, float]]] = {}
        self._torn: set[str] = set()
        self._clocks_agree = False

    def take(self, event: object) -> list[Bar[N]]:
        """Take an event in; give the bars that are over by it, and the growing one.

        Raises:
            ValueError: For lists of trades, as ``batches`` gives.
        """
        if isinstance(event, list):
            raise ValueError(  # noqa: TRY004 - as for every wrong argument
                "bars takes trades one at a time: pass the subscription or its "
                "events(), not batches()"
            )
        if isinstance(event, Trade):
            return self._add(cast("Trade[N]", event))
        if isinstance(event, Gap):
            self._tear(event)
        elif isinstance(event, Dropped):
            for symbol in self._newest:
                self._spoil(symbol)
        return []

    def close(self, second: float) -> list[Bar[N]]:
        """Give the bars that ended by ``second`` and were not given yet."""
        over = [
            symbol
            for symbol, newest in self._newest.items()
            if not newest.given and self._due(newest) <= second
        ]
        return [self._give(symbol) for symbol in over]

    @property
    def due_at(self) -> float | None:
        """When the next bar ends by this machine's clock; None if none grows."""
        newest = self._newest.values()
        return min((self._due(one) for one in newest if not one.given), default=None)

    def rest(self) -> list[Bar[N]]:
        """Give what grows, as it is, once."""
        left = [(symbol, one) for symbol, one in self._newest.items() if not one.given]
        for _, newest in left:
            newest.given = True
        if self._shows_growth:
            return []
        return [one.bar(symbol, self._interval, final=False) for symbol, one in left]

    def _due(self, newest: _Growing) -> float:
        return max(newest.period.until, newest.period.end)

    def _add(self, trade: Trade[N]) -> list[Bar[N]]:
        symbol, second = trade.symbol, trade.timestamp
        newest, given = self._newest.get(symbol), list[Bar[N]]()
        if newest is None or not newest.period.first <= second < newest.period.until:
            period = self._periods.find(market_of(symbol), second)
            if newest is not None:
                if period.start < newest.period.start:
                    return []
                if period.start > newest.period.start:
                    newest.passed = True
                    if not newest.given:
                        given.append(self._give(symbol))
            if not period.counts:
                return given
            newest = self._open(trade, period, newest)
        newest.absorb(trade)
        self._note(trade, newest)
        if self._shows_growth:
            given.append(newest.bar(symbol, self._interval, final=False))
        return given

    def _open(
        self, trade: Trade[N], period: Period, newest: _Growing | None
    ) -> _Growing:
        """Start a bar, or go on with the newest at another time of its day."""
        if newest is not None and newest.period.start == period.start:
            newest.period = period
            return newest
        symbol = trade.symbol
        holes = [hole for hole in self._holes.pop(symbol, ()) if hole[1] > period.start]
        if holes:
            self._holes[symbol] = holes
        whole = newest is not None and not _touched(period, holes)
        self._newest[symbol] = _Growing(trade, period, complete=whole)
        return self._newest[symbol]

    def _give(self, symbol: str) -> Bar[N]:
        newest = self._newest[symbol]
        newest.given = True
        return newest.bar(symbol, self._interval, final=True)

    def _tear(self, gap: Gap) -> None:
        if gap.topic.channel is not Channel.TRADE or gap.status == "filled":
            return
        symbol = gap.topic.symbol
        if not self._clocks_agree:
            self._spoil(symbol)
            return
        since, until = gap.since.timestamp(), gap.until.timestamp()
        hole = (since - _SLACK, until + _SLACK)
        self._holes.setdefault(symbol, []).append(hole)
        newest = self._newest.get(symbol)
        if newest is not None and _touched(newest.period, [hole]):
            newest.spoil()

    def _spoil(self, symbol: str) -> None:
        """What is missing lies between the last trade and the next that is pushed."""
        self._torn.add(symbol)
        if symbol in self._newest:
            self._newest[symbol].spoil()

    def _note(self, trade: Trade[N], newest: _Growing) -> None:
        if trade.symbol in self._torn:
            newest.spoil()
            if not trade.recovered:
                self._torn.discard(trade.symbol)
        if trade.received_at:
            lag = trade.received_at / 1e9 - trade.timestamp
            self._clocks_agree = abs(lag) <= _AGREEMENT


def _touched(period: Period, holes: Iterable[tuple[float, float]]) -> bool:
    return any(
        since < max(period.end, period.until)
        and until > min(period.start, period.first)
        for since, until in holes
    )


def _number(value: Any) -> Any:
    """Take text for the number that it is."""
    return Decimal(value) if isinstance(value, str) else value


def _as(example: Any, number: Any) -> Any:
    """Write a number as the stream does."""
    if isinstance(example, str) and number is not None:
        return f"{number:f}"  # str would make 1E-8 of 0.00000001.
    return number
