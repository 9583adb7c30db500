"""One websocket, as the server holds it: an outbox, an ear and a way to die."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from qos_async.sim.log import WireTopic

__all__ = ["ServerConnection"]

_MAX_QUEUED = 200_000  # Frames; a client that far behind is cut.
_FRAMES_BEFORE_YIELD = 64
_CLOSE_TIMEOUT = 0.5
_ABORT = struct.pack("ii", 1, 0)


class ServerConnection:
    """A conversation with one client.

    Attributes:
        number: From 1, in the order in which links were opened.
        topics: What is subscribed.
        reqids: Every ``reqid`` used so far.
        heartbeat_at: When the last heartbeat came, on the loop's clock.
        audible: Cleared while the link is mute: what is said waits in the outbox.
    """

    def __init__(self, number: int, request: web.Request, *, compress: bool) -> None:
        self.number = number
        self.topics: dict[WireTopic, None] = {}
        self.reqids: set[int] = set()
        self.heartbeat_at = asyncio.get_running_loop().time()
        self.unmuted = asyncio.Event()
        self.unmuted.set()
        self.ws = web.WebSocketResponse[Any](
            autoping=False,
            autoclose=False,
            timeout=_CLOSE_TIMEOUT,
            compress=compress,
            decode_text=False,
        )
        self._request = request
        self._queue: deque[bytes] = deque()
        self._queued = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: AbstractStreamWriter | None = None

    @property
    def open(self) -> bool:
        """Whether the client could still be at the other end."""
        transport = self._request.transport
        return not (self.ws.closed or transport is None or transport.is_closing())

    def send(self, frame: bytes) -> None:
        """Say something, in turn; never waits."""
        self._queue.append(frame)
        self._queued.set()
        if len(self._queue) > _MAX_QUEUED:
            self.cut()

    def send_later(self, frame: bytes, delay: float) -> None:
        """Say something after ``delay`` seconds, unless the link is gone by then."""
        self._track_task(asyncio.create_task(self._send_after(frame, delay)))

    async def write(self, raw: bytes) -> None:
        """Write whole websocket frames, ready made, when the socket takes them.

        Raises:
            ConnectionError: If the client is gone.
        """
        if self._writer is not None:
            await self._writer.write(raw)

    def cut(self, *, reset: bool = True) -> None:
        """End the connection at once: with RST, or with a plain FIN."""
        transport = self._request.transport
        if transport is None:
            return
        plug: socket.socket | None = transport.get_extra_info("socket")
        if reset and plug is not None:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        if reset:
            transport.abort()
        else:
            transport.close()

    def close_soon(self, code: int, reason: str = "") -> None:
        """Say what is in the outbox, then goodbye; the link ends by itself."""
        self._track_task(asyncio.create_task(self._close(code, reason)))

    async def close(self, code: int, reason: str = "") -> None:
        """Hang up, and wait for the client's goodbye, half a second at most."""
        goodbye = asyncio.create_task(self._close(code, reason))
        self._track_task(goodbye)
        await asyncio.wait([goodbye])

    async def run(self, hear: Callable[[ServerConnection, Any], None]) -> None:
        """Talk until either side has enough; ``hear`` gets each frame."""
        self._writer = await self.ws.prepare(self._request)
        speaking = asyncio.create_task(self._send_loop())
        self._track_task(speaking)
        try:
            await self._receive_loop(hear)
            # A goodbye of ours may still be waiting for theirs.
            speaking.cancel()
            await asyncio.wait(self._tasks, timeout=_CLOSE_TIMEOUT)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _receive_loop(
        self, hear: Callable[[ServerConnection, Any], None]
    ) -> None:
        heard = 0
        while True:
            message = await self.ws.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                hear(self, message.data)
            elif message.type is WSMsgType.PING:
                self._track_task(asyncio.create_task(self._pong(message.data)))
            elif message.type is WSMsgType.CLOSE:
                await self.unmuted.wait()
                await self.ws.close(code=message.data or 1000)
                return
            elif message.type is not WSMsgType.PONG:
                return
            heard += 1
            if (
                heard % _FRAMES_BEFORE_YIELD == 0
            ):  # receive() does not suspend while it has any.
                await asyncio.sleep(0)

    async def _send_loop(self) -> None:
        said = 0
        while True:
            if not self._queue:
                self._queued.clear()
            await self._queued.wait()
            await self.unmuted.wait()
            with suppress(ConnectionError):
                await self.ws.send_frame(self._queue[0], WSMsgType.TEXT)
            self._queue.popleft()
            said += 1
            if said % _FRAMES_BEFORE_YIELD == 0:
                await asyncio.sleep(0)

    async def _pong(self, payload: bytes) -> None:
        await self.unmuted.wait()
        with suppress(ConnectionError):
            await self.ws.pong(payload)

    async def _send_after(self, frame: bytes, delay: float) -> None:
        await asyncio.sleep(delay)
        self.send(frame)

    async def _close(self, code: int, reason: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                while self._queue or self._writer is None:  # noqa: ASYNC110 - brief.
                    await asyncio.sleep(0.001)
        with suppress(ConnectionError):
            await self.ws.close(code=code, message=reason.encode())

    def _track_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
