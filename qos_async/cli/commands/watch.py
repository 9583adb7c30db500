"""``qos watch``: a market on one screen."""

from __future__ import annotations

from argparse import ArgumentParser

from qos_async.cli.options import Options, add_connection

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]

BRIEF = "quotes, order book, trades and candles on the whole terminal"
ABOUT = """\
Shows a quote board of the symbols, and the order book, the trades and the candles of the
one that is chosen. Arrow keys choose the symbol and the interval, ? shows all keys, q
quits. It needs a terminal, 60 x 20 or larger, and pip install 'qos-async[cli]'.

examples:
  qos watch --sim
  qos watch US:AAPL,TSLA HK:700 CF:BTCUSDT
  qos watch CF:BTCUSDT,ETHUSDT --interval 15m
"""
NOTE = """\
Four commands watch everything for every symbol; after that, choosing a symbol costs
nothing and is instant. Another interval costs two commands and an HTTP request, or three
commands, a second each on the free plan. The start takes four HTTP requests.

In a pipe or a file use qos stream instead.
"""
_INTERVALS = ("1m", "5m", "15m", "30m", "1h", "2h", "4h", "1d", "1w", "1M", "1y")


class Arguments(Options):
    """What was asked for."""

    symbols: list[str]
    interval: str = "1m"
    red_up: bool = False


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument(
        "symbols",
        nargs="*",
        metavar="SYMBOL",
        help="such as US:AAPL or US:AAPL,TSLA; ten of every market by default",
    )
    parser.add_argument(
        "--interval",
        choices=_INTERVALS,
        default="1m",
        help="of the candles (1m)",
        metavar="I",
    )
    parser.add_argument(
        "--red-up",
        action="store_true",
        help="rises red, falls green, as in mainland China",
    )
    add_connection(parser)


def run(arguments: Arguments) -> int:
    """Show the market until somebody has seen enough."""
    from qos_async.cli.watch import play

    return play.run_watch(arguments)
