"""Command ``qos watch``: arguments, checks of the terminal, and the run of the app.

Slow imports are inside functions: ``qos --help`` imports this module.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser
from typing import TYPE_CHECKING

from qos_async.cli import exits
from qos_async.cli.options import (
    Command,
    Options,
    UsageError,
    add_connection,
    add_interval,
)
from qos_async.cli.streams import print_message
from qos_async.enums import Interval
from qos_async.symbols import split

if TYPE_CHECKING:  # Slow to import.
    from qos_async import Client
    from qos_async.cli.watch.app import WatchApp
    from qos_async.cli.watch.model import Model

__all__ = ["COMMAND", "make_app", "missing_terminal", "missing_textual", "run_app"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "symbols",
        nargs="*",
        metavar="SYMBOL",
        help="such as US:AAPL or US:AAPL,TSLA (ten symbols of all markets)",
    )
    add_interval(parser, Interval.MIN_1)
    parser.add_argument(
        "--red-up",
        action="store_true",
        help="red for rises, green for falls, as in mainland China",
    )
    add_connection(parser)


def _run(options: Options) -> int:
    """Show the market until a key or a signal ends it, and return the exit code."""
    from qos_async.cli.client import open_client, run_async
    from qos_async.cli.watch.model import Model

    problem = missing_terminal() or missing_textual()
    if problem:
        print_message(f"qos watch: {problem}")
        return exits.USAGE

    async def play() -> int:
        model = Model(_symbols(options), options.interval)
        async with open_client(options) as client:
            return await run_app(make_app(client, model, red_up=options.red_up))

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
        import textual  # noqa: F401 # pyright: ignore[reportUnusedImport] - a check
    except ImportError:
        return "textual is not installed: pip install 'qos-async[cli]'"
    return ""


def make_app(client: Client, model: Model, *, red_up: bool = False) -> WatchApp:
    """Return the app for a model that a reader of ``client`` keeps up to date."""
    from qos_async.cli.watch.app import WatchApp
    from qos_async.cli.watch.reader import MarketReader

    return WatchApp(model, MarketReader(client, model), time.time, red_up=red_up)


async def run_app(app: WatchApp) -> int:
    """Show the app until a key ends it.

    Returns:
        The exit code: 0, or 1 if textual has shown a traceback.

    Raises:
        BaseException: What ended the reader; the terminal is restored.
    """
    import asyncio

    await app.run_async()
    task = asyncio.current_task()
    if task is not None and task.cancelling():  # Textual swallows it: a signal came.
        raise asyncio.CancelledError
    if app.failure is not None:
        raise app.failure
    return app.return_code or exits.OK


def _symbols(options: Options) -> tuple[str, ...]:
    from qos_async.cli.scenario import SYMBOLS

    try:
        return split(*options.symbols) if options.symbols else SYMBOLS
    except ValueError as error:
        raise UsageError(str(error)) from None


COMMAND = Command(
    "quotes, order book, trades and candles on the whole terminal",
    """\
Shows quotes of all symbols, and the order book, the trades and the candles of
the selected one. Arrow keys select symbol and interval, ? shows all keys, q
quits. Needs a terminal of 60 x 20 or more, and pip install 'qos-async[cli]'.

examples:
  qos watch --sim
  qos watch US:AAPL,TSLA HK:700 CF:BTCUSDT
  qos watch CF:BTCUSDT,ETHUSDT --interval 15m
""",
    """\
Four commands subscribe all channels of all symbols; after that, selecting a
symbol is instant. Another interval costs two commands and an HTTP request, or
three commands; the free plan allows one command a second. The start takes four
HTTP requests.

For pipes and files there is qos stream.
""",
    _add_arguments,
    _run,
)
