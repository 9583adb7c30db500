"""Who listens, who is connected, and what goes wrong between them."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from qos_async.testing.virtual.pipe import End, Pipe
from qos_async.testing.virtual.transport import FakeSocket, SimTransport
from qos_async.testing.virtual.wires import Conditions, Wires

__all__ = ["Connection", "DnsAnswer", "Listener", "Network"]

DnsAnswer = str | Sequence[str] | BaseException
"""What a name is looked up to: addresses, an error, or ``"hang"``."""

_FIRST_PORT = 20_000


class Network(Conditions):
    """A network in memory, at ``SimLoop.net``.

    Attributes:
        latency: The range of seconds that bytes are under way, one way.
        slice: Let them arrive in pieces of 1 to this many bytes; 0: as written.
        merge: Let them arrive at multiples of this many seconds only, glued together.
        dns: What a host is looked up to; ``"127.0.0.1"`` unless told.
        syn: What happens to those who dial, by port or by address.
        connections: All that were accepted, oldest first.
        on_connect: Gets each new connection before the first byte flows.
    """

    def __init__(self, wires: Wires, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(wires)
        self.loop = loop
        self.dns: dict[str, DnsAnswer] = {}
        self.syn: dict[int | str, Literal["drop", "refuse"]] = {}
        self.connections: list[Connection] = []
        self.on_connect: Callable[[Connection], object] | None = None
        self._listeners: dict[int, Listener] = {}
        self._ports = itertools.count(_FIRST_PORT)

    @property
    def open_clients(self) -> list[SimTransport]:
        """The sockets on our side that are not closed."""
        return [c.client for c in self.connections if not c.client.lost]

    async def resolve(self, host: str, port: int) -> list[Any]:
        """Resolve a name."""
        await asyncio.sleep(self.delay())
        answer = self.dns.get(host, "127.0.0.1")
        self.wires.note("look up", host)
        if isinstance(answer, BaseException):
            raise answer
        if answer == "hang":
            await asyncio.Event().wait()
        addresses = [answer] if isinstance(answer, str) else answer
        return [_address_info(address, port) for address in addresses]

    async def tcp_handshake(self, host: str, port: int) -> None:
        """Do what a SYN does: a round trip, a refusal, or nothing for ever."""
        mode = self.syn.get(port) or self.syn.get(host)
        self.wires.note("knock", port, mode)
        await asyncio.sleep(2 * self.delay())
        if mode == "drop":
            await asyncio.Event().wait()
        if mode == "refuse" or port not in self._listeners:
            raise ConnectionRefusedError(111, f"nobody listens at {host}:{port}")

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Make a connection; the server hears of it a latency later."""
        connection = Connection(self, len(self.connections), host, port)
        self.connections.append(connection)
        if self.on_connect is not None:
            self.on_connect(connection)
        connection.up.send("open")
        protocol, transport = factory(), connection.client
        connected: asyncio.Future[None] = self.loop.create_future()
        self.loop.call_soon(transport.start, protocol)
        self.loop.call_soon(_settle, connected)
        try:
            await connected
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> Listener:
        """Open a port; 0 takes the next.

        Raises:
            OSError: If the port is taken.
        """
        port = port or next(self._ports)
        if port in self._listeners:
            raise OSError(98, f"port {port} is taken")
        listener = self._listeners[port] = Listener(self, factory, host, port)
        return listener

    def accept(self, connection: Connection) -> None:
        """Hand the far end of a connection to the server, if there still is one."""
        listener = self._listeners.get(connection.port)
        if listener is None:
            connection.down.send("reset")
        else:
            connection.server.start(listener.factory())

    def close_port(self, port: int) -> None:
        """Close a port; connections stay."""
        self._listeners.pop(port, None)


class Listener(asyncio.AbstractServer):
    """What ``create_server`` returns."""

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
        """Take no new connections."""
        self._serving = False
        self._net.close_port(self._port)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Give the loop that it belongs to."""
        return self._net.loop

    def is_serving(self) -> bool:
        """Say whether it takes connections."""
        return self._serving

    async def start_serving(self) -> None:
        """It does from the beginning."""

    async def serve_forever(self) -> None:
        """Nobody needs it here."""
        raise NotImplementedError

    async def wait_closed(self) -> None:
        """Closing takes no time."""


class Connection:
    """One TCP connection, seen from above.

    Attributes:
        number: From 0, in the order of the dials.
        port: The server's.
        client: Our end.
        server: The other.
        up: From client to server.
        down: From server to client.
    """

    def __init__(self, net: Network, number: int, host: str, port: int) -> None:
        self.number = number
        self.port = port
        near, far = ("10.0.0.9", 40_000 + number), (host, port)
        client = self.client = SimTransport(net.loop, near, far)
        server = self.server = SimTransport(net.loop, far, near)
        pipe = partial(Pipe, net, cut=self.cut, accept=self.accept)
        self.up = pipe(client, server, f"{number} up")
        self.down = pipe(server, client, f"{number} down")
        client.attach(self.up, self.down)
        server.attach(self.down, self.up)
        self._net = net

    def accept(self) -> None:
        """Arrive at the server."""
        self._net.loop.call_soon(self._net.accept, self)

    def blackhole(self) -> None:
        """Keep everything that is sent from now on, both ways."""
        self.up.blackhole()
        self.down.blackhole()

    def restore(self) -> None:
        """Send on what was kept."""
        self.up.restore()
        self.down.restore()

    def cut(self, how: End) -> None:
        """End it now, behind what is under way."""
        if how == "hole":
            self.blackhole()
            return
        for pipe in (self.up, self.down):
            pipe.send("reset" if how == "reset" else "end")
            pipe.discard()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _address_info(address: str, port: int) -> tuple[Any, ...]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    where = (address, port, 0, 0) if ":" in address else (address, port)
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where
