"""Receiver: reads the frames of a link, decodes them, and dispatches what they mean."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Generic, NoReturn

from qos_async._core.events import ServerError, Unreadable
from qos_async._core.protocol import StreamProtocol
from qos_async._io.dispatcher import Dispatcher
from qos_async._io.transport import Socket
from qos_async.models import CHANNELS, N

__all__ = ["Receiver"]

_log = logging.getLogger("qos_async.stream")

# Buffered frames are received without suspending: let consumers run after this many.
# Twice as many gain less than a twentieth of the throughput, half as many cost that.
_FRAMES_BEFORE_YIELD = 128
_LOG_INTERVAL = 60.0


class Receiver(Generic[N]):
    """Receives the frames of one link after another.

    Args:
        protocol: The core.
        dispatcher: Gets ticks and events.
    """

    def __init__(self, protocol: StreamProtocol[N], dispatcher: Dispatcher) -> None:
        self._protocol = protocol
        self._dispatcher = dispatcher
        self._send_ready = dispatcher.send_ready
        self._observer = dispatcher.observer
        self._unreadable, self._server_error = _ThrottledWarning(), _ThrottledWarning()
        self._now: Callable[[], float] = _no_loop

    async def run(
        self,
        socket: Socket,
        *,
        on_open: Callable[[], None],
        on_error: Callable[[BaseException], None],
    ) -> NoReturn:
        """Receive to the end of a link.

        Args:
            socket: The link.
            on_open: Called when the server has sent something valid.
            on_error: Called with an error that was raised while the transport handed
                over frames synchronously, where nothing else could catch it.

        Raises:
            LinkClosed: At its end.
        """
        receive, protocol = socket.receive, self._protocol
        self._now = asyncio.get_running_loop().time
        frames: Sequence[bytes] = ()
        start = handled = 0
        is_open = False
        while True:
            if start == len(frames):
                frames, start = await receive(), 0
            # One at a time until the link is verified: only then it is open.
            most = _FRAMES_BEFORE_YIELD - handled if is_open else 1
            part = frames[start : start + most]
            start, handled = start + len(part), handled + len(part)
            self.on_frames(part)
            if protocol.is_verified and not is_open:
                is_open = True
                on_open()
                socket.set_sync_handler(self.on_frames, on_error)
            if handled >= _FRAMES_BEFORE_YIELD or not is_open:
                handled = 0
                await asyncio.sleep(0)

    def on_frames(self, frames: Sequence[bytes]) -> None:
        """Handle frames in order, from the reading task or within the transport."""
        now, protocol = self._now(), self._protocol
        ticks = protocol.receive_ticks(frames, now)
        size = sum(map(len, frames))
        protocol.stats.frames_received += len(frames)
        protocol.stats.bytes_received += size
        if self._observer is not None:
            self._observer.frames(frames, size, plain=bool(ticks))
        if ticks:
            protocol.is_verified = True
            self._dispatcher.dispatch(ticks)
        else:
            for number, data in enumerate(frames, 1):
                self._dispatcher.frames_left = len(frames) - number
                self._on_event(protocol.receive(data, now))

    def _on_event(self, event: Any) -> None:
        if type(event) in CHANNELS:
            self._dispatcher.dispatch((event,))
            return
        if isinstance(event, Unreadable):
            count = self._protocol.stats.unreadable
            self._unreadable.log("%s (skipped; %d such so far)", event.reason, count)
        elif isinstance(event, ServerError):
            self._server_error.log("the server reports: %s", event.message)
        elif event is not None:
            self._dispatcher.on_event(event)
        self._send_ready.notify_all()


class _ThrottledWarning:
    """Logs a warning, then none for a minute."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = -math.inf

    def log(self, text: str, *args: object) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._until:
            self._until = now + _LOG_INTERVAL
            _log.warning(text, *args)


def _no_loop() -> float:
    raise AssertionError("frames before a link")
