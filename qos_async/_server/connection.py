"""Server side of one websocket: the receive loop, the send loop, the close."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

__all__ = ["FRAMES_BEFORE_YIELD", "ServerConnection", "text_frame"]

FRAMES_BEFORE_YIELD = 64
_CLOSE_TIMEOUT = 0.5
_LINGER_OFF = struct.pack("ii", 1, 0)  # Makes close() send RST.
_TEXT = 0x81
_SHORT, _MEDIUM = 125, 0xFFFF
_SHORT_HEADS = [struct.pack("!BB", _TEXT, length) for length in range(_SHORT + 1)]


class ServerConnection:
    """One client's websocket; subclasses decide what waits to be sent, and how long.

    Attributes:
        number: From 1, in the order in which links were opened.
        ws: The websocket.
    """

    def __init__(
        self, number: int, request: web.Request, *, compress: bool, **options: Any
    ) -> None:
        self.number = number
        self.ws = web.WebSocketResponse[Any](
            autoping=False,
            autoclose=False,
            timeout=_CLOSE_TIMEOUT,
            compress=compress,
            decode_text=False,
            **options,
        )
        self._request = request
        self._queued = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: AbstractStreamWriter | None = None
        self._ping: bytes | None = None

    # For subclasses

    def send(self, frame: bytes) -> None:
        """Queue a frame; never waits."""
        raise NotImplementedError

    @property
    def _is_flushed(self) -> bool:
        """Whether nothing waits to be sent."""
        raise NotImplementedError

    async def _send_loop(self) -> None:
        """Send what is queued, until cancelled."""
        raise NotImplementedError

    async def _may_write(self) -> None:
        """Wait until frames may be written."""

    async def _may_read(self, size: int) -> None:
        """Wait until another frame may be received, after one of so many bytes."""

    # Lifetime

    @property
    def open(self) -> bool:
        """Whether neither side has closed the connection yet, as far as is known here."""
        transport = self._request.transport
        return not (self.ws.closed or transport is None or transport.is_closing())

    def cut(self, *, reset: bool = True) -> None:
        """End the connection at once: with RST, or with a plain FIN."""
        transport = self._request.transport
        if transport is None:
            return
        sock: socket.socket | None = transport.get_extra_info("socket")
        if reset and sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
        if reset:
            transport.abort()
        else:
            transport.close()

    def close_soon(self, code: int, reason: str = "") -> None:
        """Send what is queued, then a close frame; does not wait."""
        self._track_task(asyncio.create_task(self._close(code, reason)))

    async def close(self, code: int, reason: str = "") -> None:
        """Send what is queued and a close frame; waits 0.5 s at most for each."""
        closing = asyncio.create_task(self._close(code, reason))
        self._track_task(closing)
        await asyncio.wait([closing])

    async def run(self, on_frame: Callable[[Self, Any], None]) -> None:
        """Send and receive until either side closes; ``on_frame`` gets each frame."""
        self._writer = await self.ws.prepare(self._request)
        sending = asyncio.create_task(self._send_loop())
        self._track_task(sending)
        try:
            await self._receive_loop(on_frame)
            # A close frame of ours may still be waiting for the client's.
            sending.cancel()
            await asyncio.wait(self._tasks, timeout=_CLOSE_TIMEOUT)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _receive_loop(self, on_frame: Callable[[Self, Any], None]) -> None:
        received = 0
        while True:
            message = await self.ws.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                on_frame(self, message.data)
                await self._may_read(len(message.data))
            elif message.type is WSMsgType.PING:
                self._answer_ping(message.data)
            elif message.type is WSMsgType.CLOSE:
                await self._may_write()
                await self.ws.close(code=message.data or 1000)
                return
            elif message.type is not WSMsgType.PONG:
                return
            received += 1
            # receive() does not suspend while frames are buffered.
            if received % FRAMES_BEFORE_YIELD == 0:
                await asyncio.sleep(0)

    def _answer_ping(self, payload: bytes) -> None:
        # Only the newest one that waits (RFC 6455, section 5.5.3): a client that sends
        # pings and reads nothing would fill the memory.
        is_answering = self._ping is not None
        self._ping = payload
        if not is_answering:
            self._track_task(asyncio.create_task(self._pong()))

    async def _pong(self) -> None:
        await self._may_write()
        while (payload := self._ping) is not None:
            with suppress(ConnectionError):
                await self.ws.pong(payload)
            if self._ping is payload:
                self._ping = None

    async def _close(self, code: int, reason: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                while self._writer is None or not self._is_flushed:  # noqa: ASYNC110 - 0.5 s at most
                    await asyncio.sleep(0.001)
        with suppress(ConnectionError):
            await self.ws.close(code=code, message=reason.encode())

    def _track_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def text_frame(payload: bytes) -> bytes:
    """Return one unmasked, uncompressed websocket text frame."""
    length = len(payload)
    if length <= _SHORT:
        return _SHORT_HEADS[length] + payload
    if length <= _MEDIUM:
        return struct.pack("!BBH", _TEXT, 126, length) + payload
    return struct.pack("!BBQ", _TEXT, 127, length) + payload
