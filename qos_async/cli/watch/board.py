"""Quote board: a row for each symbol, and the columns that fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rich.cells import cell_len

from qos_async import Session, Trade, TradingStatus
from qos_async.cli.formatting import clock, percent
from qos_async.cli.watch.chart import sparkline
from qos_async.cli.watch.model import Model
from qos_async.cli.watch.rows import Quote
from qos_async.cli.watch.text import Line, format_size, pad_or_cut

__all__ = ["draw_board", "first_row"]

_FLASH_TIME = 0.7
"""Seconds for which a price that changed is highlighted."""
_SPARKLINE_WIDTHS = (8, 48)
"""The narrowest and the widest sparkline, in characters."""
_NAME = "name"
_NAME_WIDTHS = (8, 20)
"""The narrowest and the widest column of names; four Chinese characters fit."""
_SESSIONS = {
    Session.PRE_MARKET: "pre",
    Session.POST_MARKET: "post",
    Session.OVERNIGHT: "night",
}


class _Column(NamedTuple):
    """A column: its title, least width, the narrowest board with it, and its text."""

    title: str
    width: int
    min_board: int
    cell: Callable[[Model, Quote, float], tuple[str, str]]


class _Extras(NamedTuple):
    """Widths of what is shown in the room that the columns leave; 0 for none."""

    name: int
    spark: int


def first_row(model: Model, height: int) -> int:
    """Return the index of the first symbol shown: the selected one is always visible."""
    shown = max(height - 1, 1)
    selected = model.rows.selected
    return min(max(selected - shown + 1, 0), max(len(model.symbols) - shown, 0))


def draw_board(model: Model, width: int, height: int, now: float) -> list[Line]:
    """Draw the board: the titles, then a row for each symbol that fits."""
    first = first_row(model, height)
    quotes = model.quotes[first : first + max(height - 1, 0)]
    columns = [column for column in _COLUMNS if column.min_board <= width]
    cells = [[c.cell(model, quote, now) for c in columns] for quote in quotes]
    widths = [
        max(column.width, len(column.title), *(len(row[place][0]) for row in cells), 0)
        for place, column in enumerate(columns)
    ]
    extras = _extra_widths(model, width, widths)
    lines = [pad_or_cut(_head(columns, widths, extras), width, "head")]
    for quote, row in zip(quotes, cells, strict=True):
        line = _row(model, quote, row, widths, extras)
        chosen = quote.symbol == model.symbol
        lines.append(pad_or_cut(line, width, "cursor" if chosen else ""))
    return lines


def _head(columns: list[_Column], widths: list[int], extras: _Extras) -> Line:
    titles = [columns[0].title.ljust(widths[0])]
    titles += [_NAME.ljust(extras.name)] if extras.name else []
    titles += ["trend".ljust(extras.spark)] if extras.spark else []
    titles += [c.title.rjust(w) for c, w in zip(columns[1:], widths[1:], strict=True)]
    return [("".join(f"  {title}" for title in titles), "")]


def _row(
    model: Model,
    quote: Quote,
    cells: list[tuple[str, str]],
    widths: list[int],
    extras: _Extras,
) -> Line:
    chosen = quote.symbol == model.symbol
    line: Line = [("▌" if chosen else " ", "accent")]
    line.append(("~" if model.stale or quote.quiet else " ", "warn"))
    line.append((cells[0][0].ljust(widths[0]), cells[0][1]))
    note = model.notes.get(quote.symbol)
    if note:
        return [*line, (f"  {note}", "warn")]
    if extras.name:
        name = pad_or_cut([(model.names.get(quote.symbol, ""), "soft")], extras.name)
        line += [("  ", ""), *name]
    if extras.spark:
        text, role = _trend(model, quote, extras.spark)
        line += [("  ", ""), (text, role)]
    for (text, role), wide in zip(cells[1:], widths[1:], strict=True):
        line += [("  ", ""), (text.rjust(wide), role)]
    return line


def _extra_widths(model: Model, width: int, widths: list[int]) -> _Extras:
    """Return the widths in what the columns leave: names only beside a sparkline."""
    room = width - sum(widths) - 2 * len(widths) - 3
    least, most = _SPARKLINE_WIDTHS
    names = (model.names.get(symbol, "") for symbol in model.symbols)
    longest = max(map(cell_len, names), default=0)
    wanted = max(longest, len(_NAME))
    name = min(wanted, _NAME_WIDTHS[1], room - 2 - least)
    if not longest or name < min(wanted, _NAME_WIDTHS[0]):
        return _Extras(0, min(room, most) if room >= least else 0)
    return _Extras(name, min(room - 2 - name, most))


def _trend(model: Model, quote: Quote, width: int) -> tuple[str, str]:
    closes = [float(kline.close) for kline in model.bars.of(quote.symbol)[-width:]]
    rises = not closes or closes[-1] >= closes[0]
    return sparkline(closes, width), "up_trend" if rises else "down_trend"


def _direction(quote: Quote) -> str:
    change = quote.change
    return "" if not change else "up" if change > 0 else "down"


def _symbol(model: Model, quote: Quote, now: float) -> tuple[str, str]:
    return quote.symbol, "bold"


def _last(model: Model, quote: Quote, now: float) -> tuple[str, str]:
    text = quote.price(quote.last)
    direction, at = model.price_moves.get(quote.symbol, (0, 0.0))
    if direction and now - at < _FLASH_TIME:
        return text, "flash_up" if direction > 0 else "flash_down"
    return text, "bold"


def _change(model: Model, quote: Quote, now: float) -> tuple[str, str]:
    return percent(quote.change), _direction(quote)


def _low(model: Model, quote: Quote, now: float) -> tuple[str, str]:
    snapshot = quote.snapshot
    return quote.price(snapshot.low if snapshot else None), "soft"


def _high(model: Model, quote: Quote, now: float) -> tuple[str, str]:
    snapshot = quote.snapshot
    return quote.price(snapshot.high if snapshot else None), "soft"


def _volume(model: Model, quote: Quote, now: float) -> tuple[str, str]:
    snapshot = quote.snapshot
    return format_size(snapshot.volume if snapshot else None), "soft"


def _bid(model: Model, quote: Quote, now: float) -> tuple[str, str]:
    level = quote.depth and quote.depth.best_bid
    return quote.price(level.price if level else None), "soft"


def _ask(model: Model, quote: Quote, now: float) -> tuple[str, str]:
    level = quote.depth and quote.depth.best_ask
    return quote.price(level.price if level else None), "soft"


def _state(model: Model, quote: Quote, now: float) -> tuple[str, str]:
    snapshot = quote.snapshot
    if snapshot is None:
        return "", ""
    if snapshot.status is TradingStatus.SUSPENDED:
        return "halted", "warn"
    return _SESSIONS.get(snapshot.session or Session.UNKNOWN, ""), "dim"


def _traded(model: Model, quote: Quote, now: float) -> tuple[str, str]:
    trade: Trade | None = quote.trade
    return (
        "-"
        if trade is None
        else clock(model.display.time(trade.timestamp, trade.symbol))
    ), "dim"


_COLUMNS = (
    _Column("symbol", 10, 0, _symbol),
    _Column("last", 8, 0, _last),
    _Column("change", 7, 0, _change),
    _Column("bid", 8, 118, _bid),
    _Column("ask", 8, 118, _ask),
    _Column("low", 8, 58, _low),
    _Column("high", 8, 58, _high),
    _Column("volume", 6, 50, _volume),
    _Column("traded", 8, 132, _traded),
    _Column("", 5, 88, _state),
)
