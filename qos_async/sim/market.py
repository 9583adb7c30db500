"""The simulated market: tapes by symbol, and the wire's views of them.

Nothing here reads a clock. Every view takes ``now`` in epoch seconds, and all views
of one ``now`` agree: klines and the snapshot add up from the trades, and the book
closes in on the last of them. The market never closes, whatever its opening hours.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import islice

import msgspec

from qos_async.enums import Interval, Session, TradingStatus
from qos_async.periods import bar_start
from qos_async.sim.instruments import (
    INSTRUMENTS,
    Row,
    SimulatedInstrument,
    make_instrument,
)
from qos_async.sim.klines import IntegerKline
from qos_async.sim.sessions import open_days, session_at, session_span
from qos_async.sim.tape import Tape, TapeTrade
from qos_async.symbols import market_of

__all__ = ["SimulatedMarket"]

_MINUTE = 60
_EMPTY_LEVEL_RATE = 0.03
_SPREADS = (1, 1, 1, 1, 2, 3)
_SESSION_QUOTES = {
    "pq": Session.PRE_MARKET,
    "aq": Session.POST_MARKET,
    "nq": Session.OVERNIGHT,
}


class SimulatedMarket:
    """Every instrument, its tape from ``history`` seconds before ``start``.

    Args:
        seed: The same seed and ``start`` make the same market, to the byte.
        start: Epoch seconds at which somebody may begin to look.
        history: Seconds of trades before that.
        rate: Trades a second of every symbol; None for each its own.
        open_universe: Whether unlisted symbols are made up instead of unknown.
        oldest_bars: How many bars of an interval there are before the tape;
            none is older than 1970.
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
    ) -> None:
        self._seed = seed
        self._begins_at = int(start - history) // _MINUTE * _MINUTE
        self._rate = rate
        self._open_universe = open_universe
        self._oldest_bars = oldest_bars
        self._tapes: dict[str, Tape] = {}

    def instrument(self, symbol: str) -> SimulatedInstrument | None:
        """Find what a canonical symbol names; None if it is unknown."""
        found = INSTRUMENTS.get(symbol)
        return (
            make_instrument(symbol) if found is None and self._open_universe else found
        )

    def knows(self, symbol: str) -> bool:
        """Whether there is such a symbol."""
        return self.instrument(symbol) is not None

    def tape(self, symbol: str, now: float) -> Tape:
        """Give the trades of a symbol, written up to ``now``.

        Raises:
            KeyError: If it is unknown.
        """
        tape = self._tapes.get(symbol)
        if tape is None:
            tape = self._tapes[symbol] = self._new_tape(symbol)
        tape.advance(now)
        return tape

    def info(self, symbol: str) -> Row:
        """Give the row of ``instrument-info`` (section 4.2.3)."""
        about = msgspec.to_builtins(self._require(symbol).info)
        return {"c": symbol, **about}

    def snapshot(self, symbol: str, now: float, *, session_quotes: bool = True) -> Row:
        """Give the state of the day so far (section 4.3.3); it is the day's kline.

        Without ``blocks`` the US sessions are left out, as in pushes.
        """
        tape = self.tape(symbol, now)
        series = tape.series(Interval.DAY)
        start = series.last_start
        bar, market = series.klines[start], market_of(symbol)
        price = tape.instrument.price_increment.format
        row: Row = {"c": symbol, "lp": price(bar.close)}
        if market != "CF":
            row["yp"] = price(self._close_before(tape, start))
        row |= {"o": price(bar.open), "h": price(bar.high), "l": price(bar.low)}
        row |= {"ts": tape.last.timestamp, **_amounts(tape.instrument, bar)}
        row["s"] = int(TradingStatus.TRADING)
        if market == "US":
            row["tt"] = int(session_at(now))
        if market == "US" and session_quotes:
            row |= {
                name: _session_quote(tape, part, now)
                for name, part in _SESSION_QUOTES.items()
            }
        return row

    def depth(self, symbol: str, now: float) -> Row:
        """Give the whole book, best first (section 4.4.3).

        The last price is the best bid or the best ask; a rung may be empty.
        """
        tape = self.tape(symbol, now)
        dice = random.Random(f"{self._seed}:{symbol}:{tape.count}")
        last = tape.last.price
        spread = dice.choice(_SPREADS)
        bid = last if dice.random() < 0.5 and last > spread else last - spread  # noqa: PLR2004
        bid = max(bid, 1)
        return {
            "c": symbol,
            "b": _levels(tape.instrument, dice, bid, -1),
            "a": _levels(tape.instrument, dice, max(bid + spread, last), 1),
            "ts": int(now),
        }

    def trades(self, symbol: str, now: float, count: int) -> list[Row]:
        """Give the newest ``count`` trades (section 4.5.3), oldest first."""
        tape = self.tape(symbol, now)
        return self.trades_since(symbol, tape.count - count)

    def count(self, symbol: str, now: float) -> int:
        """Count the trades of a symbol until now."""
        return self.tape(symbol, now).count

    def trades_since(self, symbol: str, count: int) -> list[Row]:
        """Give the trades after the first ``count`` that the tape has by now."""
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
        """Give up to ``count`` bars (section 4.6.3), ascending; the last may be open.

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
        """Give the bars that trades at or after ``since`` went into, ascending."""
        tape = self._tapes[symbol]
        first = bar_start(since, interval, market_of(symbol))
        touched: list[tuple[int, IntegerKline]] = []
        for start, bar in reversed(tape.series(interval).klines.items()):
            if start < first:
                break
            touched.append((start, bar))
        return [_kline(tape.instrument, interval, *item) for item in reversed(touched)]

    def products(self, market: str) -> list[Row]:
        """Give the row of each product; Hong Kong has five digits here (recorded)."""
        listed = (one for one in INSTRUMENTS.values() if one.market == market)
        return [{"code": _padded(one.symbol), "name": _name(one)} for one in listed]

    def calendar(self, market: str, now: float) -> list[str]:
        """Give three months of trading days, ``"20250703,H"``."""
        return open_days(market, now)

    def _new_tape(self, symbol: str) -> Tape:
        instrument = self._require(symbol)
        if self._rate is not None:
            instrument = msgspec.structs.replace(instrument, rate=self._rate)
        return Tape(instrument, self._seed, self._begins_at, self._oldest_bars)

    def _require(self, symbol: str) -> SimulatedInstrument:
        instrument = self.instrument(symbol)
        if instrument is None:
            raise KeyError(symbol)
        return instrument

    def _close_before(self, tape: Tape, start: int) -> int:
        bars: Iterable[tuple[int, IntegerKline]] = reversed(
            tape.series(Interval.DAY).klines.items()
        )
        for earlier, bar in bars:
            if earlier < start:
                return bar.close
        return tape.price_history.price_at(start)


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
    instrument: SimulatedInstrument, dice: random.Random, price: int, away: int
) -> list[Row]:
    rungs: list[Row] = []
    for level in range(instrument.levels):
        empty = level > 0 and dice.random() < _EMPTY_LEVEL_RATE
        size = 0 if empty else 1 + int(dice.expovariate(0.1 / instrument.size))
        rungs.append(
            {
                "p": instrument.price_increment.format(max(price, 1)),
                "v": instrument.size_increment.format(size),
            }
        )
        price += away * dice.choice(_SPREADS)
    return rungs


def _session_quote(tape: Tape, session: Session, now: float) -> Row:
    start, end = session_span(session, now)
    total = _sum_up(tape, start, min(end, int(now) + 1))
    price = tape.instrument.price_increment.format
    return {
        "lp": price(total.close),
        "ts": min(end, tape.last.timestamp),
        **_amounts(tape.instrument, total),
        "h": price(total.high),
        "l": price(total.low),
        "yp": price(total.open),
    }


def _sum_up(tape: Tape, start: int, end: int) -> IntegerKline:
    """Sum up a time: drawn before the tape began, added up from minutes after that."""
    minutes = tape.series(Interval.MIN_1).klines
    seen_from = max(start, tape.begins_at)
    parts = [minutes[at] for at in range(seen_from, end, _MINUTE) if at in minutes]
    if start < seen_from:
        parts.insert(0, tape.price_history.kline(start, min(end, tape.begins_at)))
    opened = parts[0].open if parts else tape.price_history.price_at(start)
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
