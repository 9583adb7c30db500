"""The newest of everything, by symbol."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

from qos_async import Depth, Kline, Snapshot, Trade
from qos_async.cli.formatting import percent_change
from qos_async.models import AnyTick

__all__ = ["Quote", "Quotes"]


class Quote(Struct):
    """One symbol: the newest tick of each channel.

    Attributes:
        symbol: Canonical.
        places: The most decimal places seen in a price: rows leave out zeros at the
            end, and a column that does the same is hard to read.
    """

    symbol: str
    places: int = 0
    snapshot: Snapshot | None = None
    trade: Trade | None = None
    depth: Depth | None = None
    kline: Kline | None = None

    def price(self, value: Decimal | None) -> str:
        """Write a price of this symbol, with as many places as any other."""
        if value is None:
            return "-"
        exponent = value.as_tuple().exponent
        if isinstance(exponent, int):
            self.places = max(self.places, -exponent)
        return f"{value:.{self.places}f}"

    @property
    def last(self) -> Decimal | None:
        """The newest price."""
        trade, snapshot = self.trade, self.snapshot
        if trade is None or (
            snapshot is not None and snapshot.received_at > trade.received_at
        ):
            return snapshot.last_price if snapshot is not None else None
        return trade.price

    @property
    def change(self) -> Decimal | None:
        """Percent since yesterday's close; where there is none, since the open."""
        if self.snapshot is None:
            return None
        return percent_change(self.last, self.snapshot.prev_close or self.snapshot.open)


class Quotes:
    """A row of each symbol, in the order given."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self._quotes = {symbol: Quote(symbol) for symbol in symbols}

    def put(self, tick: AnyTick) -> None:
        """Take in a tick."""
        quote = self._quotes[tick.symbol]
        match tick:
            case Snapshot():
                quote.snapshot = tick
            case Trade():
                quote.trade = tick
            case Depth():
                quote.depth = tick
            case Kline():
                quote.kline = tick

    @property
    def rows(self) -> list[Quote]:
        """Every symbol's."""
        return list(self._quotes.values())
