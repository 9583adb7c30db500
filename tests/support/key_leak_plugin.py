"""Detector of leaked keys: fails a test in which the key shows outside of a request.

It searches all log records of all loggers and levels; everything that is printed; each
event; each client as it closes; and each error that leaves the client: its causes, its
attributes, its pickle, and the variables of the frames that it passed through, except
those of the transport and of the tests, which have to use the key.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import qos_async
from qos_async._io.history import HistoryPages
from qos_async._io.http import HttpClient
from qos_async._io.states import LinkStates
from qos_async._io.stream import Stream
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async.fetching import Fetching
from qos_async.watching import Watching
from tests.support.leak_check import reachable_text

__all__ = ["KeyLeakDetector"]

_KEY = re.compile(r"canary(?:-|/|%2F|\\/)[0-9a-f]{4}(?:\+|%2B)KEY")
"""Every key in the tests looks like this, or like this in a URL."""

_HERE = Path(__file__).parents[1]
_PACKAGE = Path(qos_async.__file__).parent
_ALLOWED_FILES = frozenset(
    str(_PACKAGE / name)
    # These use the key itself, and have it in a variable.
    for name in (
        "_io/aiohttp_transport.py",
        "_io/http.py",
        "_io/secret.py",
        "client.py",
    )
)

# Where errors leave the client. For loops these are the waits of the queue, so that no
# tick costs a call.
_CALLS: dict[type[Any], tuple[str, ...]] = {
    qos_async.Client: ("__init__", "connect", "aclose", "drain", "states"),
    Fetching: tuple(name for name in vars(Fetching) if name.startswith("fetch_")),
    HistoryPages: ("__anext__",),
    Watching: tuple(name for name in vars(Watching) if name.startswith("watch")),
    qos_async.Subscription: ("aclose", "add", "remove", "ready"),
    SubscriptionQueue: ("wait", "wait_acked"),
    Stream: ("fetch", "connect", "subscribe", "add_topics"),
    HttpClient: ("fetch",),
}
_EVENTS: dict[type[Any], tuple[str, ...]] = {
    LinkStates: ("transition",),
    SubscriptionQueue: ("put_gap", "interrupt", "reject"),
}


class KeyLeakDetector(logging.Handler):
    """A log handler that collects leaks until ``take`` returns them."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._findings: list[str] = []

    def take(self) -> list[str]:
        """Return the leaks found since the last call."""
        findings, self._findings = self._findings, []
        return findings

    def scan(self, where: str, *things: object) -> None:
        """Search everything that is reachable from ``things``."""
        for thing in things:
            for path, text in reachable_text(thing):
                if _KEY.search(text):
                    self._findings.append(f"the key is in {where}, {path}: {text}")

    def emit(self, record: logging.LogRecord) -> None:
        self.scan(f"the log of {record.name}", record)

    def scan_error(self, error: BaseException) -> None:
        """Search an error as it is raised in user code."""
        name = type(error).__name__
        self.scan(f"an error, {name}", error)
        self.scan(f"the pickle of {name}", _pickled(error))
        for frame in _frames(error):
            code = frame.f_code
            place = f"a variable of {Path(code.co_filename).name}, {code.co_name}"
            self.scan(place, dict(frame.f_locals))

    def scan_client(self, client: object) -> None:
        """Search the repr, the stats and the pickle of a client."""
        stats = None
        with contextlib.suppress(RuntimeError):  # A replay that was never entered.
            stats = getattr(client, "stats", None)
        self.scan("the repr of a client", client, stats)
        self.scan("the pickle of a client", _pickled(client))

    # Installation

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Wrap every call that raises, emits an event or returns printed text."""
        for owner, names in _CALLS.items():
            for name in names:
                patch.setattr(owner, name, self._wrap_call(vars(owner)[name]))
        for owner, names in _EVENTS.items():
            for name in names:
                patch.setattr(owner, name, self._wrap_event(vars(owner)[name]))
        patch.setattr(
            pytest.CaptureFixture,
            "readouterr",
            self._wrap_readouterr(pytest.CaptureFixture),
        )
        logging.getLogger().addHandler(self)

    def _wrap_call(self, call: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(call):

            @functools.wraps(call)
            async def waited(*args: Any, **options: Any) -> Any:
                try:
                    return await call(*args, **options)
                except BaseException as error:
                    self.scan_error(error)
                    raise
                finally:
                    if call.__name__ == "aclose":
                        self.scan_client(args[0])

            return waited

        @functools.wraps(call)
        def called(*args: Any, **options: Any) -> Any:
            try:
                return call(*args, **options)
            except BaseException as error:
                self.scan_error(error)
                raise

        return called

    def _wrap_event(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def emitting(*args: Any, **options: Any) -> Any:
            self.scan("an event", args[1:], options)
            return call(*args, **options)

        return emitting

    def _wrap_readouterr(self, fixture: type[Any]) -> Callable[..., Any]:
        read: Callable[..., Any] = fixture.readouterr

        @functools.wraps(read)
        def reading(capture: Any) -> Any:
            printed = read(capture)
            self.scan("what was printed", printed.out, printed.err)
            return printed

        return reading


def _pickled(thing: object) -> bytes:
    try:
        return pickle.dumps(thing)
    except Exception:  # noqa: BLE001 - without a pickle nothing can leak
        return b""


def _frames(error: BaseException) -> Iterator[FrameType]:
    """Yield the frames that an error and its causes passed through."""
    for cause in _graph(error):
        trace = cause.__traceback__
        while trace is not None:
            file = trace.tb_frame.f_code.co_filename
            if file not in _ALLOWED_FILES and not Path(file).is_relative_to(_HERE):
                yield trace.tb_frame
            trace = trace.tb_next


def _graph(error: BaseException) -> Iterable[BaseException]:
    seen: dict[int, BaseException] = {}
    pending: list[BaseException | None] = [error]
    while pending:
        cause = pending.pop()
        if cause is None or id(cause) in seen:
            continue
        seen[id(cause)] = cause
        pending += [cause.__cause__, cause.__context__]
        if isinstance(cause, BaseExceptionGroup):
            pending += cause.exceptions
    return seen.values()
