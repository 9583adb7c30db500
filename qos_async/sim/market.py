"""Simulated market: trades by symbol, the wire's views of them, and pushes.

Nothing here reads a clock. Every view takes ``now`` in epoch seconds, and all views
of one ``now`` agree: klines and the snapshot add up from the trades, and the book
is around the last trade's price. Before its start it trades in the hours of ``calendar``
only. From then on it never closes, or it keeps these hours, by ``market_hours``.

A kline of a day has all of its minutes. So in the US it includes the pre-market and the
post-market, which the service's leaves out (recorded).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal, TypeAlias

import msgspec

from qos_async.enums import Interval, Session, TradingStatus
from qos_async.periods import bar_start
from qos_async.sim.calendar import open_days, session_at, session_span
from qos_async.sim.history import IntegerKline
from qos_async.sim.instruments import (
    INSTRUMENTS,
    SimulatedInstrument,
    make_instrument,
)
from qos_async.sim.source import Row, WireTopic
from qos_async.sim.tape import Tape, TapeTrade, trades_begin_at
from qos_async.symbols import market_of

__all__ = [
    "MarketPushSource",
    "SimulatedMarket",
]

_MINUTE = 60
_EMPTY_LEVEL_RATE = 0.03
_SPREADS = (1, 1, 1, 1, 2, 3)
_SESSION_QUOTES = {
    "pq": Session.PRE_MARKET,
    "aq": Session.POST_MARKET,
    "nq": Session.OVERNIGHT,
}
_ORDER = "TSDK"  # Trades are pushed first.

MarketHoursOption: TypeAlias = Literal["always", "real"]


class SimulatedMarket:
    """The simulated market: trades from ``history`` seconds before ``start`` on.

    Args:
        seed: The same seed and ``start`` make the same market, to the byte.
        start: The first time, in epoch seconds, at which data may be requested.
        history: Seconds of trades before that, in the hours of the market.
        rate: Trades a second of every symbol; None for a rate by instrument.
        open_universe: Whether unlisted symbols are made up instead of unknown.
        oldest_bars: The least number of klines of each interval before the first trade;
            none is older than 1970.
        market_hours: ``"always"``: from ``start`` on it trades at any time, and has klines
            of that time although its calendar says that it is closed; ``"real"``: only
            in the hours of its calendar.
    """

    def __init__(
        self,
        seed: int,
        start: float,
        *,
        history: float = 900.0,
        rate: float | None = None,
        open_universe: bool = False,
        oldest_bars: int = 3000,
        market_hours: MarketHoursOption = "always",
    ) -> None:
        self._seed = seed
        self._start = start
        self._real_hours = market_hours == "real"
        # A market that is closed at the start has a last price, too.
        self._history = max(history, _MINUTE) if self._real_hours else history
        self._rate = rate
        self._open_universe = open_universe
        self._oldest_bars = oldest_bars
        self._tapes: dict[str, Tape] = {}

    def instrument(self, symbol: str) -> SimulatedInstrument | None:
        """Return the instrument of a canonical symbol; None if it is unknown."""
        found = INSTRUMENTS.get(symbol)
        return (
            make_instrument(symbol) if found is None and self._open_universe else found
        )

    def knows(self, symbol: str) -> bool:
        """Whether the symbol exists."""
        return self.instrument(symbol) is not None

    def tape(self, symbol: str, now: float) -> Tape:
        """Return the trades of a symbol, generated up to ``now``.

        Raises:
            KeyError: If it is unknown.
        """
        tape = self._tapes.get(symbol)
        if tape is None:
            tape = self._tapes[symbol] = self._new_tape(symbol)
        tape.advance(now)
        return tape

    def info(self, symbol: str) -> Row:
        """Return the row of ``instrument-info`` (section 4.2.3)."""
        about = msgspec.to_builtins(self._require(symbol).info)
        return {"c": symbol, **about}

    def snapshot(self, symbol: str, now: float, *, session_quotes: bool = True) -> Row:
        """Return the state of the day so far (section 4.3.3), from the day's kline.

        Without ``session_quotes`` the US sessions are left out, as in pushes.
        """
        tape = self.tape(symbol, now)
        series = tape.series(Interval.DAY)
        start = series.last_start
        bar, market = series.klines[start], market_of(symbol)
        price = tape.instrument.price_increment.format
        row: Row = {"c": symbol, "lp": price(bar.close)}
        if market != "CF":
            row["yp"] = price(tape.price_before(start, Interval.DAY))
        row |= {"o": price(bar.open), "h": price(bar.high), "l": price(bar.low)}
        row |= {"ts": tape.last.timestamp, **_amounts(tape.instrument, bar)}
        row["s"] = int(TradingStatus.TRADING)
        if market == "US":
            row["tt"] = int(session_at(now, every_day=not self._real_hours))
        if market == "US" and session_quotes:
            row |= {
                name: _session_quote(tape, part, now)
                for name, part in _SESSION_QUOTES.items()
            }
        return row

    def depth(self, symbol: str, now: float) -> Row:
        """Return the whole order book, best first (section 4.4.3).

        The last price is the best bid or the best ask; a level may have size 0.
        """
        tape = self.tape(symbol, now)
        rng = random.Random(f"{self._seed}:{symbol}:{tape.count}")
        last = tape.last.price
        spread = rng.choice(_SPREADS)
        bid = last if rng.random() < 0.5 and last > spread else last - spread  # noqa: PLR2004
        bid = max(bid, 1)
        return {
            "c": symbol,
            "b": _levels(tape.instrument, rng, bid, -1),
            "a": _levels(tape.instrument, rng, max(bid + spread, last), 1),
            "ts": int(now),
        }

    def trades(self, symbol: str, now: float, count: int) -> list[Row]:
        """Return the newest ``count`` trades (section 4.5.3), oldest first."""
        tape = self.tape(symbol, now)
        return self.trades_since(symbol, tape.count - count)

    def count(self, symbol: str, now: float) -> int:
        """Return the number of trades of a symbol until now."""
        return self.tape(symbol, now).count

    def trades_since(self, symbol: str, count: int) -> list[Row]:
        """Return the trades after the first ``count`` that the tape has by now."""
        tape = self._tapes[symbol]
        return [
            _trade(tape.instrument, trade) for trade in tape.trades_after(max(count, 0))
        ]

    def klines(
        self,
        symbol: str,
        interval: Interval,
        count: int,
        now: float,
        *,
        end: float | None = None,
    ) -> list[Row]:
        """Return up to ``count`` klines (section 4.6.3), ascending; the last may be open.

        The newest is the one that ``end`` falls into; without it, the one of now.
        """
        tape = self.tape(symbol, now)
        limit = int(now if end is None else min(end, now))
        bars = tape.series(interval).klines
        newest_first = (item for item in reversed(bars.items()) if item[0] <= limit)
        found = list(islice(newest_first, count))
        missing = count - len(found)
        found += islice(tape.klines_before(limit, interval), missing)
        return [
            _kline(tape.instrument, interval, start, bar)
            for start, bar in reversed(found)
        ]

    def klines_since(self, symbol: str, interval: Interval, since: int) -> list[Row]:
        """Return the klines with trades at or after ``since``, ascending."""
        tape = self._tapes[symbol]
        first = bar_start(since, interval, market_of(symbol))
        touched: list[tuple[int, IntegerKline]] = []
        for start, bar in reversed(tape.series(interval).klines.items()):
            if start < first:
                break
            touched.append((start, bar))
        return [_kline(tape.instrument, interval, *item) for item in reversed(touched)]

    def products(self, market: str) -> list[Row]:
        """Return one row for each product; Hong Kong has five digits here (recorded)."""
        listed = (one for one in INSTRUMENTS.values() if one.market == market)
        return [{"code": _padded(one.symbol), "name": _name(one)} for one in listed]

    def calendar(self, market: str, now: float) -> list[str]:
        """Return three months of trading days, as ``"20250703,H"``."""
        return open_days(market, now)

    def _new_tape(self, symbol: str) -> Tape:
        instrument = self._require(symbol)
        if self._rate is not None:
            instrument = msgspec.structs.replace(instrument, rate=self._rate)
        begins_at = trades_begin_at(instrument.market, self._start, self._history)
        return Tape(
            instrument,
            self._seed,
            begins_at,
            self._start,
            self._oldest_bars,
            real_hours=self._real_hours,
        )

    def _require(self, symbol: str) -> SimulatedInstrument:
        instrument = self.instrument(symbol)
        if instrument is None:
            raise KeyError(symbol)
        return instrument


def _amounts(instrument: SimulatedInstrument, bar: IntegerKline) -> Row:
    return {
        "v": instrument.size_increment.format(bar.volume),
        "t": instrument.turnover_text(bar.turnover),
    }


def _trade(instrument: SimulatedInstrument, trade: TapeTrade) -> Row:
    return {
        "c": instrument.symbol,
        "p": instrument.price_increment.format(trade.price),
        "v": instrument.size_increment.format(trade.size),
        "ts": trade.timestamp,
        "d": int(trade.side),
    }


def _kline(
    instrument: SimulatedInstrument, interval: Interval, start: int, bar: IntegerKline
) -> Row:
    price = instrument.price_increment.format
    return {
        "c": instrument.symbol,
        "o": price(bar.open),
        "cl": price(bar.close),
        "h": price(bar.high),
        "l": price(bar.low),
        "v": instrument.size_increment.format(bar.volume),
        "ts": start,
        "kt": int(interval),
    }


def _levels(
    instrument: SimulatedInstrument, rng: random.Random, price: int, away: int
) -> list[Row]:
    levels: list[Row] = []
    for level in range(instrument.levels):
        empty = level > 0 and rng.random() < _EMPTY_LEVEL_RATE
        size = 0 if empty else 1 + int(rng.expovariate(0.1 / instrument.size))
        levels.append(
            {
                "p": instrument.price_increment.format(max(price, 1)),
                "v": instrument.size_increment.format(size),
            }
        )
        price += away * rng.choice(_SPREADS)
    return levels


def _session_quote(tape: Tape, session: Session, now: float) -> Row:
    start, end = session_span(session, now)
    total = _kline_between(tape, start, min(end, int(now) + 1))
    price = tape.instrument.price_increment.format
    return {
        "lp": price(total.close),
        "ts": min(end, tape.last.timestamp),
        **_amounts(tape.instrument, total),
        "h": price(total.high),
        "l": price(total.low),
        "yp": price(total.open),
    }


def _kline_between(tape: Tape, start: int, end: int) -> IntegerKline:
    """Return the kline of a time: from the price history, then from the tape's minutes."""
    minutes = tape.series(Interval.MIN_1).klines
    traded_from = max(start, tape.begins_at)
    parts = [minutes[at] for at in range(traded_from, end, _MINUTE) if at in minutes]
    before = tape.price_history.kline_between(start, min(end, tape.begins_at))
    if before is not None:
        parts.insert(0, before)
    opened = parts[0].open if parts else tape.price_before(start, Interval.MIN_1)
    total = IntegerKline(opened, opened, opened, opened)
    for part in parts:
        total.merge(part)
    return total


def _padded(symbol: str) -> str:
    market, _, code = symbol.partition(":")
    return f"{market}:{code.rjust(5, '0')}" if market == "HK" else symbol


def _name(instrument: SimulatedInstrument) -> str:
    name = instrument.info.nc
    return name if isinstance(name, str) else instrument.symbol.partition(":")[2]


class MarketPushSource:
    """The ``PushSource`` of a simulated market: each trade is pushed once."""

    def __init__(self, market: SimulatedMarket) -> None:
        self._market = market
        self._sent_counts: dict[str, int] = {}

    def follow(self, symbols: Iterable[str], now: float) -> None:
        """Set the symbols to return updates of; earlier trades of new ones are skipped."""
        sent = self._sent_counts
        self._sent_counts = {
            symbol: sent.get(symbol) or self._market.tape(symbol, now).count
            for symbol in symbols
        }

    def updates(
        self, symbol: str, topics: Iterable[WireTopic], now: float
    ) -> Iterator[tuple[WireTopic, Row]]:
        """Yield the rows of a followed symbol for the given topics, trades first.

        Snapshot, depth and klines come once a call, however many trades there were;
        a kline that ended in between comes in its final state.
        """
        tape, sent = self._market.tape(symbol, now), self._sent_counts[symbol]
        if tape.count == sent:
            return
        self._sent_counts[symbol] = tape.count
        since = (tape.trades_after(sent) or [tape.last])[0].timestamp
        for topic in sorted(topics, key=lambda one: _ORDER.index(one.letter)):
            if topic.letter == "T":
                rows = self._market.trades_since(symbol, sent)
            else:
                rows = self.current(topic, now, since=since)
            for row in rows:
                yield topic, row

    def current(
        self, topic: WireTopic, now: float, *, since: float | None = None
    ) -> list[Row]:
        """Return the current snapshot, depth or kline (or the klines since a time)."""
        symbol = topic.symbol
        match topic.letter:
            case "S":
                return [self._market.snapshot(symbol, now, session_quotes=False)]
            case "D":
                return [self._market.depth(symbol, now)]
            case _:
                last = self._market.tape(symbol, now).last.timestamp
                begin = last if since is None else int(since)
                return self._market.klines_since(symbol, Interval(topic.kt or 0), begin)
