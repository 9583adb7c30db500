"""One-off requests: queued, sent, answered or given up."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from msgspec import Struct

from qos_async._core.wire import request_frame

__all__ = ["Request", "Requests"]


class Request(Struct, frozen=True):
    """A question that somebody waits for until ``due``."""

    reqid: int
    operation: str
    frame: bytes
    due: float


class Requests:
    """The only queue of what is to be said: each entry has a caller waiting."""

    def __init__(self) -> None:
        self._waiting: dict[int, Request] = {}
        self._unsent: deque[int] = deque()

    @property
    def has_work(self) -> bool:
        """Whether a request could be sent now."""
        return bool(self._unsent)

    @property
    def due(self) -> float:
        """When the next caller must be answered."""
        return min((r.due for r in self._waiting.values()), default=math.inf)

    @property
    def queued(self) -> int:
        """How many requests wait for their turn."""
        return len(self._unsent)

    def add(
        self, reqid: int, operation: str, body: dict[str, Any], *, due: float
    ) -> None:
        """Queue a question."""
        frame = request_frame(operation, body, reqid=reqid)
        self._waiting[reqid] = Request(reqid, operation, frame, due)
        self._unsent.append(reqid)

    def next(self) -> Request | None:
        """Take the oldest unsent question."""
        return self._waiting[self._unsent.popleft()] if self._unsent else None

    def finish(self, reqid: int) -> Request | None:
        """Forget a question; None if nobody waits for its answer any more."""
        if reqid in self._unsent:
            self._unsent.remove(reqid)
        return self._waiting.pop(reqid, None)

    def overdue(self, now: float) -> list[Request]:
        """Take all whose time is up."""
        late = [r for r in self._waiting.values() if r.due <= now]
        for request in late:
            self.finish(request.reqid)
        return late

    def orphans(self) -> list[Request]:
        """Take all that were sent: on a new link nobody will answer them."""
        sent = [r for r in self._waiting.values() if r.reqid not in self._unsent]
        for request in sent:
            self.finish(request.reqid)
        return sent
