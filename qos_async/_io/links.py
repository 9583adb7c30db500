"""One link after another: dialling, reading, speaking, and starting over."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from typing import Any, Generic, NoReturn, cast

import anyio
from msgspec import Struct

from qos_async._core.backoff import Backoff, Contention, Reproof
from qos_async._core.events import Lost
from qos_async._core.link import LinkEvent
from qos_async._core.session import Session
from qos_async._core.text import refusal
from qos_async._io import causes
from qos_async._io.bell import Bell
from qos_async._io.intake import Intake, Listener
from qos_async._io.sockets import DialError, LinkClosed, Socket, Transport
from qos_async._io.states import LinkStates
from qos_async._io.tap import Tap
from qos_async.config import Limits, Timing
from qos_async.errors import (
    AuthenticationError,
    ConnectError,
    LimitError,
    QosError,
    TransportError,
)
from qos_async.models import N

__all__ = ["Links"]

_SLOT_LINGERS = 120.0


class _Ending(Struct, frozen=True):
    """How a link ended: why, how many seconds after the handshake, by which code."""

    error: TransportError
    lived: float = 0.0
    code: int | None = None

    @property
    def cause(self) -> str:
        if isinstance(self.error, (DialError, LinkClosed)):
            return self.error.cause
        return causes.OTHER


class Links(Generic[N]):
    """Keeps one link open, for ever; two tasks, both in the group of ``run``.

    One dials and reads. The other keeps the time and writes: it is the only one that
    sends, and the only one that notices deadlines.

    Attributes:
        states: Where the link is, and who wants to know.
        work: Rings when there may be something to say.
        hurry: Ring it to dial now instead of after the back-off.
    """

    def __init__(
        self,
        transport: Transport,
        session: Session[N],
        listener: Listener,
        *,
        limits: Limits,
        timing: Timing,
        tap: Tap | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.states = LinkStates()
        self.work = Bell()
        self.hurry = Bell()
        self._transport = transport
        self._session = session
        self._listener = listener
        self._limits = limits
        self._timing = timing
        self._tap = tap
        self._chance = chance
        self._live: _Live | None = None
        self._refused_since = math.inf
        self._intake = Intake(session, listener, ring=self.work.ring, tap=tap)

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
                tasks.create_task(self._speak())
                await self._keep_linked()
        except* Exception as group:  # noqa: BLE001 - raised again below, ungrouped
            failure = _first(group)
        assert failure is not None, "neither task ends by itself"
        raise failure

    async def _keep_linked(self) -> NoReturn:
        backoff, contention = Backoff(self._timing), Contention()
        reproof = Reproof(self._timing)
        while True:
            ending = await self._spend_one()
            if reproof.link_ended(ending.lived, ending.code):
                raise _reproved(str(ending.error))
            only_one = self._limits.connections == 1
            if contention.link_ended(ending.lived, ending.code) and only_one:
                raise LimitError(
                    f"the server closes each new link soon ({ending.error}): another "
                    "client seems to use this plan's only connection; stop that one, "
                    "or use another key"
                )
            least, most = backoff.failed(ending.lived, ending.code)
            wait = least + self._chance() * (most - least)
            if isinstance(ending.error, DialError):
                wait = max(wait, ending.error.retry_after)
            self._session.stats.reconnects[ending.cause] += 1
            self.states.move(
                LinkEvent.LOST,
                str(ending.error),
                attempt=backoff.attempt,
                retry_in=wait,
            )
            with anyio.move_on_after(wait):
                await self.hurry.wait()

    async def _spend_one(self) -> _Ending:
        self.states.move(LinkEvent.DIAL)
        try:
            socket = await self._transport.dial()
        except (TransportError, AuthenticationError) as exc:
            return self._refused(exc)
        self._refused_since = math.inf
        return await self._spend(socket)

    def _refused(self, error: TransportError | AuthenticationError) -> _Ending:
        """Judge why a link could not be opened: raise if that is final.

        A server that has let us in before may refuse us only because the dead link
        still holds the plan's only slot, or send us elsewhere during maintenance. So
        that is final only when it has lasted; whom we cannot trust has no such credit.
        """
        final = isinstance(error, DialError) and error.final
        if isinstance(error, TransportError) and not final:
            return _Ending(error)
        self._refused_since = min(self._refused_since, _now())
        lasted = _now() - self._refused_since
        distrusted = isinstance(error, DialError) and error.distrusted
        if distrusted or not self._session.stats.links or lasted >= _SLOT_LINGERS:
            raise ConnectError(str(error)) if isinstance(error, DialError) else error
        if isinstance(error, DialError):
            return _Ending(error)
        return _Ending(DialError(str(error), cause=causes.KEY))

    async def _spend(self, socket: Socket) -> _Ending:
        born = _now()
        live = self._live = _Live(socket)
        if self._tap is not None:
            self._tap.opened()
        error: TransportError | None = None
        try:
            self._session.link_up(born)
            self.work.ring()
            error = await self._listen(live)
        finally:
            self._live = None
            for told in self._session.last_words():
                self._listener.on_outcome(told)
            orphans = self._session.link_down(str(error), _now())
            if error is not None:  # Else the end of all is near, and has its own error.
                if self._tap is not None:
                    self._tap.lost(str(error))
                for failed in orphans:
                    self._listener.on_outcome(failed)
            await socket.close(polite=not live.severed)
        assert error is not None, "whatever else ended it has been raised"
        code = error.code if isinstance(error, LinkClosed) else None
        return _Ending(error, _now() - born, code)

    async def _listen(self, live: _Live) -> TransportError:
        try:
            with live.scope:
                await self._intake.read(
                    live.socket, opened=self._opened, crashed=live.crashed
                )
            if live.crash is not None:
                raise live.crash
        except TransportError as exc:
            return exc
        return LinkClosed(live.severed, cause=live.cause)

    def _opened(self) -> None:
        self._session.stats.links += 1
        self.states.move(LinkEvent.OPENED)

    # Time, and frames out

    async def _speak(self) -> NoReturn:
        while True:
            now = _now()
            self._listener.on_time()
            for outcome in self._session.tick(now):
                if isinstance(outcome, Lost):
                    self._sever(outcome.reason, causes.SILENCE)
                else:
                    self._listener.on_outcome(outcome)
            live = self._live
            if live is not None and not self._session.proven:
                self._session.greet()
            if live is not None and (frame := self._session.poll(now)) is not None:
                await self._send(live, frame)
            else:
                with anyio.CancelScope(deadline=self._session.wake_at()):
                    await self.work.wait()

    async def _send(self, live: _Live, frame: bytes) -> None:
        try:
            await live.socket.send(frame)
        except TransportError as exc:
            if self._live is live:
                self._sever(str(exc), causes.SEND)

    def _sever(self, reason: str, cause: str) -> None:
        if self._live is not None:
            self._live.severed, self._live.cause = reason, cause
            self._live.scope.cancel()


class _Live:
    """The link of this moment: its socket, and the means to stop reading from it.

    Attributes:
        severed: Why it was given up; empty as long as it was not.
        cause: The same in a word of ``causes``.
        crash: What went wrong with us where nobody could be told.
    """

    __slots__ = ("cause", "crash", "scope", "severed", "socket")

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.scope = anyio.CancelScope()
        self.severed = self.cause = ""
        self.crash: BaseException | None = None

    def crashed(self, crash: BaseException) -> None:
        self.crash = crash
        self.scope.cancel()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _reproved(words: str) -> QosError:
    error = refusal(words)
    if isinstance(error, AuthenticationError):
        return error
    return LimitError(
        f"the server closes each link for a breach of its rules ({words}): see what it "
        "says there, and that Limits describes your plan"
    )


def _first(group: ExceptionGroup[Exception]) -> Exception:
    found: Any = group
    while isinstance(found, ExceptionGroup):
        found = cast("Any", found).exceptions[0]
    return cast("Exception", found)
