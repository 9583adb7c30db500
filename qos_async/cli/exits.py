"""Exit codes, and how a run is ended from outside."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Generator

__all__ = ["FAILED", "INTERRUPTED", "OK", "TERMINATED", "USAGE", "ending_on_sigterm"]

OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


@contextlib.contextmanager
def ending_on_sigterm() -> Generator[list[int]]:
    """Let SIGTERM end a run as cleanly as Ctrl-C does: both as ``KeyboardInterrupt``.

    Gives a list that has ``TERMINATED`` in it once that has happened.
    """
    seen: list[int] = []

    def end(*_: object) -> None:
        seen.append(TERMINATED)
        signal.raise_signal(signal.SIGINT)

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # Not the main thread: signals are somebody else's business.
        yield seen
        return
    try:
        yield seen
    finally:
        signal.signal(signal.SIGTERM, before)
