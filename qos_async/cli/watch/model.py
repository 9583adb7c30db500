"""Model of the screen: what ``qos watch`` shows and what the keys have selected.

Pure: no I/O, and time is an argument (seconds since the epoch).
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from msgspec import Struct

from qos_async import (
    Depth,
    Gap,
    Interval,
    Kline,
    LinkState,
    Snapshot,
    Stale,
    StateChange,
    Trade,
)
from qos_async._printable import printable
from qos_async.cli.formatting import clock, percent_change
from qos_async.models import AnyTick
from qos_async.stats import Stats

__all__ = ["INTERVALS", "Bars", "EventLog", "Model", "Quote", "TradeTape"]

INTERVALS = tuple(interval for interval in Interval if interval is not Interval.UNKNOWN)
_MAX_BARS = 1000
_MAX_TRADES = 200
_MAX_EVENTS = 100
_SAME_OUTAGE = 10.0
"""Seconds within which gaps with the same reason are of one outage: the topics come
back one channel after another, at the pace of the plan."""
_RATE_WINDOW = 3.0
"""Seconds over which the tick rate is measured."""


class Quote(Struct):
    """The newest snapshot, trade and order book of one symbol.

    Attributes:
        symbol: Canonical.
        places: The most decimal places seen in a price. The server cuts zeros at the
            end, and a column of prices of different lengths is hard to read.
        snapshot: The newest one, pushed or fetched.
        trade: The newest one, pushed or fetched.
        depth: The newest order book.
    """

    symbol: str
    places: int = 0
    snapshot: Snapshot | None = None
    trade: Trade | None = None
    depth: Depth | None = None

    def update(self, tick: Snapshot | Trade | Depth) -> None:
        """Replace the tick of the same channel."""
        match tick:
            case Snapshot():
                self.snapshot = tick
            case Trade():
                self.trade = tick
            case Depth():
                self.depth = tick

    def price(self, value: Decimal | None) -> str:
        """Return a price of this symbol as text, with as many places as the others."""
        if value is None:
            return "-"
        exponent = value.as_tuple().exponent
        if isinstance(exponent, int):
            self.places = max(self.places, -exponent)
        return f"{value:.{self.places}f}"

    @property
    def last(self) -> Decimal | None:
        """The newest price, of a trade or of a snapshot."""
        trade, snapshot = self.trade, self.snapshot
        if trade is None or (
            snapshot is not None and snapshot.received_at > trade.received_at
        ):
            return snapshot.last_price if snapshot is not None else None
        return trade.price

    @property
    def change(self) -> Decimal | None:
        """Percent since yesterday's close, or since the open where that is missing."""
        if self.snapshot is None:
            return None
        return percent_change(self.last, self.snapshot.prev_close or self.snapshot.open)


class Bars:
    """The newest thousand klines of each symbol, ascending, of one interval."""

    def __init__(self) -> None:
        self._bars: dict[str, dict[int, Kline]] = {}

    def add(self, kline: Kline) -> None:
        """Add a kline, or replace the one with the same timestamp."""
        bars = self._bars.setdefault(kline.symbol, {})
        late = bool(bars) and kline.timestamp < next(reversed(bars))
        bars[kline.timestamp] = kline
        if late:  # Recovered after an outage, for example.
            self._bars[kline.symbol] = dict(sorted(bars.items()))
        if len(bars) > _MAX_BARS:
            del self._bars[kline.symbol][min(bars)]

    def backfill(self, symbol: str, klines: Iterable[Kline]) -> None:
        """Add fetched klines; pushed ones are newer and stay."""
        pushed = self._bars.get(symbol, {})
        both = {kline.timestamp: kline for kline in klines} | pushed
        self._bars[symbol] = dict(sorted(both.items())[-_MAX_BARS:])

    def of(self, symbol: str) -> list[Kline]:
        """Return a symbol's klines, oldest first."""
        return list(self._bars.get(symbol, {}).values())


class TradeTape:
    """The newest two hundred trades of each symbol, which can be paused.

    Attributes:
        unseen: Trades received while paused.
        dropped: Trades dropped because the screen was slower than the market.
    """

    def __init__(self, symbols: Iterable[str]) -> None:
        self._trades = {symbol: deque[Trade](maxlen=_MAX_TRADES) for symbol in symbols}
        self._paused: dict[str, list[Trade]] | None = None
        self.unseen = 0
        self.dropped = 0

    def add(self, trade: Trade) -> None:
        """Put a live trade on top."""
        self._trades[trade.symbol].appendleft(trade)
        self.unseen += self.paused

    def backfill(self, symbol: str, trades: Sequence[Trade]) -> None:
        """Put fetched trades (oldest first) below those received live."""
        tape = self._trades[symbol]
        oldest = tape[-1].timestamp if tape else None
        for trade in reversed(trades):
            if (oldest is None or trade.timestamp < oldest) and len(tape) < _MAX_TRADES:
                tape.append(trade)

    def toggle_pause(self) -> None:
        """Freeze the tape as it is, or let it run again."""
        self.unseen = 0
        frozen = {symbol: list(trades) for symbol, trades in self._trades.items()}
        self._paused = frozen if self._paused is None else None

    @property
    def paused(self) -> bool:
        """Whether the tape is paused."""
        return self._paused is not None

    def newest(self, count: int, *symbols: str) -> list[Trade]:
        """Return the newest trades of these symbols together, newest first."""
        tapes = self._paused or self._trades
        newest = (list(tapes[symbol])[:count] for symbol in symbols)
        return list(heapq.merge(*newest, key=_trade_order, reverse=True))[:count]


def _trade_order(trade: Trade) -> tuple[int, int]:
    return trade.timestamp, trade.received_at


class EventLog:
    """The newest hundred events, a line each; the gaps of one outage share a line."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, str]] = deque(maxlen=_MAX_EVENTS)
        self._gaps: list[Gap] = []
        self._gap_event = (0.0, "")

    def add(self, text: str, now: float) -> None:
        """Add a line."""
        self._events.append((now, text))

    def add_gap(self, gap: Gap, now: float) -> None:
        """Add a gap to the line of its outage, or begin a new line."""
        same_reason = self._gaps and self._gaps[0].reason == gap.reason
        if same_reason and now - self._gap_event[0] < _SAME_OUTAGE:
            self._gaps.append(gap)
            if self._gap_event in self._events:
                self._events.remove(self._gap_event)
        else:
            self._gaps = [gap]
        self._gap_event = (now, _describe(self._gaps))
        self._events.append(self._gap_event)

    @property
    def lines(self) -> list[str]:
        """All lines, oldest first, each with its time of day (UTC)."""
        return [
            printable(f"{clock(datetime.fromtimestamp(at, UTC))} {text}")
            for at, text in self._events
        ]

    @property
    def newest(self) -> str:
        """The last line; empty without events."""
        return self.lines[-1] if self._events else ""


def _describe(gaps: list[Gap]) -> str:
    seconds = max((gap.until - gap.since).total_seconds() for gap in gaps)
    counts = Counter(gap.status for gap in gaps)
    statuses = ", ".join(f"{count} {status}" for status, count in counts.items())
    recovered = sum(gap.recovered for gap in gaps)
    return (
        f"gap of {seconds:.1f} s: {statuses}; {recovered} recovered ({gaps[0].reason})"
    )


class Model:
    """Everything the screen shows, and what the keys have selected.

    Attributes:
        symbols: Canonical, in the order given.
        selected: Index of the symbol of the order book, the trades and the chart.
        interval: Of the klines.
        bars: The klines of that interval.
        tape: The trades.
        event_log: Gaps, lost links and stale topics.
        link: The newest state of the link; ``link_at`` is when it was received.
        stats: The client's counters at the last ``update_stats``.
        price_moves: By symbol, the direction of the last price change (1 or -1) and
            its time.
        notes: By symbol, why its row stays empty.
        caption: Shown beside the title of the quotes; the demo's progress.
    """

    def __init__(self, symbols: Iterable[str], interval: Interval) -> None:
        self.symbols = tuple(symbols)
        self.selected = 0
        self.interval = interval
        self.bars = Bars()
        self.tape = TradeTape(self.symbols)
        self.event_log = EventLog()
        self.link, self.link_at = StateChange(LinkState.IDLE), 0.0
        self.stats = Stats()
        self.price_moves: dict[str, tuple[int, float]] = {}
        self.notes: dict[str, str] = {}
        self.caption = ""
        self._quotes = {symbol: Quote(symbol) for symbol in self.symbols}
        self._tick_counts: deque[tuple[float, int]] = deque()

    # Input, from the client

    def on_tick(self, tick: AnyTick, now: float) -> None:
        """Show a tick, pushed or fetched."""
        if isinstance(tick, Kline):
            # Klines of the previous interval may still be on their way.
            if tick.interval is self.interval:
                self.bars.add(tick)
            return
        quote = self._quotes[tick.symbol]
        before = quote.last
        quote.update(tick)
        if isinstance(tick, Trade):
            self.tape.add(tick)
        last = quote.last
        if last and before and last != before:  # 0: nothing was traded, as in a halt.
            self.price_moves[quote.symbol] = (1 if last > before else -1, now)

    def backfill(self, symbol: str, trades: Sequence[Trade]) -> None:
        """Add fetched trades, oldest first, below those received live."""
        self.tape.backfill(symbol, trades)
        quote = self._quotes[symbol]
        if quote.trade is None and trades:
            quote.trade = trades[-1]

    def set_initial(self, snapshot: Snapshot) -> None:
        """Show a fetched snapshot, unless a newer one was pushed."""
        quote = self._quotes[snapshot.symbol]
        if quote.snapshot is None:
            quote.snapshot = snapshot

    def on_gap(self, gap: Gap, now: float) -> None:
        """Log a gap."""
        self.event_log.add_gap(gap, now)

    def on_stale(self, stale: Stale, now: float) -> None:
        """Log a topic without ticks while its market is open."""
        symbol, channel = stale.topic.symbol, stale.topic.channel
        self.event_log.add(
            f"{symbol} {channel}: no tick for {stale.quiet:.0f} s although the market "
            f"is open; usual: {stale.usual:.1f} s",
            now,
        )

    def on_state(self, change: StateChange, now: float) -> None:
        """Follow the link; its loss is logged."""
        if self.link.state is LinkState.OPEN and change.state is LinkState.BACKOFF:
            self.event_log.add(f"link lost: {change.reason}", now)
        self.link, self.link_at = change, now

    def add_note(self, symbols: Iterable[str], text: str) -> None:
        """Show in the rows of these symbols why they stay empty."""
        self.notes |= {symbol: text for symbol in symbols if symbol in self._quotes}

    def update_stats(self, stats: Stats, now: float) -> None:
        """Replace the client's counters, and measure the tick rate by them."""
        self.stats = stats
        self._tick_counts.append((now, stats.ticks))
        while now - self._tick_counts[0][0] > _RATE_WINDOW:
            self._tick_counts.popleft()

    # Input, from the keys

    def select(self, index: int) -> None:
        """Select a symbol; an index out of range selects the nearest one."""
        self.selected = min(max(index, 0), len(self.symbols) - 1)

    def change_interval(self, step: int) -> None:
        """Select a longer or a shorter interval; its bars begin empty."""
        place = INTERVALS.index(self.interval) + step
        self.interval = INTERVALS[min(max(place, 0), len(INTERVALS) - 1)]
        self.bars = Bars()

    # Output, to the panels

    @property
    def stale(self) -> bool:
        """Whether the link is lost, so that nothing on the screen is current."""
        return self.link.state in (LinkState.BACKOFF, LinkState.CONNECTING)

    @property
    def quotes(self) -> list[Quote]:
        """The quotes of all symbols, in order."""
        return list(self._quotes.values())

    @property
    def quote(self) -> Quote:
        """The quote of the selected symbol."""
        return self._quotes[self.symbol]

    @property
    def symbol(self) -> str:
        """The selected symbol."""
        return self.symbols[self.selected]

    def trades(self, count: int, *, all_symbols: bool = False) -> list[Trade]:
        """Return the newest trades, newest first, of the selected symbol or of all."""
        return self.tape.newest(
            count, *(self.symbols if all_symbols else [self.symbol])
        )

    @property
    def tick_rate(self) -> float:
        """Ticks a second over the last three seconds."""
        if len(self._tick_counts) < 2:  # noqa: PLR2004 - a rate needs two points.
            return 0.0
        (then, before), (now, after) = self._tick_counts[0], self._tick_counts[-1]
        return (after - before) / (now - then) if now > then else 0.0
