"""The order book of the chosen symbol: asks above, bids below, bars for the sizes."""

from __future__ import annotations

from itertools import accumulate

from qos_async import Depth, PriceLevel
from qos_async.cli.quotes import Quote
from qos_async.cli.watch.lines import Line, amount, bar, between, fit
from qos_async.cli.watch.model import Model

__all__ = ["draw_ladder"]

_BAR_LEAST = 5


def draw_ladder(model: Model, width: int, height: int) -> list[Line]:
    """Draw as many levels as fit, and the spread between them."""
    quote = model.quote
    depth = quote.depth
    if depth is None or not (depth.bids or depth.asks):
        return _empty("no order book yet", width, height)
    most = max((height - 2) // 2, 1)
    asks, bids = depth.asks[:most], depth.bids[:most]
    blank = [fit([], width)]
    rows = [
        fit(_head(quote, depth), width, "head"),
        *blank * (most - len(asks)),
        *reversed(_side(quote, asks, width, "down", most)),
        fit(_spread(depth, width), width, "band"),
        *_side(quote, bids, width, "up", most),
    ]
    return (rows + blank * height)[:height]


def _empty(words: str, width: int, height: int) -> list[Line]:
    return [fit([(f" {words}", "dim")], width), *([fit([], width)] * (height - 1))]


def _widths(quote: Quote, depth: Depth) -> tuple[int, int]:
    levels = (*depth.bids, *depth.asks)
    prices = max((len(quote.price(level.price)) for level in levels), default=0)
    sizes = max((len(amount(level.size)) for level in levels), default=0)
    return max(prices, 8), max(sizes, 6)


def _head(quote: Quote, depth: Depth) -> Line:
    price, size = _widths(quote, depth)
    return [(f" {'price':>{price}}  {'size':>{size}}  {'sum':>{size}}", "")]


def _side(
    quote: Quote, levels: tuple[PriceLevel, ...], width: int, role: str, most: int
) -> list[Line]:
    assert quote.depth is not None
    shown = (*quote.depth.bids[:most], *quote.depth.asks[:most])
    largest = max((level.size for level in shown), default=None)
    price, size = _widths(quote, quote.depth)
    room = width - price - 2 * size - 7
    sums = accumulate(level.size for level in levels)
    lines: list[Line] = []
    for level, total in zip(levels, sums, strict=True):
        line: Line = [
            (f" {quote.price(level.price):>{price}}", role),
            (f"  {amount(level.size):>{size}}", ""),
            (f"  {amount(total):>{size}}  ", "dim"),
        ]
        if largest and room >= _BAR_LEAST:
            line.append((bar(float(level.size / largest), room), f"{role}_bar"))
        lines.append(fit(line, width))
    return lines


def _spread(depth: Depth, width: int) -> Line:
    mid, spread = depth.mid, depth.spread
    if mid is None or spread is None:
        return [(" one side is empty", "")]
    points = f"{10_000 * spread / mid:.2g} bp" if mid else ""
    left: Line = [(f" {mid.normalize():f}", "bold"), ("  mid", "dim")]
    return between(left, [(f"spread {spread.normalize():f}  {points} ", "")], width)
