"""How a run is ended from outside."""

from __future__ import annotations

import asyncio
import contextlib
import signal

__all__ = ["end_on_sigterm"]


def end_on_sigterm() -> None:
    """Let SIGTERM cancel the current task, as ``asyncio.run`` lets Ctrl-C.

    ``asyncio.run`` then raises ``CancelledError``, for Ctrl-C ``KeyboardInterrupt``.
    """
    task = asyncio.current_task()
    assert task is not None
    # Windows has no such handlers; threads other than the main one must not set any.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
