"""Panels of the screen: their layout, and the order book, trade tape and status lines.

The board and the chart, which are longer, are drawn in modules of their own.
"""

from __future__ import annotations

from decimal import Context, Decimal
from itertools import accumulate
from typing import NamedTuple

from qos_async import Depth, LinkState, Side, Trade
from qos_async.charts.zones import zone_name
from qos_async.cli.formatting import clock, percent, without_empty_levels
from qos_async.cli.watch.model import Model
from qos_async.cli.watch.rows import Quote
from qos_async.cli.watch.text import (
    Line,
    format_size,
    horizontal_bar,
    justify,
    line_width,
    pad_or_cut,
)

__all__ = [
    "Box",
    "Layout",
    "arrange",
    "draw_events",
    "draw_ladder",
    "draw_tape",
    "draw_top",
]

# Layout

_SIDE_WIDTH, _SIDE_WIDTH_WIDE = 38, 46
"""Columns of the order book and the tape, including the frame."""
_ONE_SIDE_FROM = 96
"""Screen width from which both have a column of their own, one above the other."""
_TWO_SIDES_FROM = 160
"""Screen width from which each of them has a column of its own."""
_BESIDE_CHART_FROM = 72
"""Screen width from which one of them fits beside the chart."""
_FRAMES_FROM = 28
"""Screen height from which panels have a full frame; below it, a line on top."""
_MIN_CHART_HEIGHT = 7
_MIN_BOARD_HEIGHT = 5
_ONLY_PANEL = {"ladder": "chart", "tape": "ladder", "chart": "tape"}
"""What is shown where only one panel fits below the board: first the chart."""
_TOP_LINES, _BOTTOM_LINES = 1, 2
"""The link's status; the newest event and the keys."""


class Box(NamedTuple):
    """Position and size of a panel in characters, including its frame."""

    x: int
    y: int
    width: int
    height: int


class Layout(NamedTuple):
    """The box of each panel that fits.

    Attributes:
        boxes: By name: ``board``, ``chart``, ``ladder``, ``tape``.
        framed: Whether panels have a full frame, or a line on top.
    """

    boxes: dict[str, Box]
    framed: bool

    def inner_size(self, name: str) -> tuple[int, int]:
        """Return width and height of a panel without its frame."""
        box = self.boxes[name]
        if self.framed:
            return max(box.width - 2, 0), max(box.height - 2, 0)
        return box.width, max(box.height - 1, 0)


def arrange(
    width: int, height: int, symbols: int, side_panel: str = "ladder"
) -> Layout:
    """Return the layout of a screen.

    Args:
        width: Of the screen.
        height: Of the screen.
        symbols: Number of rows of the board.
        side_panel: Where ladder and tape do not both fit: the one to show beside the
            chart, or ``"chart"`` for the chart alone. Where only one panel fits below
            the board, each of the three selects another one.
    """
    framed = height >= _FRAMES_FROM and width >= _ONE_SIDE_FROM
    rows = max(height - _TOP_LINES - _BOTTOM_LINES, 1)
    if framed:
        return Layout(_large(width, rows, symbols), framed)
    return Layout(_small(width, rows, symbols, side_panel), framed)


def _large(width: int, rows: int, symbols: int) -> dict[str, Box]:
    top, two_sides = _TOP_LINES, width >= _TWO_SIDES_FROM
    side = _SIDE_WIDTH_WIDE if two_sides else _SIDE_WIDTH
    main = width - side * (2 if two_sides else 1)
    board = _board_height(rows, symbols + 3)  # Titles and frame.
    boxes = {
        "board": Box(0, top, main, board),
        "chart": Box(0, top + board, main, rows - board),
    }
    if two_sides:
        boxes["ladder"] = Box(main, top, side, rows)
        boxes["tape"] = Box(main + side, top, side, rows)
    else:
        ladder = max(rows * 11 // 20, 8)
        boxes["ladder"] = Box(main, top, side, ladder)
        boxes["tape"] = Box(main, top + ladder, side, rows - ladder)
    return boxes


def _small(width: int, rows: int, symbols: int, side_panel: str) -> dict[str, Box]:
    board = _board_height(rows, symbols + 2)  # Titles and the line on top.
    boxes = {"board": Box(0, _TOP_LINES, width, board)}
    y, left = _TOP_LINES + board, rows - board
    if not left:
        return boxes
    if side_panel == "chart" and width >= _BESIDE_CHART_FROM:
        boxes["chart"] = Box(0, y, width, left)
    elif width < _BESIDE_CHART_FROM:
        boxes[_ONLY_PANEL[side_panel]] = Box(0, y, width, left)
    else:
        side = min(_SIDE_WIDTH - 2, width * 2 // 5)
        boxes["chart"] = Box(0, y, width - side - 1, left)
        boxes[side_panel] = Box(width - side, y, side, left)
    return boxes


def _board_height(rows: int, wanted: int) -> int:
    """Return the wanted height if that leaves room for a chart, else all or less."""
    if rows < _MIN_BOARD_HEIGHT + _MIN_CHART_HEIGHT:
        return rows
    return min(wanted, rows - _MIN_CHART_HEIGHT)


# Order book

_MIN_BAR_WIDTH = 5


def draw_ladder(model: Model, width: int, height: int) -> list[Line]:
    """Draw the order book of the selected symbol: asks above, the spread, bids below."""
    quote = model.quote
    depth = quote.depth and without_empty_levels(quote.depth)
    if depth is None or not (depth.bids or depth.asks):
        return _message("no order book yet", width, height)
    count = max((height - 2) // 2, 1)
    shown = Depth(symbol=depth.symbol, bids=depth.bids[:count], asks=depth.asks[:count])
    widths = price, size = _column_widths(quote, depth)
    head = f" {'price':>{price}}  {'size':>{size}}  {'sum':>{size}}"
    blank: list[Line] = [pad_or_cut([], width)]
    rows = [
        pad_or_cut([(head, "")], width, "head"),
        *blank * (count - len(shown.asks)),
        *reversed(_book_side(quote, shown, widths, width, "down")),
        pad_or_cut(_spread_line(quote, depth, price, width), width, "band"),
        *_book_side(quote, shown, widths, width, "up"),
    ]
    return (rows + blank * height)[:height]


def _message(text: str, width: int, height: int) -> list[Line]:
    blank: list[Line] = [pad_or_cut([], width)]
    return [pad_or_cut([(f" {text}", "dim")], width), *blank * (height - 1)]


def _column_widths(quote: Quote, depth: Depth) -> tuple[int, int]:
    """Return the widths of prices and of sizes over all levels, shown or not."""
    levels = (*depth.bids, *depth.asks)
    prices = max((len(quote.price(level.price)) for level in levels), default=0)
    sizes = max((len(format_size(level.size)) for level in levels), default=0)
    return max(prices, 8), max(sizes, 6)


def _book_side(
    quote: Quote, shown: Depth, widths: tuple[int, int], width: int, role: str
) -> list[Line]:
    """Draw one side, best price first; bars compare its sizes with both sides."""
    levels = shown.bids if role == "up" else shown.asks
    largest = max((level.size for level in (*shown.bids, *shown.asks)), default=None)
    price, size = widths
    room = width - price - 2 * size - 7
    sums = accumulate(level.size for level in levels)
    lines: list[Line] = []
    for level, total in zip(levels, sums, strict=True):
        line: Line = [
            (f" {quote.price(level.price):>{price}}", role),
            (f"  {format_size(level.size):>{size}}", ""),
            (f"  {format_size(total):>{size}}  ", "dim"),
        ]
        if largest and room >= _MIN_BAR_WIDTH:
            bar = horizontal_bar(float(level.size / largest), room)
            line.append((bar, f"{role}_bar"))
        lines.append(pad_or_cut(line, width))
    return lines


_TWO, _TWO_DIGITS = Context(prec=2), 10


def _spread_line(quote: Quote, depth: Depth, price: int, width: int) -> Line:
    """Draw the mid with its decimal point below those of the prices."""
    mid, spread = depth.mid, depth.spread
    if mid is None or spread is None:
        return [(" one side is empty", "")]
    points = _basis_points(spread, mid)
    whole, _, decimals = f"{mid.normalize():f}".partition(".")
    point = price - quote.places - (quote.places > 0)
    shown = f"{whole:>{point}}"
    if decimals or quote.places:
        shown += f".{decimals:0<{quote.places}}"
    left: Line = [(f" {shown}", "bold"), ("  mid", "dim")]
    right = f"spread {spread.normalize():f}"
    longer = f"{right}  {points}"
    fits = line_width(left) + len(longer) + 1 < width
    return justify(left, [(f"{longer if fits else right} ", "")], width)


def _basis_points(spread: Decimal, mid: Decimal) -> str:
    """Return the spread relative to the distance of the mid from zero, two digits."""
    if not mid:
        return "-"
    points = 10_000 * spread / abs(mid)
    if points >= _TWO_DIGITS:
        return f"{points:.0f} bp"
    return f"{_TWO.plus(points).normalize():f} bp"


# Trade tape

_SIDES = {Side.BUY: ("▲", "up"), Side.SELL: ("▼", "down")}
_RECOVERED, _RECOVERED_SHORT = "  ↺ recovered", " ↺"
_LARGE_TRADE = 4
"""A trade of this many times the mean size is in bold."""


def draw_tape(
    model: Model, width: int, height: int, *, all_symbols: bool = False
) -> list[Line]:
    """Draw the trades that fit, newest first, of the selected symbol or of all."""
    trades = model.trades(max(height - 1, 0), all_symbols=all_symbols)
    if not trades:
        return _message("no trades yet", width, height)
    to_text = {quote.symbol: quote.price for quote in model.quotes}
    # First the width: a quote counts the places of the prices that it has written.
    price_width = max(8, *(len(to_text[one.symbol](one.price)) for one in trades))
    sizes = [float(trade.size) for trade in trades if trade.size is not None]
    mean = sum(sizes) / len(sizes) if sizes else 0.0
    name = max(len(trade.symbol) for trade in trades) if all_symbols else 0
    symbol = f"{'symbol':<{name}}  " if name else ""
    head = f" {'time':<8}  {symbol}{'price':>{price_width + 2}}  {'size':>7}"
    lines = [pad_or_cut([(head, "")], width, "head")]
    for trade in trades:
        price = to_text[trade.symbol](trade.price)
        time = clock(model.display.time(trade.timestamp, trade.symbol))
        line: Line = [(f" {time}  ", "dim")]
        line += _trade_line(trade, f"{price:>{price_width}}", name, mean)
        if trade.recovered:
            fits = line_width(line) + len(_RECOVERED) <= width
            line.append((_RECOVERED if fits else _RECOVERED_SHORT, "mark"))
        lines.append(pad_or_cut(line, width))
    return lines + [pad_or_cut([], width)] * (height - len(lines))


def _trade_line(trade: Trade, price: str, name: int, mean: float) -> Line:
    arrow, role = _SIDES.get(trade.side, ("·", ""))
    large = trade.size is not None and float(trade.size) >= _LARGE_TRADE * mean > 0
    line: Line = []
    if name:
        line.append((f"{trade.symbol:<{name}}  ", "soft"))
    line.append((f"{arrow} {price}", role))
    line.append((f"  {format_size(trade.size):>7}", f"bold {role}" if large else ""))
    return line


# Status lines


def draw_top(model: Model, width: int, now: float) -> Line:
    """Draw the selected symbol's price on the left, the link's status on the right."""
    quote = model.quote
    change = quote.change
    role = "" if not change else "up" if change > 0 else "down"
    arrow = "" if not change else "▲ " if change > 0 else "▼ "
    left: Line = [
        (" qos ", "brand"),
        (f"  {quote.symbol} ", "bold"),
        (f" {quote.price(quote.last)}", f"bold {role}"),
        (f"  {arrow}{percent(change)}", role),
    ]
    link = _link_status(model, now)
    if name := model.names.get(quote.symbol):
        named: Line = [*left[:2], (f"{name} ", "soft"), *left[2:]]
        if line_width(named) + line_width(link) < width:
            left = named
    time = model.display.time(now, quote.symbol)
    time_of_day: Line = [(f"   {clock(time)} ", "")]
    zone: Line = [(f"{zone_name(time)} ", "dim")]
    # The first one that fits.
    timed = [*link, *time_of_day]
    for right in ([*timed, *zone], timed, link, link[:3], link[:2]):
        if line_width(left) + line_width(right) < width:
            return pad_or_cut(justify(left, right, width), width, "top")
    return pad_or_cut(left, width, "top")


def _link_status(model: Model, now: float) -> Line:
    change, stats = model.link, model.stats
    if change.state is LinkState.OPEN:
        round_trip = stats.heartbeat_round_trip
        rtt = "-" if round_trip is None else f"{1000 * round_trip:.0f} ms"
        lag = _format_lag(stats.consumer_lag)
        counters = f"  {model.tick_rate:.0f}/s  lag {lag}  rtt {rtt}"
        return [("● ", "good"), ("live", "good"), (counters, "dim")]
    if change.state is LinkState.BACKOFF:
        left = max(model.link_at + change.retry_in - now, 0.0)
        soon = f" in {left:.0f} s" if change.retry_in else ""
        more = (f", reconnecting{soon}", "bad"), ("  r now", "dim")
        return [("● ", "bad"), ("lost", "bad"), *more]
    return [("● ", "warn"), (f"{change.state}", "warn")]


def _format_lag(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def draw_events(model: Model, width: int) -> Line:
    """Draw the newest event on the left, the counters of gaps on the right."""
    stats = model.stats
    statuses = [f"{n} {status}" for status, n in stats.gaps_by_status.items() if n]
    counters: Line = []
    if statuses:
        counters.append((f"gaps {', '.join(statuses)}", "warn"))
    elif not model.stale:  # A lost link is a gap that is not counted yet.
        counters.append(("gaps none", "dim"))
    if stats.recovered:
        counters.append((f"  recovered {stats.recovered}", "mark"))
    if model.tape.dropped:
        counters.append((f"  dropped {model.tape.dropped}", "warn"))
    newest: Line = [(f" {model.event_log.newest}", "soft")]
    return pad_or_cut(justify(newest, [*counters, (" ", "")], width), width)
