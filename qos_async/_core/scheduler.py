"""Command scheduler: decides which frame is sent next, and which reply is awaited.

At most one frame is unacknowledged at a time (stop-and-wait). It makes the pacing of
``Pacer`` possible, and a rejection without ``reqid`` and ``type`` unambiguous.
"""

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
from qos_async._core.sanitize import means_later
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

__all__ = [
    "MAX_REFUSALS",
    "CommandScheduler",
    "PendingCommand",
    "QueuedRequest",
    "RequestQueue",
]

_ANSWERED = 2
MAX_REFUSALS = 6
"""How often one command may be refused for the pace: the last refusal is an error."""


class PendingCommand(Struct, frozen=True):
    """The frame that was sent last, while its reply is awaited.

    Attributes:
        type: Its ``type``, such as ``"T"`` or ``"RS"``.
        deadline: When the reply times out.
        reqid: Its ``reqid``; None for heartbeats, which have none (section 5.1).
        change: The change that it subscribes or unsubscribes, if any.
        symbols: The symbols that it names.
        request: The id of the one-off request that it sends; else 0.
        earlier: The ``reqid`` of the same request when it was sent before, if it was.
    """

    type: str
    deadline: float
    reqid: int | None = None
    change: Change | None = None
    symbols: tuple[str, ...] = ()
    request: int = 0
    earlier: int | None = None

    def matches(self, reply: Reply) -> bool:
        """Return whether ``reply`` is the reply to this frame.

        The document does not specify whether errors carry ``type`` and ``reqid``, so
        each is compared only if it is there. An OK always carries its ``type`` (section
        5.2.3).
        """
        if reply.type in OPERATIONS:
            if reply.type != self.type:
                return False
        elif reply.ok:
            return False
        return reply.reqid in (None, self.reqid, self.earlier)


class QueuedRequest(Struct, frozen=True):
    """A one-off request that is queued or sent, and whose caller awaits the reply.

    Attributes:
        reqid: Its id, and the ``reqid`` of its first frame.
        operation: Its ``type``, such as ``"RS"``.
        frame: The encoded frame.
        since: When it was queued or, once it was sent, when it was sent.
        body: Its parameters.
        waited: Seconds from being queued to being sent; 0 until then.
        refusals: How often the server refused it for the pace.
        until: When it times out at the latest, if it was sent again without a reply.
    """

    reqid: int
    operation: str
    frame: bytes
    since: float
    body: dict[str, Any]
    waited: float = 0.0
    refusals: int = 0
    until: float = math.inf


class RequestQueue:
    """A queue of one-off requests, each with a caller that awaits its reply.

    Only requests are queued; subscription changes are computed when they can be sent.

    A sent request times out ``timeout`` seconds after it was sent. A queued one times
    out ``timeout`` seconds after it was queued, or after the queue was last unblocked,
    whichever is later: with many requests the pace makes the last ones wait for long,
    which is no fault, but none waits for ever while no frame can be sent.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._unsent: dict[int, QueuedRequest] = {}
        self._sent: dict[int, QueuedRequest] = {}
        self._unblocked_at = -math.inf

    @property
    def has_work(self) -> bool:
        """Whether a request is waiting to be sent."""
        return bool(self._unsent)

    @property
    def deadline(self) -> float:
        """When the next request times out; ``inf`` without requests."""
        return min((due for due, _ in self._deadlines()), default=math.inf)

    def add(
        self, reqid: int, operation: str, body: dict[str, Any], *, now: float
    ) -> None:
        """Queue a request."""
        frame = request_frame(operation, body, reqid=reqid)
        self._unsent[reqid] = QueuedRequest(reqid, operation, frame, now, body)

    def next(self, now: float) -> QueuedRequest | None:
        """Return the oldest queued request, which now counts as sent at ``now``."""
        if not self._unsent:
            return None
        queued = self._unsent.pop(next(iter(self._unsent)))
        sent = replace(queued, since=now, waited=now - queued.since)
        self._sent[sent.reqid] = sent
        return sent

    def block(self) -> None:
        """Record that a frame of any kind was sent: no request can be sent for now."""
        self._unblocked_at = math.inf

    def unblock(self, at: float) -> None:
        """Record that a request can be sent from ``at`` on."""
        self._unblocked_at = at

    def remove(self, reqid: int) -> QueuedRequest | None:
        """Remove and return a request; None if its caller has already left."""
        return self._unsent.pop(reqid, None) or self._sent.pop(reqid, None)

    def postpone(self, reqid: int, now: float) -> bool:
        """Queue a sent request once more, before all others: it was sent too soon.

        Returns:
            Whether that was done; not if its caller has left, or at its last refusal.
        """
        sent = self._sent.get(reqid)
        if sent is None or sent.refusals + 1 >= MAX_REFUSALS:
            return False
        self._queue_first(replace(sent, since=now, refusals=sent.refusals + 1))
        return True

    def postpone_sent(self, now: float) -> None:
        """Postpone all sent requests: the link was closed as one was sent too soon."""
        for reqid in list(self._sent):
            self.postpone(reqid, now)

    def repeat(self, reqid: int) -> None:
        """Queue a sent request once more, before all others, with the same deadline."""
        sent = self._sent.get(reqid)
        if sent is not None:
            self._queue_first(replace(sent, until=sent.since + self._timeout))

    def _queue_first(self, request: QueuedRequest) -> None:
        del self._sent[request.reqid]
        self._unsent = {request.reqid: request, **self._unsent}

    def take_expired(self, now: float) -> list[QueuedRequest]:
        """Remove and return the requests that have timed out."""
        late = [request for due, request in self._deadlines() if due <= now]
        for request in late:
            self.remove(request.reqid)
        return late

    def take_sent(self) -> list[QueuedRequest]:
        """Remove and return the sent requests, as their link is gone."""
        sent = list(self._sent.values())
        self._sent.clear()
        return sent

    def _deadlines(self) -> Iterator[tuple[float, QueuedRequest]]:
        for request in self._sent.values():
            yield min(request.since + self._timeout, request.until), request
        for request in self._unsent.values():
            since = max(request.since, self._unblocked_at)
            yield min(since + self._timeout, request.until), request


class CommandScheduler:
    """Chooses the next frame; at most one reply is awaited.

    1. A heartbeat, when it is due: the server expects one every 10 to 30 s (section
       5.1).
    2. Then requests and subscription changes, in turn, so that neither starves.

    A reply that never comes delays the next frame by ``timing.request_timeout`` at
    most. Half of it is granted to the first frame of all, which is then sent once more:
    a server may drop it without a reply, if an earlier process sent one just before.

    Attributes:
        requests: The one-off requests.
        stats: Measurements of the commands and replies.
    """

    def __init__(self, registry: Registry, *, limits: Limits, timing: Timing) -> None:
        self.requests = RequestQueue(timing.request_timeout)
        self._registry = registry
        self._timeout = timing.request_timeout
        self._pacer = Pacer(limits.command_interval, timing.request_timeout)
        self._reqids = itertools.count(1)
        self._pending: PendingCommand | None = None
        self._prefer_request = False
        self._change_refusals = 0
        self._heartbeat_again = False
        self._unanswered = 0  # Frames, before the first reply of all.
        self._sent_at = 0.0
        self.stats = ConversationStats()
        # When each topic became dirty on this link: from then on, only the pace and the
        # other commands delayed it. For the statistics.
        self._waiting: dict[Topic, float] = {}
        self._link_up_at = math.inf

    @property
    def deadline(self) -> float:
        """When a queued request, or the awaited reply, times out; ``inf`` if none does."""
        pending = self._pending
        awaited = math.inf if pending is None else pending.deadline
        return min(awaited, self.requests.deadline)

    @property
    def has_work(self) -> bool:
        """Whether a request or a change could be sent."""
        return self.requests.has_work or self._registry.has_work

    @property
    def refusals(self) -> int:
        """How many replies in a row, up to the newest, were about the pace."""
        return self._pacer.refusals

    @property
    def is_first_attempt(self) -> bool:
        """Whether the command that has timed out was the first frame of all."""
        return self._unanswered == 1

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to send and no reply is awaited."""
        return self._pending is None and not self.has_work

    def new_reqid(self) -> int:
        """Return a positive number that was not returned before.

        It also grows over reconnects: a late reply from an old link can match nothing.
        """
        return next(self._reqids)

    def next_send_at(self, live: Liveness) -> float:
        """Return when :meth:`poll` will next return a frame."""
        if self._pending is not None:
            return math.inf  # Not before its reply is received or times out.
        at_once = self.has_work or self._heartbeat_again
        due = -math.inf if at_once else live.heartbeat_at
        return max(due, self._pacer.free_at)

    def poll(self, live: Liveness, now: float) -> bytes | None:
        """Return the one frame that may be sent at ``now``, or None.

        A returned frame counts as sent.
        """
        self._track_waiting(now)
        if self._pending is not None or not self._pacer.is_free(now):
            return None
        if self._heartbeat_again:
            self._heartbeat_again = False
            live.heartbeat_at = -math.inf
        if now >= live.heartbeat_at:
            live.heartbeat_sent(now)
            return self._mark_sent(
                HEARTBEAT, PendingCommand("H", self._deadline_from(now)), now
            )
        turns = [self._next_change, self._next_request]
        if self._prefer_request:
            turns.reverse()
        return turns[0](now) or turns[1](now)

    def match_reply(self, reply: Reply, now: float) -> PendingCommand | None:
        """Return the command that ``reply`` is the reply to; None if it is to none."""
        sent = self._pending
        if sent is None or not sent.matches(reply):
            self._pacer.late_reply(now)
            return None
        self._pending = None
        self._unanswered = _ANSWERED
        self._pacer.replied(now)
        self._measure(sent, reply, now)
        self.requests.unblock(self._pacer.free_at)
        return sent

    def postpone(self, sent: PendingCommand, reply: Reply, now: float) -> bool:
        """Return whether ``reply`` refused ``sent`` for the pace, and it is sent again.

        Then the reply is neither an answer nor a rejection. After ``MAX_REFUSALS`` in a
        row it is one.
        """
        if reply.ok or not means_later(reply.msg, sent.symbols):
            self._pacer.accepted()
            if sent.change is not None:
                self._change_refusals = 0
            return False
        self._pacer.refused(now)
        self.requests.unblock(self._pacer.free_at)
        if sent.change is not None:
            self._change_refusals += 1
            if postponed := self._change_refusals < MAX_REFUSALS:
                self._registry.postpone(sent.change)
            else:
                self._change_refusals = 0
            return postponed
        if sent.request:
            return self.requests.postpone(sent.request, now)
        self._heartbeat_again = self._pacer.refusals < MAX_REFUSALS
        return self._heartbeat_again

    def expire_pending(self, now: float) -> PendingCommand | None:
        """Return the command whose reply has timed out, and stop waiting for it."""
        sent = self._pending
        if sent is None or now < sent.deadline:
            return None
        self._pending = None
        self._unanswered = min(self._unanswered + 1, _ANSWERED)
        if sent.change is not None:
            self._registry.ack_timed_out(sent.change)
        if sent.request and self.is_first_attempt:
            self.requests.repeat(sent.request)
        self._pacer.expired()
        self.requests.unblock(self._pacer.free_at)
        return sent

    def link_down(self, now: float, *, about_pace: bool = False) -> None:
        """Record that the link is gone: no reply can be received any more.

        If it was closed for the pace, sent requests are queued again.
        """
        if about_pace:
            self.requests.postpone_sent(now)
        self._pending = None
        self._change_refusals = 0
        self._heartbeat_again = False
        self._pacer.link_down(now)
        self.requests.unblock(self._pacer.free_at)
        self._waiting.clear()
        self._link_up_at = math.inf

    def _track_waiting(self, now: float) -> None:
        self._link_up_at = min(self._link_up_at, now)
        change = None if self._pending is None else self._pending.change
        in_flight = () if change is None else change.topics
        dirty = self._registry.dirty
        since = map(self._waiting.get, dirty, itertools.repeat(now))
        self._waiting = dict(zip(dirty, since, strict=True))
        for topic in in_flight:
            self._waiting.pop(topic, None)

    def _measure(self, sent: PendingCommand, reply: Reply, now: float) -> None:
        if sent.type == "H":
            self.stats.round_trip = now - self._sent_at
        if reply.time is not None:
            self.stats.clock.update(reply.time, self._sent_at, now)

    def _next_request(self, now: float) -> bytes | None:
        request = self.requests.next(now)
        if request is None:
            return None
        self._prefer_request = False
        # It may have been queued before the link opened: that is no wait for the pace.
        self.stats.waits.add(min(request.waited, now - self._link_up_at))
        frame, reqid, body = request.frame, request.reqid, request.body
        repeated = request.until < math.inf
        # The frame before may have counted, and so its ``reqid``.
        if request.refusals or repeated:
            reqid = self.new_reqid()
            frame = request_frame(request.operation, body, reqid=reqid)
        sent = PendingCommand(
            request.operation,
            self._deadline_from(now),
            reqid,
            symbols=symbols_in(body),
            request=request.reqid,
            earlier=request.reqid if repeated else None,
        )
        return self._mark_sent(frame, sent, now)

    def _next_change(self, now: float) -> bytes | None:
        change = self._registry.next_change()
        if change is None:
            return None
        self._prefer_request = True
        self._registry.sent(change)
        self.stats.waits.add(now - min(map(self._waiting.__getitem__, change.topics)))
        reqid, topic = self.new_reqid(), change.any_topic
        symbols = tuple(sorted([topic.symbol for topic in change.topics]))
        frame = change_frame(
            topic.channel,
            symbols,
            add=change.add,
            reqid=reqid,
            interval=topic.interval,
        )
        kind = LETTERS[topic.channel] + ("" if change.add else "C")
        deadline = self._deadline_from(now)
        sent = PendingCommand(kind, deadline, reqid, change, symbols)
        return self._mark_sent(frame, sent, now)

    def _deadline_from(self, now: float) -> float:
        first = self._unanswered < _ANSWERED
        return now + (self._timeout / 2.0 if first else self._timeout)

    def _mark_sent(self, frame: bytes, sent: PendingCommand, now: float) -> bytes:
        self._pending = sent
        self._sent_at = now
        self.requests.block()
        self._pacer.sent(now, sent.deadline)
        return frame
