"""An event loop in virtual time that has a network in memory."""

from __future__ import annotations

import asyncio
import random
import socket
import weakref
from collections.abc import Callable
from typing import Any

from qos_async.testing.virtual.clock import VirtualLoop
from qos_async.testing.virtual.network import Listener, Network
from qos_async.testing.virtual.wires import Wires

__all__ = ["SimLoop"]

_NO_TLS = "there is no TLS in memory: test it on a real socket"


class SimLoop(VirtualLoop):
    """An event loop whose clock jumps and whose sockets are not the machine's.

    aiohttp's client and server run on it unchanged, name look-up included. So do
    ``qos_async.Client`` and ``qos_async.sim.Simulator``.

    Args:
        seed: Of latencies and slices.
        horizon: Seconds after which it ends, by raising ``Horizon``.
        most: Steps after which it does.

    Attributes:
        net: The network: where to cut, stall, slice and refuse.
        unhandled: What asyncio told of errors that nobody took.
    """

    def __init__(
        self, *, seed: int = 0, horizon: float = 20_000.0, max_steps: float = 5_000_000
    ) -> None:
        self._wires = Wires(seed)
        super().__init__(horizon=horizon, max_steps=max_steps, selector=self._wires)
        self.net = Network(self._wires, self)
        self.unhandled: list[dict[str, Any]] = []
        self._dialled: weakref.WeakKeyDictionary[socket.socket, tuple[str, int]]
        self._dialled = weakref.WeakKeyDictionary()

    @property
    def random(self) -> random.Random:
        """What latencies and slices are drawn from."""
        return self._wires.random

    @property
    def trace(self) -> str:
        """What has happened so far, as a hash: the same seed gives the same."""
        return self._wires.trace

    # What asyncio and aiohttp call

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody took, and let it be logged."""
        self.unhandled.append(context)
        super().call_exception_handler(context)

    def _process_events(self, event_list: list[Callable[[], None]]) -> None:
        for arrive in event_list:
            arrive()  # At the kernel; who reads it is called before timers are.

    async def run_in_executor(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
        """Call it here and now: there are no threads."""
        return func(*args)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's name
        """There are no threads."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """Ask the network in memory."""
        return await self.net.resolve(host, port)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Dial; aiohttp's socket never gets to the machine's network."""
        await self.net.tcp_handshake(address[0], address[1])
        self._dialled[sock] = address[0], address[1]

    async def create_connection(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: Any = None,
        sock: socket.socket | None = None,
        **options: Any,
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Connect to whoever listens in memory."""
        if ssl:
            raise NotImplementedError(_NO_TLS)
        if sock is not None:
            address = self._dialled.pop(sock)
            sock.close()
        else:
            assert host is not None
            assert port is not None
            address = host, port
            await self.net.tcp_handshake(host, port)
        return await self.net.connect(protocol_factory, *address)

    async def create_server(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: Any = None,
        port: int | None = None,
        *,
        ssl: Any = None,
        **options: Any,
    ) -> Listener:
        """Listen in memory."""
        if ssl:
            raise NotImplementedError(_NO_TLS)
        return self.net.listen(protocol_factory, host or "0.0.0.0", port or 0)  # noqa: S104 - nobody's network
