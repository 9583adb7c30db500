"""A simulator, a hub of it, and clients of the hub, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from qos_async import Client, Timing
from qos_async.hub import Hub
from qos_async.sim import Simulator
from tests.support.tape_judge import Consumer, check_trades

__all__ = ["RawClient", "Rig", "rigged"]

TIMING = Timing(heartbeat=8.0, silence=12.0, request_timeout=4.0, backoff_max=2.0)


class RawClient:
    """A websocket that sends what it is given, and keeps what arrives."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.transport: Any = ws._response.connection.transport  # type: ignore[union-attr]

    def stop_reading(self) -> None:
        """Read nothing from now on; the network holds hardly anything meanwhile."""
        loop: Any = asyncio.get_running_loop()
        loop.net.connections[-1].down.window = 1000
        self.transport.pause_reading()

    async def ask(self, **frame: Any) -> dict[str, Any]:
        """Send a frame, and return the reply; pushes before it are discarded."""
        await self.ws.send_json(frame)
        while True:
            message = await self.receive()
            if "tp" not in message:
                return message

    async def receive(self) -> dict[str, Any]:
        """Return the next frame."""
        received: dict[str, Any] = await self.ws.receive_json()
        return received

    async def closing(self) -> tuple[int | None, str]:
        """Return code and reason of the close frame, after whatever is before it."""
        while True:
            message = await self.ws.receive()
            if message.type is aiohttp.WSMsgType.CLOSE:
                return message.data, message.extra or ""
            if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                return None, ""


class Rig:
    """A simulator with a hub in front of it."""

    def __init__(self, sim: Simulator, hub: Hub) -> None:
        self.sim = sim
        self.hub = hub

    def client(self, key: str = "any", **options: Any) -> Client[Any]:
        """Return a client of the hub, not entered yet."""
        return Client(
            key,
            http_url=self.hub.http_url,
            stream_url=self.hub.stream_url,
            **{"timing": TIMING, **options},
        )

    @asynccontextmanager
    async def raw(self, key: str = "any", **headers: str) -> AsyncGenerator[RawClient]:
        """Open a websocket of another library."""
        async with (
            aiohttp.ClientSession(headers={"key": key, **headers}) as session,
            session.ws_connect(self.hub.stream_url, autoclose=False) as ws,
        ):
            yield RawClient(ws)

    async def post(
        self, path: str, body: Any, key: str = "any", **headers: str
    ) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        """Return status, body and headers of a request."""
        async with aiohttp.ClientSession(headers={"key": key, **headers}) as session:
            url = f"{self.hub.http_url}{path}"
            async with session.post(url, json=body) as response:
                return response.status, await response.json(), response.headers

    async def consumer(self, *symbols: str, **options: Any) -> Consumer:
        """Return a consumer that is live."""
        consumer = Consumer(self.client(**options), *symbols)
        await consumer.start()
        return consumer

    async def end_undisturbed(self, consumer: Consumer) -> None:
        """Check that a consumer had every trade, over one link, and stop it."""
        check_trades(consumer, self.sim)
        assert consumer.client.stats.links == 1
        await consumer.stop()


@asynccontextmanager
async def rigged(
    *,
    hub: dict[str, Any] | None = None,
    client: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncGenerator[Rig]:
    """Run a simulator on the default plan, and a hub of it.

    Args:
        hub: Options of the hub.
        client: Options of its client.
        **options: Options of the simulator.
    """
    async with Simulator(**{"rate": 2.0, "push_interval": 0.1, **options}) as sim:
        upstream = Client(
            sim.key,
            http_url=sim.http_url,
            stream_url=sim.stream_url,
            **{"timing": TIMING, **(client or {})},
        )
        async with Hub(upstream, **(hub or {})) as served:
            yield Rig(sim, served)
