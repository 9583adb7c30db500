"""What commands that reach the service share: options, a client, and how they end."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qos_async.cli import exits
from qos_async.cli.values import count_up_to, seed, speed

if TYPE_CHECKING:  # Help and mistakes are told before anything heavy is imported.
    from qos_async import Client, LimitError
    from qos_async.cli.settings import Settings

__all__ = [
    "Connection",
    "UsageError",
    "add_connection",
    "connect",
    "make_client",
    "reach",
    "run_async",
]


_ABOUT_SYMBOLS = ("symbol", "product", "codes", "产品")
"""What a plan limits beside the pace, as the client and the service call it."""


class UsageError(Exception):
    """What was asked for cannot be; the sentence says what to type instead."""


class Connection(Namespace):
    """What was asked for, as far as ``add_connection`` knows."""

    sim: bool = False
    seed: int | None = None
    speed: float | None = None
    key: str | None = None
    http_url: str | None = None
    stream_url: str | None = None
    proxy: str | None = None
    symbols_limit: int | None = None
    requests_limit: int | None = None


def add_connection(parser: ArgumentParser) -> None:
    """Add the options that say where to ask, and what the plan allows."""
    group = parser.add_argument_group("connection")
    add = group.add_argument
    add("--sim", action="store_true", help="a simulated server: no key, no network")
    add("--seed", type=seed, metavar="N", help="with --sim: another market (1)")
    add("--speed", type=speed, metavar="X", help="with --sim: times real time (1)")
    add("--key", metavar="KEY", help="better in QOS_API_KEY: ps shows this one")
    add("--http-url", metavar="URL", help="QOS_HTTP_URL, or https://api.qos.hk")
    add("--stream-url", metavar="URL", help="QOS_STREAM_URL, or wss://api.qos.hk/ws")
    add("--proxy", metavar="URL", help="QOS_PROXY, or none")
    add(
        "--symbols-limit",
        type=count_up_to(1_000_000),
        metavar="N",
        help="symbols at a time that your plan allows (10)",
    )
    add(
        "--requests-limit",
        type=count_up_to(1_000_000),
        metavar="N",
        help="HTTP requests a minute that your plan allows (10)",
    )


@asynccontextmanager
async def connect(arguments: Any, **options: Any) -> AsyncGenerator[Client[Any]]:
    """Give a client, of the live service or of a simulator of its own.

    Args:
        arguments: A namespace that holds what ``add_connection`` asked for.
        **options: Further keyword arguments of ``Client``; they come first.

    Raises:
        SettingsError: If the configuration cannot be used.
        UsageError: If an address or another option cannot be right.
        AuthenticationError: If there is no key.
    """
    from qos_async import QosError  # noqa: PLC0415 - heavy

    async with reach(arguments) as settings:
        for warning in settings.warnings:
            print(f"qos: warning: {warning}", file=sys.stderr)
        try:
            async with make_client(settings, **options) as client:
                yield client
        except (QosError, ExceptionGroup) as error:
            first = _first(error)
            if advice := _advice(first, settings):
                first.add_note(advice)
            raise


def _advice(error: BaseException, settings: Settings) -> str:
    """Say what an error has to do with what was asked for; empty if nothing."""
    from qos_async import (  # noqa: PLC0415 - heavy
        AuthenticationError,
        ConnectError,
        LimitError,
    )
    from qos_async.cli.settings import bare  # noqa: PLC0415 - heavy

    match error:
        case AuthenticationError() if settings.key:
            return f"the key came from {settings.origins['key']}"
        case ConnectError() if settings.proxy:
            origin = settings.origins["proxy"]
            return (
                f"the way leads through the proxy {bare(settings.proxy)}, from {origin}"
            )
        case LimitError():
            return _about_the_plan(error)
        case _:
            return ""


def _about_the_plan(error: LimitError) -> str:
    words = error.message.lower()
    if any(word in words for word in _ABOUT_SYMBOLS):
        return "if your plan allows more, say so: --symbols-limit N"
    if error.operation.startswith("/"):  # An HTTP path: it is about the pace, then.
        return (
            "wait a minute; --requests-limit N says how many HTTP requests a minute "
            "your plan allows"
        )
    return ""


@asynccontextmanager
async def reach(arguments: Any, *, file: bool = True) -> AsyncGenerator[Settings]:
    """Give the way to the service, or to a simulator that runs for as long.

    Args:
        arguments: A namespace that holds what ``add_connection`` asked for.
        file: Whether to read ``config.toml``.

    Raises:
        SettingsError: If the configuration cannot be used.
        UsageError: If the options of both are mixed.
    """
    from qos_async.cli.settings import Settings, resolve  # noqa: PLC0415 - heavy

    _check(arguments)
    settings = resolve(arguments, path=None if file else Path(os.devnull))
    if not arguments.sim:
        yield settings
        return
    from qos_async.sim import Simulator  # noqa: PLC0415 - heavy

    seed = 1 if arguments.seed is None else arguments.seed
    speed = 1.0 if arguments.speed is None else arguments.speed
    async with Simulator(seed=seed, speed=speed, plan=settings.limits) as sim:
        yield Settings(
            key=sim.key,
            http_url=sim.http_url,
            stream_url=sim.stream_url,
            limits=settings.limits,
            origins={"key": "the simulator"},
        )


def make_client(settings: Settings, **options: Any) -> Client[Any]:
    """Make a client that is not connected yet.

    Raises:
        UsageError: If an address or another option cannot be right.
        AuthenticationError: If there is no key.
    """
    from qos_async import AuthenticationError, Client  # noqa: PLC0415 - heavy
    from qos_async.cli.settings import config_path  # noqa: PLC0415 - heavy

    if not settings.key:
        raise AuthenticationError(
            'there is no API key: set QOS_API_KEY, or put the line key = "..." into '
            f"{config_path()}; --sim needs none"
        )
    own: dict[str, Any] = {
        "http_url": settings.http_url,
        "stream_url": settings.stream_url,
        "key_in": settings.key_in or "header",
        "proxy": settings.proxy,
        "limits": settings.limits,
    }
    try:
        return Client(settings.key, **{**own, **options})
    except ValueError as error:
        raise UsageError(str(error)) from None


def run_async(play: Callable[[], Coroutine[Any, Any, int | None]]) -> int:
    """Run a coroutine function to its end, and give the exit code.

    What it returns is the code, None is 0. Errors of ours are told on stderr. Ctrl-C
    cancels it and gives 130, SIGTERM 143.

    Raises:
        OSError: ``main`` tells it; a broken pipe is no failure.
        BaseException: What nobody expects: a bug, and its traceback is wanted.
    """
    import asyncio  # noqa: PLC0415 - heavy
    import logging  # noqa: PLC0415 - heavy

    # Without a handler Python would write the client's warnings over the output.
    logger = logging.getLogger("qos_async")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    try:
        return asyncio.run(_ending(play)) or exits.OK
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except asyncio.CancelledError:
        return exits.TERMINATED
    except Exception as error:  # noqa: BLE001 - told, or raised again
        return _told(error)


async def _ending(play: Callable[[], Coroutine[Any, Any, int | None]]) -> int | None:
    from qos_async.cli.ending import end_on_sigterm  # noqa: PLC0415 - heavy

    end_on_sigterm()
    return await play()


def _told(error: BaseException) -> int:
    """Tell what went wrong in a sentence; what nobody expects is raised."""
    from qos_async import AuthenticationError, QosError  # noqa: PLC0415 - heavy
    from qos_async.cli.settings import SettingsError  # noqa: PLC0415 - heavy

    error = _first(error)
    if not isinstance(error, (QosError, SettingsError, UsageError)):
        raise error
    notes = getattr(error, "__notes__", ())
    print(f"qos: {'; '.join([str(error), *notes])}", file=sys.stderr)
    if isinstance(error, AuthenticationError):
        return exits.KEY_REFUSED
    return exits.FAILED if isinstance(error, QosError) else exits.USAGE


def _first(error: BaseException) -> BaseException:
    while within := getattr(error, "exceptions", None):  # Of a task group.
        error = within[0]
    return error


def _check(arguments: Any) -> None:
    if not arguments.sim:
        if arguments.seed is not None or arguments.speed is not None:
            raise UsageError("--seed and --speed are about the simulator: add --sim")
        return
    for name in ("key", "http_url", "stream_url", "proxy"):
        if getattr(arguments, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"--sim starts a server of its own: leave out {option}")
