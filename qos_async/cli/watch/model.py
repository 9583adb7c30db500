"""What there is to show, from what has come. Time is an argument, in epoch seconds."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from decimal import Decimal

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
from qos_async.cli.quotes import Quote, Quotes
from qos_async.cli.tally import AnyTick
from qos_async.cli.watch.bars import Bars
from qos_async.cli.watch.news import News
from qos_async.stats import Stats

__all__ = ["INTERVALS", "Model", "Move"]

INTERVALS = tuple(interval for interval in Interval if interval is not Interval.UNKNOWN)
_TAPE = 200
_RATE_OVER = 3.0
"""Seconds over which the pace of the ticks is measured."""

Move = tuple[int, float]
"""Which way a last price went, 1 or -1, and when."""


class Model:
    """Everything the screen tells, and what the keys have chosen.

    Attributes:
        symbols: Canonical, in the order given.
        chosen: The index of the symbol that ladder, tape and chart are about.
        interval: Of the klines.
        bars: The klines of that interval.
        news: What happened, gaps and link.
        link: The newest move of the link, and ``link_at`` when it came.
        stats: The client's counters as they were when last looked at.
        moves: By symbol, which way its last price went, and when.
        notes: By symbol, why its row stays empty.
        unseen: Trades that came while the tape is held.
        dropped: Trades that came faster than they could be read.
    """

    def __init__(self, symbols: Iterable[str], interval: Interval) -> None:
        self.symbols = tuple(symbols)
        self.chosen = 0
        self.interval = interval
        self.bars = Bars()
        self.news = News()
        self.link, self.link_at = StateChange(LinkState.IDLE), 0.0
        self.stats = Stats()
        self.moves: dict[str, Move] = {}
        self.notes: dict[str, str] = {}
        self._quotes = Quotes(self.symbols)
        self._rows = {quote.symbol: quote for quote in self._quotes.rows}
        self._tapes = {symbol: _Tape(maxlen=_TAPE) for symbol in self.symbols}
        self._paused: dict[str, list[Trade]] | None = None
        self._paces: deque[tuple[float, int]] = deque()
        self.unseen = 0
        self.dropped = 0

    # What comes

    def put(self, tick: AnyTick, now: float) -> None:
        """Take in a tick."""
        if isinstance(tick, Kline):
            if tick.interval is self.interval:
                self.bars.put(tick)
            return
        quote = self._rows[tick.symbol]
        before = quote.last
        self._quotes.put(tick)
        if isinstance(tick, Trade):
            self._tapes[tick.symbol].appendleft(tick)
            self.unseen += self.paused
        self._moved(quote, before, now)

    def fill(self, symbol: str, trades: Iterable[Trade]) -> None:
        """Take in trades of the past, oldest first, behind those that came live."""
        tape = self._tapes[symbol]
        oldest = tape[-1].timestamp if tape else None
        for trade in reversed(list(trades)):
            if (oldest is None or trade.timestamp < oldest) and len(tape) < _TAPE:
                tape.append(trade)
        quote = self._rows[symbol]
        if tape and quote.trade is None:
            quote.trade = tape[0]

    def set_past(self, snapshot: Snapshot) -> None:
        """Take in a fetched snapshot, unless a newer one was pushed."""
        quote = self._rows[snapshot.symbol]
        if quote.snapshot is None:
            quote.snapshot = snapshot

    def gap(self, gap: Gap, now: float) -> None:
        """Tell of a gap."""
        self.news.gap(gap, now)

    def quiet(self, stale: Stale, now: float) -> None:
        """Tell of a topic that should tick."""
        symbol, channel = stale.topic.symbol, stale.topic.channel
        self.news.tell(
            f"{symbol} {channel}: nothing for {stale.quiet:.0f} s, though its market "
            f"is open; usual are {stale.usual:.1f} s",
            now,
        )

    def drop(self, count: int) -> None:
        """Count trades that came faster than they could be read."""
        self.dropped += count

    def move(self, change: StateChange, now: float) -> None:
        """Follow the link."""
        if self.link.state is LinkState.OPEN and change.state is LinkState.BACKOFF:
            self.news.tell(f"link lost: {change.reason}", now)
        self.link, self.link_at = change, now

    def note(self, symbols: Iterable[str], words: str) -> None:
        """Say in the rows of some symbols why they stay empty."""
        for symbol in symbols:
            if symbol in self._tapes:
                self.notes[symbol] = words

    def measure(self, stats: Stats, now: float) -> None:
        """Look at the client's counters."""
        self.stats = stats
        self._paces.append((now, stats.ticks))
        while now - self._paces[0][0] > _RATE_OVER:
            self._paces.popleft()

    # What is chosen

    def choose(self, index: int) -> None:
        """Choose a symbol; beyond an end, the one at that end."""
        self.chosen = min(max(index, 0), len(self.symbols) - 1)

    def change_interval(self, step: int) -> None:
        """Choose a longer or a shorter interval; the bars are those of another."""
        place = INTERVALS.index(self.interval) + step
        self.interval = INTERVALS[min(max(place, 0), len(INTERVALS) - 1)]
        self.bars = Bars()

    def pause(self) -> None:
        """Hold the tape where it is, or let it run again."""
        self.unseen = 0
        held = {symbol: list(tape) for symbol, tape in self._tapes.items()}
        self._paused = held if self._paused is None else None

    # What is shown

    @property
    def paused(self) -> bool:
        """Whether the tape is held."""
        return self._paused is not None

    @property
    def stale(self) -> bool:
        """Whether the link is lost, so that nothing shown is of now."""
        return self.link.state in (LinkState.BACKOFF, LinkState.CONNECTING)

    @property
    def quotes(self) -> list[Quote]:
        """Every symbol's newest ticks, in order."""
        return list(self._rows.values())

    @property
    def quote(self) -> Quote:
        """The chosen symbol's."""
        return self._rows[self.symbol]

    @property
    def symbol(self) -> str:
        """The chosen one."""
        return self.symbols[self.chosen]

    def tape(self, count: int, *, everything: bool = False) -> list[Trade]:
        """Give the newest trades, newest first, of the chosen symbol or of all."""
        tapes: Mapping[str, Iterable[Trade]] = self._paused or self._tapes
        if not everything:
            return list(tapes[self.symbol])[:count]
        newest = (list(tape)[:count] for tape in tapes.values())
        merged = heapq.merge(*newest, key=_came, reverse=True)
        return [trade for _, trade in zip(range(count), merged, strict=False)]

    @property
    def pace(self) -> float:
        """Ticks a second, of late."""
        if len(self._paces) < 2:  # noqa: PLR2004 - a pace needs two points.
            return 0.0
        (then, before), (now, after) = self._paces[0], self._paces[-1]
        return (after - before) / (now - then) if now > then else 0.0

    def _moved(self, quote: Quote, before: Decimal | None, now: float) -> None:
        last = quote.last
        if last is not None and before is not None and last != before:
            self.moves[quote.symbol] = (1 if last > before else -1, now)


_Tape = deque[Trade]


def _came(trade: Trade) -> tuple[int, int]:
    return trade.timestamp, trade.received_at
