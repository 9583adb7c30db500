"""Lines of ticks for a terminal: colours, short times, no wider than the terminal.

``formatting`` has the lines for pipes and files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from qos_async import Channel, Depth, Kline, PriceLevel, Side, Snapshot, Trade
from qos_async._printable import printable
from qos_async.cli.display import Display
from qos_async.cli.formatting import (
    DecimalPlaces,
    bar_start,
    clock,
    or_dash,
    percent,
    percent_change,
    received_at,
)
from qos_async.cli.tables import Cell
from qos_async.models import AnyTick

__all__ = ["TickLines", "has_colours", "styled"]

_NANO = 1_000_000_000
_WIDE = 70
"""Columns from which on there is room for the channel, which the values show, too."""
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
_Price = Callable[[Decimal | None], str]


def has_colours() -> bool:
    """Return whether a terminal may be sent colours (https://no-color.org)."""
    return not os.environ.get("NO_COLOR")


def styled(text: str, style: str) -> str:
    """Return text in a style of a terminal: bold, dim, red, green, yellow."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if style else text


class TickLines:
    """Formats ticks for a terminal.

    The time is the tick's own; it is that of receipt for a kline, whose own time is the
    start of its bar, and for a tick without a time.

    Args:
        display: Time zone and colours.
        channels: Those that are subscribed: only with several of them, lines have one.
        colours: Whether lines have colours.
        columns: Returns the width of the terminal.
    """

    def __init__(
        self,
        display: Display,
        channels: Sequence[Channel],
        *,
        colours: bool = True,
        columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
    ) -> None:
        self._display, self._colours, self._columns = display, colours, columns
        self._has_channel = len(set(channels)) > 1
        self._places = DecimalPlaces()

    def line(self, tick: AnyTick) -> str:
        """Return the line of a tick: what does not fit is left out, from the right."""
        room = self._columns()
        pieces: list[str] = []
        for cell in self._cells(tick):
            text = printable(f" {cell.text}" if pieces else cell.text)
            room -= len(text)
            if room < 0:
                break
            style = self._display.style(cell.style) if self._colours else ""
            pieces.append(styled(text, style))
        return "".join(pieces)

    def _cells(self, tick: AnyTick) -> Iterator[Cell]:
        at = tick.timestamp
        if type(tick) is Kline or not at:
            at = received_at(tick) // _NANO
        style = "yellow" if tick.recovered else "dim"
        yield Cell(clock(self._display.time(at, tick.symbol)), style)
        if self._has_channel and self._columns() >= _WIDE:
            yield Cell(f"{tick.channel:<8}", "dim")
        yield Cell(f"{tick.symbol:<11}", "bold")
        price = partial(self._places.price, tick.symbol)
        yield from _CELLS[type(tick)](tick, self._display, price)
        if tick.recovered:
            yield Cell("recovered", "yellow")


def _snapshot(tick: Snapshot, display: Display, price: _Price) -> Iterator[Cell]:
    moved = percent_change(tick.last_price, tick.prev_close or tick.open)
    yield Cell(f"{price(tick.last_price):>10}")
    yield Cell(f"{percent(moved):>8}", _direction(moved))
    yield Cell(f" high {price(tick.high)}")
    yield Cell(f" low {price(tick.low)}")
    yield Cell(f" vol {or_dash(tick.volume)}")


def _trade(tick: Trade, display: Display, price: _Price) -> Iterator[Cell]:
    style = {Side.BUY: "green", Side.SELL: "red"}.get(tick.side, "")
    side = "" if tick.side is Side.UNKNOWN else tick.side.name.lower()
    yield Cell(f"{price(tick.price):>10}", style)
    yield Cell(f"{side:>5}", style)
    yield Cell(f"{or_dash(tick.size):>10}")


def _depth(tick: Depth, display: Display, price: _Price) -> Iterator[Cell]:
    yield Cell(f"{_level(tick.best_bid, price):>19}", "green")
    yield Cell("/")
    yield Cell(_level(tick.best_ask, price), "red")


def _kline(tick: Kline, display: Display, price: _Price) -> Iterator[Cell]:
    moved = tick.close - tick.open
    start = bar_start(tick, display.zone(tick.symbol))
    yield Cell(f"{price(tick.close):>10}", _direction(moved))
    yield Cell(f"{tick.interval.short} {start}")
    yield Cell(f" open {price(tick.open)}")
    yield Cell(f" high {price(tick.high)}")
    yield Cell(f" low {price(tick.low)}")
    yield Cell(f" vol {or_dash(tick.volume)}")


def _level(level: PriceLevel | None, price: _Price) -> str:
    return (
        "-" if level is None else f"{price(level.price)} x {level.size.normalize():f}"
    )


def _direction(moved: Decimal | None) -> str:
    return "" if not moved else "green" if moved > 0 else "red"


_CELLS: dict[type[object], Callable[[Any, Display, _Price], Iterator[Cell]]] = {
    Snapshot: _snapshot,
    Trade: _trade,
    Depth: _depth,
    Kline: _kline,
}
