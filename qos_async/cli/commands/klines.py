"""``qos klines``: the newest bars."""

from __future__ import annotations

from argparse import ArgumentParser

from qos_async.cli.asking import EXITS, Asking, add_symbols
from qos_async.cli.values import count_up_to, interval
from qos_async.enums import Interval

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]

BRIEF = "the newest bars"
ABOUT = """\
Shows the newest bars, the newest one last; it is unfinished. Change is since
the bar before. Times are the bars' starts, in UTC; of days and longer, the
market's own date.

examples:
  qos klines US:AAPL --interval 1d --count 30
  qos klines --sim CF:BTCUSDT --interval 1m
  qos klines --sim HK:700 --interval 1h --csv
"""
NOTE = EXITS

_MOST = 1000


class Arguments(Asking):
    """What was asked for."""

    interval: Interval = Interval.DAY
    count: int = 20
    adjust: bool = False


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add_symbols(parser)
    parser.add_argument(
        "--interval",
        type=interval,
        default=Interval.DAY,
        metavar="I",
        help="1m 5m 15m 30m 1h 2h 4h 1d 1w 1M 1y (1d)",
    )
    parser.add_argument(
        "--count",
        type=count_up_to(_MOST),
        default=20,
        metavar="N",
        help=f"how many of each symbol, up to {_MOST} (20)",
    )
    parser.add_argument(
        "--adjust", action="store_true", help="for dividends and splits"
    )


def run(arguments: Arguments) -> int:
    """Ask, show what came, and give the exit code."""
    from qos_async.cli import fetch  # noqa: PLC0415 - heavy

    return fetch.run_fetch(arguments)
