"""What comes over the links: read, understood, and passed on."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Generic, NoReturn, Protocol

from qos_async._core.events import Outcome, Remarked, Unreadable
from qos_async._core.session import Session
from qos_async._core.topics import CHANNELS, Push
from qos_async._io.sockets import Socket
from qos_async._io.tap import Tap
from qos_async.models import N

__all__ = ["Intake", "Listener"]

_log = logging.getLogger("qos_async.stream")

# Buffered frames come without suspending; let readers run too. Twice as many gain less
# than a twentieth, half as many cost that.
_FAIRNESS = 128
_QUIET = 60.0


class Listener(Protocol):
    """Who is told what comes over the links. Called synchronously; never waits."""

    def on_pushes(self, pushes: Sequence[Push[Any]]) -> None:
        """Ticks came."""
        ...

    def on_time(self) -> None:
        """Time passed: called before anything is decided by the clock."""
        ...

    def on_outcome(self, outcome: Outcome) -> None:
        """Something that was said was decided.

        Raises:
            QosError: If it ends the stream for good.
        """
        ...


class Intake(Generic[N]):
    """Takes in the frames of one link after another, and tells what they mean.

    Args:
        session: The core.
        listener: Who is told.
        ring: Called when the core may have something to say.
        tap: Hears every frame.
    """

    def __init__(
        self,
        session: Session[N],
        listener: Listener,
        *,
        ring: Callable[[], None],
        tap: Tap | None,
    ) -> None:
        self._session = session
        self._listener = listener
        self._ring = ring
        self._tap = tap
        self._grumble, self._hearsay = _Hush(), _Hush()

    async def read(
        self,
        socket: Socket,
        *,
        opened: Callable[[], None],
        crashed: Callable[[BaseException], None],
    ) -> NoReturn:
        """Read a link to its end.

        Args:
            socket: The link.
            opened: Called when the server has said something sensible.
            crashed: Called with an error of ours that came up within the transport,
                where nobody would hear of it.

        Raises:
            LinkClosed: At its end.
        """
        receive, session = socket.receive, self._session
        clock = asyncio.get_running_loop().time
        frames: Sequence[bytes] = ()
        start = held = 0
        is_open = False
        while True:
            if start == len(frames):
                frames, start = await receive(), 0
            # One at a time until the server has said something sensible: only then the
            # link is open.
            most = _FAIRNESS - held if is_open else 1
            part = frames[start : start + most]
            start, held = start + len(part), held + len(part)
            self._hear(part, clock())
            if session.proven and not is_open:
                is_open = True
                opened()
                socket.listen(self._taker(clock, crashed))
            if held >= _FAIRNESS or not is_open:
                held = 0
                await asyncio.sleep(0)

    def _taker(
        self, clock: Callable[[], float], crashed: Callable[[BaseException], None]
    ) -> Callable[[Sequence[bytes]], bool]:
        """Make what takes in frames within the transport, if all of them are pushes."""

        def take(frames: Sequence[bytes]) -> bool:
            try:
                return self._hear_pushes(frames, clock())
            except BaseException as exc:  # noqa: BLE001 - raised by the task that reads
                crashed(exc)
                return True

        return take

    def _hear(self, frames: Sequence[bytes], now: float) -> None:
        if not self._hear_pushes(frames, now):
            self._count(frames, plain=False)
            for data in frames:
                self._take(self._session.receive(data, now))

    def _hear_pushes(self, frames: Sequence[bytes], now: float) -> bool:
        pushes = self._session.receive_pushes(frames, now)
        if not pushes:
            return False
        self._count(frames, plain=True)
        self._session.proven = True
        self._listener.on_pushes(pushes)
        return True

    def _count(self, frames: Sequence[bytes], *, plain: bool) -> None:
        stats = self._session.stats
        stats.frames_received += len(frames)
        size = sum(map(len, frames))
        stats.bytes_received += size
        if self._tap is not None:
            self._tap.frames(frames, size, plain=plain)

    def _take(self, event: Any) -> None:
        if event is None:
            self._ring()
        elif type(event) in CHANNELS:
            self._listener.on_pushes([event])
        elif isinstance(event, Unreadable):
            count = self._session.stats.unreadable
            self._grumble.say("%s (skipped; %d such so far)", event.reason, count)
            self._ring()
        elif isinstance(event, Remarked):
            self._hearsay.say("the server says: %s", event.message)
        else:
            self._listener.on_outcome(event)
            self._ring()


class _Hush:
    """Writes a warning, then none for a minute."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = -math.inf

    def say(self, text: str, *words: object) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._until:
            self._until = now + _QUIET
            _log.warning(text, *words)
