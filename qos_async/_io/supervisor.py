"""Link supervisor: dials, receives, sends, backs off, and starts over."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterable
from typing import Any, Generic, NoReturn, cast

import anyio
from msgspec import Struct
from msgspec.structs import replace

from qos_async._core.events import LinkTimedOut
from qos_async._core.link import Backoff, Contention, LinkEvent, PolicyViolationGuard
from qos_async._core.protocol import StreamProtocol
from qos_async._core.sanitize import error_from_message, is_about_pace
from qos_async._io.dial_gate import DialGate, InheritedOutage
from qos_async._io.dispatcher import Dispatcher
from qos_async._io.notifier import Notifier
from qos_async._io.receiver import Receiver
from qos_async._io.states import LinkStates
from qos_async._io.transport import (
    DialError,
    DisconnectReason,
    LinkClosed,
    Socket,
    Transport,
)
from qos_async.config import Limits, Timing
from qos_async.enums import LinkState
from qos_async.errors import (
    AuthenticationError,
    ConnectError,
    LimitError,
    QosError,
    TransportError,
)
from qos_async.models import N

__all__ = ["LinkSupervisor"]

_STALE_SLOT_TIMEOUT = 120.0


class _Ending(Struct, frozen=True):
    """How a link ended: why, how many seconds after the handshake, by which code.

    And whether another client seems to use the plan's only connection.
    """

    error: TransportError
    uptime: float = 0.0
    close_code: int | None = None
    is_conflict: bool = False

    @property
    def reason(self) -> str:
        """Why the link ended."""
        more = "; another client seems to use the key" if self.is_conflict else ""
        return f"{self.error}{more}"

    @property
    def is_about_pace(self) -> bool:
        """Whether the server closed it as something was sent too soon."""
        return self.close_code is not None and is_about_pace(str(self.error))

    @property
    def label(self) -> str:
        if isinstance(self.error, (DialError, LinkClosed)):
            return self.error.label
        return DisconnectReason.OTHER


class LinkSupervisor(Generic[N]):
    """Keeps one link open, with two tasks.

    The one that calls ``run`` dials and receives. The other, in its task group, keeps the
    time and sends: no other task sends, and no other notices deadlines.

    Attributes:
        states: The state of the link.
        send_ready: Notified when the protocol may have a frame to send.
        dial_now: Notify it to dial now instead of after the back-off.
    """

    def __init__(
        self,
        transport: Transport,
        protocol: StreamProtocol[N],
        dispatcher: Dispatcher,
        *,
        limits: Limits,
        timing: Timing,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.states = LinkStates()
        self.send_ready = dispatcher.send_ready
        self.dial_now = Notifier()
        self._transport = transport
        self._protocol = protocol
        self._dispatcher = dispatcher
        self._receiver = Receiver(protocol, dispatcher)
        self._limits = limits
        self._timing = timing
        self._gate = _as_gate(dispatcher.observer)
        self._contention = Contention()
        self._rng = rng
        self._link: _OpenLink | None = None
        self._rejected_since = math.inf

    async def run(self) -> NoReturn:
        """Keep a link open until that is pointless.

        Raises:
            AuthenticationError: The server rejected the key.
            LimitError: Another client uses the plan's only connection, or the server
                reports again and again that we break its rules.
            ConnectError: The server redirects, or cannot be trusted.
        """
        failure: Exception | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send_loop())
                await self._run_links()
        except* Exception as group:  # noqa: BLE001 - raised again below, ungrouped
            failure = _first_error(group)
        assert failure is not None, "neither task ends by itself"
        raise failure

    async def _run_links(self) -> NoReturn:
        backoff = Backoff(self._timing)
        policy = PolicyViolationGuard(self._timing)
        while True:
            ending = await self._run_one()
            about_pace, uptime = ending.is_about_pace, ending.uptime
            if policy.link_ended(uptime, ending.close_code, about_pace=about_pace):
                raise _policy_error(str(ending.error))
            # A close for the pace is not about another client, and passes soon.
            code = None if about_pace else ending.close_code
            least, most = backoff.next_wait(uptime, code)
            wait = least + self._rng() * (most - least)
            if ending.is_conflict:
                wait = max(wait, self._conflict_wait(ending))
                self._contention = Contention()
            if about_pace:
                wait = max(wait, self._limits.command_interval)
            if isinstance(ending.error, DialError):
                wait = max(wait, ending.error.retry_after)
            self._protocol.stats.reconnects[ending.label] += 1
            self.states.lost_for_pace = about_pace
            self.states.transition(
                LinkEvent.LOST,
                ending.reason,
                attempt=backoff.attempt,
                retry_in=wait,
            )
            with anyio.move_on_after(wait):
                await self.dial_now.wait()

    def _conflict_wait(self, ending: _Ending) -> float:
        wait = None if self._gate is None else self._gate.conflict_wait()
        if wait is None:
            raise LimitError(
                "another client seems to use this plan's only connection: stop that "
                "one, or use another key (the server closes each new link soon: "
                f"{ending.error})"
            )
        return wait

    async def _run_one(self) -> _Ending:
        if self._gate is not None:
            await self._gate.before_dial(self)
        self.states.transition(LinkEvent.DIAL)
        try:
            socket = await self._transport.dial()
        except (TransportError, AuthenticationError) as exc:
            self._contention.link_ended(0.0, None)
            return self._classify_dial_error(exc)
        self._rejected_since = math.inf
        if self._gate is not None and (reason := self._gate.may_keep()):
            await socket.close(graceful=False)
            self._contention.link_ended(0.0, None)
            return _Ending(LinkClosed(reason, label=DisconnectReason.LEASE))
        return await self._run_open(socket)

    # The ``LinkControl`` of a gate.

    def hold(self, reason: str) -> None:
        """Report that no link is opened for now."""
        self.states.stood_by = True
        if self.states.state is LinkState.STANDBY:
            self.states.reason = reason
        else:
            self.states.transition(LinkEvent.HOLD, reason)

    def revoke(self, reason: str) -> None:
        """Close the link at once, if there is one."""
        self._abort(reason, DisconnectReason.LEASE)

    def inherit(self, outages: Iterable[InheritedOutage]) -> None:
        """Recover what was missed since another client with the key had a link."""
        self._dispatcher.gaps.inherit(outages)

    def _classify_dial_error(
        self, error: TransportError | AuthenticationError
    ) -> _Ending:
        """Classify a failed dial; raise if retrying cannot help.

        A server that has accepted us before may reject us only because the dead link,
        ours or of a recorder before us, still holds the plan's only slot, or redirect
        during maintenance. So that is final
        only after ``_STALE_SLOT_TIMEOUT``. Certificate errors are never retried.
        """
        permanent = isinstance(error, DialError) and error.is_permanent
        if isinstance(error, TransportError) and not permanent:
            return _Ending(error)
        self._rejected_since = min(self._rejected_since, _loop_time())
        lasted = _loop_time() - self._rejected_since
        untrusted = isinstance(error, DialError) and error.untrusted
        first = not (self._protocol.stats.links or self.states.stood_by)
        if untrusted or first or lasted >= _STALE_SLOT_TIMEOUT:
            raise ConnectError(str(error)) if isinstance(error, DialError) else error
        if isinstance(error, DialError):
            return _Ending(error)
        return _Ending(DialError(str(error), label=DisconnectReason.KEY))

    async def _run_open(self, socket: Socket) -> _Ending:
        opened_at = _loop_time()
        link = self._link = _OpenLink(socket)
        if self._dispatcher.observer is not None:
            self._dispatcher.observer.opened()
        ending: _Ending | None = None
        try:
            self._protocol.link_up(opened_at)
            self.send_ready.notify_all()
            error = await self._receive_loop(link)
            code = error.code if isinstance(error, LinkClosed) else None
            ending = self._judge(_Ending(error, _loop_time() - opened_at, code))
        finally:
            self._link = None
            for confirmed in self._protocol.flush_confirmed():
                self._dispatcher.on_event(confirmed)
            cause = None if ending is None else ending.error
            reason = "" if ending is None else ending.reason
            about_pace = ending is not None and ending.is_about_pace
            missing = cause.missing if isinstance(cause, LinkClosed) else 0.0
            events = self._protocol.link_down(
                reason, _loop_time(), about_pace=about_pace, missing=missing
            )
            # Without an ending the stream is shutting down and reports its own error.
            if ending is not None:
                if self._dispatcher.observer is not None:
                    self._dispatcher.observer.lost(reason)
                for event in events:
                    self._dispatcher.on_event(event)
            await socket.close(graceful=not link.abort_reason)
        assert ending is not None, "whatever else ended it has been raised"
        return ending

    def _judge(self, ending: _Ending) -> _Ending:
        """Return how a link ended, with whether another client seems to be the cause."""
        # A close for the pace is not about another client.
        code = None if ending.is_about_pace else ending.close_code
        evicted = self._contention.link_ended(ending.uptime, code)
        return replace(ending, is_conflict=evicted and self._limits.connections == 1)

    async def _receive_loop(self, link: _OpenLink) -> TransportError:
        try:
            with link.scope:
                await self._receiver.run(
                    link.socket, on_open=self._on_open, on_error=link.fail
                )
            if link.handler_error is not None:
                raise link.handler_error
        except TransportError as exc:
            return exc
        return LinkClosed(link.abort_reason, label=link.label)

    def _on_open(self) -> None:
        self._protocol.stats.links += 1
        self.states.transition(LinkEvent.OPENED)

    async def _send_loop(self) -> NoReturn:
        protocol, dispatcher = self._protocol, self._dispatcher
        while True:
            now = _loop_time()
            dispatcher.check_suspend()
            for event in protocol.tick(now):
                if isinstance(event, LinkTimedOut):
                    self._abort(event.reason, DisconnectReason.SILENCE)
                else:
                    dispatcher.on_event(event)
            link = self._link
            if link is not None and not protocol.is_verified:
                protocol.request_heartbeat()
            frame = None if link is None else protocol.poll(now)
            if link is not None and frame is not None:
                try:
                    await link.socket.send(frame)
                except TransportError as exc:
                    if self._link is link:
                        self._abort(str(exc), DisconnectReason.SEND)
            else:
                with anyio.CancelScope(deadline=protocol.wake_at()):
                    await self.send_ready.wait()

    def _abort(self, reason: str, label: str) -> None:
        if self._link is not None:
            self._link.abort_reason, self._link.label = reason, label
            self._link.scope.cancel()


class _OpenLink:
    """The current link: its socket, and the means to stop receiving from it.

    Attributes:
        abort_reason: Why it was given up; empty as long as it was not.
        label: The same as a ``DisconnectReason``.
        handler_error: What was raised while the transport handed over frames.
    """

    __slots__ = ("abort_reason", "handler_error", "label", "scope", "socket")

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.scope = anyio.CancelScope()
        self.abort_reason = self.label = ""
        self.handler_error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        self.handler_error = error
        self.scope.cancel()


def _as_gate(observer: object) -> DialGate | None:
    return observer if isinstance(observer, DialGate) else None


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _policy_error(message: str) -> QosError:
    error = error_from_message(message)
    if isinstance(error, AuthenticationError):
        return error
    return LimitError(
        f"the server closes each link for a breach of its rules ({message}): read its "
        "message, and check that Limits describes your plan"
    )


def _first_error(group: ExceptionGroup[Exception]) -> Exception:
    found: Any = group
    while isinstance(found, ExceptionGroup):
        found = cast("Any", found).exceptions[0]
    return cast("Exception", found)
