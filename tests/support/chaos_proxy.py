"""TCP proxy that injects faults on real sockets, with the toxics of Toxiproxy.

``to_client`` and ``to_server`` are the toxics of each direction; change them at any time.
The proxy is between a client and a simulator, is independent of their protocol, and can
terminate TLS for the simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self

__all__ = ["ChaosProxy", "Toxics"]

_CHUNK = 65_536
_LINGER_OFF = struct.pack("ii", 1, 0)
_POLL_INTERVAL = 0.005


@dataclass
class Toxics:
    """The faults of one direction.

    Attributes:
        latency: Seconds by which each chunk is delayed.
        jitter: Up to this many seconds more, at random.
        bandwidth: Bytes a second; 0 for no limit.
        slicer: The largest piece that is forwarded; 0 leaves chunks whole.
        timeout: Discard everything: a black hole.
        limit_data: Close after this many more bytes; None for no limit.
        slow_close: Seconds by which a close is delayed.
        corrupt: Flip a bit in every n-th byte; 0 for none.
    """

    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: float = 0.0
    slicer: int = 0
    timeout: bool = False
    limit_data: int | None = None
    slow_close: float = 0.0
    corrupt: int = 0


class ChaosProxy:
    """Listens on a loopback port and forwards to another.

    Args:
        port: The target's port, on 127.0.0.1.
        tls: TLS for clients; the target is connected without.
        seed: Seed of the jitter.

    Attributes:
        to_client: The toxics of bytes from the target.
        to_server: The toxics of bytes to the target.
        down: Whether new connections are reset.
        accepted: The number of connections accepted.
        passed: The number of bytes forwarded to the client.
        ended: The number of connections whose client has closed its socket.
    """

    def __init__(
        self, port: int, *, tls: ssl.SSLContext | None = None, seed: int = 1
    ) -> None:
        self.to_client, self.to_server = Toxics(), Toxics()
        self.down = False
        self.accepted = self.passed = self.ended = 0
        self._target, self._tls = port, tls
        self._random = random.Random(seed)
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def connections(self) -> int:
        """The number of open connections to the client."""
        return len(self._tasks)

    def clear(self) -> None:
        """Remove all toxics."""
        self.to_client, self.to_server = Toxics(), Toxics()
        self.down = False

    def reset_peer(self) -> None:
        """Reset all connections, on both sides."""
        for writer in self._open:
            _reset(writer)

    async def until_passed(self, more: int) -> None:
        """Wait until this many more bytes were forwarded to the client."""
        target = self.passed + more
        while self.passed < target:  # noqa: ASYNC110 - a counter, without an event
            await asyncio.sleep(_POLL_INTERVAL)

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._open.add(writer)
        try:
            if self.down:
                _reset(writer)
                return
            # Not in start_server, which would log a failed TLS handshake as an error.
            if self._tls is not None:
                await writer.start_tls(self._tls)
            await self._connect(reader, writer)
        except OSError:
            _reset(writer)
        finally:
            await self._drop(writer)

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection(
            "127.0.0.1", self._target
        )
        self._open.add(far_writer)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, far_writer, to_client=False))
                pumps.create_task(self._pump(far_reader, writer, to_client=True))
        finally:
            await self._drop(far_writer)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        to_client: bool,
    ) -> None:
        count = 0
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                toxics = self.to_client if to_client else self.to_server
                await self._delay(toxics, len(chunk))
                if toxics.timeout:
                    continue
                if toxics.corrupt:
                    chunk = _corrupted(chunk, count, toxics.corrupt)
                count += len(chunk)
                if toxics.limit_data is not None:
                    chunk = chunk[: toxics.limit_data]
                    toxics.limit_data -= len(chunk)
                await self._forward(chunk, writer, toxics.slicer)
                if to_client:
                    self.passed += len(chunk)
                if toxics.limit_data == 0:
                    break
        self.ended += not to_client
        toxics = self.to_client if to_client else self.to_server
        if toxics.timeout:
            return  # A black hole swallows the close, too.
        await asyncio.sleep(toxics.slow_close)
        writer.close()

    async def _delay(self, toxics: Toxics, size: int) -> None:
        await asyncio.sleep(toxics.latency + toxics.jitter * self._random.random())
        if toxics.bandwidth:
            await asyncio.sleep(size / toxics.bandwidth)

    async def _forward(
        self, chunk: bytes, writer: asyncio.StreamWriter, size: int
    ) -> None:
        for at in range(0, len(chunk), size or _CHUNK):
            writer.write(chunk[at : at + (size or _CHUNK)])
            await writer.drain()
            if size:
                await asyncio.sleep(0)  # Otherwise the pieces are sent together.

    async def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _corrupted(chunk: bytes, before: int, every: int) -> bytes:
    flipped = bytearray(chunk)
    for at in range(-before % every, len(chunk), every):
        flipped[at] ^= 1
    return bytes(flipped)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
    writer.transport.abort()
