"""One bar, growing and as it is yielded."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Generic

from msgspec import Struct

from qos_async.enums import Interval, Session
from qos_async.markets.alignment import BarSpan
from qos_async.models import N, Trade
from qos_async.periods import bar_date
from qos_async.symbols import market_of

__all__ = ["Bar", "OpenBar"]

_LOTS = {"SH": 100, "SZ": 100}


class Bar(Struct, Generic[N], frozen=True, kw_only=True, gc=False):
    """One kline, built from trades.

    Attributes:
        symbol: Canonical, such as ``"US:AAPL"``.
        interval: Its nominal length.
        timestamp: The start, in epoch seconds.
        end_timestamp: The end, in epoch seconds (exclusive); not after its session.
        open: The first price.
        high: The highest price.
        low: The lowest price.
        close: The last price.
        volume: The sum of the sizes, in the units of ``Trade.size``; None if no trade
            had one.
        turnover: The sum of price times size, in the trading currency (lots of 100 in SH
            and SZ are multiplied out); None like ``volume``.
        count: The number of trades.
        session: The part of the trading day; None for a day or longer, and in a closed
            market.
        final: Whether it is over.
        complete: Whether no trade of it was missed, as far as is known.
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
        """The start, as an aware UTC datetime."""
        return datetime.fromtimestamp(self.timestamp, UTC)

    @property
    def date(self) -> date:
        """The trading date on which it starts, in the time zone of its market."""
        return bar_date(self.timestamp, market_of(self.symbol))

    @property
    def end(self) -> datetime:
        """The end (exclusive), as an aware UTC datetime."""
        return datetime.fromtimestamp(self.end_timestamp, UTC)

    @property
    def vwap(self) -> N | None:
        """The average price, weighted by size; None if no trade had a size."""
        if self.volume is None or self.turnover is None:
            return None
        volume = _to_number(self.volume) * _LOTS.get(market_of(self.symbol), 1)
        return _like(self.open, _to_number(self.turnover) / volume) if volume else None


class OpenBar:
    """A bar that is still growing.

    Attributes:
        span: Its times.
        complete: Whether no trade of it was missed so far.
        emitted: Whether it was emitted as final, and had no trade since.
        superseded: Whether a trade of a later bar has ended it.
    """

    __slots__ = (
        "close",
        "complete",
        "count",
        "emitted",
        "high",
        "low",
        "open",
        "span",
        "superseded",
        "turnover",
        "volume",
    )

    def __init__(self, trade: Trade[Any], span: BarSpan, *, complete: bool) -> None:
        self.span = span
        self.complete = complete
        self.emitted = self.superseded = False
        self.open = self.high = self.low = self.close = trade.price
        self.volume: Any = None
        self.turnover: Any = None
        self.count = 0

    def has(self, second: float) -> bool:
        """Whether a trade of this second belongs to it."""
        return self.span.first <= second < self.span.until

    def add(self, trade: Trade[Any]) -> None:
        """Add a trade."""
        price: Any = trade.price
        number = _to_number(price)
        if number > _to_number(self.high):
            self.high = price
        if number < _to_number(self.low):
            self.low = price
        self.close = price
        self.count += 1
        self.emitted = False
        if trade.size is not None:
            size = _to_number(trade.size)
            money = number * size * _LOTS.get(market_of(trade.symbol), 1)
            self.volume = size if self.volume is None else self.volume + size
            self.turnover = money if self.turnover is None else self.turnover + money

    def mark_incomplete(self) -> None:
        """Mark it incomplete; if it was emitted as complete, it will be emitted again."""
        if self.complete and not self.superseded:
            self.complete = self.emitted = False

    def bar(self, symbol: str, interval: Interval, *, final: bool) -> Bar[Any]:
        """Return its present state."""
        span = self.span
        return Bar(
            symbol=symbol,
            interval=interval,
            timestamp=span.start,
            end_timestamp=span.end,
            open=self.open,
            high=self.high,
            low=self.low,
            close=self.close,
            volume=_like(self.open, self.volume),
            turnover=_like(self.open, self.turnover),
            count=self.count,
            session=span.session,
            final=final,
            complete=self.complete,
        )


def _to_number(value: Any) -> Any:
    """Return the number of a string."""
    return Decimal(value) if isinstance(value, str) else value


def _like(example: Any, number: Any) -> Any:
    """Return a number in the type of the stream, of which ``example`` is one."""
    if isinstance(example, str) and number is not None:
        return f"{number:f}"  # str(Decimal("0.00000001")) would be 1E-8.
    return number
