"""Where a client lives: in one event loop of one process."""

from __future__ import annotations

import asyncio
import os

__all__ = ["LoopBinding"]


class LoopBinding:
    """The event loop and the process that a client belongs to from its first use on.

    Elsewhere it could only do harm: a wait in another loop would never end, and after a
    fork two processes would speak on one connection.
    """

    __slots__ = ("_loop", "_process")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0

    @property
    def is_bound(self) -> bool:
        """Whether it has been used at all."""
        return self._loop is not None

    @property
    def is_forked(self) -> bool:
        """Whether this process is a child, which inherited what is its parent's."""
        return self._loop is not None and self._process != os.getpid()

    @property
    def is_loop_closed(self) -> bool:
        """Whether the event loop was closed: nothing can be waited for any more."""
        return self._loop is not None and self._loop.is_closed()

    def bind(self) -> None:
        """Belong to the running event loop from now on.

        Raises:
            RuntimeError: As for ``check``, or if no event loop is running.
        """
        if self._loop is None:
            self._loop, self._process = asyncio.get_running_loop(), os.getpid()
        self.check()

    def check(self) -> None:
        """Make sure that this is home, if it was claimed.

        Raises:
            RuntimeError: In another process or event loop.
        """
        try:
            if self._loop is None or self._loop is asyncio.get_running_loop():
                return  # A forked process has no running loop, or another one.
        except RuntimeError:
            pass
        if self.is_forked:
            raise RuntimeError(
                "this client belongs to the process that was forked: its connections "
                "cannot be shared, so make a new Client in the child"
            )
        asyncio.get_running_loop()
        raise RuntimeError("this client belongs to another event loop")
