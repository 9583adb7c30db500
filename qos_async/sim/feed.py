"""What there is to push: everything that was traded since the last look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qos_async.enums import Interval
from qos_async.sim.instruments import Row
from qos_async.sim.log import WireTopic
from qos_async.sim.market import SimulatedMarket

__all__ = ["MarketPushSource"]

_ORDER = "TSDK"


class MarketPushSource:
    """Turns new trades into pushes, once each."""

    def __init__(self, market: SimulatedMarket) -> None:
        self._market = market
        self._sent_counts: dict[str, int] = {}

    def follow(self, symbols: Iterable[str], now: float) -> None:
        """Follow these symbols and no others; what new ones traded before is past."""
        told = self._sent_counts
        self._sent_counts = {
            symbol: told.get(symbol) or self._market.tape(symbol, now).count
            for symbol in symbols
        }

    def updates(
        self, symbol: str, wanted: Iterable[WireTopic], now: float
    ) -> Iterator[tuple[WireTopic, Row]]:
        """Give the rows for whoever watches a followed symbol: trades come first.

        Snapshot, depth and klines come once a look, however many trades there were;
        a kline that ended in between comes in its final state.
        """
        tape, told = self._market.tape(symbol, now), self._sent_counts[symbol]
        if tape.count == told:
            return
        self._sent_counts[symbol] = tape.count
        since = (tape.trades_after(told) or [tape.last])[0].timestamp
        for watch in sorted(wanted, key=lambda one: _ORDER.index(one.letter)):
            if watch.letter == "T":
                rows = self._market.trades_since(symbol, told)
            else:
                rows = self.current(watch, now, since=since)
            for row in rows:
                yield watch, row

    def current(
        self, watch: WireTopic, now: float, *, since: float | None = None
    ) -> list[Row]:
        """Give the current snapshot, depth or kline (or those since a time)."""
        symbol = watch.symbol
        match watch.letter:
            case "S":
                return [self._market.snapshot(symbol, now, session_quotes=False)]
            case "D":
                return [self._market.depth(symbol, now)]
            case _:
                last = self._market.tape(symbol, now).last.timestamp
                begin = last if since is None else int(since)
                return self._market.klines_since(symbol, Interval(watch.kt or 0), begin)
