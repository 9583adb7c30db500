"""Bars built from a stream of trades."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Generic, Protocol, Self, cast

from msgspec import Struct

from qos_async._core.notices import Dropped, Gap, Notice
from qos_async._validation import check_number
from qos_async.enums import Channel, Interval, Session
from qos_async.markets.alignment import BarAligner, BarSpan
from qos_async.markets.hours import Calendar, TradingHours
from qos_async.markets.staleness import Stale
from qos_async.models import AnyTick, N, Trade
from qos_async.symbols import market_of

__all__ = ["Bar", "BarBuilder", "BarIterator", "bars"]

_LOTS = {"SH": 100, "SZ": 100}
# Seconds added on both sides of a gap: timestamps are whole seconds, and clocks differ.
_SLACK = 2.0
# The most seconds between a timestamp and the receipt, if the clocks agree.
_AGREEMENT = 5.0


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


class _OpenBar:
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


class BarBuilder(Generic[N]):
    """Builds bars from trades and notices; it neither waits nor reads a clock."""

    def __init__(
        self, interval: Interval, aligner: BarAligner, *, growing: bool
    ) -> None:
        self._interval = interval
        self._aligner = aligner
        self._growing = growing
        self._newest: dict[str, _OpenBar] = {}
        self._gaps: dict[str, list[tuple[float, float]]] = {}
        self._incomplete: set[str] = set()
        self._clocks_agree = False

    def push(self, event: object) -> list[Bar[N]]:
        """Add an event; return the bars that it ends, and the growing one if wanted.

        Raises:
            ValueError: For a list of trades, as ``batches`` yields.
        """
        if isinstance(event, list):
            raise ValueError(  # noqa: TRY004 - as for every wrong argument
                "bars accepts single trades: pass the subscription or its events(), "
                "not batches()"
            )
        if isinstance(event, Trade):
            return self._add(cast("Trade[N]", event))
        if isinstance(event, Gap):
            self._on_gap(event)
        elif isinstance(event, Dropped):
            for symbol in self._newest:
                self._mark_incomplete(symbol)
        return []

    def close(self, second: float) -> list[Bar[N]]:
        """Return the bars that ended by ``second`` and were not emitted yet."""
        over = [
            symbol
            for symbol, newest in self._newest.items()
            if not newest.emitted and self._due(newest) <= second
        ]
        return [self._emit(symbol) for symbol in over]

    @property
    def due_at(self) -> float | None:
        """The end of the next bar, in epoch seconds; None if no bar is growing."""
        newest = self._newest.values()
        return min((self._due(one) for one in newest if not one.emitted), default=None)

    def flush(self) -> list[Bar[N]]:
        """Return the growing bars as they are, once."""
        left = [
            (symbol, one) for symbol, one in self._newest.items() if not one.emitted
        ]
        for _, newest in left:
            newest.emitted = True
        if self._growing:
            return []
        return [one.bar(symbol, self._interval, final=False) for symbol, one in left]

    def _due(self, newest: _OpenBar) -> float:
        return max(newest.span.until, newest.span.end)

    def _add(self, trade: Trade[N]) -> list[Bar[N]]:
        symbol, second = trade.symbol, trade.timestamp
        newest, emitted = self._newest.get(symbol), list[Bar[N]]()
        if newest is None or not newest.span.first <= second < newest.span.until:
            span = self._aligner.span_for(market_of(symbol), second)
            if newest is not None:
                if span.start < newest.span.start:
                    return []
                if span.start > newest.span.start:
                    newest.superseded = True
                    if not newest.emitted:
                        emitted.append(self._emit(symbol))
            if not span.counts:
                return emitted
            newest = self._open(trade, span, newest)
        newest.add(trade)
        self._check_trade(trade, newest)
        if self._growing:
            emitted.append(newest.bar(symbol, self._interval, final=False))
        return emitted

    def _open(
        self, trade: Trade[N], span: BarSpan, newest: _OpenBar | None
    ) -> _OpenBar:
        """Start a bar, or continue the newest in another session of its day."""
        if newest is not None and newest.span.start == span.start:
            newest.span = span
            return newest
        symbol = trade.symbol
        gaps = [gap for gap in self._gaps.pop(symbol, ()) if gap[1] > span.start]
        if gaps:
            self._gaps[symbol] = gaps
        whole = newest is not None and not _overlaps(span, gaps)
        self._newest[symbol] = _OpenBar(trade, span, complete=whole)
        return self._newest[symbol]

    def _emit(self, symbol: str) -> Bar[N]:
        newest = self._newest[symbol]
        newest.emitted = True
        return newest.bar(symbol, self._interval, final=True)

    def _on_gap(self, gap: Gap) -> None:
        if gap.topic.channel is not Channel.TRADE or gap.status == "filled":
            return
        symbol = gap.topic.symbol
        if not self._clocks_agree:
            self._mark_incomplete(symbol)
            return
        since, until = gap.since.timestamp(), gap.until.timestamp()
        gap_span = (since - _SLACK, until + _SLACK)
        self._gaps.setdefault(symbol, []).append(gap_span)
        newest = self._newest.get(symbol)
        if newest is not None and _overlaps(newest.span, [gap_span]):
            newest.mark_incomplete()

    def _mark_incomplete(self, symbol: str) -> None:
        """Mark all bars of a symbol incomplete, up to the next trade that is pushed."""
        self._incomplete.add(symbol)
        if symbol in self._newest:
            self._newest[symbol].mark_incomplete()

    def _check_trade(self, trade: Trade[N], newest: _OpenBar) -> None:
        if trade.symbol in self._incomplete:
            newest.mark_incomplete()
            if not trade.recovered:
                self._incomplete.discard(trade.symbol)
        if trade.received_at:
            lag = trade.received_at / 1e9 - trade.timestamp
            self._clocks_agree = abs(lag) <= _AGREEMENT


def _overlaps(span: BarSpan, gaps: Iterable[tuple[float, float]]) -> bool:
    return any(
        since < max(span.end, span.until) and until > min(span.start, span.first)
        for since, until in gaps
    )


def _to_number(value: Any) -> Any:
    """Return the number of a string."""
    return Decimal(value) if isinstance(value, str) else value


def _like(example: Any, number: Any) -> Any:
    """Return a number in the type of the stream, of which ``example`` is one."""
    if isinstance(example, str) and number is not None:
        return f"{number:f}"  # str(Decimal("0.00000001")) would be 1E-8.
    return number


class TradeSource(Protocol[N]):
    """A subscription, as ``Client.watch_trades`` returns it."""

    def events(self) -> AsyncIterator[Trade[N] | Notice]:
        """Return an iterator over trades and notices."""
        ...


def bars(
    trades: TradeSource[N] | AsyncIterable[AnyTick[N] | Notice | Stale],
    interval: Interval | str,
    *,
    calendar: Calendar | None = None,
    growing: bool = False,
    close_after: float | None = None,
) -> BarIterator[N]:
    """Build bars from trades; each is yielded once, when it is over.

    >>> async with client.watch_trades("US:AAPL") as trades:
    ...     async for bar in bars(trades, "5m"):
    ...         print(bar.time, bar.close, bar.volume, bar.complete)

    **Where a bar starts.** Below a day: at the start of its session plus whole intervals,
    and it ends with its session at the latest. So the hours of the US are 9:30, 10:30, …,
    15:30 (half an hour), those of Hong Kong 9:30, 10:30, 11:30 (half an hour), 13:00, ….
    Extended hours have bars of their own (see ``session``). Trades of an opening auction
    belong to the first bar of their session, those of a closing auction to the last. In a
    closed market, or where the hours are unknown (IX), bars are aligned to local midnight.
    A day or longer: at local midnight of the market, as the service's klines do. In the
    US these have regular hours only, the second 16:00:00 of the closing auction included.
    A time without a trade has no bar.

    **When a bar is over.** With the first trade of its symbol that has a later timestamp. The
    last bar of a quiet symbol waits for that; with ``close_after``, for the clock. When
    the stream ends, growing bars are yielded as they are, with ``final=False``.

    **Outages.** Recovered trades follow their ``Gap`` and count like any other. A gap with
    the status ``"filled"`` has no effect. Any other marks each bar incomplete that
    overlaps it, extended by two seconds on both sides. ``Dropped`` has no time: it marks
    the bars of all symbols incomplete, from the trade before it to the next. So does a gap
    if timestamps and this machine's clock differ by more than five seconds, as with a
    wrong clock or a fast replay. The first bar of a symbol is never complete: the trades
    before its first are unknown.

    **Late trades.** A trade with a timestamp before the newest bar of its symbol is left
    out, and marks nothing incomplete.

    Args:
        trades: A subscription (its gaps are taken into account), or any async iterable of
            trades and other items of ``Subscription.events()``; ticks of other channels
            are skipped. Numbers of any type: those of the bars are the same.
        interval: Such as ``"1m"`` or ``Interval.MIN_1``.
        calendar: Holidays and half days, as for ``sessions``.
        growing: Also yield the growing bar after each trade, with ``final=False``.
        close_after: Seconds after its end by this machine's clock at which a bar is over
            even without a later trade; None waits for the trade. If trades of that bar
            are recovered after an outage, it is yielded a second time, with them. For
            subscriptions only.

    Raises:
        ValueError: For an unknown interval, a negative ``close_after``, or one without a
            subscription; for trades that are not an async iterable, or a ``calendar``
            that is not a calendar.
        ModuleNotFoundError: From the iterator, as for ``sessions``.
    """
    close_after = check_number(
        "close_after", close_after, unit="seconds", optional=True
    )
    events: Any = getattr(trades, "events", None)
    if close_after is not None and events is None:
        raise ValueError(
            "close_after needs a live subscription, such as client.watch_trades(...), "
            f"not {type(trades).__name__}"
        )
    if events is None and not isinstance(trades, AsyncIterable):
        raise ValueError(
            "trades must be a subscription, such as client.watch_trades(...), or an "
            f"async iterable of trades, not {type(trades).__name__}"
        )
    source = trades if events is None else events()
    aligner = BarAligner(Interval.parse(interval), TradingHours(calendar))
    builder = BarBuilder[N](Interval.parse(interval), aligner, growing=growing)
    return BarIterator(cast("AsyncIterable[Any]", source), builder, close_after)


class BarIterator(Generic[N]):
    """Bars built from trades, read with ``async for``; ``bars`` returns one."""

    def __init__(
        self,
        source: AsyncIterable[Any],
        builder: BarBuilder[N],
        close_after: float | None,
    ) -> None:
        self._source = source
        self._events: AsyncIterator[Any] | None = None
        self._builder = builder
        self._close_after = close_after
        self._ready: deque[Bar[N]] = deque()
        self._closed = False

    def __aiter__(self) -> Self:
        self._events = aiter(self._source)
        return self

    async def aclose(self) -> None:
        """End this iterator, and the events that it reads; the subscription stays."""
        self._closed = True
        self._ready.clear()
        close = getattr(self._events or self._source, "aclose", None)
        if close is not None:
            await close()

    async def __anext__(self) -> Bar[N]:
        ready = self._ready
        if self._closed:
            raise StopAsyncIteration
        while not ready:
            try:
                ready.extend(await self._next_bars())
            except StopAsyncIteration:
                if not self._closed:
                    ready.extend(self._builder.flush())
                if not ready:
                    raise
        return ready.popleft()

    async def _next_bars(self) -> list[Bar[N]]:
        if self._events is None:
            self._events = aiter(self._source)
        builder, close_after = self._builder, self._close_after
        if close_after is None or (due := builder.due_at) is None:
            return builder.push(await anext(self._events))
        # With a timeout of 0, a trade that is buffered already is still received first.
        scope = asyncio.timeout(max(due + close_after - time.time(), 0))
        try:
            async with scope:
                event = await anext(self._events)
        except TimeoutError:
            if not scope.expired():
                raise
            return builder.close(time.time() - close_after)
        return builder.push(event)
