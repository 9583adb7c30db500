"""The pace of a key, from one client of this process to the next.

A plan's pace belongs to the key, so it does not start anew with each ``Client``.
"""

from __future__ import annotations

import asyncio
import os
from hashlib import blake2b
from weakref import WeakKeyDictionary

from yarl import URL

__all__ = ["KeyPace"]

# By a hash that means nothing outside of this process; forgotten when it has passed.
_salt = os.urandom(32)
_free_at: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bytes, float]] = (
    WeakKeyDictionary()
)


class KeyPace:
    """Keeps the first frame of a link away from the last one of an earlier link.

    Args:
        url: Where the links lead to.
        key: The key that they have in common.
        interval: Seconds between two frames.
    """

    __slots__ = ("_interval", "_name")

    def __init__(self, url: URL, key: str, interval: float) -> None:
        self._interval = interval
        self._name = blake2b(f"{url}\n{key}".encode(), key=_salt).digest()

    async def wait(self) -> None:
        """Wait until a link may be opened, and be spoken on at once."""
        now = asyncio.get_running_loop().time()
        wait = self._next_allowed().get(self._name, now) - now
        if wait > 0:
            await asyncio.sleep(wait)

    def mark_sent(self) -> None:
        """Record that a frame leaves."""
        now, times = asyncio.get_running_loop().time(), self._next_allowed()
        for name in [name for name, free_at in times.items() if free_at <= now]:
            del times[name]
        times[self._name] = now + self._interval

    @staticmethod
    def _next_allowed() -> dict[bytes, float]:
        return _free_at.setdefault(asyncio.get_running_loop(), {})
