"""Server side of one websocket connection: a send queue, a receive loop, the close."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle, islice
from typing import Any

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from qos_async._deprecation import renamed
from qos_async.sim.source import WireTopic

__all__ = ["ServerConnection", "blast", "text_frame"]

_MAX_QUEUED = 200_000  # Frames; a client that is further behind is cut.
_FRAMES_BEFORE_YIELD = 64
_CLOSE_TIMEOUT = 0.5
_LINGER_OFF = struct.pack("ii", 1, 0)  # Makes close() send RST.


class ServerConnection:
    """One client's websocket.

    Attributes:
        number: From 1, in the order in which links were opened.
        topics: What is subscribed.
        reqids: Every ``reqid`` used so far.
        heartbeat_at: Time of the last heartbeat, on the loop's clock.
        unmuted: Cleared while the link is muted: frames wait in the queue.
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
        """Whether neither side has closed the connection yet, as far as is known here."""
        transport = self._request.transport
        return not (self.ws.closed or transport is None or transport.is_closing())

    def send(self, frame: bytes) -> None:
        """Queue a frame; never waits."""
        self._queue.append(frame)
        self._queued.set()
        if len(self._queue) > _MAX_QUEUED:
            self.cut()

    def send_later(self, frame: bytes, delay: float) -> None:
        """Queue a frame after ``delay`` seconds, unless the link is closed by then."""
        self._track_task(asyncio.create_task(self._send_after(frame, delay)))

    async def write(self, raw: bytes) -> None:
        """Write whole websocket frames as they are, past the queue; waits for the socket.

        Raises:
            ConnectionError: If the connection is lost.
        """
        if self._writer is not None:
            await self._writer.write(raw)

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

    async def run(self, on_frame: Callable[[ServerConnection, Any], None]) -> None:
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

    put = renamed("put", send)
    put_later = renamed("put_later", send_later)
    hang_up = renamed("hang_up", close_soon)

    async def _receive_loop(
        self, on_frame: Callable[[ServerConnection, Any], None]
    ) -> None:
        received = 0
        while True:
            message = await self.ws.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                on_frame(self, message.data)
            elif message.type is WSMsgType.PING:
                self._track_task(asyncio.create_task(self._pong(message.data)))
            elif message.type is WSMsgType.CLOSE:
                await self.unmuted.wait()
                await self.ws.close(code=message.data or 1000)
                return
            elif message.type is not WSMsgType.PONG:
                return
            received += 1
            # receive() does not suspend while frames are buffered.
            if received % _FRAMES_BEFORE_YIELD == 0:
                await asyncio.sleep(0)

    async def _send_loop(self) -> None:
        sent = 0
        while True:
            if not self._queue:
                self._queued.clear()
            await self._queued.wait()
            await self.unmuted.wait()
            # It stays in the queue until it is sent, because _close waits for that.
            with suppress(ConnectionError):
                await self.ws.send_frame(self._queue[0], WSMsgType.TEXT)
            self._queue.popleft()
            sent += 1
            if sent % _FRAMES_BEFORE_YIELD == 0:
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
                while self._queue or self._writer is None:  # noqa: ASYNC110 - 0.5 s at most
                    await asyncio.sleep(0.001)
        with suppress(ConnectionError):
            await self.ws.close(code=code, message=reason.encode())

    def _track_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_BATCH = 512  # Frames in one write; about 64 KiB of trades.
_TEXT = 0x81
_SHORT, _MEDIUM = 125, 0xFFFF


def text_frame(payload: bytes) -> bytes:
    """Return one unmasked, uncompressed websocket text frame."""
    length = len(payload)
    if length <= _SHORT:
        return struct.pack("!BB", _TEXT, length) + payload
    if length <= _MEDIUM:
        return struct.pack("!BBH", _TEXT, 126, length) + payload
    return struct.pack("!BBQ", _TEXT, 127, length) + payload


async def blast(
    links: Sequence[ServerConnection], frames: Iterable[bytes], total: int
) -> int:
    """Write ``total`` frames to each link, repeating them; return how many were written."""
    encoded = [text_frame(frame) for frame in frames]
    if not encoded:
        raise ValueError("blast() needs at least one frame")
    return sum(await asyncio.gather(*(_send_to(one, encoded, total) for one in links)))


async def _send_to(link: ServerConnection, encoded: Sequence[bytes], total: int) -> int:
    written = 0
    with suppress(ConnectionError):
        for count, chunk in _chunks(encoded, total):
            await link.write(chunk)
            written += count
            await asyncio.sleep(0)  # A write into a socket with room does not suspend.
    return written


def _chunks(encoded: Sequence[bytes], total: int) -> Iterator[tuple[int, bytes]]:
    """Join frames into writes; whole rounds are joined once and reused."""
    per_round = max(1, _BATCH // len(encoded)) * len(encoded)
    if len(encoded) <= _BATCH:
        whole = b"".join(islice(cycle(encoded), per_round))
        for _ in range(total // per_round):
            yield per_round, whole
        total %= per_round
    supply = cycle(encoded)
    while total > 0:
        count = min(_BATCH, total)
        yield count, b"".join(islice(supply, count))
        total -= count
