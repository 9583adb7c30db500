"""Those who have asked over the link, and wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from typing import Any, TypeVar

from msgspec import Raw

from qos_async._core.protocol import StreamProtocol
from qos_async._core.queries import Query
from qos_async._core.sanitize import excerpt
from qos_async.errors import DecodeError

__all__ = ["PendingReplies"]

T = TypeVar("T")


class PendingReplies:
    """One future for each request that somebody waits for."""

    def __init__(
        self, session: StreamProtocol[Any], redact: Callable[[str], str]
    ) -> None:
        self._protocol = session
        self._redact = redact
        self._futures: dict[int, asyncio.Future[Raw]] = {}

    async def request(self, query: Query[T], on_queued: Callable[[], None]) -> T:
        """Ask and wait; the core sees to it that every request ends.

        Args:
            query: What to ask.
            on_queued: Called when the question is queued.
        """
        loop = asyncio.get_running_loop()
        reqid = self._protocol.request(query.operation, query.body, loop.time())
        future = self._futures[reqid] = loop.create_future()
        on_queued()
        try:
            data = bytes(await future)
        finally:
            del self._futures[reqid]
            self._protocol.cancel(reqid)
        return self._read(query, data)

    def resolve(self, reqid: int, outcome: Raw | BaseException) -> None:
        """Answer or fail a request; nothing happens if nobody waits any more."""
        future = self._futures.get(reqid)
        if future is None or future.done():
            return
        if isinstance(outcome, BaseException):
            future.set_exception(copy(outcome))
        else:
            future.set_result(outcome)

    def fail_all(self, error: BaseException) -> None:
        """Fail every request."""
        for reqid in list(self._futures):
            self.resolve(reqid, error)

    def _read(self, query: Query[T], data: bytes) -> T:
        try:
            return query.read(data)
        except DecodeError as exc:
            reason = self._redact(str(exc))
        shown = excerpt(data, self._redact)
        raise DecodeError(f"{query.operation}: {reason}: {shown}")
