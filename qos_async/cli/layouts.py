"""Which columns the records of each command get, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise, zip_longest
from typing import Any

from qos_async import (
    Depth,
    Instrument,
    Interval,
    Kline,
    Product,
    Side,
    Snapshot,
    Trade,
    TradingDay,
    TradingStatus,
)
from qos_async.cli.tables import Block, Cell, Column
from qos_async.cli.wording import percent, share
from qos_async.periods import market_zone
from qos_async.symbols import market_of

__all__ = [
    "Layout",
    "calendar",
    "depth",
    "instruments",
    "klines",
    "products",
    "snapshots",
    "trades",
]

Layout = Callable[[Mapping[str, Any]], Iterable[Block]]
"""Draws what a ``fetch_*`` gave."""

_NONE = Cell("-", "dim")
_UNITS = ((1_000_000_000_000, "T"), (1_000_000_000, "B"), (1_000_000, "M"))
_SIDES = {Side.BUY: Cell("buy", "green"), Side.SELL: Cell("sell", "red")}
_NAME = 30


def snapshots(found: Mapping[str, Snapshot]) -> Iterator[Block]:
    """One table of all."""
    columns = (
        Column("Symbol", left=True),
        Column("Last"),
        Column("Change"),
        Column("Open", 5),
        Column("High", 6),
        Column("Low", 6),
        Column("Volume", 7),
        Column("Turnover", 3),
        Column("Session", 1, left=True),
        Column("UTC", 4),
    )
    yield Block("", columns, [_snapshot(one) for one in found.values()])


def trades(found: Mapping[str, list[Trade]]) -> Iterator[Block]:
    """A table a symbol."""
    columns = (
        Column("UTC", left=True),
        Column("Price"),
        Column("Size"),
        Column("Side"),
    )
    for symbol, rows in found.items():
        prices = [row.price for row in rows]
        sizes = [row.size for row in rows]
        yield Block(
            symbol,
            columns,
            [
                (
                    Cell(_moment(row.timestamp), "dim"),
                    price,
                    size,
                    _SIDES.get(row.side, _NONE),
                )
                for row, price, size in zip(
                    rows, _aligned(prices), _aligned(sizes), strict=True
                )
            ],
        )


def depth(found: Mapping[str, Depth]) -> Iterator[Block]:
    """A ladder a symbol, the best prices on top."""
    columns = [Column(one) for one in ("", "Bid size", "Bid", "Ask", "Ask size")]
    for symbol, book in found.items():
        yield Block(f"{symbol}  {_middle(book)}", columns, list(_ladder(book)))


def klines(found: Mapping[str, list[Kline]]) -> Iterator[Block]:
    """A table a symbol."""
    for symbol, bars in found.items():
        interval = bars[0].interval if bars else Interval.UNKNOWN
        day = "Date" if interval >= Interval.DAY else "UTC"
        columns = (
            Column(day, left=True),
            Column("Open"),
            Column("High"),
            Column("Low"),
            Column("Close"),
            Column("Change", 1),
            Column("Volume", 2),
        )
        yield Block(f"{symbol}  {interval.short}", columns, _bars(bars))


def instruments(found: Mapping[str, Instrument]) -> Iterator[Block]:
    """One table of all."""
    columns = (
        Column("Symbol", left=True),
        Column("Name", left=True),
        Column("", 5, left=True),
        Column("Exch.", left=True),
        Column("Cur.", left=True),
        Column("Lot"),
        Column("Shares", 4),
        Column("Circulating", 3),
        Column("EPS", 6),
        Column("Book", 1),
        Column("Dividend", 2),
    )
    yield Block("", columns, [_instrument(one) for one in found.values()])


def products(found: Mapping[str, list[Product]]) -> Iterator[Block]:
    """A table a market."""
    columns = (Column("Symbol", left=True), Column("Name", left=True))
    for market, rows in found.items():
        cells = [(Cell(row.symbol, "bold"), Cell(row.name)) for row in rows]
        yield Block(f"{market}  {len(rows)}", columns, cells)


def calendar(found: Mapping[str, list[TradingDay]]) -> Iterator[Block]:
    """A table a market."""
    columns = (Column("Date", left=True), Column("", left=True), Column("", left=True))
    for market, days in found.items():
        rows = [
            (
                Cell(day.date.isoformat()),
                Cell(f"{day.date:%a}", "dim"),
                Cell("half day" if day.half_day else "", "yellow"),
            )
            for day in days
        ]
        yield Block(market, columns, rows)


def _snapshot(one: Snapshot) -> list[Cell]:
    last, opened, high, low = _aligned([one.last_price, one.open, one.high, one.low])
    return [
        Cell(one.symbol, "bold"),
        Cell(last.text, "bold"),
        _change(one.last_price, one.prev_close or one.open),
        opened,
        high,
        low,
        _grouped(one.volume),
        _short(one.turnover),
        _session(one),
        Cell(_clock(one.timestamp), "dim"),
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


def _bars(bars: Sequence[Kline]) -> list[list[Cell]]:
    places = _places(
        price for bar in bars for price in (bar.open, bar.high, bar.low, bar.close)
    )
    before = [bars[0].open if bars else None, *(bar.close for bar in bars)]
    return [
        [
            Cell(_start(bar), "dim"),
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
    """Write numbers with the same decimal places: rows leave out zeros at the end."""
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
    moved = share(value, since)
    if moved is None:
        return _NONE
    return Cell(percent(moved), "green" if moved > 0 else "red" if moved < 0 else "")


def _text(text: str | None) -> Cell:
    shown = text if text is None or len(text) <= _NAME else f"{text[:_NAME]}..."
    return _NONE if shown is None else Cell(shown)


def _moment(timestamp: int) -> str:
    moment = datetime.fromtimestamp(timestamp, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}" if timestamp else "-"


def _clock(timestamp: int) -> str:
    moment, today = datetime.fromtimestamp(timestamp, UTC), datetime.now(UTC).date()
    shown = f"{moment:%H:%M:%S}" if moment.date() == today else f"{moment:%Y-%m-%d}"
    return shown if timestamp else "-"


def _start(bar: Kline) -> str:
    if bar.interval >= Interval.DAY:
        zone = market_zone(market_of(bar.symbol))
        return f"{datetime.fromtimestamp(bar.timestamp, zone):%Y-%m-%d}"
    return f"{bar.time:%Y-%m-%d %H:%M}"
