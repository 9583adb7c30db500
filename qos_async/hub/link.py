"""Link of one client of the hub: what it has, and how far it is behind."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from contextlib import suppress

from aiohttp import web
from msgspec import Struct

from qos_async._server.connection import ServerConnection, text_frame
from qos_async.hub.outbox import Outbox
from qos_async.hub.stats import HubClientStats
from qos_async.topics import Topic

__all__ = ["HubLink", "Push"]

_FRAMES_BEHIND_MAX = 20_000
_BYTES_BEHIND_MAX = 64 * 1024 * 1024
_BUFFERED_MAX = 64 * 1024  # Bytes that wait in the socket; more wait here.
_FRAME_MAX = 64 * 1024  # Bytes of a command.
_COMMANDS_MAX = 100  # In a second; more wait, in the end at the client.
_RECEIVED_MAX = 256 * 1024  # Bytes of them in a second, likewise.
_HEARTBEAT = 20.0  # Seconds between pings: a client that vanished is found out.
_TRY_AGAIN_LATER = 1013
_CLOSE_TIMEOUT = 2.0
_REASON_MAX = 123  # Bytes (RFC 6455, section 5.5).


class Push(Struct, frozen=True, gc=False):
    """One frame for clients.

    Attributes:
        topic: Its topic; None for a reply.
        slot: Its slot in an ``Outbox``.
        encoded: The whole websocket frame.
    """

    topic: Topic | None
    slot: Hashable | None
    encoded: bytes


class HubLink(ServerConnection):
    """One client's websocket.

    Attributes:
        owner: The name of its token; without tokens, its address.
        topics: What is pushed to it.
        pending: How many subscribe commands wait for each topic.
        outbox: The frames that wait because it reads too slowly.
        sent: The number of frames that were sent.
        ended: Whether it is being closed.
    """

    def __init__(self, number: int, request: web.Request, *, owner: str) -> None:
        super().__init__(
            number,
            request,
            compress=False,
            heartbeat=_HEARTBEAT,
            max_msg_size=_FRAME_MAX,
        )
        self.owner = owner
        self.topics: dict[Topic, None] = {}
        self.pending: Counter[Topic] = Counter()
        self.outbox = Outbox(_FRAMES_BEHIND_MAX, _BYTES_BEHIND_MAX)
        self.sent = 0
        self.ended = False
        self._received: deque[float] = deque(maxlen=_COMMANDS_MAX)
        self._free_at = 0.0

    @property
    def stats(self) -> HubClientStats:
        """The counters up to now."""
        return HubClientStats(
            number=self.number,
            owner=self.owner,
            topics=sorted(map(str, self.topics)),
            sent=self.sent,
            backlog=len(self.outbox),
            conflated=self.outbox.conflated,
        )

    def send(self, frame: bytes) -> None:
        """Send a frame that is no push, after the pushes that wait."""
        encoded = text_frame(frame)
        self.push((Push(None, None, encoded),), encoded)

    def push(self, pushes: Sequence[Push], payload: bytes) -> None:
        """Send pushes, or let them wait while the client is behind.

        Args:
            pushes: The pushes.
            payload: All of them joined: most clients are never behind, and share it.
        """
        transport = self._request.transport
        if self.ended or transport is None or self._writer is None:
            return
        if not self.outbox and transport.get_write_buffer_size() < _BUFFERED_MAX:
            transport.write(payload)
            self.sent += len(pushes)
            return
        fits = [self.outbox.put(push.encoded, push.slot) for push in pushes]
        self._queued.set()
        if not all(fits):
            self.end(_TRY_AGAIN_LATER, f"{len(self.outbox)} frames behind")

    def end(self, code: int, reason: str) -> None:
        """Close the link without what still waits; does not wait."""
        if self.ended:
            return
        self.ended = True
        self.outbox.clear()
        # At a limit of bytes, and not within a character.
        reason = reason.encode()[:_REASON_MAX].decode(errors="ignore")
        self._track_task(asyncio.create_task(self._end(code, reason)))

    async def _may_read(self, size: int) -> None:
        # A client that sends a command at each reply sends thousands in a second, and to
        # read commands takes time of all clients.
        now, times = asyncio.get_running_loop().time(), self._received
        times.append(now)
        wait = times[0] + 1.0 - now if len(times) == _COMMANDS_MAX else 0.0
        self._free_at = max(self._free_at, now - 1.0) + size / _RECEIVED_MAX
        if (wait := max(wait, self._free_at - now)) > 0:
            await asyncio.sleep(wait)

    @property
    def _is_flushed(self) -> bool:
        return not self.outbox

    async def _send_loop(self) -> None:
        while True:
            if not self.outbox:
                self._queued.clear()
            await self._queued.wait()
            if self._writer is not None:
                with suppress(ConnectionError):
                    await self._writer.drain()
            transport = self._request.transport
            if transport is None:
                return
            frames = self.outbox.take(_BUFFERED_MAX)
            transport.write(b"".join(frames))
            self.sent += len(frames)
            await asyncio.sleep(0)

    async def _end(self, code: int, reason: str) -> None:
        # A client that does not read does not get the close frame either.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._close(code, reason)
        self.cut()
