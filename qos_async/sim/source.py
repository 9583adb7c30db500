"""Market data, as the protocol handlers need it: the seam between server and source.

The handlers in ``http`` and ``websocket`` know their data only by these protocols, so a
recording or another upstream can be served by the same code as the simulated market.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from qos_async._server.parsing import Row
from qos_async.enums import Interval
from qos_async.topics import WireTopic

__all__ = ["MarketData", "PushSource", "Row", "WireTopic"]


class MarketData(Protocol):
    """Data for requests, as rows of the wire.

    ``now`` is in epoch seconds. Without data, a row or a list of rows is empty.
    """

    def knows(self, symbol: str) -> bool:
        """Whether the symbol exists."""
        ...

    def info(self, symbol: str) -> Row:
        """Return the row of ``instrument-info`` (section 4.2.3)."""
        ...

    def snapshot(self, symbol: str, now: float) -> Row:
        """Return the state of the day (section 4.3.3)."""
        ...

    def depth(self, symbol: str, now: float) -> Row:
        """Return the whole order book (section 4.4.3)."""
        ...

    def trades(self, symbol: str, now: float, count: int) -> list[Row]:
        """Return the newest ``count`` trades (section 4.5.3), oldest first."""
        ...

    def klines(
        self,
        symbol: str,
        interval: Interval,
        count: int,
        now: float,
        *,
        end: float | None = None,
    ) -> list[Row]:
        """Return up to ``count`` klines (section 4.6.3), ascending."""
        ...

    def products(self, market: str) -> list[Row]:
        """Return one row for each product of a market."""
        ...

    def calendar(self, market: str, now: float) -> list[str]:
        """Return the trading days, as ``"20250703,H"``."""
        ...


class PushSource(Protocol):
    """Data to push to subscribers."""

    def follow(self, symbols: Iterable[str], now: float) -> None:
        """Set the symbols to return updates of; earlier updates of new ones are skipped."""
        ...

    def updates(
        self, symbol: str, topics: Iterable[WireTopic], now: float
    ) -> Iterator[tuple[WireTopic, Row]]:
        """Yield what is new since the previous call, for the given topics of a symbol."""
        ...

    def current(self, topic: WireTopic, now: float) -> list[Row]:
        """Return the current snapshot, depth or kline."""
        ...
