"""What comes over the links: read, understood, and passed on."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Generic, NoReturn, Protocol

from qos_async._core.events import Outcome, ServerError, Unreadable
from qos_async._core.protocol import StreamProtocol
from qos_async._io.transport import FrameObserver, Socket
from qos_async.models import CHANNELS, AnyTick, N

__all__ = ["Receiver", "StreamEvents"]

_log = logging.getLogger("qos_async.stream")

# Buffered frames come without suspending; let readers run too. Twice as many gain less
# than a twentieth, half as many cost that.
_FRAMES_BEFORE_YIELD = 128
_LOG_INTERVAL = 60.0


class StreamEvents(Protocol):
    """Who is told what comes over the links. Called synchronously; never waits."""

    def on_pushes(self, pushes: Sequence[AnyTick[Any]]) -> None:
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


class Receiver(Generic[N]):
    """Takes in the frames of one link after another, and tells what they mean.

    Args:
        session: The core.
        listener: Who is told.
        notify: Called when the core may have something to say.
        observer: Hears every frame.
    """

    def __init__(
        self,
        session: StreamProtocol[N],
        listener: StreamEvents,
        *,
        notify: Callable[[], None],
        observer: FrameObserver | None,
    ) -> None:
        self._session = session
        self._listener = listener
        self._notify = notify
        self._observer = observer
        self._warn_unreadable, self._warn_server_error = (
            _ThrottledWarning(),
            _ThrottledWarning(),
        )

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
            most = _FRAMES_BEFORE_YIELD - held if is_open else 1
            part = frames[start : start + most]
            start, held = start + len(part), held + len(part)
            self._on_frames(part, clock())
            if session.is_verified and not is_open:
                is_open = True
                opened()
                socket.set_sync_handler(self._make_sync_handler(clock, crashed))
            if held >= _FRAMES_BEFORE_YIELD or not is_open:
                held = 0
                await asyncio.sleep(0)

    def _make_sync_handler(
        self, clock: Callable[[], float], crashed: Callable[[BaseException], None]
    ) -> Callable[[Sequence[bytes]], bool]:
        """Make what takes in frames within the transport, if all of them are pushes."""

        def take(frames: Sequence[bytes]) -> bool:
            try:
                return self._on_pushes(frames, clock())
            except BaseException as exc:  # noqa: BLE001 - raised by the task that reads
                crashed(exc)
                return True

        return take

    def _on_frames(self, frames: Sequence[bytes], now: float) -> None:
        if not self._on_pushes(frames, now):
            self._count(frames, plain=False)
            for data in frames:
                self._dispatch_event(self._session.receive(data, now))

    def _on_pushes(self, frames: Sequence[bytes], now: float) -> bool:
        pushes = self._session.receive_pushes(frames, now)
        if not pushes:
            return False
        self._count(frames, plain=True)
        self._session.is_verified = True
        self._listener.on_pushes(pushes)
        return True

    def _count(self, frames: Sequence[bytes], *, plain: bool) -> None:
        stats = self._session.stats
        stats.frames_received += len(frames)
        size = sum(map(len, frames))
        stats.bytes_received += size
        if self._observer is not None:
            self._observer.frames(frames, size, plain=plain)

    def _dispatch_event(self, event: Any) -> None:
        if event is None:
            self._notify()
        elif type(event) in CHANNELS:
            self._listener.on_pushes([event])
        elif isinstance(event, Unreadable):
            count = self._session.stats.unreadable
            self._warn_unreadable.log(
                "%s (skipped; %d such so far)", event.reason, count
            )
            self._notify()
        elif isinstance(event, ServerError):
            self._warn_server_error.log("the server says: %s", event.message)
        else:
            self._listener.on_outcome(event)
            self._notify()


class _ThrottledWarning:
    """Writes a warning, then none for a minute."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = -math.inf

    def log(self, text: str, *words: object) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._until:
            self._until = now + _LOG_INTERVAL
            _log.warning(text, *words)
