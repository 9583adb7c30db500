"""The stream protocol, without I/O: frames in, events out, and the next frame to send."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeAlias

import msgspec

from qos_async._core.events import (
    Confirmed,
    Event,
    Failed,
    KeyRejected,
    LinkTimedOut,
    OutageBegan,
    Outcome,
    Recovered,
    Replied,
    Resumed,
    ServerError,
    SubscriptionRejected,
    SubscriptionTimedOut,
    Unreadable,
    split_confirmed,
)
from qos_async._core.keepalive import GracefulDeadline, Liveness
from qos_async._core.recovery import Outage, OutageTracker, Recovery
from qos_async._core.registry import Change, Registry
from qos_async._core.rows import Unread
from qos_async._core.sanitize import error_from_message, excerpt, printable
from qos_async._core.scheduler import CommandScheduler, PendingCommand, QueuedRequest
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


_Lost: TypeAlias = list[OutageBegan | Failed]


class StreamProtocol(Generic[N]):
    """The client's side of the websocket protocol, over one link after another.

    Time is an argument, in seconds. After any call that takes ``now``, the caller sends
    the frame that :meth:`poll` returns, if any, hands out what :meth:`tick` returns, and
    comes back at :meth:`wake_at` at the latest. At most one frame awaits its reply: the
    pace starts at the reply (see ``Pacer``).

    Attributes:
        stats: Counters, shared with the caller.
        registry: What is wanted, and what the server has.
        scheduler: What is sent next, and what is awaited.
        outages: The topics that were live when data stopped, until recovery has ended.
        recovery: Gets back what the outages missed.
        decoder: Decodes frames.
        is_verified: Whether the server has sent something valid on this link.
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
        decoder: FrameDecoder[N] | None = None,
    ) -> None:
        self.stats = stats
        self.registry = Registry()
        self.scheduler = CommandScheduler(self.registry, limits=limits, timing=timing)
        self.outages = OutageTracker(self.registry)
        self.recovery: Recovery[N] = Recovery(None) if recovery is None else recovery
        self.is_verified = False
        self._timing = timing
        self._redact = redact
        self.decoder = FrameDecoder(numbers) if decoder is None else decoder
        self._liveness: Liveness | None = None
        self._resumed: set[Topic] = set()
        self._unemitted: deque[Confirmed] = deque()
        self._reply_deadline = GracefulDeadline()
        self._hold_deadline = GracefulDeadline()

    # Requests and topics

    def request(self, operation: str, body: dict[str, Any], now: float) -> int:
        """Queue a one-off request and return its id.

        It is replied to or failed within ``request_timeout``; see ``RequestQueue``.
        """
        reqid = self.scheduler.new_reqid()
        self.scheduler.requests.add(reqid, operation, body, now=now)
        return reqid

    def cancel(self, reqid: int) -> None:
        """Forget a request whose caller has given up."""
        self.scheduler.requests.remove(reqid)

    def remove(self, topics: Iterable[Topic]) -> None:
        """Forget the outages of topics that no subscription has any more."""
        removed = frozenset(topics)
        self.outages.remove(removed)
        for reqid in self.recovery.remove(removed):
            self.cancel(reqid)

    # The link

    def link_up(self, now: float) -> None:
        """Record a fresh link: the server has no subscriptions yet."""
        self.registry.link_up()
        self.is_verified = False
        self._liveness = Liveness(
            interval=self._timing.heartbeat, timeout=self._timing.silence, now=now
        )

    def link_down(
        self, reason: str, now: float, *, missing: float = 0.0, about_pace: bool = False
    ) -> _Lost:
        """Record that the link is gone; ticks may be missing for some seconds already."""
        events: _Lost = []
        if self._liveness is not None:
            since = min(self._liveness.last_received_at, now - missing)
            if topics := self.outages.link_down(outage := Outage(since, reason)):
                events.append(OutageBegan(topics, outage))
        for reqid in self.recovery.link_down():
            self.cancel(reqid)
        self._resumed.clear()
        self._liveness = None
        self.scheduler.link_down(now, about_pace=about_pace)
        self.registry.link_down()
        return events + _failed(self.scheduler.requests.take_sent(), reason)

    def flush_confirmed(self) -> list[Confirmed]:
        """Return the rest of a split acknowledgement, before the link is gone."""
        rest, self._unemitted = list(self._unemitted), deque()
        return rest

    def suspended(self, seconds: float) -> None:
        """Record that the machine was suspended: the loop's clock stood still."""
        self.outages.suspended(seconds)
        self.recovery.suspended(seconds)
        if self._liveness is not None:
            self._liveness.heartbeat_at = -math.inf  # Test the link at once.
            self.scheduler.stats.clock.reset()
            since = self._liveness.last_received_at - seconds
            self.mark_suspect(Outage(since, f"the machine slept for {seconds:.0f} s"))

    def mark_suspect(
        self, outage: Outage, among: Callable[[Topic], bool] = lambda _: True
    ) -> None:
        """Open an outage of topics that may have missed data though the link is up."""
        topics = self.outages.mark_suspect(outage, among=among)
        self._resumed |= topics
        self.recovery.mark_suspect(topics)

    # Frames in

    def receive_ticks(self, frames: Sequence[bytes], now: float) -> list[AnyTick[N]]:
        """Decode frames that are all pushes; return nothing if one is not.

        Then nothing was done: call :meth:`receive` with each.
        """
        try:
            ticks = self.decoder.push_all(frames)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return []
        self._mark_received(now)
        return ticks

    def receive(self, data: bytes, now: float) -> Event[N] | None:
        """Decode one frame into at most one event."""
        self._mark_received(now)
        try:
            return self.decoder.push(data)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return self._on_other(data, now)

    def _mark_received(self, now: float) -> None:
        live = self._liveness
        assert live is not None, "receive() without a link"
        if (seconds := now - live.last_received_at) > self._timing.silence:
            # Silence alone would have ended the link: so the loop was blocked.
            reason = f"nothing was read for {seconds:.0f} s: the event loop was blocked"
            self.mark_suspect(Outage(live.last_received_at, reason))
        live.last_received_at = now

    def _on_other(self, data: bytes, now: float) -> Event[N] | None:
        try:
            message = self.decoder.read(data)
        except DecodeError as exc:
            self.stats.unreadable += 1
            outage = Outage(now, "a frame could not be read")
            self.mark_suspect(outage, topics_possibly_in(data))
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
        sent = self.scheduler.match_reply(reply, now)
        self.stats.unmatched += sent is None
        postponed = sent is not None and self.scheduler.postpone(sent, reply, now)
        text = _message(self._redact(reply.msg), self.scheduler.refusals if sent else 0)
        error = None if reply.ok else _error_from(text, sent)
        if isinstance(error, AuthenticationError):
            return KeyRejected(error)
        self.is_verified = self.is_verified or sent is not None
        if postponed and sent is not None and sent.change is not None:
            self._unemitted += split_confirmed(self.registry.kept(sent.change))
        if sent is None or sent.reqid is None or postponed:
            quiet = error is None or (postponed and self.scheduler.refusals == 1)
            return None if quiet else ServerError(str(error))
        if sent.change is None:
            return self._on_request_reply(sent.request, reply, error)
        if error is None:
            return self._on_ack(sent.change, reply, now)
        return self._on_rejection(sent.change, text)

    def _on_ack(self, change: Change, reply: Reply, now: float) -> Outcome | None:
        self.registry.confirm(change)
        if not change.add:
            self.outages.removed_while_wanted(change, Outage(now, "subscribed again"))
            return None
        self.outages.confirmed(change.topics)
        self._unemitted += split_confirmed(change.topics, reply.time)
        return self._unemitted.popleft() if len(self._unemitted) == 1 else None

    def _on_rejection(self, change: Change, text: str) -> Outcome | None:
        about_pace = self.scheduler.refusals > 0  # So not about one of the topics.
        if self.outages.should_retry_rejection(change, whole=about_pace):
            self.registry.expire(change)
            return None
        if not (self.registry.give_up if about_pace else self.registry.reject)(change):
            self._unemitted += split_confirmed(self.registry.kept(change))
            return None
        self.remove(change.topics)
        return SubscriptionRejected(change.topics, text)

    def _on_request_reply(
        self, reqid: int, reply: Reply, error: QosError | None
    ) -> Outcome | None:
        if self.scheduler.requests.remove(reqid) is None:
            return None  # Its caller has given up.
        if self.recovery.owns(reqid):
            data = bytes(reply.data) if reply.ok else None
            unread: list[Unread] = []
            results = tuple(self.recovery.on_reply(reqid, data, unread))
            return Recovered(results, tuple(unread)) if results or unread else None
        return Replied(reqid, reply.data) if error is None else Failed(reqid, error)

    # Time

    def tick(self, now: float) -> list[Outcome]:
        """Return the events of time: what is due, and what has passed its deadline."""
        events: list[Outcome] = []
        if self._unemitted:
            events.append(self._unemitted.popleft())
        if self._resumed:
            events.append(Resumed(frozenset(self._resumed)))
            self._resumed.clear()
        due = self._hold_deadline.expired(self.recovery.deadline, now)
        if due and (results := self.recovery.tick(now)):
            events.append(Recovered(tuple(results)))
        if self._reply_deadline.expired(self._next_deadline(), now):
            live = self._liveness
            if live is not None and live.timeout_at <= now:
                reason = f"nothing was received for {self._timing.silence:g} s"
                events.append(LinkTimedOut(reason))
            else:
                events += self._expire(now)
        return events

    def _expire(self, now: float) -> Iterator[Outcome]:
        missing = "no link" if self._liveness is None else "no reply"
        late = f"{missing} within {self._timing.request_timeout:g} s"
        for request in self.scheduler.requests.take_expired(now):
            if self.recovery.owns(request.reqid):
                if results := self.recovery.on_reply(request.reqid, None):
                    yield Recovered(tuple(results))
            else:
                error = RequestTimeoutError(f"{request.operation}: {late}")
                yield Failed(request.reqid, error)
        sent = self.scheduler.expire_pending(now)
        if sent is not None and sent.change is not None:
            self.registry.expire(sent.change)
            if sent.change.add and not self.scheduler.is_first_attempt:
                yield SubscriptionTimedOut(sent.change.topics)

    def wake_at(self) -> float:
        """Return when :meth:`tick` or :meth:`poll` will next have work."""
        if self._unemitted or self._resumed:
            return -math.inf
        live = self._liveness
        recovery_at = self._hold_deadline.expires_at(self.recovery.deadline)
        if self._is_resubscribed:
            recovery_at = min(recovery_at, self.recovery.next_request_at())
        return min(
            self._reply_deadline.expires_at(self._next_deadline()),
            math.inf if live is None else self.scheduler.next_send_at(live),
            recovery_at,
        )

    def _next_deadline(self) -> float:
        silent_at = math.inf if self._liveness is None else self._liveness.timeout_at
        return min(self.scheduler.deadline, silent_at)

    @property
    def _is_resubscribed(self) -> bool:
        return self._liveness is not None and self.registry.settled

    # Frames out

    def poll(self, now: float) -> bytes | None:
        """Return the one frame that may be sent at ``now``; see ``CommandScheduler``."""
        if self._unemitted:
            return None
        if self._is_resubscribed:
            for request in self.recovery.next_requests(now):
                operation, body = request.query.operation, request.query.body
                self.recovery.sent(self.request(operation, body, now), request)
        live = self._liveness
        frame = None if live is None else self.scheduler.poll(live, now)
        if frame is not None:
            self.stats.frames_sent += 1
            self.stats.bytes_sent += len(frame)
        return frame

    def request_heartbeat(self) -> None:
        """Make a heartbeat due at once if nothing else is sent or to be sent.

        A link is verified by a reply, so that something must be sent on it.
        """
        if self._liveness is not None and self.scheduler.is_idle:
            self._liveness.heartbeat_at = -math.inf


def _failed(sent: Iterable[QueuedRequest], reason: str) -> list[Failed]:
    lost = f"the link was lost before the reply ({reason})"
    return [
        Failed(request.reqid, TransportError(f"{request.operation}: {lost}"))
        for request in sent
    ]


def _message(text: str, refusals: int) -> str:
    if not refusals:
        return printable(text)
    return (
        f"{printable(text, 90)} ({refusals} times in a row: another program may use this "
        "key, or Limits.command_interval is shorter than the plan's)"
    )


def _error_from(message: str, sent: PendingCommand | None) -> QosError:
    return error_from_message(
        message,
        operation="" if sent is None else sent.type,
        requested=() if sent is None else sent.symbols,
    )
