"""Signals that end a command, besides Ctrl-C: they let it close what is open."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any, NoReturn

__all__ = ["Terminated", "ignore_signals", "on_termination", "terminate"]

# SIGHUP: the terminal was closed; on Windows, that is SIGBREAK.
_SIGNALS: list[signal.Signals] = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]


class Terminated(BaseException):
    """A signal has ended the command, as ``KeyboardInterrupt`` does for Ctrl-C."""


_ends: list[Callable[[], object]] = []
_REPEATED_WITHIN = 1.0
"""Seconds: a terminal that is closed may send two, which must not disturb the end."""


@contextlib.contextmanager
def on_termination(end: Callable[[], object]) -> Generator[None]:
    """Call ``end`` at a signal, instead of that of an outer ``on_termination``.

    A signal that was ignored before, as by ``nohup``, stays ignored.
    """
    with contextlib.ExitStack() as stack:
        if not _ends:
            stack.enter_context(_handled())
        _ends.append(end)
        stack.callback(_ends.pop)
        yield


def terminate() -> NoReturn:
    """Raise ``Terminated``."""
    raise Terminated


def ignore_signals() -> None:
    """Ignore all of them, and Ctrl-C: nothing is left to close before the exit."""
    for number in (signal.SIGINT, *_SIGNALS):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _handled() -> Generator[None]:
    received_at = -math.inf

    def handle(number: int, frame: object) -> None:
        nonlocal received_at
        before, received_at = received_at, time.monotonic()
        if received_at - before > _REPEATED_WITHIN:
            _hold_interrupt(lambda: time.monotonic() - received_at > _REPEATED_WITHIN)
            _ends[-1]()

    interrupt = signal.getsignal(signal.SIGINT)
    replaced: dict[signal.Signals, Any] = {}
    with contextlib.suppress(ValueError):  # Only the main thread may handle signals.
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                replaced[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
        if replaced:  # asyncio restores its own only where nothing else has changed it.
            signal.signal(signal.SIGINT, interrupt)


def _hold_interrupt(is_over: Callable[[], bool]) -> None:
    """Ignore Ctrl-C for the same time: within the end it would leave a part undone."""
    interrupt = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        if is_over() and callable(interrupt):
            interrupt(number, frame)

    signal.signal(signal.SIGINT, handle)
