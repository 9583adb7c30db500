"""``qos depth``: order books."""

from __future__ import annotations

from argparse import ArgumentParser

from qos_async.cli.asking import EXITS, Asking, add_symbols

__all__ = ["ABOUT", "BRIEF", "NOTE", "add_arguments", "run"]

BRIEF = "order books"
ABOUT = """\
Shows the whole order book, best prices first: 1 level a side for US, 5 for SH
and SZ, 10 for HK, 20 for CF. With --csv, each level is a row.

examples:
  qos depth HK:700
  qos depth --sim CF:BTCUSDT US:AAPL
  qos depth --sim HK:700 --csv
"""
NOTE = EXITS


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add_symbols(parser)


def run(arguments: Asking) -> int:
    """Ask, show what came, and give the exit code."""
    from qos_async.cli import fetch  # noqa: PLC0415 - heavy

    return fetch.run_fetch(arguments)
