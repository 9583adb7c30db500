"""``qos products``: what can be traded."""

from __future__ import annotations

from argparse import ArgumentParser

from qos_async.cli.asking import EXITS, Asking, add_markets

__all__ = ["ABOUT", "BRIEF", "NOTE", "add_arguments", "run"]

BRIEF = "what can be traded in a market"
ABOUT = """\
Shows the symbols that can be traded in a market, with their names. The list of
a whole market is long.

examples:
  qos products CF
  qos products --sim HK CF
  qos products --sim CF --csv
"""
NOTE = EXITS


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add_markets(parser)


def run(arguments: Asking) -> int:
    """Ask, show what came, and give the exit code."""
    from qos_async.cli import fetch  # noqa: PLC0415 - heavy

    return fetch.run_fetch(arguments)
