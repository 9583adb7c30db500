"""What the commands that ask once share: what is asked about, and in which shape."""

from __future__ import annotations

from argparse import ArgumentParser

from qos_async.cli.connecting import Connection, add_connection
from qos_async.cli.values import market, symbol_list

__all__ = ["EXITS", "Asking", "add_markets", "add_shape", "add_symbols"]

EXITS = """\
What the server leaves out is told on stderr. The exit code is 0 if anything
came, 1 if nothing did. With --json and --csv, numbers are exact as sent, and
times ISO 8601.
"""


class Asking(Connection):
    """What was asked for."""

    command: str = ""
    symbols: list[tuple[str, ...]]
    markets: list[str]
    json: bool = False
    csv: bool = False


def add_symbols(parser: ArgumentParser) -> None:
    """Add the symbols, and what all commands about them take."""
    parser.add_argument(
        "symbols",
        type=symbol_list,
        nargs="+",
        metavar="SYMBOL",
        help="US:AAPL, or several of a market as US:AAPL,TSLA",
    )
    parser.set_defaults(markets=[])
    add_shape(parser)
    add_connection(parser)


def add_markets(parser: ArgumentParser) -> None:
    """Add the markets, and what all commands about them take."""
    parser.add_argument(
        "markets",
        type=market,
        nargs="+",
        metavar="MARKET",
        help="US HK SH SZ CF FX IX CM, or what else the server knows",
    )
    parser.set_defaults(symbols=[])
    add_shape(parser)
    add_connection(parser)


def add_shape(parser: ArgumentParser) -> None:
    """Add the choice between people and programs."""
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object a line")
    shape.add_argument("--csv", action="store_true", help="CSV with a header")
