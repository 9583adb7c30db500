"""The conversation, over one link after another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Generic

import msgspec
from msgspec import Struct

from qos_async._core.events import (
    Confirmed,
    Declined,
    Event,
    Expelled,
    Failed,
    Lost,
    Outcome,
    Remarked,
    Replied,
    Unconfirmed,
    Unreadable,
)
from qos_async._core.gaps import Outage, Outages
from qos_async._core.liveness import Liveness
from qos_async._core.pacing import Pacer
from qos_async._core.registry import Change, Registry
from qos_async._core.requests import Request, Requests
from qos_async._core.text import excerpt, refusal
from qos_async._core.topics import LETTERS
from qos_async._core.wire import (
    HEARTBEAT,
    OPERATIONS,
    Frames,
    Reply,
    Unknown,
    change_frame,
)
from qos_async.config import Limits, Timing
from qos_async.errors import (
    AuthenticationError,
    DecodeError,
    QosError,
    RequestTimeoutError,
    TransportError,
)
from qos_async.models import N
from qos_async.stats import Stats

__all__ = ["Session"]

# A deadline that we notice this late says something about us, not about the server:
# what it sent may still wait in the socket. So look again after the grace.
_LATE = 0.5
_GRACE = 1.0


class Sent(Struct, frozen=True):
    """The newest frame that left, while its answer is awaited."""

    type: str
    due: float
    reqid: int | None = None
    change: Change | None = None


class Session(Generic[N]):
    """The core of the stream, without I/O. Time is an argument, in seconds.

    After any call that takes ``now``, the shell sends the frame that :meth:`poll`
    returns, if any, and comes back at :meth:`wake_at` at the latest.

    One frame at most awaits its answer: the pace starts at the answer (see ``Pacer``).

    Attributes:
        stats: Counters, shared with the shell.
        registry: What is wanted, and what the server has.
        outages: The topics that were live when a link was lost, until they are again.
        proven: Whether the server has said something sensible on this link.
    """

    def __init__(
        self,
        numbers: type[N],
        *,
        limits: Limits,
        timing: Timing,
        stats: Stats,
        redact: Callable[[str], str] = str,
    ) -> None:
        self.stats = stats
        self.registry = Registry()
        self.outages = Outages()
        self.proven = False
        self._timing = timing
        self._redact = redact
        self._frames = Frames(numbers)
        self._fast = self._frames.push
        self._reqids = itertools.count(1)
        self._requests = Requests()
        self._request_turn = False
        self._pacer = Pacer(limits.command_interval, timing.request_timeout)
        self._interval = limits.command_interval
        self._liveness: Liveness | None = None
        self._sent: Sent | None = None
        self._grace_until = -math.inf

    # What users want

    def ask(self, operation: str, body: dict[str, Any], now: float) -> int:
        """Queue a one-off request and return its id.

        It is answered or failed within ``request_timeout`` of its turn: the pace
        makes those ahead of it take ``command_interval`` each.
        """
        reqid = next(self._reqids)
        wait = self._requests.queued * self._interval
        due = now + wait + self._timing.request_timeout
        self._requests.add(reqid, operation, body, due=due)
        return reqid

    def cancel(self, reqid: int) -> None:
        """Forget a request that nobody waits for any more."""
        self._requests.finish(reqid)

    # The link: the shell reports, the core reacts

    def link_up(self, now: float) -> None:
        """Record a fresh link: the server knows nothing yet."""
        self.registry.forget()
        self.proven = False
        self._liveness = Liveness(
            every=self._timing.heartbeat, patience=self._timing.silence, now=now
        )

    def link_down(self, reason: str, now: float) -> list[Failed]:
        """Record that the link is gone; what was asked on it will not be answered."""
        if self._liveness is not None:
            outage = Outage(self._liveness.heard_at, reason)
            self.outages.begin(self.registry.held, outage)
        self._liveness = None
        self._sent = None
        self._pacer.link_lost(now)
        self.registry.forget()
        return [
            Failed(
                request.reqid,
                TransportError(
                    f"{request.operation}: the link was lost before the answer ({reason})"
                ),
            )
            for request in self._requests.orphans()
        ]

    # Frames in

    def receive(self, data: bytes, now: float) -> Event[N] | None:
        """Turn one inbound frame into at most one event."""
        assert self._liveness is not None, "receive() without a link"
        self._liveness.heard_at = now
        try:
            return self._fast(data)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return self._read(data, now)

    def _read(self, data: bytes, now: float) -> Event[N] | None:
        try:
            message = self._frames.read(data)
        except DecodeError as exc:
            self.stats.unreadable += 1
            shown = excerpt(data, self._redact)
            return Unreadable(f"{self._redact(str(exc))}: {shown}")
        if isinstance(message, Reply):
            return self._on_reply(message, now)
        if isinstance(message, Unknown):
            self.stats.unknown += 1
            return None
        return message

    def _on_reply(self, reply: Reply, now: float) -> Outcome | None:
        sent = self._sent
        if sent is None or not _answers(reply, sent):
            return self._on_foreign(reply)
        self._sent = None
        self._pacer.answered(now)
        if not reply.ok:
            error = self._refusal(reply, sent.type)
            if isinstance(error, AuthenticationError):
                return Expelled(error)
        self.proven = True
        if sent.change is not None:
            return self._on_ack(sent.change, reply)
        return self._on_answer(sent, reply)

    def _on_foreign(self, reply: Reply) -> Outcome | None:
        self.stats.unmatched += 1
        if not reply.ok:
            error = self._refusal(reply)
            if isinstance(error, AuthenticationError):
                return Expelled(error)
            return Remarked(str(error))
        return None

    def _refusal(self, reply: Reply, operation: str = "") -> QosError:
        return refusal(self._redact(reply.msg), operation=operation)

    def _on_ack(self, change: Change, reply: Reply) -> Outcome | None:
        if reply.ok:
            self.registry.confirm(change)
            return Confirmed(change.topics) if change.add else None
        final = self.registry.refuse(change)
        message = self._redact(reply.msg)
        return Declined(change.topics, message) if final else None

    def _on_answer(self, sent: Sent, reply: Reply) -> Outcome | None:
        request = None if sent.reqid is None else self._requests.finish(sent.reqid)
        if request is None:
            return None  # A heartbeat, or a caller that has given up.
        if reply.ok:
            return Replied(request.reqid, reply.data)
        return Failed(request.reqid, self._refusal(reply, request.operation))

    # Time

    def tick(self, now: float) -> list[Outcome]:
        """Give up whatever has passed its deadline."""
        due = self._due()
        if now < max(due, self._grace_until):
            return []
        if now - due > _LATE and self._grace_until < due:
            self._grace_until = now + _GRACE
            return []
        live = self._liveness
        if live is not None and live.dead_at <= now:
            return [Lost(f"nothing was received for {self._timing.silence:g} s")]
        return [*self._expire_requests(now), *self._expire_sent(now)]

    def _expire_requests(self, now: float) -> list[Outcome]:
        state = "no answer" if self._liveness is not None else "no link"
        return [
            Failed(
                request.reqid,
                RequestTimeoutError(
                    f"{request.operation}: {state} "
                    f"within {self._timing.request_timeout:g} s"
                ),
            )
            for request in self._requests.overdue(now)
        ]

    def _expire_sent(self, now: float) -> list[Outcome]:
        sent = self._sent
        if sent is None or now < sent.due:
            return []
        self._sent = None
        if sent.change is None:
            return []
        self.registry.expire(sent.change)
        return [Unconfirmed(sent.change.topics)] if sent.change.add else []

    def wake_at(self) -> float:
        """Tell when :meth:`tick` or :meth:`poll` will next have work."""
        return min(max(self._due(), self._grace_until), self._speak_at())

    def _due(self) -> float:
        live, sent = self._liveness, self._sent
        return min(
            self._requests.due,
            math.inf if live is None else live.dead_at,
            math.inf if sent is None else sent.due,
        )

    def _speak_at(self) -> float:
        if self._liveness is None:
            return math.inf
        if self._has_work:
            return self._pacer.free_at
        return max(self._liveness.beat_at, self._pacer.free_at)

    # Frames out

    @property
    def _has_work(self) -> bool:
        return self._requests.has_work or self.registry.has_work

    def poll(self, now: float) -> bytes | None:
        """Take the one frame that may leave at ``now``.

        Heartbeats first when due, then requests and changes in fair turn. A link on
        which nothing is to be said is greeted with a heartbeat, so that it is proven.
        """
        live = self._liveness
        if live is None or not self._pacer.is_free(now) or self._sent is not None:
            return None
        if now >= live.beat_at:
            return self._beat(live, now)
        turns = [self._next_change, self._next_request]
        if self._request_turn:
            turns.reverse()
        for turn in turns:
            if (frame := turn(now)) is not None:
                return frame
        return None

    def greet(self) -> None:
        """Make a heartbeat due at once if there is nothing else to say."""
        if self._liveness is not None and not self._has_work:
            self._liveness.beat_at = -math.inf

    def _beat(self, live: Liveness, now: float) -> bytes:
        live.beat(now)
        return self._leave(HEARTBEAT, "H", now)

    def _next_request(self, now: float) -> bytes | None:
        request: Request | None = self._requests.next()
        if request is None:
            return None
        self._request_turn = False
        return self._leave(request.frame, request.operation, now, reqid=request.reqid)

    def _next_change(self, now: float) -> bytes | None:
        change = self.registry.next_change()
        if change is None:
            return None
        self._request_turn = True
        self.registry.sent(change)
        reqid, head = next(self._reqids), change.head
        frame = change_frame(
            head.channel,
            sorted(topic.symbol for topic in change.topics),
            add=change.add,
            reqid=reqid,
            interval=head.interval,
        )
        letter = LETTERS[head.channel]
        kind = letter if change.add else f"{letter}C"
        return self._leave(frame, kind, now, reqid=reqid, change=change)

    def _leave(
        self,
        frame: bytes,
        kind: str,
        now: float,
        *,
        reqid: int | None = None,
        change: Change | None = None,
    ) -> bytes:
        due = now + self._timing.request_timeout
        self._sent = Sent(kind, due, reqid, change)
        self._pacer.sent(now)
        self.stats.frames_sent += 1
        return frame


def _answers(reply: Reply, sent: Sent) -> bool:
    # Whether errors carry type and reqid is unknown: what is there must fit.
    if reply.type in OPERATIONS:
        if reply.type != sent.type:
            return False
    elif reply.ok:
        return False
    return reply.reqid is None or reply.reqid == sent.reqid
