"""Rows of the board: a quote for each symbol, their order, and the selected one."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct, field

from qos_async import Depth, Snapshot, Trade
from qos_async.cli.formatting import percent_change

__all__ = ["SORTS", "Quote", "Rows"]

SORTS = ("given", "symbol", "change", "volume")
"""The orders of the rows; those of numbers begin with the largest."""


class Quote(Struct):
    """The newest snapshot, trade and order book of one symbol.

    Attributes:
        symbol: Canonical.
        places: The most decimal places seen in a price. The server cuts zeros at the
            end, and a column of prices of different lengths is hard to read.
        snapshot: The newest one, pushed or fetched.
        trade: The newest one, pushed or fetched.
        depth: The newest order book.
        quiet: The channels without ticks although the market is open.
    """

    symbol: str
    places: int = 0
    snapshot: Snapshot | None = None
    trade: Trade | None = None
    depth: Depth | None = None
    quiet: set[str] = field(default_factory=set[str])

    def update(self, tick: Snapshot | Trade | Depth) -> None:
        """Replace the tick of the same channel."""
        match tick:
            case Snapshot():
                self.snapshot, channel = tick, "snapshot"
            case Trade():
                self.trade, channel = tick, "trade"
            case Depth():
                self.depth, channel = tick, "depth"
        self.quiet.discard(channel)

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

    @property
    def volume(self) -> Decimal | None:
        """The volume of the day."""
        return None if self.snapshot is None else self.snapshot.volume


class Rows:
    """The quotes of the symbols that are watched.

    Attributes:
        symbols: Canonical, in the order given.
        symbol: The selected one.
        sort: One of ``SORTS``.
        quotes: By symbol.
    """

    def __init__(self, symbols: Iterable[str]) -> None:
        self.symbols = tuple(symbols)
        self.symbol = self.symbols[0] if self.symbols else ""
        self.sort = SORTS[0]
        self.quotes = {symbol: Quote(symbol) for symbol in self.symbols}

    @property
    def shown(self) -> list[Quote]:
        """The quotes in the order of the board."""
        quotes = list(self.quotes.values())
        if self.sort == "symbol":
            quotes.sort(key=lambda quote: quote.symbol)
        elif self.sort == "change":
            quotes.sort(key=lambda quote: _descending(quote.change))
        elif self.sort == "volume":
            quotes.sort(key=lambda quote: _descending(quote.volume))
        return quotes

    @property
    def selected(self) -> int:
        """The row of the selected symbol."""
        return [quote.symbol for quote in self.shown].index(self.symbol)

    def select(self, row: int) -> None:
        """Select the symbol of a row; one out of range selects the nearest one."""
        self.symbol = self.shown[min(max(row, 0), len(self.symbols) - 1)].symbol

    def add(self, symbol: str) -> None:
        """Add a symbol at the end, and select it."""
        if symbol not in self.quotes:
            self.symbols += (symbol,)
            self.quotes[symbol] = Quote(symbol)
        self.symbol = symbol

    def remove(self, symbol: str) -> None:
        """Remove a symbol that is not the only one; its neighbour is selected."""
        row = self.selected
        self.symbols = tuple(one for one in self.symbols if one != symbol)
        del self.quotes[symbol]
        if self.symbol == symbol:
            self.select(row)


def _descending(value: Decimal | None) -> tuple[bool, Decimal]:
    """Return a sort key: the largest value first, what is missing last."""
    return value is None, -(value or Decimal(0))
