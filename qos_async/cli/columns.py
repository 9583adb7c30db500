"""The columns of the live table, and how wide a terminal must be for each."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Literal, NamedTuple

from rich.text import Text

from qos_async import PriceLevel, Side
from qos_async.cli.formatting import clock, or_dash, percent, percent_change
from qos_async.cli.quotes import Quote

__all__ = ["Column", "fitting"]


class Column(NamedTuple):
    """A column of the table.

    Attributes:
        title: Its head.
        wants: The narrowest terminal that has room for it, in characters.
        width: The narrowest it gets, so that the table does not jump about.
        cell: Says what a symbol has in it.
        justify: Where its text stands.
    """

    title: str
    wants: int
    width: int
    cell: Callable[[Quote], Text]
    justify: Literal["left", "right"] = "right"


def fitting(width: int) -> list[Column]:
    """Choose what fits into ``width`` characters."""
    return [column for column in _COLUMNS if column.wants <= width]


def _symbol(quote: Quote) -> Text:
    return Text(quote.symbol, "bold")


def _last(quote: Quote) -> Text:
    return Text(quote.price(quote.last), "bold")


def _change(quote: Quote) -> Text:
    return _moved(quote.change)


def _bid(quote: Quote) -> Text:
    return _price(quote, None if quote.depth is None else quote.depth.best_bid)


def _ask(quote: Quote) -> Text:
    return _price(quote, None if quote.depth is None else quote.depth.best_ask)


def _sizes(quote: Quote) -> Text:
    if quote.depth is None:
        return Text("-")
    sides = (quote.depth.best_bid, quote.depth.best_ask)
    return Text(" x ".join(or_dash(level and level.size) for level in sides))


def _trade(quote: Quote) -> Text:
    trade = quote.trade
    if trade is None:
        return Text("-")
    words = {Side.BUY: ("buy", "green"), Side.SELL: ("sell", "red")}
    side, style = words.get(trade.side, ("", ""))
    return Text(f"{or_dash(trade.size)} {side:<4}", style)


def _traded(quote: Quote) -> Text:
    return Text("-" if quote.trade is None else clock(quote.trade.time), "dim")


def _minute(quote: Quote) -> Text:
    kline = quote.kline
    return _moved(None if kline is None else percent_change(kline.close, kline.open))


def _bar(quote: Quote) -> Text:
    kline = quote.kline
    return Text(
        "-"
        if kline is None
        else f"{quote.price(kline.low)} .. {quote.price(kline.high)}"
    )


def _price(quote: Quote, level: PriceLevel | None) -> Text:
    return Text("-" if level is None else quote.price(level.price))


def _moved(value: Decimal | None) -> Text:
    style = "" if not value else "green" if value > 0 else "red"
    return Text(percent(value), style)


_COLUMNS = (
    Column("Symbol", 0, 10, _symbol, "left"),
    Column("Last", 0, 8, _last),
    Column("Change", 0, 6, _change),
    Column("Bid", 56, 8, _bid),
    Column("Ask", 56, 8, _ask),
    Column("Bid x ask size", 100, 15, _sizes),
    Column("Last trade", 76, 11, _trade),
    Column("At (UTC)", 92, 8, _traded),
    Column("1m", 64, 6, _minute),
    Column("1m low .. high", 122, 20, _bar),
)
