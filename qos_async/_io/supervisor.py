"""One link after another: dialling, reading, speaking, and starting over."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from typing import Any, Generic, NoReturn, cast

import anyio
from msgspec import Struct

from qos_async._core.events import LinkTimedOut
from qos_async._core.link import Backoff, Contention, LinkEvent, PolicyViolationGuard
from qos_async._core.protocol import StreamProtocol
from qos_async._core.sanitize import error_from_message
from qos_async._io.notifier import Notifier
from qos_async._io.receiver import Receiver, StreamEvents
from qos_async._io.states import LinkStates
from qos_async._io.transport import (
    DialError,
    DisconnectReason,
    FrameObserver,
    LinkClosed,
    Socket,
    Transport,
)
from qos_async.config import Limits, Timing
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
    """How a link ended: why, how many seconds after the handshake, by which code."""

    error: TransportError
    uptime: float = 0.0
    close_code: int | None = None

    @property
    def label(self) -> str:
        if isinstance(self.error, (DialError, LinkClosed)):
            return self.error.label
        return DisconnectReason.OTHER


class LinkSupervisor(Generic[N]):
    """Keeps one link open, for ever; two tasks, both in the group of ``run``.

    One dials and reads. The other keeps the time and writes: it is the only one that
    sends, and the only one that notices deadlines.

    Attributes:
        states: Where the link is, and who wants to know.
        send_ready: Rings when there may be something to say.
        dial_now: Ring it to dial now instead of after the back-off.
    """

    def __init__(
        self,
        transport: Transport,
        protocol: StreamProtocol[N],
        listener: StreamEvents,
        *,
        limits: Limits,
        timing: Timing,
        observer: FrameObserver | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.states = LinkStates()
        self.send_ready = Notifier()
        self.dial_now = Notifier()
        self._transport = transport
        self._protocol = protocol
        self._listener = listener
        self._limits = limits
        self._timing = timing
        self._observer = observer
        self._rng = rng
        self._live: _OpenLink | None = None
        self._rejected_since = math.inf
        self._receiver = Receiver(
            protocol, listener, notify=self.send_ready.notify_all, observer=observer
        )

    async def run(self) -> NoReturn:
        """Keep a link open until that is pointless.

        Raises:
            AuthenticationError: The server refused the key.
            LimitError: Somebody else uses the plan's only connection, or the server
                says again and again that we break its rules.
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
        backoff, contention = Backoff(self._timing), Contention()
        reproof = PolicyViolationGuard(self._timing)
        while True:
            ending = await self._run_one()
            if reproof.link_ended(ending.uptime, ending.close_code):
                raise _policy_error(str(ending.error))
            only_one = self._limits.connections == 1
            if contention.link_ended(ending.uptime, ending.close_code) and only_one:
                raise LimitError(
                    f"the server closes each new link soon ({ending.error}): another "
                    "client seems to use this plan's only connection; stop that one, "
                    "or use another key"
                )
            least, most = backoff.next_wait(ending.uptime, ending.close_code)
            wait = least + self._rng() * (most - least)
            if isinstance(ending.error, DialError):
                wait = max(wait, ending.error.retry_after)
            self._protocol.stats.reconnects[ending.label] += 1
            self.states.transition(
                LinkEvent.LOST,
                str(ending.error),
                attempt=backoff.attempt,
                retry_in=wait,
            )
            with anyio.move_on_after(wait):
                await self.dial_now.wait()

    async def _run_one(self) -> _Ending:
        self.states.transition(LinkEvent.DIAL)
        try:
            socket = await self._transport.dial()
        except (TransportError, AuthenticationError) as exc:
            return self._classify_dial_error(exc)
        self._rejected_since = math.inf
        return await self._run_open(socket)

    def _classify_dial_error(
        self, error: TransportError | AuthenticationError
    ) -> _Ending:
        """Judge why a link could not be opened: raise if that is final.

        A server that has let us in before may refuse us only because the dead link
        still holds the plan's only slot, or send us elsewhere during maintenance. So
        that is final only when it has lasted; whom we cannot trust has no such credit.
        """
        final = isinstance(error, DialError) and error.is_permanent
        if isinstance(error, TransportError) and not final:
            return _Ending(error)
        self._rejected_since = min(self._rejected_since, _loop_time())
        lasted = _loop_time() - self._rejected_since
        distrusted = isinstance(error, DialError) and error.untrusted
        if (
            distrusted
            or not self._protocol.stats.links
            or lasted >= _STALE_SLOT_TIMEOUT
        ):
            raise ConnectError(str(error)) if isinstance(error, DialError) else error
        if isinstance(error, DialError):
            return _Ending(error)
        return _Ending(DialError(str(error), label=DisconnectReason.KEY))

    async def _run_open(self, socket: Socket) -> _Ending:
        born = _loop_time()
        live = self._live = _OpenLink(socket)
        if self._observer is not None:
            self._observer.opened()
        error: TransportError | None = None
        try:
            self._protocol.link_up(born)
            self.send_ready.notify_all()
            error = await self._receive_loop(live)
        finally:
            self._live = None
            for told in self._protocol.flush_confirmed():
                self._listener.on_outcome(told)
            orphans = self._protocol.link_down(str(error), _loop_time())
            if error is not None:  # Else the end of all is near, and has its own error.
                if self._observer is not None:
                    self._observer.lost(str(error))
                for failed in orphans:
                    self._listener.on_outcome(failed)
            await socket.close(graceful=not live.abort_reason)
        assert error is not None, "whatever else ended it has been raised"
        code = error.code if isinstance(error, LinkClosed) else None
        return _Ending(error, _loop_time() - born, code)

    async def _receive_loop(self, live: _OpenLink) -> TransportError:
        try:
            with live.scope:
                await self._receiver.read(
                    live.socket, opened=self._opened, crashed=live.fail
                )
            if live.handler_error is not None:
                raise live.handler_error
        except TransportError as exc:
            return exc
        return LinkClosed(live.abort_reason, label=live.label)

    def _opened(self) -> None:
        self._protocol.stats.links += 1
        self.states.transition(LinkEvent.OPENED)

    # Time, and frames out

    async def _send_loop(self) -> NoReturn:
        while True:
            now = _loop_time()
            self._listener.on_time()
            for outcome in self._protocol.tick(now):
                if isinstance(outcome, LinkTimedOut):
                    self._abort(outcome.reason, DisconnectReason.SILENCE)
                else:
                    self._listener.on_outcome(outcome)
            live = self._live
            if live is not None and not self._protocol.is_verified:
                self._protocol.request_heartbeat()
            if live is not None and (frame := self._protocol.poll(now)) is not None:
                await self._send(live, frame)
            else:
                with anyio.CancelScope(deadline=self._protocol.wake_at()):
                    await self.send_ready.wait()

    async def _send(self, live: _OpenLink, frame: bytes) -> None:
        try:
            await live.socket.send(frame)
        except TransportError as exc:
            if self._live is live:
                self._abort(str(exc), DisconnectReason.SEND)

    def _abort(self, reason: str, label: str) -> None:
        if self._live is not None:
            self._live.abort_reason, self._live.label = reason, label
            self._live.scope.cancel()


class _OpenLink:
    """The link of this moment: its socket, and the means to stop reading from it.

    Attributes:
        abort_reason: Why it was given up; empty as long as it was not.
        label: The same in a word of ``causes``.
        crash: What went wrong with us where nobody could be told.
    """

    __slots__ = ("abort_reason", "handler_error", "label", "scope", "socket")

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.scope = anyio.CancelScope()
        self.abort_reason = self.label = ""
        self.handler_error: BaseException | None = None

    def fail(self, crash: BaseException) -> None:
        self.handler_error = crash
        self.scope.cancel()


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _policy_error(words: str) -> QosError:
    error = error_from_message(words)
    if isinstance(error, AuthenticationError):
        return error
    return LimitError(
        f"the server closes each link for a breach of its rules ({words}): see what it "
        "says there, and that Limits describes your plan"
    )


def _first_error(group: ExceptionGroup[Exception]) -> Exception:
    found: Any = group
    while isinstance(found, ExceptionGroup):
        found = cast("Any", found).exceptions[0]
    return cast("Exception", found)
