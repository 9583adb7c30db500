"""``qos trades``: the last trades."""

from __future__ import annotations

from argparse import ArgumentParser

from qos_async.cli.asking import EXITS, Asking, add_symbols
from qos_async.cli.values import count_up_to

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]

BRIEF = "the last trades"
ABOUT = """\
Shows the last trades, the newest one last. Times are in UTC and whole seconds:
that is all the server tells. For trades as they come, see qos stream.

examples:
  qos trades US:AAPL --count 50
  qos trades --sim CF:BTCUSDT,ETHUSDT
  qos trades --sim HK:700 --count 3 --csv
"""
NOTE = EXITS

_MOST = 50


class Arguments(Asking):
    """What was asked for."""

    count: int = 10


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add_symbols(parser)
    parser.add_argument(
        "--count",
        type=count_up_to(_MOST),
        default=10,
        metavar="N",
        help=f"how many of each symbol, up to {_MOST} (10)",
    )


def run(arguments: Arguments) -> int:
    """Ask, show what came, and give the exit code."""
    from qos_async.cli import fetch  # noqa: PLC0415 - heavy

    return fetch.run_fetch(arguments)
