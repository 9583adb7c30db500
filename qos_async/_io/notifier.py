"""Something to wait for."""

from __future__ import annotations

import asyncio

__all__ = ["Notifier"]


class Notifier:
    """Wakes everybody who waits at the moment it rings, and nobody later.

    Cheaper than an ``asyncio.Event`` where it rings far more often than anybody
    waits: a ring that nobody hears costs one test.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def notify_all(self) -> None:
        """Wake all who wait."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def wait(self) -> None:
        """Sleep until the next ring; cancelling it loses nothing."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if not future.done() or future.cancelled():
                self._waiting = [
                    other for other in self._waiting if other is not future
                ]
