"""The trade tape: the newest trade first, coloured by who crossed the spread."""

from __future__ import annotations

from qos_async import Side, Trade
from qos_async.cli.formatting import clock
from qos_async.cli.watch.lines import Line, amount, fit, line_width
from qos_async.cli.watch.model import Model

__all__ = ["draw_tape"]

_SIDES = {Side.BUY: ("▲", "up"), Side.SELL: ("▼", "down")}
_RECOVERED, _MARK = "  ↺ recovered", " ↺"
_LARGE = 4
"""A trade of this many times the usual size stands out."""


def draw_tape(
    model: Model, width: int, height: int, *, everything: bool = False
) -> list[Line]:
    """Draw as many trades as fit, of the chosen symbol or of all of them."""
    trades = model.tape(max(height - 1, 0), everything=everything)
    if not trades:
        empty = [fit([(" no trades yet", "dim")], width)]
        return empty + [fit([], width)] * (height - 1)
    prices = {quote.symbol: quote.price for quote in model.quotes}
    wide = max(8, *(len(prices[trade.symbol](trade.price)) for trade in trades))
    sizes = [float(trade.size) for trade in trades if trade.size is not None]
    usual = sum(sizes) / len(sizes) if sizes else 0.0
    name = max(len(trade.symbol) for trade in trades) if everything else 0
    title = f" {'time':<8}  {'symbol':<{name}}  " if name else f" {'time':<8}  "
    head = f"{title}{'price':>{wide + 2}}  {'size':>7}"
    lines = [fit([(head, "")], width, "head")]
    for trade in trades:
        price = prices[trade.symbol](trade.price)
        row = _row(trade, f"{price:>{wide}}", name, usual)
        if trade.recovered:
            room = width - line_width(row)
            row.append((_RECOVERED if room >= len(_RECOVERED) else _MARK, "mark"))
        lines.append(fit(row, width))
    return lines + [fit([], width)] * (height - len(lines))


def _row(trade: Trade, price: str, name: int, usual: float) -> Line:
    arrow, role = _SIDES.get(trade.side, ("·", ""))
    large = trade.size is not None and float(trade.size) >= _LARGE * usual > 0
    line: Line = [(f" {clock(trade.time)}  ", "dim")]
    if name:
        line.append((f"{trade.symbol:<{name}}  ", "soft"))
    line.append((f"{arrow} {price}", role))
    line.append((f"  {amount(trade.size):>7}", f"bold {role}" if large else ""))
    return line
