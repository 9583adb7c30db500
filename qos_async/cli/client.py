"""Clients for commands: configured from the command line, closed at the end of the run.

Also how a run ends: errors become one sentence on stderr, and an exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import partial
from pathlib import Path
from typing import Any

from qos_async import (
    AuthenticationError,
    Client,
    ConnectError,
    LimitError,
    Limits,
    QosError,
    SharedQuota,
)
from qos_async.cli import exits
from qos_async.cli.options import CommandError, Options, UsageError
from qos_async.cli.settings import (
    Settings,
    config_path,
    origin_only,
    resolve,
)
from qos_async.cli.signals import (
    hold_repeated_interrupts,
    on_termination,
    restored_interrupt,
    terminate,
)
from qos_async.cli.streams import print_message
from qos_async.cli.unread import reporting_unread

__all__ = [
    "check_followed",
    "check_key",
    "explaining",
    "first_error",
    "make_client",
    "message_of",
    "open_client",
    "open_settings",
    "report_error",
    "run_async",
    "shared_quota",
]

_ABOUT_SYMBOLS = ("symbol", "product", "codes", "产品")
"""Words for what a plan limits besides the request rate: the client's and the service's."""

_OF_A_SERVER = ("key", "http_url", "stream_url", "proxy")
_OF_A_PLAN = ("symbols_limit", "requests_limit", "seed", "speed")
_LIBRARY_WORDS = {
    " (see Limits(symbols=...))": "",  # A hint names the option.
    "that Limits describes your plan": "that --symbols-limit and the limits of the "
    "configuration describe your plan",
}
"""What messages of the library name, and what users of the command line know."""


@contextlib.asynccontextmanager
async def open_client(
    options: Options, **client_options: Any
) -> AsyncGenerator[Client[Any]]:
    """Open a client of the live service, or of a simulator started for it.

    Args:
        options: Parsed with ``add_connection``.
        **client_options: Further keyword arguments of ``Client``; they take precedence.

    Raises:
        SettingsError: If the configuration is invalid.
        UsageError: If an address or another option is invalid.
        AuthenticationError: If there is no key.
    """
    async with open_settings(options) as settings:
        for warning in settings.warnings:
            print_message(f"qos: warning: {warning}")
        with explaining(settings):
            async with make_client(settings, **client_options) as client:
                yield client


@contextlib.contextmanager
def explaining(settings: Settings) -> Generator[None]:
    """Add to errors which setting they are about; print what could not be read."""
    try:
        with reporting_unread():
            yield
    except (QosError, ExceptionGroup) as error:
        first = first_error(error)
        if hint := _hint(first, settings):
            first.add_note(hint)
        raise


@contextlib.asynccontextmanager
async def open_settings(
    options: Options, *, read_file: bool = True
) -> AsyncGenerator[Settings]:
    """Resolve the settings; with ``--sim``, those of a simulator that runs meanwhile.

    Args:
        options: Parsed with ``add_connection``.
        read_file: Whether to read ``config.toml``.

    Raises:
        SettingsError: If the configuration is invalid.
        UsageError: If options of a real and of a simulated server are mixed.
    """
    _check(options)
    settings = resolve(options, path=None if read_file else Path(os.devnull))
    if not options.sim:
        yield settings
        return
    from qos_async.sim import Simulator

    seed = 1 if options.seed is None else options.seed
    speed = 1.0 if options.speed is None else options.speed
    async with Simulator(seed=seed, speed=speed, plan=settings.limits) as sim:
        yield Settings(
            key=sim.key,
            http_url=sim.http_url,
            stream_url=sim.stream_url,
            limits=settings.limits,
            origins={"key": "the simulator"},
        )


def make_client(settings: Settings, **client_options: Any) -> Client[Any]:
    """Return a client that is not connected yet.

    Raises:
        UsageError: If an address or another option is invalid.
        AuthenticationError: If there is no key.
    """
    key = check_key(settings)
    defaults: dict[str, Any] = {
        "http_url": settings.http_url,
        "stream_url": settings.stream_url,
        "key_in": settings.key_in or "header",
        "proxy": settings.proxy,
        # None, so that a hub is used without limits.
        "limits": None if settings.limits == Limits() else settings.limits,
        "quota": shared_quota(settings),
    }
    try:
        given: dict[str, Any] = {"key": key, **defaults, **client_options}
        return Client(**given)
    except ValueError as error:
        raise UsageError(str(error)) from None


def check_key(settings: Settings) -> str:
    """Return the key.

    Raises:
        AuthenticationError: If it is missing; the message has how to get and set one.
    """
    if settings.key:
        return settings.key
    path = config_path()
    or_file = f", or run qos login, which stores it in {path}" if path else ""
    raise AuthenticationError(
        "there is no API key: set QOS_API_KEY to one (https://qos.hk gives them out, "
        f"for an e-mail address){or_file}; --sim needs none"
    )


def shared_quota(settings: Settings) -> SharedQuota | None:
    """Return the HTTP quota that commands share; None if they do not."""
    if settings.quota_folder is None:
        return None
    return SharedQuota(settings.quota_folder, on_wait=_report_wait)


def _report_wait(seconds: float) -> None:
    print_message(
        f"qos: waiting {seconds:.0f} s for the quota: other commands have used up the HTTP "
        "requests of this key"
    )


def run_async(main: Callable[[], Coroutine[Any, Any, int | None]]) -> int:
    """Run a coroutine function and return its exit code; None counts as 0.

    Expected errors are printed on stderr. Ctrl-C cancels the run and gives 130; SIGTERM,
    and SIGHUP or on Windows SIGBREAK, give 143.

    Raises:
        OSError: ``qos_async.cli.command_line`` reports it; a broken pipe is not a failure.
        BaseException: Any other error is a bug and keeps its traceback.
    """
    # Without a handler, Python would print the client's warnings over the output.
    logger = logging.getLogger("qos_async")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    running: list[asyncio.Task[Any]] = []
    try:
        with on_termination(partial(_cancel, running)), restored_interrupt():
            return asyncio.run(_run(main, running)) or exits.OK
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except asyncio.CancelledError:
        return exits.TERMINATED
    except Exception as error:  # noqa: BLE001 - reported, or raised again
        return report_error(error)


def first_error(error: BaseException) -> BaseException:
    """Return the first error of nested exception groups, or the error itself."""
    while nested := getattr(error, "exceptions", None):
        error = nested[0]
    return error


async def _run(
    main: Callable[[], Coroutine[Any, Any, int | None]],
    running: list[asyncio.Task[Any]],
) -> int | None:
    task = asyncio.current_task()
    assert task is not None
    running.append(task)
    hold_repeated_interrupts()  # Now that asyncio has set its handler.
    return await main()


def _cancel(running: list[asyncio.Task[Any]]) -> None:
    """Cancel the run, as ``asyncio.run`` does for Ctrl-C; called by a signal handler.

    ``asyncio.run`` then raises ``CancelledError``, for Ctrl-C ``KeyboardInterrupt``.
    """
    if not running:
        terminate()
    [task] = running
    if not task.done():
        task.get_loop().call_soon_threadsafe(task.cancel)


def report_error(error: BaseException) -> int:
    """Print an expected error as a sentence and return its exit code; raise others."""
    error = first_error(error)
    if isinstance(error, CommandError):
        return error.report()
    if not isinstance(error, QosError):
        raise error
    print_message(f"qos: {message_of(error)}")
    is_key_refused = isinstance(error, AuthenticationError)
    return exits.KEY_REFUSED if is_key_refused else exits.FAILED


def message_of(error: QosError) -> str:
    """Return the message of an error with its notes, in the words of the command line."""
    text = str(error)
    for words, replacement in _LIBRARY_WORDS.items():
        text = text.replace(words, replacement)
    return "; ".join([text, *getattr(error, "__notes__", ())])


def _hint(error: BaseException, settings: Settings) -> str:
    """Return which option or setting an error is about; empty if none."""
    match error:
        case AuthenticationError() if settings.key:
            return f"the key came from {settings.origins['key']}"
        case ConnectError() if settings.proxy:
            proxy, origin = origin_only(settings.proxy), settings.origins["proxy"]
            return f"the connection goes through the proxy {proxy}, from {origin}"
        case LimitError():
            return _plan_hint(error)
        case _:
            return ""


def _plan_hint(error: LimitError) -> str:
    message = error.message.lower()
    if any(word in message for word in _ABOUT_SYMBOLS):
        return "if your plan allows more, add --symbols-limit N"
    if error.operation.startswith("/"):  # An HTTP path, so it is about the rate.
        return (
            "wait a minute; if your plan allows more HTTP requests a minute, add "
            "--requests-limit N"
        )
    return ""


def check_followed(options: Options) -> None:
    """Check the options of a command that follows a recording, with ``--from``.

    Raises:
        UsageError: If one of them is of a server.
    """
    if options.sim:
        raise UsageError("--from follows a recording, and --sim a simulator: take one")
    for name in (*_OF_A_SERVER, *_OF_A_PLAN):
        if getattr(options, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"--from follows a recording, without a server or a key: leave out {option}"
            )


def _check(options: Options) -> None:
    if not options.sim:
        if options.seed is not None or options.speed is not None:
            raise UsageError(
                "--seed and --speed are options of the simulator: add --sim"
            )
        return
    for name in _OF_A_SERVER:
        if getattr(options, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"--sim starts its own server: leave out {option}")
