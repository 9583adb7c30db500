"""Command ``qos watch``: arguments, checks of the terminal, and the run of the app.

Heavy modules are imported within functions: ``qos --help`` imports this one.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser
from importlib import import_module
from typing import TYPE_CHECKING

from qos_async.cli import exits
from qos_async.cli.connecting import (
    Connection,
    UsageError,
    add_connection,
    connect,
    run_async,
)
from qos_async.symbols import split

if TYPE_CHECKING:  # Heavy.
    from qos_async import Client
    from qos_async.cli.watch.app import WatchApp
    from qos_async.cli.watch.model import Model

__all__ = [
    "ABOUT",
    "BRIEF",
    "NOTE",
    "Arguments",
    "add_arguments",
    "make_app",
    "missing_terminal",
    "missing_textual",
    "run",
    "run_app",
]

BRIEF = "quotes, order book, trades and candles on the whole terminal"
ABOUT = """\
Shows quotes of all symbols, and the order book, the trades and the candles of the
selected one. Arrow keys select symbol and interval, ? shows all keys, q quits. Needs a
terminal of 60 x 20 or more, and pip install 'qos-async[cli]'.

examples:
  qos watch --sim
  qos watch US:AAPL,TSLA HK:700 CF:BTCUSDT
  qos watch CF:BTCUSDT,ETHUSDT --interval 15m
"""
NOTE = """\
Four commands subscribe all channels of all symbols; after that, selecting a symbol is
instant. Another interval costs two commands and an HTTP request, or three commands; the
free plan allows one command a second. The start takes four HTTP requests.

For pipes and files there is qos stream.
"""
_INTERVALS = ("1m", "5m", "15m", "30m", "1h", "2h", "4h", "1d", "1w", "1M", "1y")


class Arguments(Connection):
    """The parsed arguments of ``qos watch``."""

    symbols: list[str]
    interval: str = "1m"
    red_up: bool = False


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``qos watch``."""
    parser.add_argument(
        "symbols",
        nargs="*",
        metavar="SYMBOL",
        help="such as US:AAPL or US:AAPL,TSLA (ten symbols of all markets)",
    )
    parser.add_argument(
        "--interval",
        choices=_INTERVALS,
        default="1m",
        help=f"of the candles: {' '.join(_INTERVALS)} (1m)",
        metavar="I",
    )
    parser.add_argument(
        "--red-up",
        action="store_true",
        help="red for rises, green for falls, as in mainland China",
    )
    add_connection(parser)


def run(arguments: Arguments) -> int:
    """Show the market until a key or a signal ends it, and return the exit code."""
    from qos_async import Interval  # noqa: PLC0415 - heavy
    from qos_async.cli.watch.model import Model  # noqa: PLC0415 - heavy

    problem = missing_terminal() or missing_textual()
    if problem:
        print(f"qos watch: {problem}", file=sys.stderr)
        return exits.USAGE

    async def play() -> int:
        model = Model(_symbols(arguments), Interval.parse(arguments.interval))
        async with connect(arguments) as client:
            return await run_app(make_app(client, model, red_up=arguments.red_up))

    return run_async(play)


def missing_terminal() -> str:
    """Return why there is no terminal for the app; empty if there is one.

    Textual draws on stderr and reads keys from stdin, so all three streams count.
    """
    streams = (sys.stdin, sys.stdout, sys.stderr)
    if not all(stream is not None and stream.isatty() for stream in streams):
        return (
            "this needs a terminal for input and output; for pipes and files there is "
            "qos stream"
        )
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        return (
            "this terminal cannot move its cursor (TERM is dumb): use qos stream, or "
            "set TERM to the terminal's type"
        )
    return ""


def missing_textual() -> str:
    """Return how to install textual; empty if it is installed."""
    try:
        import_module("textual")
    except ImportError:
        return "textual is not installed: pip install 'qos-async[cli]'"
    return ""


def make_app(client: Client, model: Model, *, red_up: bool = False) -> WatchApp:
    """Return the app for a model that a reader of ``client`` keeps up to date."""
    from qos_async.cli.watch.app import WatchApp  # noqa: PLC0415 - an extra
    from qos_async.cli.watch.reader import MarketReader  # noqa: PLC0415 - heavy

    return WatchApp(model, MarketReader(client, model), time.time, red_up=red_up)


async def run_app(app: WatchApp) -> int:
    """Show the app until a key ends it.

    Returns:
        The exit code: 0, or 1 if textual has shown a traceback.

    Raises:
        BaseException: What ended the reader; the terminal is restored.
    """
    import asyncio  # noqa: PLC0415 - heavy

    await app.run_async()
    task = asyncio.current_task()
    if task is not None and task.cancelling():  # Textual swallows it: a signal came.
        raise asyncio.CancelledError
    if app.failure is not None:
        raise app.failure
    return app.return_code or exits.OK


def _symbols(arguments: Arguments) -> tuple[str, ...]:
    from qos_async.cli.scenario import SYMBOLS  # noqa: PLC0415 - heavy

    try:
        return split(*arguments.symbols) if arguments.symbols else SYMBOLS
    except ValueError as error:
        raise UsageError(str(error)) from None
