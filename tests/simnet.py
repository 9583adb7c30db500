"""A network in memory and in virtual time, for the real aiohttp on both sides.

``SimLoop`` is a loop whose sockets are not the machine's: what one side writes arrives
at the other after a latency drawn from the loop's seed, in order, and whole, as TCP
promises. ``loop.net`` is where a test breaks that promise: it cuts, stalls, slices and
refuses. aiohttp's client and server run on it unchanged, name look-up included, and so
do ``qos_async.Client`` and ``qos_async.sim.Simulator``. ``simulate`` runs a test.

What arrives is an event of the selector, not a timer: after the loop has stood still,
bytes that came meanwhile are read before timers that ran out meanwhile, as on a socket.

Not modelled: TLS, retransmission time-outs (a black hole lasts until it is healed), and
servers that go on while our side is blocked, for both share the loop.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import heapq
import inspect
import itertools
import random
import socket
import struct
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar
from unittest import mock

from aiohttp.http import WebSocketWriter

from tests.virtual_time import Selector, VirtualLoop

__all__ = [
    "Connection",
    "End",
    "Network",
    "Pipe",
    "SimLoop",
    "SimTransport",
    "simulate",
]

T = TypeVar("T")

WALL = 1_741_958_430.0
"""What the wall clock shows in the beginning: 2025-03-14, before New York opens."""

End = Literal["reset", "end", "hole"]
"""How a link is cut: RST to both sides, FIN to both sides, or silence."""

Answer = str | Sequence[str] | BaseException
"""What a name is looked up to: addresses, an error, or ``"hang"``."""

_READ = 256 * 1024  # As much as asyncio takes from a socket at once.
_WINDOW = 256 * 1024  # What a kernel keeps for a reader that does not read.
_HIGH, _LOW = 64 * 1024, 16 * 1024  # asyncio's own marks.
_SLICED = 1e-6  # Seconds between two slices of one write.
_FIRST_PORT = 20_000
_GRACE = 3.0  # Seconds in which what was closed has to be gone.


class _Wires(Selector):
    """Waits for bytes under way, too."""

    def __init__(self) -> None:
        super().__init__()
        self._under_way: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def deliver(self, at: float, arrive: Callable[[], None]) -> None:
        heapq.heappush(self._under_way, (at, next(self._number), arrive))

    def select(self, timeout: float | None = None) -> list[Any]:
        if not self._under_way:
            return super().select(timeout)
        at = self._under_way[0][0]
        if timeout is not None and at > self.now + timeout:
            return super().select(timeout)
        self.now = max(self.now, at)
        arrived = []
        while self._under_way and self._under_way[0][0] <= self.now:
            arrived.append(heapq.heappop(self._under_way)[2])
        return arrived


class SimLoop(VirtualLoop):
    """An event loop with a network of its own.

    Attributes:
        net: The network.
        random: What latencies and slices are drawn from.
        unhandled: What the loop's exception handler was given.
    """

    def __init__(
        self, *, seed: int = 0, horizon: float = 20_000.0, most: float = 5_000_000
    ) -> None:
        self._wires = _Wires()
        super().__init__(horizon=horizon, most=most, selector=self._wires)
        self.random = random.Random(seed)
        self.net = Network(self)
        self.unhandled: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.unhandled.append(context))
        self._trace = hashlib.sha256()
        self._dialled: weakref.WeakKeyDictionary[socket.socket, tuple[str, int]]
        self._dialled = weakref.WeakKeyDictionary()

    @property
    def trace(self) -> str:
        """What has happened so far, as a hash: the same seed gives the same."""
        return self._trace.hexdigest()

    def note(self, *what: object) -> None:
        """Let something count in ``trace``, with the time."""
        self._trace.update(repr((round(self.time(), 6), *what)).encode())

    def deliver(self, at: float, arrive: Callable[[], None]) -> None:
        """Call when ``at`` has come, before the timers of the same moment."""
        self._wires.deliver(at, arrive)

    # What asyncio and aiohttp call

    def _process_events(self, event_list: list[Callable[[], None]]) -> None:
        for arrive in event_list:
            arrive()  # At the kernel; who reads it is called before timers are.

    async def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        return func(*args)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's name
        """There are no threads."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        return await self.net.look_up(host, port)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        # aiohttp brings a real socket, which never gets to the machine's network.
        await self.net.knock(address[0], address[1])
        self._dialled[sock] = address[0], address[1]

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: Any = None,
        sock: socket.socket | None = None,
        **options: Any,
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        if ssl:
            raise NotImplementedError("there is no TLS here: test it on a real socket")
        if sock is not None:
            address = self._dialled.pop(sock)
            sock.close()
        else:
            assert host is not None
            assert port is not None
            address = host, port
            await self.net.knock(host, port)
        return await self.net.connect(protocol_factory, *address)

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: Any = None,
        port: int | None = None,
        *,
        ssl: Any = None,
        **options: Any,
    ) -> Listener:
        if ssl:
            raise NotImplementedError("there is no TLS here: test it on a real socket")
        return self.net.listen(protocol_factory, host or "0.0.0.0", port or 0)


class Network:
    """Who listens, who is connected, and what goes wrong.

    Attributes:
        latency: The range of seconds that bytes are under way, one way.
        slice: Let them arrive in pieces of 1 to this many bytes; 0: as written.
        merge: Let them arrive at multiples of this many seconds only, glued together.
        dns: What a host is looked up to; ``"127.0.0.1"`` unless told.
        syn: What happens to those who dial, by port or by address.
        connections: All that were accepted, oldest first.
        on_connect: Gets each new connection before the first byte flows.
    """

    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.latency = (0.01, 0.03)
        self.slice = 0
        self.merge = 0.0
        self.dns: dict[str, Answer] = {}
        self.syn: dict[int | str, Literal["drop", "refuse"]] = {}
        self.connections: list[Connection] = []
        self.on_connect: Callable[[Connection], object] | None = None
        self._listeners: dict[int, Listener] = {}
        self._ports = itertools.count(_FIRST_PORT)

    @property
    def open_clients(self) -> list[SimTransport]:
        """The sockets on our side that are not closed."""
        return [c.client for c in self.connections if not c.client.lost]

    def delay(self) -> float:
        """Draw how long something is under way."""
        return self.loop.random.uniform(*self.latency)

    async def look_up(self, host: str, port: int) -> list[Any]:
        """Resolve a name."""
        await asyncio.sleep(self.delay())
        answer = self.dns.get(host, "127.0.0.1")
        self.loop.note("look up", host)
        if isinstance(answer, BaseException):
            raise answer
        if answer == "hang":
            await asyncio.Event().wait()
        addresses = [answer] if isinstance(answer, str) else answer
        return [_address_info(address, port) for address in addresses]

    async def knock(self, host: str, port: int) -> None:
        """Do what a SYN does: a round trip, a refusal, or nothing for ever."""
        mode = self.syn.get(port) or self.syn.get(host)
        self.loop.note("knock", port, mode)
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
        connected = self.loop.create_future()
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
        """Open a port; 0 takes the next."""
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

    def leave(self, port: int) -> None:
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
        self.sockets = (_Plug((host, port)),)
        self._net, self._port = net, port
        self._serving = True

    def close(self) -> None:
        self._serving = False
        self._net.leave(self._port)

    def get_loop(self) -> SimLoop:
        return self._net.loop

    def is_serving(self) -> bool:
        return self._serving

    async def start_serving(self) -> None:
        """It does from the beginning."""

    async def serve_forever(self) -> None:
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
        self.client = SimTransport(net.loop, near, far)
        self.server = SimTransport(net.loop, far, near)
        self.up = Pipe(net, self, self.client, self.server, f"{number} up")
        self.down = Pipe(net, self, self.server, self.client, f"{number} down")
        self.client.plug_in(self.up, self.down)
        self.server.plug_in(self.down, self.up)
        self._net = net

    def accept(self) -> None:
        """Arrive at the server."""
        self._net.loop.call_soon(self._net.accept, self)

    def blackhole(self) -> None:
        """Keep everything that is sent from now on, both ways."""
        self.up.blackhole()
        self.down.blackhole()

    def heal(self) -> None:
        """Send on what was kept."""
        self.up.heal()
        self.down.heal()

    def cut(self, how: End) -> None:
        """End it now, behind what is under way."""
        if how == "hole":
            self.blackhole()
            return
        for pipe in (self.up, self.down):
            pipe.send("reset" if how == "reset" else "end")
            pipe.discard()


class Pipe:
    """One direction of a connection: what is sent in comes out later, in order.

    Attributes:
        passed: How many bytes have been sent into it.
        cut_after: After how many such bytes the connection is cut; None: never.
        cut_how: How.
        window: How many bytes may be under way or wait for the reader.
    """

    def __init__(
        self,
        net: Network,
        connection: Connection,
        source: SimTransport,
        target: SimTransport,
        name: str,
    ) -> None:
        self.passed = 0
        self.cut_after: int | None = None
        self.cut_how: End = "reset"
        self.window = _WINDOW
        self._net, self._connection, self._name = net, connection, name
        self._source, self._target = source, target
        self._under_way: deque[tuple[str, bytes]] = deque()
        self._last = 0.0
        self._kept: list[tuple[str, bytes]] | None = None
        self._discards = False
        self._unread = 0

    @property
    def room(self) -> int:
        """How many bytes the reader's window has room for."""
        return max(0, self.window - self._unread)

    def send(self, kind: str, data: bytes = b"") -> None:
        """Send bytes (``"data"``), or how it ends: ``"end"`` or ``"reset"``."""
        if self._discards:
            return
        self._unread += len(data)
        if self._kept is not None:
            self._kept.append((kind, data))
            return
        cut, behind = False, b""
        if kind == "data" and self.cut_after is not None:
            rest = max(0, self.cut_after - self.passed)
            cut, data, behind = len(data) >= rest, data[:rest], data[rest:]
        self.passed += len(data)
        if kind != "data":
            self._post(kind, b"")
        else:
            self._post_sliced(data)
        if cut:
            self.cut_after = None
            self._connection.cut(self.cut_how)
            if behind and self._kept is not None:
                self._kept.append(("data", behind))

    def blackhole(self) -> None:
        """Keep what is sent from now on; what is under way arrives."""
        if self._kept is None:
            self._kept = []

    def heal(self) -> None:
        """Send on what was kept, in order."""
        kept, self._kept = self._kept or [], None
        for kind, data in kept:
            self._unread -= len(data)
            self.send(kind, data)

    def discard(self) -> None:
        """Lose whatever is sent from now on: there is no connection any more."""
        self._discards = True

    def consumed(self, count: int) -> None:
        """Hear that the reader took some bytes: the writer may go on."""
        self._unread -= count
        self._source.pump()

    def _post_sliced(self, data: bytes) -> None:
        most = self._net.slice
        while data:
            size = self._net.loop.random.randint(1, most) if most else len(data)
            self._post("data", data[:size])
            data = data[size:]
            if data:
                self._last += _SLICED

    def _post(self, kind: str, data: bytes) -> None:
        loop = self._net.loop
        at = max(loop.time() + self._net.delay(), self._last)
        if self._net.merge:
            at = -(-at // self._net.merge) * self._net.merge
        self._last = at
        # A queue, for two arrivals of one moment must not change places.
        self._under_way.append((kind, data))
        loop.deliver(at, self._arrive)

    def _arrive(self) -> None:
        kind, data = self._under_way.popleft()
        self._net.loop.note(self._name, kind, len(data))
        if kind == "open":
            self._connection.accept()
        else:
            self._target.arrive(kind, data)


class SimTransport(asyncio.Transport):
    """One end of a connection, with asyncio's manners.

    Attributes:
        lost: Whether it is closed for good.
    """

    def __init__(
        self, loop: SimLoop, name: tuple[str, int], peer: tuple[str, int]
    ) -> None:
        self._plug = _Plug(name)
        extra = {"sockname": name, "peername": peer, "socket": self._plug}
        super().__init__(extra)
        self.lost = False
        self._loop = loop
        self._out: Pipe
        self._in: Pipe
        self._protocol: asyncio.Protocol | None = None
        self._received = bytearray()
        self._ending: str | None = None
        self._reading = True
        self._read_soon = False
        self._closing = False
        self._unsent = bytearray()
        self._high, self._low = _HIGH, _LOW
        self._held_up = False

    def plug_in(self, out: Pipe, into: Pipe) -> None:
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
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    # Reading

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._notice()

    def arrive(self, kind: str, data: bytes) -> None:
        """Have something in the kernel's buffer."""
        if self.lost and kind == "data":
            self._out.send("reset")  # Nobody is here any more.
        elif kind == "data":
            self._received += data
            self._notice()
        else:
            self._ending = kind
            self._notice()

    def _notice(self) -> None:
        waiting = self._received or self._ending
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
        elif self._ending == "reset":
            self._lose(ConnectionResetError(104, "Connection reset by peer"))
        elif self._ending == "end":
            self._ending = None
            if not self._protocol.eof_received():
                self.close()

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        if self._ending == "reset":
            self._lose(BrokenPipeError(32, "Broken pipe"))
            return
        self._unsent += data
        self.pump()
        if len(self._unsent) > self._high and not self._held_up:
            self._held_up = True
            assert self._protocol is not None
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def pump(self) -> None:
        """Send what there is room for."""
        if self.lost:
            return
        part = bytes(self._unsent[: self._out.room])
        if part:
            del self._unsent[: len(part)]
            self._out.send("data", part)
        if self._held_up and len(self._unsent) <= self._low:
            self._held_up = False
            assert self._protocol is not None
            self._protocol.resume_writing()
        if self._closing and not self._unsent:
            self._hang_up(rudely=bool(self._received))

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        self._high = _HIGH if high is None else high
        self._low = self._high // 4 if low is None else low

    # Ending

    def is_closing(self) -> bool:
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
        self._hang_up(rudely=bool(self._received) or self._plug.lingers_not)

    def _hang_up(self, *, rudely: bool) -> None:
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


class _Plug:
    """As much of a socket as people ask a transport for."""

    family = socket.AF_INET
    type = socket.SOCK_STREAM
    proto = socket.IPPROTO_TCP

    def __init__(self, name: tuple[str, int]) -> None:
        self.lingers_not = False
        self._name = name

    def getsockname(self) -> tuple[str, int]:
        return self._name

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        if option == socket.SO_LINGER and level == socket.SOL_SOCKET:
            assert isinstance(value, bytes)
            self.lingers_not = struct.unpack("ii", value) == (1, 0)


def simulate(
    main: Callable[[], Coroutine[Any, Any, T]],
    *,
    seed: int = 0,
    horizon: float = 20_000.0,
    on_step: Callable[[int], None] | None = None,
) -> T:
    """Run ``main`` on a ``SimLoop`` of its own, with its own chance and wall clock.

    ``time.time`` shows ``WALL`` when the loop's clock shows 0.

    Raises:
        AssertionError: If a task, an open socket of the client side, a timer of the
            client's or an error that nobody took is left three seconds later.
        Deadlock: If nothing can ever happen any more.
        Horizon: If it takes more than ``horizon`` virtual seconds.
    """
    state = random.getstate()
    random.seed(seed)
    _masks().seed(seed)
    loop = SimLoop(seed=seed, horizon=horizon)
    loop.on_step = on_step
    try:
        with _wall_clock(loop):
            result = loop.run_until_complete(main())
            loop.run_until_complete(asyncio.sleep(_GRACE))
        left = _left(loop)
        gc.collect()  # Errors that nobody took complain now.
        assert not left, f"left behind at {loop.time():g} s: {left}"
        assert not loop.unhandled, loop.unhandled
        return result
    finally:
        random.setstate(state)
        loop.on_step = None
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@contextmanager
def _wall_clock(loop: SimLoop) -> Generator[None]:
    def now() -> float:
        return WALL + loop.time()

    def now_ns() -> int:
        return int(now() * 1e9)

    with (
        mock.patch.object(time, "time", now),
        mock.patch.object(time, "time_ns", now_ns),
    ):
        yield


def _left(loop: SimLoop) -> list[object]:
    scheduled: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]
    timers = [
        timer
        for timer in scheduled
        if not timer.cancelled() and "qos_async" in repr(timer)
    ]
    return [*asyncio.all_tasks(loop), *loop.net.open_clients, *timers]


def _masks() -> random.Random:
    """Give what aiohttp draws the masks of its frames from."""
    found = inspect.signature(WebSocketWriter.__init__).parameters["random"].default
    assert isinstance(found, random.Random)
    return found


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _address_info(address: str, port: int) -> tuple[Any, ...]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    where = (address, port, 0, 0) if ":" in address else (address, port)
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where
