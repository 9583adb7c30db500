"""Other processes of the hub's benchmark: cheap readers, and a hub.

    python -m benchmarks.hub_parts readers PLAN
    python -m benchmarks.hub_parts hub URL

A reader is a raw protocol that subscribes and counts bytes: all trades of the benchmarks'
server together have a known size. It costs the same from a hub and from any other server.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

from benchmarks.baselines import client
from benchmarks.harness import CORES
from benchmarks.wires import WIRES, symbols
from qos_async.hub import Hub

__all__ = ["SYMBOLS", "Reader", "ReadersPlan", "Reading", "dial"]

_TOGETHER = 40  # A hub accepts 50 handshakes a second.
_CHUNK = 1024 * 1024
_PAUSE = 0.001
_EACH = 10_000  # Bytes of each reader before the measurement.
SYMBOLS = 100


class ReadersPlan(msgspec.Struct, kw_only=True):
    """What the readers do.

    Attributes:
        url: The websocket to read.
        count: The number of readers.
        frames: How many frames to measure, of all readers together.
        symbols: The number of symbols of each reader; each has others.
    """

    url: str
    count: int
    frames: int
    symbols: int


class Reading(msgspec.Struct):
    """The result: frames, and nanoseconds."""

    frames: float
    wall: int


class Reader(asyncio.Protocol):
    """Opens a websocket, sends what it is given, and counts the bytes that arrive.

    Attributes:
        received: The number of bytes since the handshake.
        opened: Done after the handshake.
    """

    def __init__(self, url: str) -> None:
        self.received = 0
        self.opened = asyncio.get_running_loop().create_future()
        self._url = urlsplit(url)
        self._file: int | None = None
        self._head = b""

    def send(self, **command: Any) -> None:
        """Send a command, masked with zeros."""
        payload = msgspec.json.encode(command)
        size = len(payload)
        head = (
            struct.pack("!BB", 0x81, 0x80 | size)
            if size < 126
            else struct.pack("!BBH", 0x81, 0x80 | 126, size)
        )
        self._transport.write(head + bytes(4) + payload)

    def poll(self) -> None:
        """Read what has arrived; the loop does not read any more.

        Reading in the event loop would cost more for many small writes than for few.
        """
        if self._file is None:
            self._transport.pause_reading()
            self._file = self._transport.get_extra_info("socket").fileno()
        with suppress(BlockingIOError):
            data = os.read(self._file, _CHUNK)
            assert data, "the server has closed the connection"
            self.received += len(data)

    def abort(self) -> None:
        """End the connection."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET {self._url.path} HTTP/1.1\r\nHost: {self._url.netloc}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nkey: key\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Count bytes."""
        if not self.opened.done():
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            assert b" 101 " in head, head
            self.opened.set_result(None)
        self.received += len(data)


async def dial(url: str, count: int) -> list[Reader]:
    """Open readers, at the pace that a hub accepts."""
    loop = asyncio.get_running_loop()
    host, port = urlsplit(url).hostname, urlsplit(url).port
    assert host is not None
    assert port is not None
    readers: list[Reader] = []
    for number in range(count):
        if number and not number % _TOGETHER:
            await asyncio.sleep(1.0)
        _, reader = await loop.create_connection(lambda: Reader(url), host, port)
        await reader.opened
        readers.append(reader)
    return readers


async def _read(plan: ReadersPlan) -> None:
    frames = WIRES["qos"](SYMBOLS).frames
    size = sum(map(len, frames)) / len(frames)
    readers = await dial(plan.url, plan.count)
    names = [name.removeprefix("US:") for name in symbols(SYMBOLS)]
    for number, reader in enumerate(readers):
        own = [names[(number + n) % SYMBOLS] for n in range(plan.symbols)]
        reader.send(type="T", codes=[f"US:{','.join(own)}"], reqid=1)

    _count(readers, size, plan.frames)  # Nothing else runs in this process.


def _count(readers: list[Reader], size: float, frames: int) -> None:
    while min(reader.received for reader in readers) < _EACH:
        _poll(readers)
    _read_until(readers, _total(readers) + frames * size / 10)
    print(flush=True)
    first, begun = _total(readers), time.perf_counter_ns()
    _read_until(readers, first + frames * size)
    wall = time.perf_counter_ns() - begun
    reading = Reading((_total(readers) - first) / size, wall)
    print(msgspec.json.encode(reading).decode(), flush=True)


def _read_until(readers: list[Reader], goal: float) -> None:
    while _total(readers) < goal:
        _poll(readers)


def _poll(readers: list[Reader]) -> None:
    for reader in readers:
        reader.poll()
    time.sleep(_PAUSE)


def _total(readers: list[Reader]) -> int:
    return sum(reader.received for reader in readers)


async def _serve(url: str) -> None:
    async with Hub(client(url, Decimal)) as hub:
        print(hub.stream_url, flush=True)
        await hub.serve_forever()


def main(words: Sequence[str]) -> None:
    kind, word = words
    if kind == "hub":
        asyncio.run(_serve(word))
        return
    if CORES is not None:
        os.sched_setaffinity(0, {CORES[1]})
    asyncio.run(_read(msgspec.json.decode(word, type=ReadersPlan)))


if __name__ == "__main__":
    main(sys.argv[1:])
