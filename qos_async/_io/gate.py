"""Waiting for the plan's HTTP pace, first come, first served."""

from __future__ import annotations

import asyncio
import math
from typing import Self

from qos_async._core.quota import Quota
from qos_async.config import Limits

__all__ = ["RateLimiter"]


class RateLimiter:
    """Let requests through as the plan allows; whoever is early waits.

    ``async with gate.slot() as slot: …`` holds one slot for one request. A waiter
    that is cancelled takes none; a request that is cancelled counts as sent.
    """

    def __init__(self, limits: Limits) -> None:
        self._quota = Quota(requests=limits.http_requests, period=limits.http_period)
        self._turn = asyncio.Lock()  # Wakes its waiters in the order they came.
        self._returned = asyncio.Event()

    def permit(self) -> Permit:
        """Describe one pass, to be entered with ``async with``."""
        return Permit(self)

    async def acquire(self) -> None:
        """Wait for a slot and take it."""
        async with self._turn:
            while (wait := self._wait()) > 0:
                self._returned.clear()
                try:
                    async with asyncio.timeout(None if math.isinf(wait) else wait):
                        await self._returned.wait()
                except TimeoutError:
                    pass  # A slot has rested; the loop looks which one.
            self._quota.acquire(_now())

    def release(self, *, sent: bool) -> None:
        """Return a slot."""
        if sent:
            self._quota.release_after_period(_now())
        else:
            self._quota.cancel()
        self._returned.set()

    def _wait(self) -> float:
        now = _now()
        return self._quota.ready_at(now) - now


class Permit:
    """One pass through the gate.

    Attributes:
        sent: Whether the request may have reached the server; set it to False where
            it certainly has not.
    """

    __slots__ = ("_gate", "sent")

    def __init__(self, gate: RateLimiter) -> None:
        self._gate = gate
        self.sent = True

    async def __aenter__(self) -> Self:
        await self._gate.acquire()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._gate.release(sent=self.sent)


def _now() -> float:
    return asyncio.get_running_loop().time()
