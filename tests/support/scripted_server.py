"""A scripted server with a history, so that data missed in an outage can be requested."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from qos_async import Client, Limits
from tests.support.memory_transport import Frame, Network, Peer, opened

__all__ = ["AAPL", "ScriptedServer", "connected"]

AAPL = "US:AAPL"
_EPOCH = 1000


class ScriptedServer:
    """A server over in-memory links that keeps its trades; each has another price.

    Attributes:
        tape: Every trade so far, oldest first, as JSON objects.
        unanswered: Types of frames that get no reply.
        rejections: The text that rejects frames of a type.
        data: The ``data`` of replies to a type, instead of the tape and ``rows``.
        delay: Seconds until the reply to a type.
        omitted: Symbols that are left out of replies.
        rows: Rows of replies to RS, RD and RK, by type and symbol.
        sent_at: Loop time and type of each frame that the client sent.
    """

    def __init__(self) -> None:
        self.net = Network(respond=self._respond)
        self.tape: list[Frame] = []
        self.unanswered: set[str] = set()
        self.rejections: dict[str, str] = {}
        self.data: dict[str, Any] = {}
        self.delay: dict[str, float] = {}
        self.omitted: set[str] = set()
        self.rows: dict[tuple[str, str], Any] = {}
        self.sent_at: list[tuple[float, str]] = []
        self._prices = itertools.count(1)

    @property
    def second(self) -> int:
        return _EPOCH + int(asyncio.get_running_loop().time())

    @property
    def peer(self) -> Peer:
        return self.net.open_peers[-1]

    def trade(self, symbol: str = AAPL, **more: Any) -> None:
        row = {"c": symbol, "p": str(next(self._prices)), "v": "1", "ts": self.second}
        row |= {"d": 1} | more
        self.tape.append(row)
        self.push("T", row)

    def push(self, letter: str, row: Frame) -> None:
        for peer in self.net.open_peers:
            if (letter, row["c"], row.get("kt")) in peer.topics:
                peer.push({"tp": letter, **row})

    async def trades(self, count: int, every: float = 0.5, symbol: str = AAPL) -> None:
        for _ in range(count):
            self.trade(symbol)
            await asyncio.sleep(every)

    async def outage(self, lasting: float = 5.0, every: float = 0.5) -> Peer:
        """Cut the link, push trades, and return the next link."""
        number = len(self.net.peers)
        self.net.script.append(lasting)
        self.peer.end()
        await self.trades(int(lasting / every), every)
        return await self.net.link(number)

    def prices(self, symbol: str = AAPL) -> list[int]:
        return [int(row["p"]) for row in self.tape if row["c"] == symbol]

    def _respond(self, peer: Peer, frame: Frame) -> str | None:
        kind = frame["type"]
        self.sent_at.append((asyncio.get_running_loop().time(), kind))
        if kind in self.unanswered:
            return None
        message = self.rejections.get(kind, "OK")
        more: dict[str, Any] = {"time": self.second}
        if kind[0] == "R":
            more["data"] = self.data.get(kind, self._data(kind, frame))
        asyncio.get_running_loop().call_later(
            self.delay.get(kind, 0.01), lambda: peer.answer(frame, message, **more)
        )
        return None

    def _data(self, kind: str, frame: Frame) -> Any:
        codes = frame.get("codes") or [request["c"] for request in frame["kline_reqs"]]
        symbols = [
            f"{market}:{name}"
            for market, _, names in (code.partition(":") for code in codes)
            for name in names.split(",")
        ]
        symbols = [symbol for symbol in symbols if symbol not in self.omitted]
        if kind == "RT":
            return [
                row
                for symbol in symbols
                for row in [r for r in self.tape if r["c"] == symbol][-frame["count"] :]
            ]
        found = [self.rows.get((kind, symbol)) for symbol in symbols]
        return [row for row in found if row is not None]


@asynccontextmanager
async def connected(server: ScriptedServer, **options: Any) -> AsyncGenerator[Client]:
    options.setdefault("limits", Limits(command_interval=0.05))
    async with opened(server.net, jitter=0.0, **options) as client:
        yield client
