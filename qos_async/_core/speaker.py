"""What is said next, and when."""

from __future__ import annotations

import itertools
import math

from qos_async._core.liveness import Liveness
from qos_async._core.pacing import Pacer
from qos_async._core.pulse import Pulse
from qos_async._core.registry import Registry
from qos_async._core.requests import Requests
from qos_async._core.sent import Sent
from qos_async._core.topics import LETTERS, Topic
from qos_async._core.wire import HEARTBEAT, Reply, change_frame
from qos_async.config import Limits, Timing

__all__ = ["Speaker"]


class Speaker:
    """One voice for everything that is sent, and one answer awaited at most.

    Heartbeats first when due, then requests and changes in fair turn. An answer that
    never comes holds the rest up for ``timing.request_timeout`` and no longer.

    Attributes:
        pulse: What is measured of the conversation.
    """

    def __init__(
        self, registry: Registry, requests: Requests, *, limits: Limits, timing: Timing
    ) -> None:
        self._registry = registry
        self._requests = requests
        self._patience = timing.request_timeout
        self._pacer = Pacer(limits.command_interval, timing.request_timeout)
        self._reqids = itertools.count(1)
        self._awaited: Sent | None = None
        self._request_turn = False
        self.pulse = Pulse()
        # Since when each change could have been sent, were it not for the others.
        self._waiting: dict[Topic, float] = {}
        self._linked_at = math.inf

    @property
    def due(self) -> float:
        """When we stop waiting for the awaited answer."""
        return math.inf if self._awaited is None else self._awaited.due

    @property
    def has_work(self) -> bool:
        """Whether anything but a heartbeat is to be said."""
        return self._requests.has_work or self._registry.has_work

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be said, and no answer is awaited."""
        return self._awaited is None and not self.has_work

    def new_reqid(self) -> int:
        """Give a positive number that was never given before."""
        return next(self._reqids)

    def speak_at(self, live: Liveness) -> float:
        """Tell when :meth:`poll` will next have something."""
        if self._awaited is not None:
            return math.inf  # The answer comes, or its time runs out.
        due = -math.inf if self.has_work else live.beat_at
        return max(due, self._pacer.free_at)

    def poll(self, live: Liveness, now: float) -> bytes | None:
        """Take the one frame that may leave at ``now``."""
        self._note(now)
        if self._awaited is not None or not self._pacer.is_free(now):
            return None
        if now >= live.beat_at:
            live.beat(now)
            return self._leave(HEARTBEAT, Sent("H", now + self._patience), now)
        turns = [self._next_change, self._next_request]
        if self._request_turn:
            turns.reverse()
        return turns[0](now) or turns[1](now)

    def match(self, reply: Reply, now: float) -> Sent | None:
        """Find what ``reply`` answers; None if it answers nothing that is awaited."""
        sent = self._awaited
        if sent is None or not sent.answered_by(reply):
            self._pacer.overheard(now)
            return None
        self._awaited = None
        self._pacer.answered(now)
        self._measure(sent, reply, now)
        self._requests.turn_ends(self._pacer.free_at)
        return sent

    def expire(self, now: float) -> Sent | None:
        """Stop waiting for an answer that is overdue, and tell which."""
        sent = self._awaited
        if sent is None or now < sent.due:
            return None
        self._awaited = None
        if sent.change is not None:
            self._registry.unanswered(sent.change)
        self._pacer.expired()
        self._requests.turn_ends(self._pacer.free_at)
        return sent

    def link_lost(self, now: float) -> None:
        """Stop waiting: nothing will be answered any more."""
        self._awaited = None
        self._pacer.link_lost(now)
        self._requests.turn_ends(self._pacer.free_at)
        self._waiting.clear()
        self._linked_at = math.inf

    def _note(self, now: float) -> None:
        self._linked_at = min(self._linked_at, now)
        change = None if self._awaited is None else self._awaited.change
        said = () if change is None else change.topics
        self._waiting = {
            topic: self._waiting.get(topic, now)
            for topic in self._registry.dirty
            if topic not in said
        }

    def _measure(self, sent: Sent, reply: Reply, now: float) -> None:
        sent_at = sent.due - self._patience
        if sent.type == "H":
            self.pulse.round_trip = now - sent_at
        if reply.time is not None:
            self.pulse.clock.heard(reply.time, sent_at, now)

    def _next_request(self, now: float) -> bytes | None:
        request = self._requests.next(now)
        if request is None:
            return None
        self._request_turn = False
        # It may have been put long before there was a link.
        self.pulse.waits.add(min(request.waited, now - self._linked_at))
        sent = Sent(
            request.operation,
            now + self._patience,
            request.reqid,
            symbols=request.symbols,
        )
        return self._leave(request.frame, sent, now)

    def _next_change(self, now: float) -> bytes | None:
        change = self._registry.next_change()
        if change is None:
            return None
        self._request_turn = True
        self._registry.sent(change)
        self.pulse.waits.add(now - min(self._waiting[t] for t in change.topics))
        reqid, head = self.new_reqid(), change.head
        symbols = tuple(sorted(topic.symbol for topic in change.topics))
        frame = change_frame(
            head.channel,
            symbols,
            add=change.add,
            reqid=reqid,
            interval=head.interval,
        )
        kind = LETTERS[head.channel] + ("" if change.add else "C")
        sent = Sent(kind, now + self._patience, reqid, change, symbols)
        return self._leave(frame, sent, now)

    def _leave(self, frame: bytes, sent: Sent, now: float) -> bytes:
        self._awaited = sent
        self._requests.turn_begins()
        self._pacer.sent(now)
        return frame
