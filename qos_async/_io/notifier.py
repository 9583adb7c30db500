"""Notifier: an edge-triggered wake-up for tasks."""

from __future__ import annotations

import asyncio

__all__ = ["Notifier"]


class Notifier:
    """Wakes all waiting tasks when it is notified; a notification is not kept.

    Cheaper than an ``asyncio.Event`` that is set and cleared, if notifications are far
    more frequent than waits: without a waiting task, one costs a single test.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def notify_all(self) -> None:
        """Wake all waiting tasks."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def wait(self) -> None:
        """Wait for the next notification; can be cancelled without side effects."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            # Cancelled while it waited: notify_all has not removed it.
            if not future.done() or future.cancelled():
                self._waiting = [
                    other for other in self._waiting if other is not future
                ]
