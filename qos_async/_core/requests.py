"""One-off requests: queued, sent, answered or given up."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from qos_async._core.wire import request_frame, symbols_in

__all__ = ["QueuedRequest", "RequestQueue"]


class QueuedRequest(Struct, frozen=True):
    """A question that somebody waits for, put or sent at ``since``.

    Attributes:
        waited: How long it waited for its turn, once it was sent.
    """

    reqid: int
    operation: str
    frame: bytes
    since: float
    symbols: tuple[str, ...] = ()
    waited: float = 0.0


class RequestQueue:
    """The only queue of what is to be said: each entry has a caller waiting.

    A request is given up ``timeout`` seconds after it was sent. One that waits for its
    turn is given up as long after it was put, or after it could have had a turn:
    the plan's pace lets many wait long, but none waits for a turn that does not come.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._unsent: dict[int, QueuedRequest] = {}
        self._sent: dict[int, QueuedRequest] = {}
        self._unblocked_at = -math.inf

    @property
    def has_work(self) -> bool:
        """Whether a request could be sent now."""
        return bool(self._unsent)

    @property
    def deadline(self) -> float:
        """When the next caller must be answered."""
        return min((due for due, _ in self._deadlines()), default=math.inf)

    def add(
        self, reqid: int, operation: str, body: dict[str, Any], *, now: float
    ) -> None:
        """Queue a question."""
        frame = request_frame(operation, body, reqid=reqid)
        symbols = symbols_in(body)
        self._unsent[reqid] = QueuedRequest(reqid, operation, frame, now, symbols)

    def next(self, now: float) -> QueuedRequest | None:
        """Take the oldest unsent question, to be sent at ``now``."""
        if not self._unsent:
            return None
        put = self._unsent.pop(next(iter(self._unsent)))
        sent = replace(put, since=now, waited=now - put.since)
        self._sent[sent.reqid] = sent
        return sent

    def block(self) -> None:
        """Record that a frame was sent, be it a request or not: the others wait."""
        self._unblocked_at = math.inf

    def unblock(self, at: float) -> None:
        """Record that its answer came, or will not come: the next turn is then."""
        self._unblocked_at = at

    def remove(self, reqid: int) -> QueuedRequest | None:
        """Forget a question; None if nobody waits for its answer any more."""
        return self._unsent.pop(reqid, None) or self._sent.pop(reqid, None)

    def take_expired(self, now: float) -> list[QueuedRequest]:
        """Take all whose time is up."""
        late = [request for due, request in self._deadlines() if due <= now]
        for request in late:
            self.remove(request.reqid)
        return late

    def take_sent(self) -> list[QueuedRequest]:
        """Take all that were sent: on a new link nobody will answer them."""
        sent = list(self._sent.values())
        self._sent.clear()
        return sent

    def _deadlines(self) -> Iterator[tuple[float, QueuedRequest]]:
        for request in self._sent.values():
            yield request.since + self._timeout, request
        for request in self._unsent.values():
            yield max(request.since, self._unblocked_at) + self._timeout, request
