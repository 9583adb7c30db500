"""Tables of text: aligned, no wider than the terminal, and coloured if stdout is one.

Below the table itself, the columns of each command's records.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby, pairwise, zip_longest
from typing import NamedTuple, TextIO, TypeAlias

from qos_async import (
    Depth,
    Instrument,
    Interval,
    Kline,
    Product,
    Side,
    Snapshot,
    Tick,
    Trade,
    TradingStatus,
)
from qos_async._printable import printable
from qos_async.cli.display import IN_UTC, Display
from qos_async.cli.formatting import percent, percent_change, without_empty_levels

__all__ = [
    "Cell",
    "Table",
    "TableColumn",
    "depth",
    "instruments",
    "is_terminal",
    "klines",
    "products",
    "render",
    "show",
    "snapshots",
    "trades",
]

_GAP = "  "
_BETWEEN = "    "
"""What is between tables that are side by side."""


class Cell(NamedTuple):
    """A text, and its style on a terminal."""

    text: str
    style: str = ""


class TableColumn(NamedTuple):
    """A column.

    Attributes:
        title: Its header.
        drop: The order in which columns are dropped to fit: 1 first, 0 never.
        left: Whether it is left-aligned.
    """

    title: str
    drop: int = 0
    left: bool = False


class Table(NamedTuple):
    """A table.

    Attributes:
        title: Above it; may be empty.
        columns: Those of each row.
        rows: Without the header.
        group: Tables of the same group that follow each other are side by side where
            the terminal has room for them; empty for none.
    """

    title: str
    columns: Sequence[TableColumn]
    rows: Sequence[Sequence[Cell]]
    group: str = ""


def show(tables: Iterable[Table], display: Display = IN_UTC) -> None:
    """Print tables on stdout, separated by empty lines."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    terminal = is_terminal()
    width = shutil.get_terminal_size().columns if terminal else None
    write = _printer() if terminal else _plain
    for number, lines in enumerate(_side_by_side(tables, width)):
        if number:
            write([])
        for line in lines:
            write([cell._replace(style=display.style(cell.style)) for cell in line])


_Lines: TypeAlias = list[list[Cell]]


def _side_by_side(tables: Iterable[Table], width: int | None) -> Iterator[_Lines]:
    """Iterate over the lines of tables, those of a group beside each other if they fit."""
    for group, members in groupby(tables, lambda table: table.group):
        shown: _Lines = []
        for table in members:
            lines = list(render(table, width))
            room = _lines_width(shown) + len(_BETWEEN) + _lines_width(lines)
            if shown and group and width is not None and room <= width:
                shown = _joined(shown, lines)
                continue
            if shown:
                yield shown
            shown = lines
        yield shown


def _joined(left: _Lines, right: _Lines) -> _Lines:
    """Return the lines of two tables beside each other."""
    wide = _lines_width(left) + len(_BETWEEN)
    blank: list[Cell] = []
    return [
        [*one, Cell(" " * (wide - sum(map(_width, one)))), *other]
        for one, other in zip_longest(left, right, fillvalue=blank)
    ]


def _lines_width(lines: _Lines) -> int:
    return max((sum(map(_width, line)) for line in lines), default=0)


def is_terminal(stream: TextIO | None = None) -> bool:
    """Return whether a stream, by default stdout, is a terminal that has colours."""
    dumb = os.environ.get("TERM") in ("dumb", "unknown")
    return (stream or sys.stdout).isatty() and not dumb


def render(table: Table, width: int | None = None) -> Iterator[list[Cell]]:
    """Iterate over the lines of a table, aligned.

    Args:
        table: The table.
        width: Of the terminal, in characters: columns are dropped to fit. None drops
            none.
    """
    table = _printable(table)
    if table.title:
        yield [Cell(table.title, "bold")]
    header = [Cell(column.title, "bold") for column in table.columns]
    widths = [
        max(map(_width, column)) for column in zip(header, *table.rows, strict=True)
    ]
    shown = _fit_columns(table.columns, widths, width)
    for row in (header, *table.rows):
        line: list[Cell] = []
        for place in shown:
            pad = " " * (widths[place] - _width(row[place]))
            left, cell = table.columns[place].left, row[place]
            text = cell.text + pad if left else pad + cell.text
            line += [Cell(_GAP)] if line else []
            line.append(Cell(text, cell.style))
        yield line


def _printable(table: Table) -> Table:
    """Return the table without characters that would move the cursor."""
    rows = [
        [cell._replace(text=printable(cell.text)) for cell in row] for row in table.rows
    ]
    return table._replace(title=printable(table.title), rows=rows)


def _plain(line: Sequence[Cell]) -> None:
    print("".join(cell.text for cell in line).rstrip())


def _printer() -> Callable[[Sequence[Cell]], None]:
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        return _plain
    console = Console(highlight=False)

    def write(line: Sequence[Cell]) -> None:
        console.print(Text.assemble(*line), no_wrap=True, overflow="ellipsis")

    return write


def _fit_columns(
    columns: Sequence[TableColumn], widths: Sequence[int], width: int | None
) -> list[int]:
    shown = list(range(len(columns)))
    while width is not None and len(shown) > 1:
        total = sum(widths[place] + len(_GAP) for place in shown) - len(_GAP)
        spare = [place for place in shown if columns[place].drop]
        if total <= width or not spare:
            break
        shown.remove(min(spare, key=lambda place: columns[place].drop))
    return shown


def _width(cell: Cell) -> int:
    """Return the width of a cell: Chinese takes two columns a character, marks none."""
    return sum(
        0
        if unicodedata.combining(char)
        else 2
        if unicodedata.east_asian_width(char) in "WF"
        else 1
        for char in cell.text
    )


_NONE = Cell("-", "dim")
_UNITS = ((1_000_000_000_000, "T"), (1_000_000_000, "B"), (1_000_000, "M"))
_SIDES = {Side.BUY: Cell("buy", "green"), Side.SELL: Cell("sell", "red")}
_NAME = 30


def snapshots(
    found: Mapping[str, Snapshot],
    display: Display = IN_UTC,
    names: Mapping[str, str] = {},
) -> Iterator[Table]:
    """One table for all symbols, with their names if there are any."""
    columns = (
        TableColumn("Symbol", left=True),
        *([TableColumn("Name", 8, left=True)] if names else []),
        TableColumn("Last"),
        TableColumn("Change"),
        TableColumn("Open", 5),
        TableColumn("High", 6),
        TableColumn("Low", 6),
        TableColumn("Volume", 7),
        TableColumn("Turnover", 3),
        TableColumn("Session", 1, left=True),
        TableColumn(_zone_title(display), 4),
    )
    yield Table("", columns, [_snapshot(one, display, names) for one in found.values()])


def trades(
    found: Mapping[str, list[Trade]], display: Display = IN_UTC
) -> Iterator[Table]:
    """A table for each symbol."""
    for symbol, rows in found.items():
        columns = (
            TableColumn(_zone_title(display, rows), left=True),
            TableColumn("Price"),
            TableColumn("Size"),
            TableColumn("Side"),
        )
        prices = [row.price for row in rows]
        sizes = [row.size for row in rows]
        yield Table(
            symbol,
            columns,
            [
                (
                    Cell(_date_time(row, display), "dim"),
                    price,
                    size,
                    _SIDES.get(row.side, _NONE),
                )
                for row, price, size in zip(
                    rows, _aligned(prices), _aligned(sizes), strict=True
                )
            ],
        )


def depth(found: Mapping[str, Depth], display: Display = IN_UTC) -> Iterator[Table]:
    """A ladder for each symbol, best prices on top."""
    columns = [TableColumn(one) for one in ("", "Bid size", "Bid", "Ask", "Ask size")]
    for symbol, book in found.items():
        shown = without_empty_levels(book)
        yield Table(f"{symbol}  {_middle(shown)}", columns, list(_ladder(shown)))


def klines(
    found: Mapping[str, list[Kline]], display: Display = IN_UTC
) -> Iterator[Table]:
    """A table for each symbol."""
    for symbol, bars in found.items():
        interval = bars[0].interval if bars else Interval.UNKNOWN
        is_day = interval >= Interval.DAY
        day = "Date" if is_day else _zone_title(display, bars)
        columns = (
            TableColumn(day, left=True),
            TableColumn("Open"),
            TableColumn("High"),
            TableColumn("Low"),
            TableColumn("Close"),
            TableColumn("Change", 1),
            TableColumn("Volume", 2),
        )
        yield Table(f"{symbol}  {interval.short}", columns, _bars(bars, display))


def instruments(
    found: Mapping[str, Instrument], display: Display = IN_UTC
) -> Iterator[Table]:
    """One table for all symbols."""
    columns = (
        TableColumn("Symbol", left=True),
        TableColumn("Name", left=True),
        TableColumn("", 5, left=True),
        TableColumn("Exch.", left=True),
        TableColumn("Cur.", left=True),
        TableColumn("Lot"),
        TableColumn("Shares", 4),
        TableColumn("Circulating", 3),
        TableColumn("EPS", 6),
        TableColumn("Book", 1),
        TableColumn("Dividend", 2),
    )
    yield Table("", columns, [_instrument(one) for one in found.values()])


def products(
    found: Mapping[str, list[Product]], display: Display = IN_UTC
) -> Iterator[Table]:
    """A table for each market."""
    columns = (TableColumn("Symbol", left=True), TableColumn("Name", left=True))
    for market, rows in found.items():
        cells = [(Cell(row.symbol, "bold"), Cell(row.name)) for row in rows]
        yield Table(f"{market}  {len(rows)}", columns, cells)


def _snapshot(one: Snapshot, display: Display, names: Mapping[str, str]) -> list[Cell]:
    last, opened, high, low = _aligned([one.last_price, one.open, one.high, one.low])
    return [
        Cell(one.symbol, "bold"),
        *([_text(names.get(one.symbol))] if names else []),
        Cell(last.text, "bold"),
        _change(one.last_price, one.prev_close or one.open),
        opened,
        high,
        low,
        _grouped(one.volume),
        _short(one.turnover),
        _session(one),
        Cell(_clock(one, display), "dim"),
    ]


def _session(one: Snapshot) -> Cell:
    if one.status is TradingStatus.SUSPENDED:
        return Cell("suspended", "yellow")
    return Cell("" if one.session is None else one.session.name.lower())


def _ladder(book: Depth) -> Iterator[list[Cell]]:
    empty = Cell("")
    columns = [
        _aligned(side)
        for side in (
            [level.size for level in book.bids],
            [level.price for level in book.bids],
            [level.price for level in book.asks],
            [level.size for level in book.asks],
        )
    ]
    styles = ("", "green", "red", "")
    for number, row in enumerate(zip_longest(*columns, fillvalue=empty), 1):
        cells = [
            cell._replace(style=style) for cell, style in zip(row, styles, strict=True)
        ]
        yield [Cell(str(number), "dim"), *cells]


def _middle(book: Depth) -> str:
    if book.mid is None or book.spread is None:
        return "one side is empty"
    return f"mid {book.mid:f}  spread {book.spread:f}"


def _bars(bars: Sequence[Kline], display: Display) -> list[list[Cell]]:
    places = _places(
        price for bar in bars for price in (bar.open, bar.high, bar.low, bar.close)
    )
    before = [bars[0].open if bars else None, *(bar.close for bar in bars)]
    return [
        [
            Cell(_start(bar, display), "dim"),
            *(
                _number(price, places)
                for price in (bar.open, bar.high, bar.low, bar.close)
            ),
            _change(bar.close, since),
            _grouped(bar.volume),
        ]
        for bar, (since, _) in zip(bars, pairwise(before), strict=True)
    ]


def _instrument(one: Instrument) -> list[Cell]:
    return [
        Cell(one.symbol, "bold"),
        _text(one.name_en or one.name_zh),
        _text(one.name_zh if one.name_en else ""),
        _text(one.exchange),
        _text(one.currency),
        _grouped(one.lot_size),
        _short(one.total_shares),
        _short(one.circulating_shares),
        *(_rounded(value) for value in (one.eps, one.bps, one.dividend)),
    ]


def _aligned(values: Sequence[Decimal | None]) -> list[Cell]:
    """Format numbers with equal decimal places: the wire omits trailing zeros."""
    places = _places(values)
    return [_number(value, places) for value in values]


def _places(values: Iterable[Decimal | None]) -> int:
    written = (f"{value:f}" for value in values if value is not None)
    return max((len(text.partition(".")[2]) for text in written), default=0)


def _number(value: Decimal | None, places: int) -> Cell:
    return _NONE if value is None else Cell(f"{value:.{places}f}")


def _rounded(value: Decimal | None) -> Cell:
    return _NONE if value is None else Cell(f"{value:.3f}")


def _grouped(value: Decimal | int | None) -> Cell:
    return _NONE if value is None else Cell(f"{value:,}")


def _short(value: Decimal | int | None) -> Cell:
    if value is None:
        return _NONE
    amount = Decimal(value)
    for unit, suffix in _UNITS:
        if abs(amount) >= unit:
            return Cell(f"{amount / unit:.1f}{suffix}")
    return Cell(f"{amount:,.0f}")


def _change(value: Decimal | None, since: Decimal | None) -> Cell:
    moved = percent_change(value, since)
    if moved is None:
        return _NONE
    return Cell(percent(moved), "green" if moved > 0 else "red" if moved < 0 else "")


def _text(text: str | None) -> Cell:
    shown = text if text is None or len(text) <= _NAME else f"{text[:_NAME]}..."
    return _NONE if shown is None else Cell(shown)


def _zone_title(display: Display, rows: Sequence[Tick] = ()) -> str:
    """Return the name of the zone of a column of times, all of the symbol of ``rows``."""
    if not rows:
        return display.zone_name(timestamp=datetime.now(UTC).timestamp())
    return display.zone_name(rows[-1].symbol, rows[-1].timestamp)


def _date_time(tick: Tick, display: Display) -> str:
    at = display.time(tick.timestamp, tick.symbol)
    return f"{at:%Y-%m-%d %H:%M:%S}" if tick.timestamp else "-"


def _clock(tick: Tick, display: Display) -> str:
    at = display.time(tick.timestamp, tick.symbol)
    today = datetime.now(UTC).astimezone(at.tzinfo).date()
    shown = f"{at:%H:%M:%S}" if at.date() == today else f"{at:%Y-%m-%d}"
    return shown if tick.timestamp else "-"


def _start(bar: Kline, display: Display) -> str:
    if bar.interval >= Interval.DAY:
        return f"{bar.date}"
    return f"{display.time(bar.timestamp, bar.symbol):%Y-%m-%d %H:%M}"
