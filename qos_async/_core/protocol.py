"""The conversation, over one link after another."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic

import msgspec

from qos_async._core.events import (
    AckTimedOut,
    Confirmed,
    Event,
    Failed,
    KeyRejected,
    LinkTimedOut,
    Outcome,
    Recovered,
    Replied,
    Resumed,
    ServerError,
    SubscriptionRejected,
    Unreadable,
    split_confirmed,
)
from qos_async._core.keepalive import GracefulDeadline, Liveness
from qos_async._core.recovery import Recovery
from qos_async._core.recovery.gaps import Outage, OutageTracker
from qos_async._core.registry import Change, Registry
from qos_async._core.sanitize import error_from_message, excerpt
from qos_async._core.scheduler import CommandScheduler, PendingCommand, RequestQueue
from qos_async._core.stats import Counters
from qos_async._core.wire import FrameDecoder, Reply, Unknown, topics_possibly_in
from qos_async.config import Limits, Timing
from qos_async.errors import (
    AuthenticationError,
    DecodeError,
    QosError,
    RequestTimeoutError,
    TransportError,
)
from qos_async.models import AnyTick, N
from qos_async.topics import Topic

__all__ = ["StreamProtocol"]


class StreamProtocol(Generic[N]):
    """The core of the stream, without I/O. Time is an argument, in seconds.

    After any call that takes ``now``, the shell sends the frame that :meth:`poll`
    returns, if any, and comes back at :meth:`wake_at` at the latest.

    One frame at most awaits its answer: the pace starts at the answer (see ``Pacer``).

    Attributes:
        stats: Counts, shared with the shell.
        stats: What is measured of the conversation.
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
        self._outage_tracker = OutageTracker(self.registry)
        self.outages = self._outage_tracker.outages
        self.recovery = recovery
        self.is_verified = False
        self._timing = timing
        self._redact = redact
        self._frames = FrameDecoder(numbers)
        self._decode_push = self._frames.push
        self._requests = RequestQueue(timing.request_timeout)
        self._scheduler = CommandScheduler(
            self.registry, self._requests, limits=limits, timing=timing
        )
        self.conversation = self._scheduler.stats
        self._liveness: Liveness | None = None
        self._silence_timeout = timing.silence
        self._resumed: set[Topic] = set()
        self._unemitted: deque[Confirmed] = deque()
        self._timeouts = GracefulDeadline()
        self._hold_deadline = GracefulDeadline()

    # What users want

    def request(self, operation: str, body: dict[str, Any], now: float) -> int:
        """Queue a one-off request and return its id.

        It is answered or failed within ``request_timeout``; see ``Requests``.
        """
        reqid = self._scheduler.new_reqid()
        self._requests.add(reqid, operation, body, now=now)
        return reqid

    def cancel(self, reqid: int) -> None:
        """Forget a request that nobody waits for any more."""
        self._requests.remove(reqid)

    def remove(self, topics: Iterable[Topic]) -> None:
        """Forget the outages of topics that nobody watches any more."""
        gone = frozenset(topics)
        self._outage_tracker.remove(gone)
        if self.recovery is not None:
            for reqid in self.recovery.remove(gone):
                self.cancel(reqid)

    def note_early_tick(self, topic: Topic) -> None:
        """Record that a topic ticks before its subscription was confirmed.

        It is live then: if the link is lost now, that is an outage.
        """
        self._outage_tracker.note_early_tick(topic)

    # The link: the shell reports, the core reacts

    def link_up(self, now: float) -> None:
        """Record a fresh link: the server knows nothing yet."""
        self.registry.link_down()
        self.is_verified = False
        self._liveness = Liveness(
            interval=self._timing.heartbeat, timeout=self._timing.silence, now=now
        )

    def link_down(self, reason: str, now: float) -> list[Failed]:
        """Record that the link is gone; what was asked on it will not be answered."""
        if self._liveness is not None:
            outage = Outage(self._liveness.last_received_at, reason)
            self._outage_tracker.link_down(outage)
        if self.recovery is not None:
            for reqid in self.recovery.link_down():
                self.cancel(reqid)
        self._resumed.clear()
        self._liveness = None
        self._scheduler.link_down(now)
        self.registry.link_down()
        orphans = self._requests.take_sent()
        return [
            Failed(
                request.reqid,
                TransportError(
                    f"{request.operation}: the link was lost before the answer ({reason})"
                ),
            )
            for request in orphans
        ]

    def flush_confirmed(self) -> list[Confirmed]:
        """Tell the rest of what was confirmed, before the link is gone."""
        rest = list(self._unemitted)
        self._unemitted.clear()
        return rest

    def suspended(self, seconds: float, now: float) -> None:
        """Record that the machine was suspended, in which time its clock stood still."""
        self._outage_tracker.suspended(seconds)
        if self.recovery is not None:
            self.recovery.suspended(seconds)
        if self._liveness is not None:
            self._liveness.heartbeat_at = -math.inf  # Is anybody still there?
            self.conversation.clock.reset()
            since = self._liveness.last_received_at - seconds
            self._open_gap_while_live(
                Outage(since, f"the machine slept for {seconds:.0f} s"), now
            )

    def _open_gap_while_live(
        self,
        outage: Outage,
        now: float,
        among: Callable[[Topic], bool] = lambda _: True,
    ) -> None:
        """Open an outage of topics that may have missed something on this link."""
        topics = self._outage_tracker.mark_suspect(outage, among=among)
        self._resumed |= topics
        if self.recovery is not None:
            self.recovery.mark_suspect(topics)

    # Frames in

    def receive_pushes(self, frames: Sequence[bytes], now: float) -> list[AnyTick[N]]:
        """Turn inbound frames, all of them pushes, into records.

        Nothing is done if one is not, or cannot be read: then ``receive`` each.
        """
        try:
            pushes = list(map(self._decode_push, frames))
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return []
        self._mark_received(now)
        return pushes

    def receive(self, data: bytes, now: float) -> Event[N] | None:
        """Turn one inbound frame into at most one event."""
        self._mark_received(now)
        try:
            return self._decode_push(data)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return self._read(data, now)

    def _mark_received(self, now: float) -> None:
        live = self._liveness
        assert live is not None, "receive() without a link"
        if now - live.last_received_at > self._silence_timeout:
            # Silence alone would have ended the link: nobody was there to end it.
            lull = now - live.last_received_at
            reason = f"nothing was read for {lull:.0f} s: the event loop stood still"
            self._open_gap_while_live(Outage(live.last_received_at, reason), now)
        live.last_received_at = now

    def _read(self, data: bytes, now: float) -> Event[N] | None:
        try:
            message = self._frames.read(data)
        except DecodeError as exc:
            self.stats.unreadable += 1
            self._open_gap_while_live(
                Outage(now, "a frame could not be read"), now, topics_possibly_in(data)
            )
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
        sent = self._scheduler.match_reply(reply, now)
        if sent is None:
            return self._on_unmatched(reply)
        if not reply.ok:
            error = self._error_from(reply, sent.type, sent.symbols)
            if isinstance(error, AuthenticationError):
                return KeyRejected(error)
        self.is_verified = True
        if sent.change is not None:
            return self._on_ack(sent.change, reply, now)
        return self._on_request_reply(sent, reply)

    def _on_unmatched(self, reply: Reply) -> Outcome | None:
        self.stats.unmatched += 1
        if not reply.ok:
            error = self._error_from(reply)
            if isinstance(error, AuthenticationError):
                return KeyRejected(error)
            return ServerError(str(error))
        return None

    def _error_from(
        self, reply: Reply, operation: str = "", asked: tuple[str, ...] = ()
    ) -> QosError:
        return error_from_message(
            self._redact(reply.msg), operation=operation, requested=asked
        )

    def _on_ack(self, change: Change, reply: Reply, now: float) -> Outcome | None:
        if reply.ok:
            self.registry.confirm(change)
            if change.add:
                self._outage_tracker.confirmed(change.topics)
                parts = split_confirmed(Confirmed(change.topics, reply.time))
                if len(parts) == 1:
                    return parts[0]
                self._unemitted += parts
                return None
            self._outage_tracker.removed_while_wanted(
                change, Outage(now, "subscribed again")
            )
            return None
        if self._outage_tracker.should_retry_rejection(change):
            self.registry.expire(change)
            return None
        final = self.registry.reject(change)
        if final:
            self.remove(change.topics)
        message = self._redact(reply.msg)
        return SubscriptionRejected(change.topics, message) if final else None

    def _on_request_reply(self, sent: PendingCommand, reply: Reply) -> Outcome | None:
        request = None if sent.reqid is None else self._requests.remove(sent.reqid)
        if sent.reqid is None and not reply.ok:
            return ServerError(str(self._error_from(reply, sent.type)))
        if request is None:
            return None  # A heartbeat, or a caller that has given up.
        if self._is_recovery_request(request.reqid):
            return self._on_recovery_reply(
                request.reqid, bytes(reply.data) if reply.ok else None
            )
        if reply.ok:
            return Replied(request.reqid, reply.data)
        error = self._error_from(reply, request.operation, request.symbols)
        return Failed(request.reqid, error)

    # Time

    def tick(self, now: float) -> list[Outcome]:
        """Give up whatever has passed its deadline."""
        confirmed = [self._unemitted.popleft()] if self._unemitted else []
        healed = [*confirmed, *self._resume(), *self._settle_due_cases(now)]
        if not self._timeouts.expired(self._deadline(), now):
            return healed
        live = self._liveness
        if live is not None and live.timeout_at <= now:
            return [
                *healed,
                LinkTimedOut(f"nothing was received for {self._timing.silence:g} s"),
            ]
        return [*healed, *self._expire_requests(now), *self._expire_pending(now)]

    def _resume(self) -> list[Outcome]:
        topics = frozenset(self._resumed)
        self._resumed.clear()
        return [Resumed(topics)] if topics else []

    def _expire_requests(self, now: float) -> Iterator[Outcome]:
        state = "no answer" if self._liveness is not None else "no link"
        for request in self._requests.take_expired(now):
            if not self._is_recovery_request(request.reqid):
                text = f"{state} within {self._timing.request_timeout:g} s"
                error = RequestTimeoutError(f"{request.operation}: {text}")
                yield Failed(request.reqid, error)
            elif (healed := self._on_recovery_reply(request.reqid, None)) is not None:
                yield healed

    def _expire_pending(self, now: float) -> list[Outcome]:
        sent = self._scheduler.expire_pending(now)
        if sent is None or sent.change is None:
            return []
        self.registry.expire(sent.change)
        return [AckTimedOut(sent.change.topics)] if sent.change.add else []

    def wake_at(self) -> float:
        """Tell when :meth:`tick` or :meth:`poll` will next have work."""
        if self._unemitted:
            return -math.inf
        live = self._liveness
        speak_at = math.inf if live is None else self._scheduler.next_send_at(live)
        return min(
            self._timeouts.expires_at(self._deadline()),
            speak_at,
            self._recovery_due_at(),
        )

    def _deadline(self) -> float:
        live = self._liveness
        return min(
            self._requests.deadline,
            self._scheduler.deadline,
            math.inf if live is None else live.timeout_at,
        )

    # Recovery

    @property
    def _is_resubscribed(self) -> bool:
        return self._liveness is not None and self.registry.settled

    def _is_recovery_request(self, reqid: int) -> bool:
        return self.recovery is not None and self.recovery.owns(reqid)

    def _on_recovery_reply(self, reqid: int, data: bytes | None) -> Recovered | None:
        assert self.recovery is not None, "see _is_ours"
        healings = self.recovery.on_reply(reqid, data)
        return Recovered(tuple(healings)) if healings else None

    def _settle_due_cases(self, now: float) -> list[Outcome]:
        recovery = self.recovery
        if recovery is None or not self._hold_deadline.expired(recovery.deadline, now):
            return []
        healings = recovery.tick(now)
        return [Recovered(tuple(healings))] if healings else []

    def _recovery_due_at(self) -> float:
        if self.recovery is None:
            return math.inf
        ask_at = self.recovery.next_request_at() if self._is_resubscribed else math.inf
        return min(self._hold_deadline.expires_at(self.recovery.deadline), ask_at)

    def _recover(self, now: float) -> None:
        """Ask for what was missed, once all subscriptions are restored."""
        if self.recovery is not None and self._is_resubscribed:
            self.recovery.all_resubscribed(now)
            for question in self.recovery.requests(now):
                query = question.query
                reqid = self.request(query.operation, query.body, now)
                self.recovery.sent(reqid, question)

    # Frames out

    def poll(self, now: float) -> bytes | None:
        """Take the one frame that may leave at ``now``; see ``Speaker``."""
        if self._unemitted:
            return None
        self._recover(now)
        live = self._liveness
        frame = None if live is None else self._scheduler.poll(live, now)
        if frame is not None:
            self.stats.frames_sent += 1
            self.stats.bytes_sent += len(frame)
        return frame

    def request_heartbeat(self) -> None:
        """Make a heartbeat due at once if nothing else is said or to be said.

        A link is proven by an answer, so something must be said on it.
        """
        if self._liveness is not None and self._scheduler.is_idle:
            self._liveness.heartbeat_at = -math.inf
