"""What a server of the protocol needs to know of a market, simulated or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from qos_async.enums import Interval
from qos_async.sim.instruments import Row
from qos_async.sim.log import WireTopic

__all__ = ["MarketData", "PushSource"]


class MarketData(Protocol):
    """Answers questions, in the wire's rows.

    ``now`` is in epoch seconds. What is not known is an empty row, or no rows.
    """

    def knows(self, symbol: str) -> bool:
        """Whether there is such a symbol."""
        ...

    def info(self, symbol: str) -> Row:
        """Give the row of ``instrument-info`` (section 4.2.3)."""
        ...

    def snapshot(self, symbol: str, now: float) -> Row:
        """Give the state of the day (section 4.3.3)."""
        ...

    def depth(self, symbol: str, now: float) -> Row:
        """Give the whole book (section 4.4.3)."""
        ...

    def trades(self, symbol: str, now: float, count: int) -> list[Row]:
        """Give the newest ``count`` trades (section 4.5.3), oldest first."""
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
        """Give up to ``count`` bars (section 4.6.3), ascending."""
        ...

    def products(self, market: str) -> list[Row]:
        """Give the row of each product."""
        ...

    def calendar(self, market: str, now: float) -> list[str]:
        """Give the trading days, ``"20250703,H"``."""
        ...


class PushSource(Protocol):
    """Tells what there is to push."""

    def follow(self, symbols: Iterable[str], now: float) -> None:
        """Follow these symbols and no others."""
        ...

    def updates(
        self, symbol: str, wanted: Iterable[WireTopic], now: float
    ) -> Iterator[tuple[WireTopic, Row]]:
        """Give what came since the last look."""
        ...

    def current(self, watch: WireTopic, now: float) -> list[Row]:
        """Give the current snapshot, depth or kline."""
        ...
