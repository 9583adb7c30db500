"""Simulation: tests on a loop with virtual time, a network in memory, fixed randomness."""

from __future__ import annotations

import asyncio
import gc
import inspect
import random
import socket
import time
import weakref
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

from aiohttp.http import WebSocketWriter

from qos_async._deprecation import renamed_options
from qos_async._io import clocks
from qos_async.testing.virtual.loop import VirtualLoop
from qos_async.testing.virtual.network import Listener, Network

__all__ = ["WALL", "SimLoop", "patched_time_and_random", "simulate"]

T = TypeVar("T")

WALL = 1_741_958_430.0
"""The wall clock when the loop's clock is 0: 2025-03-14, before New York opens."""

_LEAK_TIMEOUT = 3.0  # Seconds after the test until leaks are looked for.
_NO_TLS = "there is no TLS in memory: test it on a real socket"


class SimLoop(VirtualLoop):
    """An event loop with virtual time and a network in memory.

    aiohttp's client and server run on it unchanged, including name resolution. So do
    ``qos_async.Client`` and ``qos_async.sim.Simulator``.

    Args:
        seed: Seed of latencies and slices.
        horizon: Seconds after which it raises ``Horizon``.
        max_steps: Steps after which it does.

    Attributes:
        net: The network: where tests cut, stall, slice and refuse.
        unhandled: The contexts of errors that were not handled.
    """

    @renamed_options(most="max_steps")
    def __init__(
        self, *, seed: int = 0, horizon: float = 20_000.0, max_steps: float = 5_000_000
    ) -> None:
        super().__init__(horizon=horizon, max_steps=max_steps)
        self.net = Network(self, seed)
        self.unhandled: list[dict[str, Any]] = []
        self._dialled: weakref.WeakKeyDictionary[socket.socket, tuple[str, int]]
        self._dialled = weakref.WeakKeyDictionary()

    @property
    def random(self) -> random.Random:
        """Source of latencies and slices."""
        return self.net.random

    @property
    def trace(self) -> str:
        """A hash of everything that happened so far: equal seeds give equal hashes."""
        return self.net.trace

    # What asyncio and aiohttp call

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Record an error that was not handled, and let it be logged."""
        self.unhandled.append(context)
        super().call_exception_handler(context)

    async def run_in_executor(  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
        """Call the function at once: there are no threads."""
        return func(*args)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's name
        """Return at once: there are no threads."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """Resolve a name in the network in memory."""
        return await self.net.resolve(host, port)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Dial in the network in memory; the real socket stays unconnected."""
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
        """Connect to a listener in memory."""
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
        return self.net.listen(protocol_factory, host or "0.0.0.0", port or 0)  # noqa: S104 - not a real network


def simulate(
    main: Callable[[], Coroutine[Any, Any, T]],
    *,
    seed: int = 0,
    horizon: float = 20_000.0,
    on_step: Callable[[int], None] | None = None,
) -> T:
    """Run ``main`` on a new ``SimLoop``, with fixed randomness; return its result.

    ``time.time`` returns ``WALL`` when the loop's clock is 0.

        async def main() -> None:
            async with Simulator() as simulator:
                ...

        simulate(main)

    Args:
        main: Makes the coroutine to run.
        seed: Seed of the network, of ``random`` and of aiohttp's masks: equal seeds
            give equal runs.
        horizon: Virtual seconds that it may take.
        on_step: Called with the number of each iteration of the loop, before it.

    Raises:
        AssertionError: If a task, an open client socket, a timer of the client or an
            unhandled error is left three seconds later.
        Deadlock: If nothing can ever happen any more.
        Horizon: If it takes more than ``horizon`` virtual seconds.
    """
    loop = SimLoop(seed=seed, horizon=horizon)
    loop.on_step = on_step
    try:
        with patched_time_and_random(loop, seed):
            result = loop.run_until_complete(main())
            loop.run_until_complete(asyncio.sleep(_LEAK_TIMEOUT))
        leaks = _leaks(loop)
        gc.collect()  # Errors of abandoned futures are reported now.
        assert not leaks, f"left behind at {loop.time():g} s: {leaks}"
        assert not loop.unhandled, loop.unhandled
        return result
    finally:
        loop.cancel_and_close()


@contextmanager
def patched_time_and_random(loop: SimLoop, seed: int) -> Generator[None]:
    """Take ``time.time`` from the loop, and everything random from ``seed``, an int."""

    def now() -> float:
        return WALL + loop.time()

    def now_ns() -> int:
        return int(now() * 1e9)

    state = random.getstate()
    random.seed(seed)
    loop.random.seed(seed)
    _websocket_mask_rng().seed(seed)
    try:
        with (
            mock.patch.object(time, "time", now),
            mock.patch.object(time, "time_ns", now_ns),
            mock.patch.object(clocks, "steady_ns", now_ns),
        ):
            yield
    finally:
        random.setstate(state)


def _leaks(loop: SimLoop) -> list[object]:
    scheduled: list[asyncio.TimerHandle] = getattr(loop, "_scheduled")  # noqa: B009 - asyncio has no public list of timers
    timers: list[object] = [
        timer
        for timer in scheduled
        if not timer.cancelled() and "qos_async" in repr(timer)
    ]
    return [*asyncio.all_tasks(loop), *loop.net.open_clients, *timers]


def _websocket_mask_rng() -> random.Random:
    """Return the generator of the masks of aiohttp's frames."""
    found = inspect.signature(WebSocketWriter.__init__).parameters["random"].default
    assert isinstance(found, random.Random)
    return found
