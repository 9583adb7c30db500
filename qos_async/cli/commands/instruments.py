"""``qos instruments``: what does not change during a day."""

from __future__ import annotations

from argparse import ArgumentParser

from qos_async.cli.asking import EXITS, Asking, add_symbols

__all__ = ["ABOUT", "BRIEF", "NOTE", "add_arguments", "run"]

BRIEF = "names, currency, shares"
ABOUT = """\
Shows what does not change during a day: names, exchange, currency, lot size,
shares, earnings, book value and dividend per share.

examples:
  qos instruments US:AAPL HK:700
  qos instruments --sim US:AAPL HK:700 --json
"""
NOTE = EXITS


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add_symbols(parser)


def run(arguments: Asking) -> int:
    """Ask, show what came, and give the exit code."""
    from qos_async.cli import fetch  # noqa: PLC0415 - heavy

    return fetch.run_fetch(arguments)
