"""Signals that end a command, besides Ctrl-C: they let it close what is open."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any, NoReturn

__all__ = [
    "Terminated",
    "hold_repeated_interrupts",
    "ignore_signals",
    "on_termination",
    "restored_interrupt",
    "terminate",
]

# SIGHUP: the terminal was closed; on Windows, that is SIGBREAK.
_SIGNALS: list[signal.Signals] = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]


class Terminated(BaseException):
    """A signal has ended the command, as ``KeyboardInterrupt`` does for Ctrl-C."""


_ends: list[Callable[[], object]] = []
_received_at = -math.inf
_REPEATED_WITHIN = 1.0
"""Seconds: a terminal that is closed may send two, which must not disturb the end."""


@contextlib.contextmanager
def on_termination(end: Callable[[], object]) -> Generator[None]:
    """Call ``end`` at a signal, instead of that of an outer ``on_termination``.

    A signal that was ignored before, as by ``nohup``, stays ignored, and so does one that
    is ignored within the block.
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
def restored_interrupt() -> Generator[None]:
    """Restore the handler of Ctrl-C at the end of the block.

    asyncio restores its own only where nothing else has changed it.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        # Only the main thread may handle signals.
        with contextlib.suppress(ValueError):
            _restore(signal.SIGINT, before)


def hold_repeated_interrupts() -> None:
    """Ignore a Ctrl-C that soon follows another, or another signal, from now on."""
    with contextlib.suppress(ValueError):  # Only the main thread may handle signals.
        _hold_interrupt()


def _is_first() -> bool:
    """Return whether no signal came shortly before the present one."""
    global _received_at
    before, _received_at = _received_at, time.monotonic()
    return _received_at - before > _REPEATED_WITHIN


@contextlib.contextmanager
def _handled() -> Generator[None]:
    global _received_at  # noqa: PLW0603 - signals are those of the process
    _received_at = -math.inf

    def handle(number: int, frame: object) -> None:
        if _is_first():
            # Within the end it would leave a part undone.
            _hold_interrupt()
            _ends[-1]()

    replaced: dict[signal.Signals, Any] = {}
    with contextlib.suppress(ValueError):  # Only the main thread may handle signals.
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                replaced[number] = signal.signal(number, handle)
    try:
        with restored_interrupt():
            yield
    finally:
        for number, handler in replaced.items():
            _restore(number, handler)


def _restore(number: signal.Signals, handler: Any) -> None:
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, handler)


class _HeldInterrupt:
    """A handler of Ctrl-C that passes on only what does not soon follow a signal."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if _is_first() and callable(self._handler):
            self._handler(number, frame)


def _hold_interrupt() -> None:
    handler = signal.getsignal(signal.SIGINT)
    if not isinstance(handler, _HeldInterrupt):
        signal.signal(signal.SIGINT, _HeldInterrupt(handler))
