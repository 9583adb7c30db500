"""Loop binding: the one event loop of the one process that a client may be used in."""

from __future__ import annotations

import asyncio
import os

from qos_async._event_loop import running_loop

__all__ = ["LoopBinding"]


class LoopBinding:
    """The event loop and the process that a client is bound to at its first use.

    In another event loop, a wait would never end. In a forked child, two processes
    would send on one connection.
    """

    __slots__ = ("_process", "loop")

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._process = 0

    @property
    def is_bound(self) -> bool:
        """Whether the client has been used."""
        return self.loop is not None

    @property
    def is_forked(self) -> bool:
        """Whether this process is a forked child of the one that used the client."""
        return self.loop is not None and self._process != os.getpid()

    @property
    def is_loop_closed(self) -> bool:
        """Whether the bound event loop was closed, so that nothing can be awaited."""
        return self.loop is not None and self.loop.is_closed()

    def bind(self) -> None:
        """Bind to the running event loop, or check that it is the bound one.

        Raises:
            RuntimeError: As ``check``, or if no event loop is running.
        """
        if self.loop is None:
            self.loop, self._process = running_loop(), os.getpid()
        self.check()

    def check(self) -> None:
        """Check that the running event loop is the bound one, or that none is bound.

        Raises:
            RuntimeError: In another process or event loop, or without a running one.
        """
        if self.is_forked:
            raise RuntimeError(
                "this client belongs to the process that was forked: its connections "
                "cannot be shared, so make a new Client in the child"
            )
        if running_loop() is not self.loop and self.loop is not None:
            raise RuntimeError(
                "this client belongs to another event loop: make a new Client in this one"
            )
