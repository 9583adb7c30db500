"""Server of the benchmarks: a separate process and core, with prebuilt frames.

Started by ``harness.Server``. It is written by hand over blocking sockets, one thread a
connection: it must be faster than every client, and use no library of theirs.
"""

from __future__ import annotations

import base64
import hashlib
import os
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from benchmarks.wires import WIRES, Wire, frame, stamped_trade

__all__ = ["Account", "Plan"]

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CHUNK = 65_536
# Nanoseconds between two checks for commands while trades are paced.
_CHECK_INTERVAL = 1_000_000
_CLOSE, _PING, _PONG = 8, 9, 10


class Plan(msgspec.Struct, kw_only=True):
    """Configuration of a server.

    Attributes:
        wire: One of ``WIRES``.
        symbols: The number of symbols.
        rate: Trades a second, each timestamped and written alone; 0 is as many as the
            client reads.
        total: The least number of trades on each connection; 0 for no end.
        talks: Whether trades are sent at once instead of after the subscription.
        silent: Whether there are no trades at all.
        drop_after: The number of commands after which the first connection is cut, 0.2 s later.
        core: The CPU core to pin to.
        cert: A file with certificate and key, for TLS.
    """

    wire: str = "qos"
    symbols: int = 100
    rate: float = 0
    total: int = 0
    talks: bool = False
    silent: bool = False
    drop_after: int = 0
    core: int | None = None
    cert: str = ""


class Account(msgspec.Struct):
    """Commands received over one connection: their types, and times in seconds."""

    kinds: list[str] = []
    moments: list[float] = []


class _Connection:
    def __init__(
        self, sock: socket.socket, plan: Plan, wire: Wire, *, cut: int
    ) -> None:
        self._sock = sock
        self._plan = plan
        self._wire = wire
        self._cut = cut
        self._inbound = bytearray()
        self._message = b""
        self._going = plan.talks
        self._account = Account()

    def serve(self) -> None:
        """Serve until the client disconnects, then print the account."""
        with suppress(OSError, EOFError), self._sock:
            self._shake_hands()
            for said in self._wire.hello:
                self._sock.sendall(said)
            while not self._going or self._plan.silent:
                self._listen(None)
                if self._cut and len(self._account.kinds) >= self._cut:
                    time.sleep(0.2)
                    raise EOFError
            (self._pace if self._plan.rate else self._blast)()
            while True:
                self._listen(None)
        sys.stdout.buffer.write(msgspec.json.encode(self._account) + b"\n")
        sys.stdout.buffer.flush()

    def _shake_hands(self) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += self._receive()
        lines = request.split(b"\r\n")
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in lines[1:])
        }
        key = fields[b"sec-websocket-key"]
        digest = hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest()
        self._sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
            + base64.b64encode(digest)
            + b"\r\n\r\n"
        )

    def _receive(self) -> bytes:
        data = self._sock.recv(_CHUNK)
        if not data:
            raise EOFError
        return data

    # Receiving.

    def _listen(self, timeout: float | None) -> None:
        """Reply to what was received; without a ``timeout``, wait for something."""
        if timeout is not None and not select.select([self._sock], [], [], timeout)[0]:
            return
        self._inbound += self._receive()
        for head, payload in self._split():
            if head & 15 == _CLOSE:
                self._sock.sendall(frame(payload, 0x80 | _CLOSE))
                raise EOFError
            if head & 15 == _PING:
                self._sock.sendall(frame(payload, 0x80 | _PONG))
            elif head & 15 < _CLOSE:
                self._message += payload
                if head & 0x80:
                    message, self._message = self._message, b""
                    self._obey(message)

    def _obey(self, message: bytes) -> None:
        if self._plan.wire == "qos":
            self._account.kinds.append(msgspec.json.decode(message)["type"])
            self._account.moments.append(time.monotonic())
        answers, ready = self._wire.answer(message)
        for said in answers:
            self._sock.sendall(said)
        self._going = self._going or ready

    def _split(self) -> Iterator[tuple[int, bytes]]:
        data = self._inbound
        while len(data) >= 2:
            size, start = data[1] & 127, 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(data[2:10], "big"), 10
            stop = start + 4 + size  # Frames of clients are masked.
            if len(data) < stop:
                return
            head, mask = data[0], bytes(data[start : start + 4])
            payload = _unmask(bytes(data[start + 4 : stop]), mask)
            del data[:stop]
            yield head, payload

    # Sending.

    def _blast(self) -> None:
        total = self._plan.total
        sent = 0
        chunks = _chunks(self._wire.frames)
        while not total or sent < total:
            for count, chunk in chunks:
                self._sock.sendall(chunk)
                sent += count
                self._listen(0)

    def _pace(self) -> None:
        step, clock = int(1e9 / self._plan.rate), time.monotonic_ns
        due = check_at = clock()
        while True:
            while (now := clock()) < due:
                if now > check_at:
                    check_at = now + _CHECK_INTERVAL
                    self._listen(0)
            self._sock.sendall(stamped_trade())
            due += step
            if (
                clock() > due + 100 * step
            ):  # The process was suspended: skip missed writes.
                due = clock()


def _unmask(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    mixed = int.from_bytes(data, "big") ^ int.from_bytes(key, "big")
    return mixed.to_bytes(size, "big")


def _chunks(frames: list[bytes]) -> list[tuple[int, bytes]]:
    """Join frames into writes of about 64 KiB, which together repeat all frames."""
    rounds = -(-_CHUNK // sum(map(len, frames)))
    frames = frames * rounds
    per_chunk = max(1, _CHUNK // len(frames[0]))
    return [
        (len(part), b"".join(part))
        for part in (
            frames[start : start + per_chunk]
            for start in range(0, len(frames), per_chunk)
        )
    ]


def main() -> None:
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    if plan.core is not None:
        os.sched_setaffinity(0, {plan.core})
    tls = None
    if plan.cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(plan.cert)
    wire = WIRES[plan.wire](plan.symbols)
    cut = plan.drop_after
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                sock = tls.wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False
                )
            connection = _Connection(sock, plan, wire, cut=cut)
            cut = 0
            threading.Thread(target=connection.serve, daemon=True).start()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()  # Returns when the parent process has ended.
    os._exit(0)


if __name__ == "__main__":
    main()
