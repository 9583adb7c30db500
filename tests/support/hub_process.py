"""A ``qos hub`` process over a simulator of the test, and clients that know no hub."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import websockets
from qos_api.ws_client import QOSWebSocketClient

from qos_async import Client
from qos_async.hub import HubStats
from qos_async.hub.status import fetch_status
from qos_async.sim import Simulator
from tests.support.cli_process import environment
from tests.support.hub_rig import TIMING

__all__ = ["BareClient", "HubProcess", "VendorClient", "check_links", "hub_process"]

TradeKey: TypeAlias = tuple[int, float, float]


class HubProcess:
    """``qos hub`` on one port, which the next process of it takes over.

    Args:
        sim: The service; None for a hub that has no key.
        options: Further options.

    Attributes:
        port: The port, once started.
        lines: What it wrote on stderr, all processes together.
    """

    def __init__(self, sim: Simulator | None, *options: str) -> None:
        self.port = 0
        self.lines: list[str] = []
        self._sim, self._options = sim, options
        self._variables: dict[str, str] = {}
        if sim is not None:
            self._variables = {
                "QOS_HTTP_URL": sim.http_url,
                "QOS_STREAM_URL": sim.stream_url,
                "QOS_API_KEY": sim.key,
            }

    @property
    def stream_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/hub/ws"

    def client(self) -> Client[Any]:
        """Return a client of the hub, not entered yet."""
        http_url = f"http://127.0.0.1:{self.port}/hub"
        return Client(
            "any", http_url=http_url, stream_url=self.stream_url, timing=TIMING
        )

    async def start(self) -> None:
        """Start a process, and wait until it listens.

        A new process does not know when the last one sent a frame: the service still counts
        that for a second, which a fast machine is back within.
        """
        if self._sim is not None and self._sim.frames:
            since = asyncio.get_running_loop().time() - self._sim.frames[-1].at
            await asyncio.sleep(1.0 - since)
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "qos_async", "hub", "--port", str(self.port)),
            *self._options,
            stdout=PIPE,
            stderr=PIPE,
            env=environment(**self._variables),
        )
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        self.port = int(line.decode().rpartition(":")[2].partition("/")[0])
        self._reading = asyncio.create_task(self._read())

    async def stop(self, number: signal.Signals | None = None) -> int:
        """Return its exit code, after a signal if given."""
        if number is not None:
            self.process.send_signal(number)
        await self._reading
        return await self.process.wait()

    async def stats(self) -> HubStats:
        """Return its statistics."""
        return await fetch_status(f"http://127.0.0.1:{self.port}", None)

    async def _read(self) -> None:
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode().rstrip())
        await self.process.stdout.read()


@asynccontextmanager
async def hub_process(
    sim: Simulator | None, *options: str
) -> AsyncGenerator[HubProcess]:
    """Run ``qos hub`` over a simulator, or without a key."""
    hub = HubProcess(sim, *options)
    await hub.start()
    try:
        yield hub
    finally:
        if hub.process.returncode is None:
            await hub.stop(signal.SIGKILL)


class BareClient:
    """A websocket of another library, which connects again whenever it is closed.

    Attributes:
        links: The trades of each link.
        codes: The close code of each link that was lost; None without a close frame.
    """

    def __init__(self, url: str, symbol: str) -> None:
        self.links: list[list[TradeKey]] = []
        self.codes: list[int | None] = []
        self._url = url
        self._frame = json.dumps({"type": "T", "codes": [symbol], "reqid": 1})
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                async with websockets.connect(f"{self._url}?key=any") as ws:
                    await self._read(ws)
            except (OSError, websockets.InvalidHandshake):
                pass
            await asyncio.sleep(0.1)

    async def _read(self, ws: Any) -> None:
        trades: list[TradeKey] = []
        self.links.append(trades)
        try:
            await ws.send(self._frame)
            while True:
                push = json.loads(await ws.recv())
                if push.get("tp") == "T":
                    trades.append(_key(push["ts"], push["p"], push["v"]))
        except websockets.ConnectionClosed as closed:
            self.codes.append(closed.rcvd.code if closed.rcvd else None)


class VendorClient:
    """The vendor's SDK, which waits 5 s before it connects again.

    Attributes:
        links: The trades of each link.
    """

    def __init__(self, url: str, symbol: str) -> None:
        self.links: list[list[TradeKey]] = []
        self._symbol = symbol
        self._socket: object = None
        self._sdk = QOSWebSocketClient("any")
        self._sdk.ws_url = f"{url}?key=any"
        self._sdk.register_callback("T", self._on_trade)

    async def start(self) -> None:
        await self._sdk.connect()
        await self._sdk.subscribe_trades([self._symbol])

    async def stop(self) -> None:
        self._sdk._running = False
        tasks = [task for task in asyncio.all_tasks() if "qos_api" in repr(task)]
        await self._sdk.disconnect()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _on_trade(self, trade: Any) -> None:
        if self._sdk.websocket is not self._socket:
            self._socket = self._sdk.websocket
            self.links.append([])
        self.links[-1].append(_key(trade.ts, trade.p, trade.v))


def check_links(
    links: Sequence[Sequence[TradeKey]], sim: Simulator, symbol: str
) -> None:
    """Check that the trades of each link are a piece of the tape, after the one before."""
    tape = [_key(row["ts"], row["p"], row["v"]) for row in sim.tape(symbol)]
    place = 0
    for trades in links:
        size = len(trades)
        places = range(place, len(tape) - size + 1)
        found = next((n for n in places if tape[n : n + size] == trades), None)
        assert found is not None, f"no piece of the tape after {place}: {trades}"
        place = found + size


def _key(timestamp: Any, price: Any, size: Any) -> TradeKey:
    return int(timestamp), float(price), float(size)
