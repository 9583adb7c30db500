"""One end of a connection in memory, as asyncio's protocols know it."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from qos_async.testing.virtual.pipe import Pipe

__all__ = ["FakeSocket", "SimTransport"]

_READ = 256 * 1024  # As much as asyncio takes from a socket at once.
_HIGH, _LOW = 64 * 1024, 16 * 1024  # asyncio's own marks.


class SimTransport(asyncio.Transport):
    """One end of a connection, with asyncio's manners.

    Attributes:
        lost: Whether it is closed for good.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: tuple[str, int],
        peer: tuple[str, int],
    ) -> None:
        self._plug = FakeSocket(name)
        extra = {"sockname": name, "peername": peer, "socket": self._plug}
        super().__init__(extra)
        self.lost = False
        self._loop = loop
        self._out: Pipe
        self._in: Pipe
        self._protocol: asyncio.Protocol | None = None
        self._received = bytearray()
        self._end: str | None = None
        self._reading = True
        self._read_soon = False
        self._closing = False
        self._unsent = bytearray()
        self._high, self._low = _HIGH, _LOW
        self._write_paused = False

    def attach(self, out: Pipe, into: Pipe) -> None:
        """Get the two pipes of the connection."""
        self._out, self._in = out, into

    def start(self, protocol: asyncio.Protocol) -> None:
        """Begin to serve a protocol."""
        if self._closing:  # Before anybody heard of it.
            return
        self._protocol = protocol
        protocol.connection_made(self)
        self._notice()

    def get_protocol(self) -> Any:
        """Give whom it serves."""
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """Serve another protocol from now on."""
        self._protocol = protocol

    # Reading

    def is_reading(self) -> bool:
        """Say whether the protocol gets what arrives."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Let what arrives wait."""
        self._reading = False

    def resume_reading(self) -> None:
        """Hand on what arrives, beginning with what waits."""
        self._reading = True
        self._notice()

    def on_arrival(self, kind: str, data: bytes) -> None:
        """Have something in the kernel's buffer."""
        if self.lost and kind == "data":
            self._out.send("reset")  # Nobody is here any more.
        elif kind == "data":
            self._received += data
            self._notice()
        else:
            self._end = kind
            self._notice()

    def _notice(self) -> None:
        waiting = self._received or self._end
        able = self.is_reading() and self._protocol is not None
        if waiting and able and not self._read_soon:
            self._read_soon = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._read_soon = False
        if not self.is_reading() or self._protocol is None:
            return
        if self._received:
            data = bytes(self._received[:_READ])
            del self._received[:_READ]
            self._in.consumed(len(data))
            self._protocol.data_received(data)
            self._notice()
        elif self._end == "reset":
            self._lose(ConnectionResetError(104, "Connection reset by peer"))
        elif self._end == "end":
            self._end = None
            if not self._protocol.eof_received():
                self.close()

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, as soon as there is room for them."""
        if self._closing or not data:
            return
        if self._end == "reset":
            self._lose(BrokenPipeError(32, "Broken pipe"))
            return
        self._unsent += data
        self.pump()
        if len(self._unsent) > self._high and not self._write_paused:
            self._write_paused = True
            assert self._protocol is not None
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        """Send several pieces as one."""
        self.write(b"".join(list_of_data))

    def pump(self) -> None:
        """Send what there is room for."""
        if self.lost:
            return
        part = bytes(self._unsent[: self._out.room])
        if part:
            del self._unsent[: len(part)]
            self._out.send("data", part)
        if self._write_paused and len(self._unsent) <= self._low:
            self._write_paused = False
            assert self._protocol is not None
            self._protocol.resume_writing()
        if self._closing and not self._unsent:
            self._close_now(rudely=bool(self._received))

    def can_write_eof(self) -> bool:
        """Say that one half cannot be closed alone."""
        return False

    def get_write_buffer_size(self) -> int:
        """Count the bytes for which there was no room yet."""
        return len(self._unsent)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Give the marks at which the protocol is told to go on, and to wait."""
        return self._low, self._high

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        """Set those marks, in bytes."""
        self._high = _HIGH if high is None else high
        self._low = self._high // 4 if low is None else low

    # Ending

    def is_closing(self) -> bool:
        """Say whether it is closed, or about to be."""
        return self._closing

    def close(self) -> None:
        """Send what is unsent, however long that takes, then end."""
        if not self._closing:
            self._closing = True
            self.pump()

    def abort(self) -> None:
        """End at once; a RST only if bytes are unread or SO_LINGER says so."""
        if self.lost:
            return
        self._close_now(rudely=bool(self._received) or self._plug.linger_off)

    def _close_now(self, *, rudely: bool) -> None:
        self._out.send("reset" if rudely else "end")
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
    """As much of a socket as people ask a transport for."""

    family = socket.AF_INET
    type = socket.SOCK_STREAM
    proto = socket.IPPROTO_TCP

    def __init__(self, name: tuple[str, int]) -> None:
        self.linger_off = False
        self._name = name

    def getsockname(self) -> tuple[str, int]:
        """Give its address."""
        return self._name

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Notice whether it is to be closed with a RST."""
        if option == socket.SO_LINGER and level == socket.SOL_SOCKET:
            assert isinstance(value, bytes)
            self.linger_off = struct.unpack("ii", value) == (1, 0)
