"""A TCP proxy on the loopback that does harm: real sockets, toxics at will.

``to_client`` and ``to_server`` say what happens to the bytes of each direction; change
them at any time. It stands between a client and a simulator, knows nothing of what they
say, and may speak TLS in the simulator's place.
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
    """What happens to the bytes of one direction.

    Attributes:
        latency: Seconds that each chunk waits.
        jitter: Up to so many seconds more, at random.
        bandwidth: Bytes a second; 0 for no limit.
        slicer: The largest piece in which bytes go on; 0 leaves chunks whole.
        timeout: Swallow everything, in silence: a black hole.
        limit_data: Hang up after so many more bytes; None for no limit.
        slow_close: Seconds until the other side hears that this one has hung up.
        corrupt: Flip a bit in each so many-th byte; 0 for none.
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
    """Listens on a loopback port and passes on what it gets.

    Args:
        port: Where to, on 127.0.0.1.
        tls: Speak TLS with whoever connects, but not with the target.
        seed: Of the jitter.

    Attributes:
        to_client: What happens to the bytes that the target sends.
        to_server: What happens to those for it.
        down: Reset whoever connects from now on.
        accepted: How many connections came.
        passed: How many bytes went on to the client.
    """

    def __init__(
        self, port: int, *, tls: ssl.SSLContext | None = None, seed: int = 1
    ) -> None:
        self.to_client, self.to_server = Toxics(), Toxics()
        self.down = False
        self.accepted = self.passed = 0
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
        """How many connections to the client are open."""
        return len(self._tasks)

    def clear(self) -> None:
        """Take all toxics back."""
        self.to_client, self.to_server = Toxics(), Toxics()
        self.down = False

    def reset_peer(self) -> None:
        """Reset all connections, on both sides."""
        for writer in self._open:
            _reset(writer)

    async def until_passed(self, more: int) -> None:
        """Wait until so many more bytes have reached the client's side."""
        wanted = self.passed + more
        while self.passed < wanted:  # noqa: ASYNC110 - there is nobody to tell.
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
            # Here, as a listener would call a client that distrusts it an error.
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
                pumps.create_task(self._pump(reader, far_writer, inward=False))
                pumps.create_task(self._pump(far_reader, writer, inward=True))
        finally:
            await self._drop(far_writer)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        inward: bool,
    ) -> None:
        count = 0
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                toxics = self.to_client if inward else self.to_server
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
                if inward:
                    self.passed += len(chunk)
                if toxics.limit_data == 0:
                    break
        toxics = self.to_client if inward else self.to_server
        if toxics.timeout:
            return  # Nobody hears of an ending in a black hole either.
        await asyncio.sleep(toxics.slow_close)
        writer.close()

    async def _delay(self, toxics: Toxics, size: int) -> None:
        late = toxics.latency + toxics.jitter * self._random.random()
        await asyncio.sleep(late)
        if toxics.bandwidth:
            await asyncio.sleep(size / toxics.bandwidth)

    async def _forward(
        self, chunk: bytes, writer: asyncio.StreamWriter, size: int
    ) -> None:
        for at in range(0, len(chunk), size or _CHUNK):
            writer.write(chunk[at : at + (size or _CHUNK)])
            await writer.drain()
            if size:
                await asyncio.sleep(0)  # Else the pieces leave together again.

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
    plug = writer.get_extra_info("socket")
    if plug is not None:
        with contextlib.suppress(OSError):
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
    writer.transport.abort()
