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
from qos_async.cli.display import add_red_up, add_tz, resolve_display
from qos_async.cli.options import (
    Command,
    CommandError,
    Options,
    UsageError,
    add_connection,
    add_interval,
    place,
)
from qos_async.cli.streams import print_message
from qos_async.enums import Interval
from qos_async.symbols import split

if TYPE_CHECKING:  # Slow to import.
    from qos_async import Client
    from qos_async.cli.settings import Settings
    from qos_async.cli.watch.app import WatchApp
    from qos_async.cli.watch.model import Model

_MOST_SYMBOLS = 200
"""Rows of a screen that no symbols were named for."""

__all__ = ["COMMAND", "make_app", "missing_terminal", "missing_textual", "run_app"]


_TERMINAL_INTERVAL = 1.0


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "symbols",
        nargs="*",
        metavar="SYMBOL",
        help="such as US:AAPL or US:AAPL,TSLA (those of the configuration, else ten of "
        "all markets)",
    )
    parser.add_argument(
        "--from",
        dest="followed",
        type=place,
        metavar="PLACE",
        help="follow a recording: needs no key; by default all of its symbols",
    )
    add_interval(parser, Interval.MIN_1)
    parser.set_defaults(interval=None)  # Else it would hide that of the configuration.
    add_tz(parser, "local")
    add_red_up(parser)
    add_connection(parser)


def _run(options: Options) -> int:
    """Show the market until a key or a signal ends it, and return the exit code."""
    from qos_async.cli.client import check_followed, open_client, run_async
    from qos_async.cli.watch.model import Model

    problem = missing_terminal()
    if problem:
        print_message(f"qos watch: {problem}")
        return exits.USAGE
    if missing := missing_textual():
        raise CommandError(missing)

    async def play() -> int:
        if options.followed is not None:
            check_followed(options)
            return await _follow(options)
        import asyncio

        symbols, interval = _chosen(options)
        model = Model(symbols, interval, resolve_display(options))
        async with open_client(options) as client:
            naming = asyncio.create_task(_read_names(client, options, model))
            try:
                return await run_app(_restored(client, model))
            finally:
                naming.cancel()
                await asyncio.wait([naming])

    return run_async(play)


async def _read_names(client: Client, options: Options, model: Model) -> None:
    from qos_async.cli.names import names_of

    model.names |= await names_of(client, options, model.symbols)


async def _follow(options: Options) -> int:
    from qos_async import follow
    from qos_async.cli.watch.model import Model

    async with follow(options.followed) as client:
        topics = client.topics
        recorded = tuple(dict.fromkeys(topic.symbol for topic in topics))
        symbols = _typed(options) or recorded[:_MOST_SYMBOLS]
        if not symbols:
            raise CommandError(
                f"nothing is recorded in {options.followed} yet: start qos record, or name "
                "symbols to wait for"
            )
        intervals = [topic.interval for topic in topics if topic.interval]
        chosen = options.interval or min(intervals, default=Interval.MIN_1)
        model = Model(symbols, chosen, resolve_display(options))
        if len(recorded) > len(symbols):
            model.caption = f"{len(symbols)} of {len(recorded)} symbols recorded"
        return await run_app(_restored(client, model))


def _restored(client: Client, model: Model) -> WatchApp:
    """Return the app with the order, the alerts and the theme of the configuration."""
    kept = _kept()
    model.rows.sort = kept.watch_sort
    for alert in kept.watch_alerts:
        model.alerts.add(alert)
    return make_app(client, model, light=kept.watch_light)


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


def make_app(client: Client, model: Model, *, light: bool = False) -> WatchApp:
    """Return the app for a model that a reader of ``client`` keeps up to date."""
    from qos_async.cli.watch.app import WatchApp
    from qos_async.cli.watch.reader import MarketReader

    red_up, reader = model.display.red_up, MarketReader(client, model)
    return WatchApp(model, reader, time.time, red_up=red_up, light=light)


async def run_app(app: WatchApp) -> int:
    """Show the app until a key ends it, or its terminal is closed.

    Returns:
        The exit code: 0, or 1 if textual has shown a traceback; 143 without a terminal.

    Raises:
        BaseException: What ended the reader; the terminal is restored.
    """
    import asyncio

    watching = asyncio.create_task(_exit_without_terminal(app))
    try:
        await app.run_async()
    finally:
        watching.cancel()
    if watching.done() and not watching.cancelled():
        return exits.TERMINATED
    task = asyncio.current_task()
    if task is not None and task.cancelling():  # Textual swallows it: a signal came.
        raise asyncio.CancelledError
    if app.failure is not None:
        raise app.failure
    return app.return_code or exits.OK


async def _exit_without_terminal(app: WatchApp) -> None:
    """Exit when the terminal is closed, which SIGHUP does not say where it is ignored.

    Textual would read its end for ever, without a pause.
    """
    import asyncio

    if not sys.stdin.isatty():  # Of a test.
        await asyncio.Event().wait()
    while sys.stdin.isatty():  # noqa: ASYNC110 - nothing else says so
        await asyncio.sleep(_TERMINAL_INTERVAL)
    app.exit()


def _chosen(options: Options) -> tuple[tuple[str, ...], Interval]:
    """Return symbols and interval: of the options, the configuration, or the defaults."""
    from qos_async.cli.scenario import SYMBOLS

    kept = _kept()
    symbols = _typed(options) or kept.watch_symbols or SYMBOLS
    return symbols, options.interval or kept.watch_interval or Interval.MIN_1


def _kept() -> Settings:
    """Return the settings of the configuration file."""
    from qos_async.cli.settings import Settings, config_path, read_file

    path = config_path()
    return Settings() if path is None else read_file(path)


def _typed(options: Options) -> tuple[str, ...]:
    try:
        return split(*options.symbols) if options.symbols else ()
    except ValueError as error:
        raise UsageError(str(error)) from None


COMMAND = Command(
    "quotes, order book, trades and candles on the whole terminal",
    """\
Shows quotes of all symbols, and the order book, the trades and the candles of
the selected one. Arrow keys select symbol and interval, + and - add and remove
symbols, s sorts, b rings at a price, ? shows all keys, q quits. Needs a
terminal of 60 x 20 or more, and pip install 'qos-async[cli]'.

examples:
  qos watch --sim
  qos watch US:AAPL,TSLA HK:700 CF:BTCUSDT
  qos watch CF:BTCUSDT,ETHUSDT --interval 15m
  qos watch --from nats://broker/QOS
""",
    """\
Four commands subscribe all channels of all symbols; after that, selecting a
symbol is instant. Another interval costs two commands and an HTTP request, or
three commands; the free plan allows one command a second. The start takes four
HTTP requests.

With --from it shows what another process records, from now on, to a directory
or a stream, with the last values of before; the interval is one that is
recorded. Without symbols it shows all that are recorded, at most 200.

The configuration may have the table [watch] with symbols, interval, sort,
alerts and theme, which the key w writes, and tz and red_up for all commands.

For pipes and files there is qos stream.
""",
    _add_arguments,
    _run,
)
