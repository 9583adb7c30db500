"""The frame whose answer is awaited."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from qos_async._core.keepalive import ConversationStats, Liveness
from qos_async._core.rate_limits import Pacer
from qos_async._core.registry import Change, Registry
from qos_async._core.wire import (
    HEARTBEAT,
    LETTERS,
    OPERATIONS,
    Reply,
    change_frame,
    request_frame,
    symbols_in,
)
from qos_async.config import Limits, Timing
from qos_async.topics import Topic

__all__ = ["CommandScheduler", "PendingCommand", "QueuedRequest", "RequestQueue"]


class PendingCommand(Struct, frozen=True):
    """The newest frame that left.

    Attributes:
        type: Its ``type``, such as ``"T"`` or ``"RS"``.
        deadline: When we stop waiting for its answer.
        reqid: None for heartbeats.
        change: What it subscribes or unsubscribes, if anything.
        symbols: What it is about.
    """

    type: str
    deadline: float
    reqid: int | None = None
    change: Change | None = None
    symbols: tuple[str, ...] = ()

    def matches(self, reply: Reply) -> bool:
        """Whether ``reply`` is the answer.

        Whether errors carry ``type`` and ``reqid`` is unknown: what is there must fit.
        """
        if reply.type in OPERATIONS:
            if reply.type != self.type:
                return False
        elif reply.ok:
            return False
        return reply.reqid is None or reply.reqid == self.reqid


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


class CommandScheduler:
    """One voice for everything that is sent, and one answer awaited at most.

    Heartbeats first when due, then requests and changes in fair turn. An answer that
    never comes holds the rest up for ``timing.request_timeout`` and no longer.

    Attributes:
        stats: What is measured of the conversation.
    """

    def __init__(
        self,
        registry: Registry,
        requests: RequestQueue,
        *,
        limits: Limits,
        timing: Timing,
    ) -> None:
        self._registry = registry
        self._requests = requests
        self._timeout = timing.request_timeout
        self._pacer = Pacer(limits.command_interval, timing.request_timeout)
        self._reqids = itertools.count(1)
        self._pending: PendingCommand | None = None
        self._prefer_request = False
        self.stats = ConversationStats()
        # Since when each change could have been sent, were it not for the others.
        self._waiting: dict[Topic, float] = {}
        self._link_up_at = math.inf

    @property
    def deadline(self) -> float:
        """When we stop waiting for the awaited answer."""
        return math.inf if self._pending is None else self._pending.deadline

    @property
    def has_work(self) -> bool:
        """Whether anything but a heartbeat is to be said."""
        return self._requests.has_work or self._registry.has_work

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be said, and no answer is awaited."""
        return self._pending is None and not self.has_work

    def new_reqid(self) -> int:
        """Give a positive number that was never given before."""
        return next(self._reqids)

    def next_send_at(self, live: Liveness) -> float:
        """Tell when :meth:`poll` will next have something."""
        if self._pending is not None:
            return math.inf  # The answer comes, or its time runs out.
        due = -math.inf if self.has_work else live.heartbeat_at
        return max(due, self._pacer.free_at)

    def poll(self, live: Liveness, now: float) -> bytes | None:
        """Take the one frame that may leave at ``now``."""
        self._track_waiting(now)
        if self._pending is not None or not self._pacer.is_free(now):
            return None
        if now >= live.heartbeat_at:
            live.heartbeat_sent(now)
            return self._mark_sent(
                HEARTBEAT, PendingCommand("H", now + self._timeout), now
            )
        turns = [self._next_change, self._next_request]
        if self._prefer_request:
            turns.reverse()
        return turns[0](now) or turns[1](now)

    def match_reply(self, reply: Reply, now: float) -> PendingCommand | None:
        """Find what ``reply`` answers; None if it answers nothing that is awaited."""
        sent = self._pending
        if sent is None or not sent.matches(reply):
            self._pacer.late_reply(now)
            return None
        self._pending = None
        self._pacer.replied(now)
        self._measure(sent, reply, now)
        self._requests.unblock(self._pacer.free_at)
        return sent

    def expire_pending(self, now: float) -> PendingCommand | None:
        """Stop waiting for an answer that is overdue, and tell which."""
        sent = self._pending
        if sent is None or now < sent.deadline:
            return None
        self._pending = None
        if sent.change is not None:
            self._registry.unanswered(sent.change)
        self._pacer.expired()
        self._requests.unblock(self._pacer.free_at)
        return sent

    def link_down(self, now: float) -> None:
        """Stop waiting: nothing will be answered any more."""
        self._pending = None
        self._pacer.link_down(now)
        self._requests.unblock(self._pacer.free_at)
        self._waiting.clear()
        self._link_up_at = math.inf

    def _track_waiting(self, now: float) -> None:
        self._link_up_at = min(self._link_up_at, now)
        change = None if self._pending is None else self._pending.change
        said = () if change is None else change.topics
        self._waiting = {
            topic: self._waiting.get(topic, now)
            for topic in self._registry.dirty
            if topic not in said
        }

    def _measure(self, sent: PendingCommand, reply: Reply, now: float) -> None:
        sent_at = sent.deadline - self._timeout
        if sent.type == "H":
            self.stats.round_trip = now - sent_at
        if reply.time is not None:
            self.stats.clock.update(reply.time, sent_at, now)

    def _next_request(self, now: float) -> bytes | None:
        request = self._requests.next(now)
        if request is None:
            return None
        self._prefer_request = False
        # It may have been put long before there was a link.
        self.stats.waits.add(min(request.waited, now - self._link_up_at))
        sent = PendingCommand(
            request.operation,
            now + self._timeout,
            request.reqid,
            symbols=request.symbols,
        )
        return self._mark_sent(request.frame, sent, now)

    def _next_change(self, now: float) -> bytes | None:
        change = self._registry.next_change()
        if change is None:
            return None
        self._prefer_request = True
        self._registry.sent(change)
        self.stats.waits.add(now - min(self._waiting[t] for t in change.topics))
        reqid, head = self.new_reqid(), change.any_topic
        symbols = tuple(sorted(topic.symbol for topic in change.topics))
        frame = change_frame(
            head.channel,
            symbols,
            add=change.add,
            reqid=reqid,
            interval=head.interval,
        )
        kind = LETTERS[head.channel] + ("" if change.add else "C")
        sent = PendingCommand(kind, now + self._timeout, reqid, change, symbols)
        return self._mark_sent(frame, sent, now)

    def _mark_sent(self, frame: bytes, sent: PendingCommand, now: float) -> bytes:
        self._pending = sent
        self._requests.block()
        self._pacer.sent(now)
        return frame
