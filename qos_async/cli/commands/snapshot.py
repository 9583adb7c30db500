"""``qos snapshot``: the state of the trading day."""

from __future__ import annotations

from argparse import ArgumentParser

from qos_async.cli.asking import EXITS, Asking, add_symbols

__all__ = ["ABOUT", "BRIEF", "NOTE", "add_arguments", "run"]

BRIEF = "last price, change and range of the day"
ABOUT = """\
Shows the state of the trading day: last price, change since yesterday's close
(where there is none, since the open), range, volume. Times are in UTC.

examples:
  qos snapshot US:AAPL,TSLA HK:700
  qos snapshot --sim US:AAPL,TSLA CF:BTCUSDT
  qos snapshot --sim US:AAPL --json
"""
NOTE = EXITS


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add_symbols(parser)


def run(arguments: Asking) -> int:
    """Ask, show what came, and give the exit code."""
    from qos_async.cli import fetch  # noqa: PLC0415 - heavy

    return fetch.run_fetch(arguments)
