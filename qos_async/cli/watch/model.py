"""Model of the screen: what ``qos watch`` shows and what the keys have selected.

Pure: no I/O, and time is an argument (seconds since the epoch).
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from qos_async import (
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
from qos_async.cli.display import IN_UTC, Display
from qos_async.cli.formatting import clock
from qos_async.cli.watch.alerts import Alerts
from qos_async.cli.watch.rows import Quote, Rows
from qos_async.models import AnyTick
from qos_async.stats import Stats

__all__ = ["INTERVALS", "Bars", "EventLog", "Model", "TradeTape"]

INTERVALS = tuple(interval for interval in Interval if interval is not Interval.UNKNOWN)
_MAX_BARS = 1000
_MAX_TRADES = 200
_MAX_EVENTS = 100
_SAME_OUTAGE = 10.0
"""Seconds within which gaps with the same reason are of one outage: the topics come
back one channel after another, at the pace of the plan."""
_RATE_WINDOW = 3.0
"""Seconds over which the tick rate is measured."""


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
        self._trades: dict[str, deque[Trade]] = {}
        self.add_symbols(*symbols)
        self._paused: dict[str, list[Trade]] | None = None
        self.unseen = 0
        self.dropped = 0

    def add_symbols(self, *symbols: str) -> None:
        """Begin empty tapes for these symbols."""
        for symbol in symbols:
            self._trades.setdefault(symbol, deque(maxlen=_MAX_TRADES))

    def remove(self, symbol: str) -> None:
        """Remove the tape of a symbol."""
        self._trades.pop(symbol, None)

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
        newest = (list(tapes.get(symbol, ()))[:count] for symbol in symbols)
        return list(heapq.merge(*newest, key=_trade_order, reverse=True))[:count]


def _trade_order(trade: Trade) -> tuple[int, int]:
    return trade.timestamp, trade.received_at


class EventLog:
    """The newest hundred events, a line each; the gaps of one outage share a line."""

    def __init__(self, display: Display = IN_UTC) -> None:
        self._display = display
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
        """All lines, oldest first, each with its time of day."""
        return [
            printable(f"{clock(self._display.time(at))} {text}")
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
        rows: The quotes, and the symbol of the order book, the trades and the chart.
        interval: Of the klines.
        bars: The klines of that interval.
        tape: The trades.
        event_log: Gaps, lost links and stale topics.
        link: The newest state of the link; ``link_at`` is when it was received.
        stats: The client's counters at the last ``update_stats``.
        price_moves: By symbol, the direction of the last price change (1 or -1) and
            its time.
        notes: By symbol, why its row stays empty.
        names: By symbol, the name of its instrument.
        caption: Shown beside the title of the quotes; the demo's progress.
        display: The time zone, and the colours at the start.
        alerts: The prices that are waited for.
    """

    def __init__(
        self,
        symbols: Iterable[str],
        interval: Interval,
        display: Display = IN_UTC,
    ) -> None:
        self.rows = Rows(symbols)
        self.interval = interval
        self.bars = Bars()
        self.tape = TradeTape(self.symbols)
        self.display = display
        self.event_log = EventLog(display)
        self.link, self.link_at = StateChange(LinkState.IDLE), 0.0
        self.stats = Stats()
        self.price_moves: dict[str, tuple[int, float]] = {}
        self.notes: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.caption = ""
        self.alerts = Alerts()
        self._tick_counts: deque[tuple[float, int]] = deque()

    # Input, from the client

    def on_tick(self, tick: AnyTick, now: float) -> None:
        """Show a tick, pushed or fetched; that of a removed symbol is left out."""
        quote = self.rows.quotes.get(tick.symbol)
        if quote is None:
            return
        if isinstance(tick, Kline):
            # Klines of the previous interval may still be on their way.
            if tick.interval is self.interval:
                self.bars.add(tick)
            return
        before = quote.last
        quote.update(tick)
        if isinstance(tick, Trade):
            self.tape.add(tick)
        last = quote.last
        if last and before and last != before:  # 0: nothing was traded, as in a halt.
            self.price_moves[quote.symbol] = (1 if last > before else -1, now)
            for alert in self.alerts.take_crossed(quote.symbol, before, last):
                arrow = "▲" if last > before else "▼"
                text = f"ALERT {alert}: {arrow} {quote.price(last)}"
                self.event_log.add(text, now)

    def backfill(self, symbol: str, trades: Sequence[Trade]) -> None:
        """Add fetched trades, oldest first, below those received live."""
        quote = self.rows.quotes.get(symbol)
        if quote is None:
            return
        self.tape.backfill(symbol, trades)
        if quote.trade is None and trades:
            quote.trade = trades[-1]

    def set_initial(self, snapshot: Snapshot) -> None:
        """Show a fetched snapshot, unless a newer one was pushed."""
        quote = self.rows.quotes.get(snapshot.symbol)
        if quote is not None and quote.snapshot is None:
            quote.snapshot = snapshot

    def on_gap(self, gap: Gap, now: float) -> None:
        """Log a gap."""
        self.event_log.add_gap(gap, now)

    def on_stale(self, stale: Stale, now: float) -> None:
        """Mark and log a topic without ticks while its market is open."""
        symbol, channel = stale.topic.symbol, stale.topic.channel
        if symbol in self.rows.quotes and channel != "kline":
            self.rows.quotes[symbol].quiet.add(str(channel))
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
        known = self.rows.quotes
        self.notes |= {symbol: text for symbol in symbols if symbol in known}

    def add_symbol(self, symbol: str) -> None:
        """Add a row, and select it."""
        self.rows.add(symbol)
        self.tape.add_symbols(symbol)

    def remove_symbol(self, symbol: str) -> None:
        """Remove a row that is not the only one, with its alerts."""
        self.rows.remove(symbol)
        self.tape.remove(symbol)
        self.alerts.remove(symbol)
        self.notes.pop(symbol, None)

    def update_stats(self, stats: Stats, now: float) -> None:
        """Replace the client's counters, and measure the tick rate by them."""
        self.stats = stats
        self._tick_counts.append((now, stats.ticks))
        while now - self._tick_counts[0][0] > _RATE_WINDOW:
            self._tick_counts.popleft()

    # Input, from the keys

    def select(self, index: int) -> None:
        """Select the symbol of a row; one out of range selects the nearest one."""
        self.rows.select(index)

    def change_interval(self, step: int) -> None:
        """Select a longer or a shorter interval; its bars begin empty."""
        place = INTERVALS.index(self.interval) + step
        self.interval = INTERVALS[min(max(place, 0), len(INTERVALS) - 1)]
        self.bars = Bars()

    # Output, to the panels

    @property
    def stale(self) -> bool:
        """Whether the link is lost, so that nothing on the screen is current."""
        return self.link.state not in (LinkState.OPEN, LinkState.IDLE)

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, in the order given."""
        return self.rows.symbols

    @property
    def quotes(self) -> list[Quote]:
        """The quotes of all symbols, in the order of the board."""
        return self.rows.shown

    @property
    def quote(self) -> Quote:
        """The quote of the selected symbol."""
        return self.rows.quotes[self.symbol]

    @property
    def symbol(self) -> str:
        """The selected symbol."""
        return self.rows.symbol

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
