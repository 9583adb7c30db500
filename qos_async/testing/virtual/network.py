"""Network in memory: listeners, connections, and the faults between them."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Sequence
from typing import Any, Literal

from qos_async._deprecation import renamed, warn_renamed
from qos_async.testing.virtual.loop import VirtualLoop
from qos_async.testing.virtual.transport import (
    Conditions,
    End,
    FakeSocket,
    Pipe,
    SimTransport,
)

__all__ = ["Connection", "DnsAnswer", "Listener", "Network"]

DnsAnswer = str | Sequence[str] | BaseException
"""What a name resolves to: addresses, an error, or ``"hang"``."""

_FIRST_PORT = 20_000


class Network(Conditions):
    """A network in memory, at ``SimLoop.net``.

    Attributes:
        latency: The range of seconds that bytes travel, one way.
        slice: Bytes arrive in pieces of 1 to this many; 0: as they were written.
        merge: Bytes arrive only at multiples of this many seconds, joined.
        dns: What a host resolves to; ``"127.0.0.1"`` by default.
        syn: What happens to a dial, by port or by address.
        connections: All connections that were opened, oldest first.
        on_connect: Called with each new connection before its first byte is sent.
    """

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        super().__init__(loop.selector, seed)
        self.loop = loop
        self.dns: dict[str, DnsAnswer] = {}
        self.syn: dict[int | str, Literal["drop", "refuse"]] = {}
        self.connections: list[Connection] = []
        self.on_connect: Callable[[Connection], object] | None = None
        self._listeners: dict[int, Listener] = {}
        self._ports = itertools.count(_FIRST_PORT)

    @property
    def open_clients(self) -> list[SimTransport]:
        """The client ends that are not closed."""
        return [c.client for c in self.connections if not c.client.lost]

    async def resolve(self, host: str, port: int) -> list[Any]:
        """Return the addresses of a host, as ``getaddrinfo`` does."""
        await asyncio.sleep(self.delay())
        answer = self.dns.get(host, "127.0.0.1")
        self.record("resolve", host)
        if isinstance(answer, BaseException):
            raise answer
        if answer == "hang":
            await asyncio.Event().wait()
        addresses = [answer] if isinstance(answer, str) else answer
        return [_address_info(address, port) for address in addresses]

    async def tcp_handshake(self, host: str, port: int) -> None:
        """Wait for a round trip; or raise, or hang, as ``syn`` says."""
        mode = self.syn.get(port) or self.syn.get(host)
        self.record("syn", port, mode)
        await asyncio.sleep(2 * self.delay())
        if mode == "drop":
            await asyncio.Event().wait()
        if mode == "refuse" or port not in self._listeners:
            raise ConnectionRefusedError(111, f"no listener at {host}:{port}")

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Open a connection; it arrives at the server a latency later."""
        connection = Connection(self, len(self.connections), host, port)
        self.connections.append(connection)
        if self.on_connect is not None:
            self.on_connect(connection)
        connection.up.send("open")
        protocol, transport = factory(), connection.client
        connected: asyncio.Future[None] = self.loop.create_future()
        self.loop.call_soon(transport.start, protocol)
        self.loop.call_soon(_resolve_future, connected)
        try:
            await connected
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> Listener:
        """Open a port; 0 chooses the next free one.

        Raises:
            OSError: If the port is already in use.
        """
        port = port or next(self._ports)
        if port in self._listeners:
            raise OSError(98, f"port {port} is already in use")
        listener = self._listeners[port] = Listener(self, factory, host, port)
        return listener

    def accept(self, connection: Connection) -> None:
        """Hand the server's end to the listener, or reset the connection without one."""
        listener = self._listeners.get(connection.port)
        if listener is None:
            connection.down.send("reset")
        else:
            connection.server.start(listener.factory())

    def close_port(self, port: int) -> None:
        """Close a port; its connections stay open."""
        self._listeners.pop(port, None)


class Listener(asyncio.AbstractServer):
    """The server that ``create_server`` returns."""

    def __init__(
        self,
        net: Network,
        factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
    ) -> None:
        self.factory = factory
        self.sockets = (FakeSocket((host, port)),)
        self._net, self._port = net, port
        self._serving = True

    def close(self) -> None:
        """Accept no new connections."""
        self._serving = False
        self._net.close_port(self._port)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return its event loop."""
        return self._net.loop

    def is_serving(self) -> bool:
        """Return whether it accepts connections."""
        return self._serving

    async def start_serving(self) -> None:
        """Return at once: it serves from the beginning."""

    async def serve_forever(self) -> None:
        """Raise: not implemented."""
        raise NotImplementedError

    async def wait_closed(self) -> None:
        """Return at once: closing takes no time."""


class Connection:
    """One TCP connection, with both of its ends.

    Attributes:
        number: From 0, in the order of the dials.
        port: The server's port.
        client: The client's end.
        server: The server's end.
        up: The direction from client to server.
        down: The direction from server to client.
    """

    def __init__(self, net: Network, number: int, host: str, port: int) -> None:
        self.number = number
        self.port = port
        near, far = ("10.0.0.9", 40_000 + number), (host, port)
        client = self.client = SimTransport(net.loop, near, far)
        server = self.server = SimTransport(net.loop, far, near)
        self.up = Pipe(net, client, server, f"{number} up", cut=self.cut)
        self.down = Pipe(net, server, client, f"{number} down", cut=self.cut)
        client.attach(self.up, self.down)
        server.attach(self.down, self.up)
        server.on_open = lambda: net.loop.call_soon(net.accept, self)

    def blackhole(self) -> None:
        """Hold everything that is sent from now on, in both directions."""
        self.up.blackhole()
        self.down.blackhole()

    def restore(self) -> None:
        """End a black hole: send what was held."""
        self.up.restore()
        self.down.restore()

    heal = renamed("heal", restore)

    def cut(self, how: End | Literal["hole"]) -> None:
        """End the connection; what is in transit still arrives."""
        if how == "hole":
            warn_renamed('"hole"', '"blackhole"')
        if how in ("blackhole", "hole"):
            self.blackhole()
            return
        for pipe in (self.up, self.down):
            pipe.send("reset" if how == "reset" else "end")
            pipe.discard()


def _resolve_future(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _address_info(address: str, port: int) -> tuple[Any, ...]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    where = (address, port, 0, 0) if ":" in address else (address, port)
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where
