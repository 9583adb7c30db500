"""``qos watch``, from the words on the command line to the screen and back."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, cast

from qos_async import Client, Interval
from qos_async.cli import exits
from qos_async.cli.client import open_client, run_async
from qos_async.cli.options import UsageError
from qos_async.cli.script import SYMBOLS
from qos_async.cli.watch.feed import Feed
from qos_async.cli.watch.model import Model
from qos_async.symbols import split

if TYPE_CHECKING:  # A module that names no heavy one itself.
    from qos_async.cli.commands.watch import Arguments

__all__ = ["run_watch", "watch"]


def run_watch(arguments: Arguments) -> int:
    """Show the market; errors are told as sentences, with the exit codes of ``qos``."""
    problem = _unfit()
    if problem:
        print(f"qos watch: {problem}", file=sys.stderr)
        return exits.USAGE

    async def play() -> int:
        model = Model(_symbols(arguments), Interval.parse(arguments.interval))
        async with open_client(arguments) as client:
            return await watch(client, model, red_up=arguments.red_up)

    return run_async(play)


async def watch(client: Client, model: Model, *, red_up: bool = False) -> int:
    """Show a model on the terminal, and keep it up to date, until a key ends it.

    Gives the exit code: 0, or 1 if textual has shown a traceback.

    Raises:
        Exception: What ended ``Feed.run``; the terminal is itself again.
    """
    from qos_async.cli.watch.app import WatchApp

    app = WatchApp(model, Feed(client, model), time.time, red_up=red_up)
    await app.run_async()
    task = asyncio.current_task()
    if task is not None and task.cancelling():  # Textual swallows it: a signal came.
        raise asyncio.CancelledError
    if app.failure is not None:
        raise _first(app.failure)
    return app.return_code or exits.OK


def _first(error: BaseException) -> BaseException:
    """Give what went wrong first: ``open_client`` knows what to say about it."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return _first(group.exceptions[0])
    return error


def _symbols(arguments: Arguments) -> tuple[str, ...]:
    try:
        return split(*arguments.symbols) if arguments.symbols else SYMBOLS
    except ValueError as error:
        raise UsageError(str(error)) from None


def _unfit() -> str:
    """Say what keeps this terminal from showing anything; empty if nothing does."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    if not all(stream is not None and stream.isatty() for stream in streams):
        return (
            "this needs a terminal for input and output; for pipes and files there is "
            "qos stream"
        )
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        return (
            "this terminal cannot move its cursor (TERM is dumb): use qos stream, or "
            "set TERM to what it is"
        )
    try:
        import_module("textual")
    except ImportError:
        return "textual is not installed: pip install 'qos-async[cli]'"
    return ""
