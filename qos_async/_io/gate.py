"""Waiting for the plan's HTTP pace, first come, first served."""

from __future__ import annotations

import asyncio
import math
from typing import Self

from qos_async._core.quota import Quota
from qos_async.config import Limits

__all__ = ["Gate"]


class Gate:
    """Let requests through as the plan allows; whoever is early waits.

    ``async with gate.slot() as slot: …`` holds one slot for one request. A waiter
    that is cancelled takes none; a request that is cancelled counts as sent.
    """

    def __init__(self, limits: Limits) -> None:
        self._quota = Quota(requests=limits.http_requests, period=limits.http_period)
        self._turn = asyncio.Lock()  # Wakes its waiters in the order they came.
        self._returned = asyncio.Event()

    def slot(self) -> Slot:
        """Describe one pass, to be entered with ``async with``."""
        return Slot(self)

    async def enter(self) -> None:
        """Wait for a slot and take it."""
        async with self._turn:
            while (wait := self._wait()) > 0:
                self._returned.clear()
                try:
                    async with asyncio.timeout(None if math.isinf(wait) else wait):
                        await self._returned.wait()
                except TimeoutError:
                    pass  # A slot has rested; the loop looks which one.
            self._quota.take(_now())

    def leave(self, *, sent: bool) -> None:
        """Return a slot."""
        if sent:
            self._quota.rest(_now())
        else:
            self._quota.give_back()
        self._returned.set()

    def _wait(self) -> float:
        now = _now()
        return self._quota.ready_at(now) - now


class Slot:
    """One pass through the gate.

    Attributes:
        sent: Whether the request may have reached the server; set it to False where
            it certainly has not.
    """

    __slots__ = ("_gate", "sent")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.sent = True

    async def __aenter__(self) -> Self:
        await self._gate.enter()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._gate.leave(sent=self.sent)


def _now() -> float:
    return asyncio.get_running_loop().time()
