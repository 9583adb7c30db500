"""``qos calendar``: when markets trade."""

from __future__ import annotations

from argparse import ArgumentParser

from qos_async.cli.asking import EXITS, Asking, add_markets

__all__ = ["ABOUT", "BRIEF", "NOTE", "add_arguments", "run"]

BRIEF = "on which days a market trades"
ABOUT = """\
Shows on which of the next days a market trades, and which of them are half
days.

examples:
  qos calendar US HK
  qos calendar --sim HK
  qos calendar --sim US --json
"""
NOTE = EXITS


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add_markets(parser)


def run(arguments: Asking) -> int:
    """Ask, show what came, and give the exit code."""
    from qos_async.cli import fetch  # noqa: PLC0415 - heavy

    return fetch.run_fetch(arguments)
