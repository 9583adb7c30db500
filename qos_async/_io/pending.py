"""Pending replies: the requests that wait for the server, by their ids."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Any, TypeVar

from msgspec import Raw

from qos_async._core.protocol import StreamProtocol
from qos_async._core.queries import Query
from qos_async._core.rows import Unread
from qos_async._core.sanitize import excerpt
from qos_async._io.unread import UnreadLog
from qos_async.errors import DecodeError

__all__ = ["PendingReplies"]

T = TypeVar("T")

_log = logging.getLogger("qos_async.stream")


class PendingReplies:
    """One future for each request that a task waits for.

    Attributes:
        unread: Logs what cannot be read in a reply.
    """

    def __init__(
        self, protocol: StreamProtocol[Any], redact: Callable[[str], str]
    ) -> None:
        self._protocol = protocol
        self._redact = redact
        self.unread = UnreadLog(_log, redact)
        self._futures: dict[int, asyncio.Future[Raw]] = {}

    def request(self, query: Query[T]) -> Awaitable[T]:
        """Queue a request now; return its result to be awaited.

        The protocol ends every request.
        """
        loop = asyncio.get_running_loop()
        reqid = self._protocol.request(query.operation, query.body, loop.time())
        future = self._futures[reqid] = loop.create_future()
        return self._result(query, reqid, future)

    async def _result(
        self, query: Query[T], reqid: int, future: asyncio.Future[Raw]
    ) -> T:
        try:
            data = bytes(await future)
        finally:
            del self._futures[reqid]
            self._protocol.cancel(reqid)
        return self._read(query, data)

    def resolve(self, reqid: int, outcome: Raw | BaseException) -> None:
        """Resolve or fail a request; do nothing if its caller has given up."""
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
        unread: list[Unread] = []
        try:
            value = query.read(data, unread)
        except DecodeError as exc:
            reason = self._redact(str(exc))
        else:
            self.unread.warn(query.operation, unread)
            return value
        shown = excerpt(data, self._redact)
        raise DecodeError(f"{query.operation}: {reason}: {shown}")
