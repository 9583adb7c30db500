"""Simulator's connection: a send queue that can be muted, and floods of frames."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle, islice

from aiohttp import WSMsgType, web

from qos_async._deprecation import renamed
from qos_async._server.connection import (
    FRAMES_BEFORE_YIELD,
    ServerConnection,
    text_frame,
)
from qos_async.sim.source import WireTopic

__all__ = ["SimulatedConnection", "blast"]

_MAX_QUEUED = 200_000  # Frames; a client that is further behind is cut.


class SimulatedConnection(ServerConnection):
    """One client's websocket.

    Attributes:
        topics: What is subscribed.
        reqids: Every ``reqid`` used so far.
        heartbeat_at: Time of the last heartbeat, on the loop's clock.
        unmuted: Cleared while the link is muted: frames wait in the queue.
    """

    def __init__(self, number: int, request: web.Request, *, compress: bool) -> None:
        super().__init__(number, request, compress=compress)
        self.topics: dict[WireTopic, None] = {}
        self.reqids: set[int] = set()
        self.heartbeat_at = asyncio.get_running_loop().time()
        self.unmuted = asyncio.Event()
        self.unmuted.set()
        self._queue: deque[bytes] = deque()

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

    put = renamed("put", send)
    put_later = renamed("put_later", send_later)
    hang_up = renamed("hang_up", ServerConnection.close_soon)

    @property
    def _is_flushed(self) -> bool:
        return not self._queue

    async def _may_write(self) -> None:
        await self.unmuted.wait()

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
            if sent % FRAMES_BEFORE_YIELD == 0:
                await asyncio.sleep(0)

    async def _send_after(self, frame: bytes, delay: float) -> None:
        await asyncio.sleep(delay)
        self.send(frame)


_BATCH = 512  # Frames in one write; about 64 KiB of trades.


async def blast(
    links: Sequence[SimulatedConnection], frames: Iterable[bytes], total: int
) -> int:
    """Write ``total`` frames to each link, repeating them; return how many were written."""
    encoded = [text_frame(frame) for frame in frames]
    if not encoded:
        raise ValueError("blast() needs at least one frame")
    return sum(await asyncio.gather(*(_send_to(one, encoded, total) for one in links)))


async def _send_to(
    link: SimulatedConnection, encoded: Sequence[bytes], total: int
) -> int:
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
