"""Bars built from a stream of trades."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, Generic, Protocol, cast, overload

from qos_async._core.notices import Dropped, Gap, Notice
from qos_async._validation import check_number
from qos_async.enums import Channel, Interval
from qos_async.markets.alignment import BarAligner, BarSpan
from qos_async.markets.bar import Bar, OpenBar
from qos_async.markets.bar_iterators import BarIterator, PastBars
from qos_async.markets.hours import Calendar, TradingHours
from qos_async.markets.rows import is_rows
from qos_async.markets.staleness import Stale
from qos_async.markets.stamps import AGREEMENT, StampFilter, Verdict, is_possible
from qos_async.models import AnyTick, N, Trade
from qos_async.symbols import market_of

__all__ = ["Bar", "BarBuilder", "bars"]

# Seconds added on both sides of a gap: timestamps are whole seconds, and clocks differ.
_SLACK = 2.0

_log = logging.getLogger("qos_async.bars")


class BarBuilder(Generic[N]):
    """Builds bars from trades and notices; it neither waits nor reads a clock."""

    def __init__(
        self, interval: Interval, aligner: BarAligner, *, growing: bool
    ) -> None:
        self._interval = interval
        self._aligner = aligner
        self._growing = growing
        self._stamps = StampFilter()
        self._newest: dict[str, OpenBar] = {}
        # The bars beside the newest: before it, or left when the clock was set back.
        self._others: defaultdict[str, deque[OpenBar]] = defaultdict(_few)
        self._gaps: dict[str, list[tuple[float, float]]] = {}
        self._incomplete: set[str] = set()
        self._clocks_agree = False
        self._left_out: dict[str, int] = {}

    @property
    def left_out(self) -> int:
        """The trades left out because their timestamps cannot be right."""
        return sum(self._left_out.values())

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
            trade = cast("Trade[N]", event)
            return self._apply(trade.symbol, self._stamps.push(trade))
        emitted: list[Bar[N]] = []
        if isinstance(event, Gap):
            emitted = self._release(event.topic.symbol)
            self._on_gap(event)
        elif isinstance(event, Dropped):
            emitted = self._release()
            for symbol in self._newest:
                self._mark_incomplete(symbol)
        return emitted

    def close(self, second: float) -> list[Bar[N]]:
        """Return the bars that ended by ``second`` and were not emitted yet.

        Args:
            second: By the clock of the source, in epoch seconds. Where timestamps differ
                from that by more than five seconds, the difference is added.
        """
        over = [
            symbol
            for symbol, newest in self._newest.items()
            if not newest.emitted and self._due(symbol, newest) <= second
        ]
        return [self._emit(symbol) for symbol in over]

    @property
    def due_at(self) -> float | None:
        """The end of the next bar, as for ``close``; None if no bar is growing."""
        newest = self._newest.items()
        dues = (self._due(symbol, one) for symbol, one in newest if not one.emitted)
        return min(dues, default=None)

    def flush(self) -> list[Bar[N]]:
        """Return the bars that are over, and the growing ones as they are, once."""
        over = self._release()
        left = [
            (symbol, one) for symbol, one in self._newest.items() if not one.emitted
        ]
        for _, newest in left:
            newest.emitted = True
        if self._growing:
            return over
        growing = [one.bar(symbol, self._interval, final=False) for symbol, one in left]
        return over + growing

    def _due(self, symbol: str, newest: OpenBar) -> float:
        end = max(newest.span.until, newest.span.end)
        return end - self._stamps.offset(symbol)

    # Timestamps that cannot be right

    def _release(self, symbol: str | None = None) -> list[Bar[N]]:
        """Decide on trades that wait for the next of their symbol."""
        emitted: list[Bar[N]] = []
        for verdict in self._stamps.release(symbol):
            (trade,) = verdict.use + verdict.lost
            emitted += self._apply(trade.symbol, verdict)
        return emitted

    def _apply(self, symbol: str, verdict: Verdict) -> list[Bar[N]]:
        emitted: list[Bar[N]] = []
        for trade in verdict.lost:
            newest, second = self._newest.get(symbol), trade.timestamp
            if newest is not None and is_possible(second) and newest.has(second):
                emitted += self._add(trade)  # It is of this bar in any case.
            else:
                self._leave_out(trade)
                if is_possible(second):
                    emitted += self._mark_earlier(symbol, second)
        if verdict.wrong is not None:
            second = verdict.use[0].timestamp
            emitted += self._rewind(verdict.wrong, second, alone=verdict.alone)
        for trade in verdict.use:
            emitted += self._add(trade)
        return emitted

    def _mark_earlier(self, symbol: str, second: float) -> list[Bar[N]]:
        """Mark the bar before the newest incomplete to which a second belongs."""
        others = self._others[symbol]
        found = [one for one in others if one.complete and one.has(second)]
        for one in found:
            one.complete = False
        return [one.bar(symbol, self._interval, final=True) for one in found]

    def _rewind(self, wrong: Trade[N], second: float, *, alone: bool) -> list[Bar[N]]:
        """Undo the bar of a trade whose timestamp was wrong, to go on at ``second``."""
        symbol, emitted = wrong.symbol, list[Bar[N]]()
        newest, others = self._newest[symbol], self._others[symbol]
        if newest.has(second):
            return []
        del self._newest[symbol]
        earlier = [one for one in others if one.span.start <= second]
        if earlier:
            before = max(earlier, key=lambda one: one.span.start)
            others.remove(before)
            self._newest[symbol] = before
            before.superseded = False
        if newest.count == 1 and alone:
            self._leave_out(wrong)
            return []
        others.append(newest)
        if not newest.emitted:
            newest.complete, newest.emitted = False, True
            emitted.append(newest.bar(symbol, self._interval, final=True))
        self._mark_incomplete(symbol)
        return emitted

    def _leave_out(self, trade: Trade[N]) -> None:
        symbol = trade.symbol
        if symbol not in self._left_out:
            _log.warning(
                "%s: a trade with the timestamp %r is left out of its bars: it disagrees "
                "with the trades around it, whose bars are incomplete; further ones are "
                "counted only (see left_out)",
                symbol,
                trade.timestamp,
            )
        self._left_out[symbol] = self._left_out.get(symbol, 0) + 1
        self._mark_incomplete(symbol)

    # Trades

    def _add(self, trade: Trade[N]) -> list[Bar[N]]:
        symbol, second = trade.symbol, trade.timestamp
        newest, emitted = self._newest.get(symbol), list[Bar[N]]()
        if newest is None or not newest.has(second):
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

    def _open(self, trade: Trade[N], span: BarSpan, newest: OpenBar | None) -> OpenBar:
        """Start a bar, or continue the newest in another session of its day."""
        if newest is not None and newest.span.start == span.start:
            newest.span = span
            return newest
        symbol = trade.symbol
        others = self._others[symbol]
        left = next((one for one in others if one.span.start == span.start), None)
        if left is not None:
            others.remove(left)
            left.span, left.superseded = span, False
        if newest is not None:
            others.append(newest)
        if left is not None:
            self._newest[symbol] = left
            return left
        gaps = [gap for gap in self._gaps.pop(symbol, ()) if gap[1] > span.start]
        if gaps:
            self._gaps[symbol] = gaps
        whole = newest is not None and not _overlaps(span, gaps)
        self._newest[symbol] = OpenBar(trade, span, complete=whole)
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

    def _check_trade(self, trade: Trade[N], newest: OpenBar) -> None:
        if trade.symbol in self._incomplete:
            newest.mark_incomplete()
            if not trade.recovered:
                self._incomplete.discard(trade.symbol)
        if trade.received_at:
            lag = trade.received_at / 1e9 - trade.timestamp
            self._clocks_agree = abs(lag) <= AGREEMENT


def _few() -> deque[OpenBar]:
    return deque(maxlen=2)


def _overlaps(span: BarSpan, gaps: Iterable[tuple[float, float]]) -> bool:
    return any(
        since < max(span.end, span.until) and until > min(span.start, span.first)
        for since, until in gaps
    )


class TradeSource(Protocol[N]):
    """A subscription, as ``Client.watch_trades`` returns it."""

    def events(self) -> AsyncIterator[Trade[N] | Notice]:
        """Return an iterator over trades and notices."""
        ...


@overload
def bars(
    trades: TradeSource[N] | AsyncIterable[AnyTick[N] | Notice | Stale],
    interval: Interval | str,
    *,
    calendar: Calendar | None = None,
    growing: bool = False,
    close_after: float | None = None,
) -> BarIterator[N]: ...
@overload
def bars(
    trades: Iterable[AnyTick[N] | Notice | Stale] | Mapping[str, list[Trade[N]]],
    interval: Interval | str,
    *,
    calendar: Calendar | None = None,
    growing: bool = False,
    close_after: None = None,
) -> PastBars[N]: ...
@overload
def bars(
    trades: Iterable[Any],
    interval: Interval | str,
    *,
    calendar: Calendar | None = None,
    growing: bool = False,
    close_after: None = None,
) -> PastBars[Any]: ...
def bars(
    trades: Any,
    interval: Interval | str,
    *,
    calendar: Calendar | None = None,
    growing: bool = False,
    close_after: float | None = None,
) -> BarIterator[Any] | PastBars[Any]:
    """Build bars from trades; each is yielded once, when it is over.

    >>> async with client.watch_trades("US:AAPL") as trades:
    ...     async for bar in bars(trades, "5m"):
    ...         print(bar.time, bar.close, bar.volume, bar.complete)

    Trades of the past, in a list, a ``Result`` or a frame, give an ordinary iterator:

    >>> past = await client.fetch_trades("CF:BTCUSDT", count=50)
    >>> for bar in bars(past, "1m"):
    ...     print(bar.time, bar.close, bar.volume)

    **Where a bar starts.** Below a day: at the start of its session plus whole intervals,
    and it ends with its session at the latest. So the hours of the US are 9:30, 10:30, …,
    15:30 (half an hour), those of Hong Kong 9:30, 10:30, 11:30 (half an hour), 13:00, ….
    Extended hours have bars of their own (see ``session``). Trades of an opening auction
    belong to the first bar of their session, those of a closing auction to the last. In a
    closed market, or where the hours are unknown (IX), bars are aligned to local midnight.
    A day or longer: at local midnight of the market, as the service's klines do. In the
    US these have regular hours only, the second 16:00:00 of the closing auction included.
    FX and CM trade over midnight: their day is the session of that date, from 17:00 (CM:
    18:00) to 17:00 in New York, and a week ends on Friday at 17:00. Trades of a closed
    weekend or holiday have days of their own (US, FX, CM), and are in no week, month or
    year that ended before or starts later, in the US in none at all. A time without a
    trade has no bar.

    **When a bar is over.** With the first trade of its symbol that has a later timestamp. The
    last bar of a quiet symbol waits for that; with ``close_after``, for the clock: this
    machine's, or in a replay the recorded time. When the stream ends, growing bars are
    yielded as they are, with ``final=False``.

    **Outages.** Recovered trades follow their ``Gap`` and count like any other. A gap with
    the status ``"filled"`` has no effect. Any other marks each bar incomplete that
    overlaps it, extended by two seconds on both sides. ``Dropped`` has no time: it marks
    the bars of all symbols incomplete, from the trade before it to the next. So does a gap
    if timestamps and this machine's clock differ by more than five seconds, as with a
    wrong clock or a fast simulator. The first bar of a symbol is never complete: the trades
    before its first are unknown.

    **Late trades.** A trade with a timestamp before the newest bar of its symbol is left
    out, and marks nothing incomplete if it is at most 30 seconds late.

    **Wrong timestamps.** A trade whose timestamp cannot be right is left out, once in the
    log for each symbol and counted in ``left_out``; the bars before
    and after it are incomplete. So is one before 1980 or after 2100, and one that
    disagrees by minutes (live: by seconds, with the time of receipt) with the trades
    before and after it: the next trade of the symbol decides. Two that disagree in the
    same way are right: a clock was set, ahead or back (back while the time of receipt
    disagrees: after ten). The bars beside such a change are incomplete, and those that
    it ended too early are yielded a second time.

    Args:
        trades: A subscription (its gaps are taken into account), or any async iterable of
            trades and other items of ``Subscription.events()``; ticks of other channels
            are skipped. Or the same in a list or another iterable, oldest first; a
            ``Result``; or a frame of pandas, polars or pyarrow with the columns of
            ``Trade`` (``symbol``, ``time``, ``price``, ``size``), or its rows as dicts or
            named tuples. Numbers of any type: those of the bars are the same.
        interval: Such as ``"1m"`` or ``Interval.MIN_1``.
        calendar: Holidays and half days, as for ``sessions``.
        growing: Also yield the growing bar after each trade, with ``final=False``.
        close_after: Seconds after its end at which a bar is over even without a later
            trade; None waits for the trade. Where timestamps differ from the clock by
            more than five seconds, as in delayed data or a fast simulator, that is taken
            into account. If trades of that bar are recovered after an outage, it is
            yielded a second time, with them. For subscriptions only.

    Returns:
        An iterator for ``async for``; of trades of the past, one for ``for``, which
        ``async for`` takes, too.

    Raises:
        ValueError: For an unknown interval, a negative ``close_after``, or one without a
            subscription; for trades that are not iterable, or a ``calendar`` that is not
            a calendar. From the iterator, for trades of the past that are newest first,
            are klines, or are rows without a symbol, a time or a price.
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
    aligner = BarAligner(Interval.parse(interval), TradingHours(calendar))
    builder = BarBuilder[Any](Interval.parse(interval), aligner, growing=growing)
    source = trades if events is None else events()
    if events is not None or isinstance(trades, AsyncIterable):
        return BarIterator(source, builder, close_after)
    if is_rows(trades):
        return PastBars(trades, builder)
    raise ValueError(
        "trades must be a subscription, such as client.watch_trades(...), an iterable or "
        f"async iterable of trades, a Result or a frame, not {type(trades).__name__}"
    )
