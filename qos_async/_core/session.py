"""The conversation, over one link after another."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic

import msgspec

from qos_async._core.counters import Counters
from qos_async._core.events import (
    Confirmed,
    Declined,
    Event,
    Expelled,
    Failed,
    Healed,
    Lost,
    Outcome,
    Remarked,
    Replied,
    Resumed,
    Unconfirmed,
    Unreadable,
    in_parts,
)
from qos_async._core.gaps import Outage
from qos_async._core.interruptions import Interruptions
from qos_async._core.liveness import Liveness
from qos_async._core.patience import Patience
from qos_async._core.recovery import Recovery
from qos_async._core.registry import Change, Registry
from qos_async._core.requests import Requests
from qos_async._core.sent import Sent
from qos_async._core.speaker import Speaker
from qos_async._core.text import excerpt, refusal
from qos_async._core.topics import Push, Topic
from qos_async._core.wire import Frames, Reply, Unknown, whose
from qos_async.config import Limits, Timing
from qos_async.errors import (
    AuthenticationError,
    DecodeError,
    QosError,
    RequestTimeoutError,
    TransportError,
)
from qos_async.models import N

__all__ = ["Session"]


class Session(Generic[N]):
    """The core of the stream, without I/O. Time is an argument, in seconds.

    After any call that takes ``now``, the shell sends the frame that :meth:`poll`
    returns, if any, and comes back at :meth:`wake_at` at the latest.

    One frame at most awaits its answer: the pace starts at the answer (see ``Pacer``).

    Attributes:
        stats: Counts, shared with the shell.
        pulse: What is measured of the conversation.
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
        stats: Counters,
        redact: Callable[[str], str] = str,
        recovery: Recovery[N] | None = None,
    ) -> None:
        self.stats = stats
        self.registry = Registry()
        self._interruptions = Interruptions(self.registry)
        self.outages = self._interruptions.outages
        self.recovery = recovery
        self.proven = False
        self._timing = timing
        self._redact = redact
        self._frames = Frames(numbers)
        self._fast = self._frames.push
        self._requests = Requests(timing.request_timeout)
        self._speaker = Speaker(
            self.registry, self._requests, limits=limits, timing=timing
        )
        self.pulse = self._speaker.pulse
        self._liveness: Liveness | None = None
        self._silence = timing.silence
        self._resumed: set[Topic] = set()
        self._untold: deque[Confirmed] = deque()
        self._patience = Patience()
        self._hold_patience = Patience()

    # What users want

    def ask(self, operation: str, body: dict[str, Any], now: float) -> int:
        """Queue a one-off request and return its id.

        It is answered or failed within ``request_timeout``; see ``Requests``.
        """
        reqid = self._speaker.new_reqid()
        self._requests.add(reqid, operation, body, now=now)
        return reqid

    def cancel(self, reqid: int) -> None:
        """Forget a request that nobody waits for any more."""
        self._requests.finish(reqid)

    def abandon(self, topics: Iterable[Topic]) -> None:
        """Forget the outages of topics that nobody watches any more."""
        gone = frozenset(topics)
        self._interruptions.forget(gone)
        if self.recovery is not None:
            for reqid in self.recovery.drop(gone):
                self.cancel(reqid)

    def ticked(self, topic: Topic) -> None:
        """Record that a topic ticks before its subscription was confirmed.

        It is live then: if the link is lost now, that is an outage.
        """
        self._interruptions.ticked(topic)

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
            self._interruptions.link_lost(outage)
        if self.recovery is not None:
            for reqid in self.recovery.link_lost():
                self.cancel(reqid)
        self._resumed.clear()
        self._liveness = None
        self._speaker.link_lost(now)
        self.registry.forget()
        orphans = self._requests.orphans()
        return [
            Failed(
                request.reqid,
                TransportError(
                    f"{request.operation}: the link was lost before the answer ({reason})"
                ),
            )
            for request in orphans
        ]

    def last_words(self) -> list[Confirmed]:
        """Tell the rest of what was confirmed, before the link is gone."""
        rest = list(self._untold)
        self._untold.clear()
        return rest

    def slept(self, seconds: float, now: float) -> None:
        """Record that the machine was suspended, in which time its clock stood still."""
        self._interruptions.slept(seconds)
        if self.recovery is not None:
            self.recovery.slept(seconds)
        if self._liveness is not None:
            self._liveness.beat_at = -math.inf  # Is anybody still there?
            self.pulse.clock.forget()
            since = self._liveness.heard_at - seconds
            self._doubt(Outage(since, f"the machine slept for {seconds:.0f} s"), now)

    def _doubt(
        self,
        outage: Outage,
        now: float,
        among: Callable[[Topic], bool] = lambda _: True,
    ) -> None:
        """Open an outage of topics that may have missed something on this link."""
        topics = self._interruptions.doubted(outage, among=among)
        self._resumed |= topics
        if self.recovery is not None:
            self.recovery.doubt(topics)

    # Frames in

    def receive_pushes(self, frames: Sequence[bytes], now: float) -> list[Push[N]]:
        """Turn inbound frames, all of them pushes, into records.

        Nothing is done if one is not, or cannot be read: then ``receive`` each.
        """
        try:
            pushes = list(map(self._fast, frames))
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return []
        self._hear(now)
        return pushes

    def receive(self, data: bytes, now: float) -> Event[N] | None:
        """Turn one inbound frame into at most one event."""
        self._hear(now)
        try:
            return self._fast(data)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return self._read(data, now)

    def _hear(self, now: float) -> None:
        live = self._liveness
        assert live is not None, "receive() without a link"
        if now - live.heard_at > self._silence:
            # Silence alone would have ended the link: nobody was there to end it.
            lull = now - live.heard_at
            reason = f"nothing was read for {lull:.0f} s: the event loop stood still"
            self._doubt(Outage(live.heard_at, reason), now)
        live.heard_at = now

    def _read(self, data: bytes, now: float) -> Event[N] | None:
        try:
            message = self._frames.read(data)
        except DecodeError as exc:
            self.stats.unreadable += 1
            self._doubt(Outage(now, "a frame could not be read"), now, whose(data))
            shown = excerpt(data, self._redact)
            return Unreadable(f"{self._redact(str(exc))}: {shown}")
        if isinstance(message, Reply):
            return self._on_reply(message, now)
        if isinstance(message, Unknown):
            self.stats.unknown += 1
            return None
        return message

    def _on_reply(self, reply: Reply, now: float) -> Outcome | None:
        self.stats.answers += 1
        sent = self._speaker.match(reply, now)
        if sent is None:
            return self._on_foreign(reply)
        if not reply.ok:
            error = self._refusal(reply, sent.type, sent.symbols)
            if isinstance(error, AuthenticationError):
                return Expelled(error)
        self.proven = True
        if sent.change is not None:
            return self._on_ack(sent.change, reply, now)
        return self._on_answer(sent, reply)

    def _on_foreign(self, reply: Reply) -> Outcome | None:
        self.stats.unmatched += 1
        if not reply.ok:
            error = self._refusal(reply)
            if isinstance(error, AuthenticationError):
                return Expelled(error)
            return Remarked(str(error))
        return None

    def _refusal(
        self, reply: Reply, operation: str = "", asked: tuple[str, ...] = ()
    ) -> QosError:
        return refusal(self._redact(reply.msg), operation=operation, asked=asked)

    def _on_ack(self, change: Change, reply: Reply, now: float) -> Outcome | None:
        if reply.ok:
            self.registry.confirm(change)
            if change.add:
                self._interruptions.confirmed(change.topics)
                parts = in_parts(Confirmed(change.topics, reply.time))
                if len(parts) == 1:
                    return parts[0]
                self._untold += parts
                return None
            self._interruptions.removed(change, Outage(now, "subscribed again"))
            return None
        if self._interruptions.pardons(change):
            self.registry.expire(change)
            return None
        final = self.registry.refuse(change)
        if final:
            self.abandon(change.topics)
        message = self._redact(reply.msg)
        return Declined(change.topics, message) if final else None

    def _on_answer(self, sent: Sent, reply: Reply) -> Outcome | None:
        request = None if sent.reqid is None else self._requests.finish(sent.reqid)
        if sent.reqid is None and not reply.ok:
            return Remarked(str(self._refusal(reply, sent.type)))
        if request is None:
            return None  # A heartbeat, or a caller that has given up.
        if self._is_ours(request.reqid):
            return self._healed(request.reqid, bytes(reply.data) if reply.ok else None)
        if reply.ok:
            return Replied(request.reqid, reply.data)
        error = self._refusal(reply, request.operation, request.symbols)
        return Failed(request.reqid, error)

    # Time

    def tick(self, now: float) -> list[Outcome]:
        """Give up whatever has passed its deadline."""
        confirmed = [self._untold.popleft()] if self._untold else []
        healed = [*confirmed, *self._resume(), *self._decide(now)]
        if not self._patience.is_over(self._due(), now):
            return healed
        live = self._liveness
        if live is not None and live.dead_at <= now:
            return [
                *healed,
                Lost(f"nothing was received for {self._timing.silence:g} s"),
            ]
        return [*healed, *self._expire_requests(now), *self._expire_sent(now)]

    def _resume(self) -> list[Outcome]:
        topics = frozenset(self._resumed)
        self._resumed.clear()
        return [Resumed(topics)] if topics else []

    def _expire_requests(self, now: float) -> Iterator[Outcome]:
        state = "no answer" if self._liveness is not None else "no link"
        for request in self._requests.overdue(now):
            if not self._is_ours(request.reqid):
                text = f"{state} within {self._timing.request_timeout:g} s"
                error = RequestTimeoutError(f"{request.operation}: {text}")
                yield Failed(request.reqid, error)
            elif (healed := self._healed(request.reqid, None)) is not None:
                yield healed

    def _expire_sent(self, now: float) -> list[Outcome]:
        sent = self._speaker.expire(now)
        if sent is None or sent.change is None:
            return []
        self.registry.expire(sent.change)
        return [Unconfirmed(sent.change.topics)] if sent.change.add else []

    def wake_at(self) -> float:
        """Tell when :meth:`tick` or :meth:`poll` will next have work."""
        if self._untold:
            return -math.inf
        live = self._liveness
        speak_at = math.inf if live is None else self._speaker.speak_at(live)
        return min(self._patience.ends_at(self._due()), speak_at, self._heal_at())

    def _due(self) -> float:
        live = self._liveness
        return min(
            self._requests.due,
            self._speaker.due,
            math.inf if live is None else live.dead_at,
        )

    # Recovery

    @property
    def _is_restored(self) -> bool:
        return self._liveness is not None and self.registry.settled

    def _is_ours(self, reqid: int) -> bool:
        return self.recovery is not None and self.recovery.is_ours(reqid)

    def _healed(self, reqid: int, data: bytes | None) -> Healed | None:
        assert self.recovery is not None, "see _is_ours"
        healings = self.recovery.answered(reqid, data)
        return Healed(tuple(healings)) if healings else None

    def _decide(self, now: float) -> list[Outcome]:
        recovery = self.recovery
        if recovery is None or not self._hold_patience.is_over(recovery.due, now):
            return []
        healings = recovery.tick(now)
        return [Healed(tuple(healings))] if healings else []

    def _heal_at(self) -> float:
        if self.recovery is None:
            return math.inf
        ask_at = self.recovery.ask_at() if self._is_restored else math.inf
        return min(self._hold_patience.ends_at(self.recovery.due), ask_at)

    def _recover(self, now: float) -> None:
        """Ask for what was missed, once all subscriptions are restored."""
        if self.recovery is not None and self._is_restored:
            self.recovery.settled(now)
            for question in self.recovery.questions(now):
                query = question.query
                reqid = self.ask(query.operation, query.body, now)
                self.recovery.asked(reqid, question)

    # Frames out

    def poll(self, now: float) -> bytes | None:
        """Take the one frame that may leave at ``now``; see ``Speaker``."""
        if self._untold:
            return None
        self._recover(now)
        live = self._liveness
        frame = None if live is None else self._speaker.poll(live, now)
        if frame is not None:
            self.stats.frames_sent += 1
            self.stats.bytes_sent += len(frame)
        return frame

    def greet(self) -> None:
        """Make a heartbeat due at once if nothing else is said or to be said.

        A link is proven by an answer, so something must be said on it.
        """
        if self._liveness is not None and self._speaker.is_idle:
            self._liveness.beat_at = -math.inf
