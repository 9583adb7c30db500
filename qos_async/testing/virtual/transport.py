"""Transports in memory: the two ends of a connection, and the pipes between them."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from qos_async._deprecation import renamed
from qos_async.testing.virtual.loop import VirtualSelector

__all__ = ["Conditions", "End", "FakeSocket", "Pipe", "SimTransport"]

End = Literal["reset", "end", "blackhole"]
"""How a connection is cut: RST to both sides, FIN to both sides, or silence."""

_WINDOW = 256 * 1024  # Bytes that a kernel buffers for a reader that does not read.
_READ_SIZE = 256 * 1024  # Bytes that asyncio reads from a socket at once.
_HIGH_WATER, _LOW_WATER = 64 * 1024, 16 * 1024  # asyncio's defaults.
_SLICE_INTERVAL = 1e-6  # Seconds between two slices of one write.


class Conditions:
    """The conditions under which bytes travel.

    Attributes:
        latency: The range of seconds that bytes travel, one way.
        slice: Bytes arrive in pieces of 1 to this many; 0: as they were written.
        merge: Bytes arrive only at multiples of this many seconds, joined.
        random: Source of latencies and slices.
    """

    def __init__(self, selector: VirtualSelector, seed: int) -> None:
        self.latency = (0.01, 0.03)
        self.slice = 0
        self.merge = 0.0
        self.random = random.Random(seed)
        self.selector = selector
        self._trace = hashlib.sha256()

    @property
    def trace(self) -> str:
        """A hash of everything that happened so far: equal seeds give equal hashes."""
        return self._trace.hexdigest()

    def record(self, *event: object) -> None:
        """Add an event, with its time, to ``trace``."""
        self._trace.update(repr((round(self.selector.now, 6), *event)).encode())

    def delay(self) -> float:
        """Return a random latency, in seconds."""
        return self.random.uniform(*self.latency)


class Pipe:
    """One direction of a connection: what is sent arrives later, in order.

    Attributes:
        passed: The number of bytes sent into it.
        cut_after: The number of such bytes after which the connection is cut, or None.
        cut_how: How it is cut then.
        window: Bytes that may be in transit or unread.
    """

    def __init__(
        self,
        conditions: Conditions,
        source: SimTransport,
        target: SimTransport,
        name: str,
        *,
        cut: Callable[[End], None],
    ) -> None:
        self.passed = 0
        self.cut_after: int | None = None
        self.cut_how: End = "reset"
        self.window = _WINDOW
        self._conditions, self._name = conditions, name
        self._source, self._target, self._cut = source, target, cut
        self._in_transit: deque[tuple[str, bytes]] = deque()
        self._last_arrival = 0.0
        self._held: list[tuple[str, bytes]] | None = None
        self._discards = False
        self._unread = 0

    @property
    def room(self) -> int:
        """The number of bytes for which the reader's window has room."""
        return max(0, self.window - self._unread)

    def send(self, kind: str, data: bytes = b"") -> None:
        """Send ``"data"``, or a signal without data: ``"open"``, ``"end"``, ``"reset"``."""
        if self._discards:
            return
        self._unread += len(data)
        if self._held is not None:
            self._held.append((kind, data))
            return
        cut, rest = False, b""
        if kind == "data" and self.cut_after is not None:
            left = max(0, self.cut_after - self.passed)
            cut, data, rest = len(data) >= left, data[:left], data[left:]
        self.passed += len(data)
        if kind == "data":
            self._schedule_slices(data)
        else:
            self._schedule(kind, b"")
        if cut:
            self.cut_after = None
            self._cut(self.cut_how)
            if rest and self._held is not None:
                self._held.append(("data", rest))

    def blackhole(self) -> None:
        """Hold what is sent from now on; what is in transit arrives."""
        if self._held is None:
            self._held = []

    def restore(self) -> None:
        """End a black hole: send what was held, in order."""
        held, self._held = self._held or [], None
        for kind, data in held:
            self._unread -= len(data)
            self.send(kind, data)

    heal = renamed("heal", restore)

    def discard(self) -> None:
        """Lose whatever is sent from now on: the connection no longer exists."""
        self._discards = True

    def consumed(self, count: int) -> None:
        """Free the window of bytes that were read, and let the writer go on."""
        self._unread -= count
        self._source.pump()

    def _schedule_slices(self, data: bytes) -> None:
        slice_size, rng = self._conditions.slice, self._conditions.random
        while data:
            size = rng.randint(1, slice_size) if slice_size else len(data)
            self._schedule("data", data[:size])
            data = data[size:]
            if data:
                self._last_arrival += _SLICE_INTERVAL

    def _schedule(self, kind: str, data: bytes) -> None:
        selector, merge = self._conditions.selector, self._conditions.merge
        at = max(selector.now + self._conditions.delay(), self._last_arrival)
        if merge:
            at = -(-at // merge) * merge
        self._last_arrival = at
        # A queue, because items that arrive at the same time must stay in order.
        self._in_transit.append((kind, data))
        selector.deliver(at, self._arrive)

    def _arrive(self) -> None:
        kind, data = self._in_transit.popleft()
        self._conditions.record(self._name, kind, len(data))
        self._target.on_arrival(kind, data)


class SimTransport(asyncio.Transport):
    """One end of a connection; behaves like asyncio's socket transport.

    Attributes:
        lost: Whether it is closed, with nothing left to send.
        on_open: Called when the connection arrives at the server; None on the client.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: tuple[str, int],
        peer: tuple[str, int],
    ) -> None:
        sock = FakeSocket(name)
        super().__init__({"sockname": name, "peername": peer, "socket": sock})
        self.lost = False
        self.on_open: Callable[[], object] | None = None
        self._loop = loop
        self._out: Pipe
        self._in: Pipe
        self._protocol: asyncio.Protocol | None = None
        self._received = bytearray()
        self._end: str | None = None
        self._reading = True
        self._read_scheduled = False
        self._closing = False
        self._unsent = bytearray()
        self._limits = _LOW_WATER, _HIGH_WATER
        self._write_paused = False

    def attach(self, out: Pipe, into: Pipe) -> None:
        """Set the two pipes of the connection."""
        self._out, self._in = out, into

    def start(self, protocol: asyncio.Protocol) -> None:
        """Begin to serve a protocol."""
        if self._closing:  # Before the protocol was connected.
            return
        self._protocol = protocol
        protocol.connection_made(self)
        self._schedule_read()

    def get_protocol(self) -> Any:
        """Return the protocol that it serves."""
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """Serve another protocol from now on."""
        self._protocol = protocol

    # Reading

    def is_reading(self) -> bool:
        """Return whether the protocol receives what arrives."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Buffer what arrives."""
        self._reading = False

    def resume_reading(self) -> None:
        """Pass on what arrives, beginning with what is buffered."""
        self._reading = True
        self._schedule_read()

    def on_arrival(self, kind: str, data: bytes) -> None:
        """Put data or a signal into the buffer, as the kernel does."""
        if kind == "open":
            assert self.on_open is not None
            self.on_open()
        elif kind != "data":
            self._end = kind
        elif self.lost:
            self._out.send("reset")  # A closed socket answers data with RST.
        else:
            self._received += data
        self._schedule_read()

    def _schedule_read(self) -> None:
        readable = self._received or self._end
        can_read = self.is_reading() and self._protocol is not None
        if readable and can_read and not self._read_scheduled:
            self._read_scheduled = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._read_scheduled = False
        if not self.is_reading() or self._protocol is None:
            return
        if self._received:
            data = bytes(self._received[:_READ_SIZE])
            del self._received[:_READ_SIZE]
            self._in.consumed(len(data))
            self._protocol.data_received(data)
            self._schedule_read()
        elif self._end == "reset":
            self._lose(ConnectionResetError(104, "Connection reset by peer"))
        elif self._end == "end":
            self._end = None
            if not self._protocol.eof_received():
                self.close()

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, as soon as the window has room."""
        if self._closing or not data:
            return
        if self._end == "reset":
            self._lose(BrokenPipeError(32, "Broken pipe"))
            return
        self._unsent += data
        self.pump()
        if len(self._unsent) > self._limits[1] and not self._write_paused:
            self._write_paused = True
            assert self._protocol is not None
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        """Send several pieces as one."""
        self.write(b"".join(list_of_data))

    def pump(self) -> None:
        """Send as much as the window has room for."""
        if self.lost:
            return
        part = bytes(self._unsent[: self._out.room])
        if part:
            del self._unsent[: len(part)]
            self._out.send("data", part)
        if self._write_paused and len(self._unsent) <= self._limits[0]:
            self._write_paused = False
            assert self._protocol is not None
            self._protocol.resume_writing()
        if self._closing and not self._unsent:
            self._close_now(with_rst=bool(self._received))

    def can_write_eof(self) -> bool:
        """Return False: one direction cannot be closed alone."""
        return False

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes for which there was no room yet."""
        return len(self._unsent)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high water mark, in bytes."""
        return self._limits

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        """Set the water marks, in bytes."""
        high = _HIGH_WATER if high is None else high
        self._limits = high // 4 if low is None else low, high

    # Closing

    def is_closing(self) -> bool:
        """Return whether it is closed or closing."""
        return self._closing

    def close(self) -> None:
        """Close once everything is sent, however long that takes."""
        if not self._closing:
            self._closing = True
            self.pump()

    def abort(self) -> None:
        """Close at once; with RST only if bytes are unread or SO_LINGER is off."""
        if not self.lost:
            linger_off = self.get_extra_info("socket").linger_off
            self._close_now(with_rst=bool(self._received) or linger_off)

    def _close_now(self, *, with_rst: bool) -> None:
        self._out.send("reset" if with_rst else "end")
        self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if self.lost:
            return
        self.lost = self._closing = True
        self._unsent.clear()
        if self._received:
            self._in.consumed(len(self._received))
            self._received.clear()
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, error)


class FakeSocket:
    """The part of a socket that protocols use."""

    family = socket.AF_INET
    type = socket.SOCK_STREAM
    proto = socket.IPPROTO_TCP

    def __init__(self, name: tuple[str, int]) -> None:
        self.linger_off = False
        self._name = name

    def getsockname(self) -> tuple[str, int]:
        """Return its address."""
        return self._name

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Record whether closing is to send RST; ignore all other options."""
        if option == socket.SO_LINGER and level == socket.SOL_SOCKET:
            assert isinstance(value, bytes)
            self.linger_off = struct.unpack("ii", value) == (1, 0)
