"""Baselines and the client: ways to receive trades.

Each subscribes, waits for the end of the warm-up, and counts ticks until the round is
over, all in the same way. All that decode use the client's own decoder.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import msgspec

from benchmarks.harness import Figures, Round
from benchmarks.wires import symbols
from qos_async import Client, Limits, Timing
from qos_async._core.wire import FrameDecoder

__all__ = ["bare", "client", "each_trade", "in_batches", "limit", "link"]

LIMITS = Limits(symbols=10_000, connections=50, command_interval=0.0)
TIMING = Timing(close_timeout=0.1)
_MAX_FRAME = 16 * 1024 * 1024


def client(url: str, numbers: Any, **options: Any) -> Client[Any]:
    """Return a client without the limits of a plan."""
    options = {"limits": LIMITS, "timing": TIMING, **options}
    return Client("key", numbers=numbers, stream_url=url, **options)


async def each_trade(
    url: str, round_: Round, numbers: Any, count: int = 100
) -> Figures:
    """The client: ``async for trade in``."""
    async with client(url, numbers) as qos:
        trades, goal = qos.watch_trades(*symbols(count)), round_.goal
        seen = 0
        async for _ in trades:
            seen += 1
            if seen == goal:
                goal = round_.mark(seen)
                if not goal:
                    break
        return {**round_.figures, "dropped": trades.stats.dropped}


async def in_batches(
    url: str, round_: Round, numbers: Any, count: int = 100
) -> Figures:
    """The client: ``async for batch in ….batches()``."""
    async with client(url, numbers) as qos:
        trades, goal = qos.watch_trades(*symbols(count)), round_.goal
        seen = 0
        async for batch in trades.batches():
            seen += len(batch)
            if seen >= goal:
                goal = round_.mark(seen)
                if not goal:
                    break
        return {**round_.figures, "dropped": trades.stats.dropped}


@asynccontextmanager
async def link(
    url: str, names: list[str], kind: str = "T"
) -> AsyncIterator[aiohttp.ClientWebSocketResponse[bool]]:
    """Open a websocket with bare aiohttp and subscribe."""
    timeout = aiohttp.ClientWSTimeout(ws_close=0.1)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            url,
            headers={"key": "key"},
            decode_text=False,
            max_msg_size=_MAX_FRAME,
            timeout=timeout,
        ) as ws,
    ):
        await ws.send_frame(_subscription(names, kind), aiohttp.WSMsgType.TEXT)
        await ws.receive()  # The acknowledgement.
        try:
            yield ws
        finally:  # A close would wait for the server to stop sending.
            transport = ws._response.connection.transport  # type: ignore[union-attr]  # noqa: SLF001
            transport.abort()  # type: ignore[union-attr]


def _subscription(names: list[str], kind: str = "T") -> bytes:
    codes = [f"US:{','.join(name.removeprefix('US:') for name in names)}"]
    return msgspec.json.encode({"type": kind, "codes": codes, "reqid": 1})


async def bare(url: str, round_: Round, numbers: Any) -> Figures:
    """A loop that only receives with aiohttp, and decodes."""
    decode = FrameDecoder(numbers).push
    async with link(url, symbols(100)) as ws:
        goal, receive = round_.goal, ws.receive
        seen = 0
        while True:
            decode((await receive()).data)
            seen += 1
            if seen == goal:
                goal = round_.mark(seen)
                if not goal:
                    break
    return round_.figures


async def limit(url: str, round_: Round, numbers: Any) -> Figures:
    """A raw protocol that splits frames by hand and calls a plain function."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    seen, goal = 0, round_.goal

    def on_trade(_: Any) -> None:
        nonlocal seen, goal
        seen += 1
        if seen == goal:
            goal = round_.mark(seen)
            if not goal:
                done.set_result(None)

    port = int(url.rpartition(":")[2].partition("/")[0])
    transport, _ = await loop.create_connection(
        lambda: _Raw(FrameDecoder(numbers).push, on_trade), "127.0.0.1", port
    )
    await done
    transport.abort()
    return round_.figures


class _Raw(asyncio.Protocol):
    def __init__(
        self, decode: Callable[[bytes], Any], on_trade: Callable[[Any], None]
    ) -> None:
        self._decode = decode
        self._on_trade = on_trade
        self._tail = b""
        self._answers = 1
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass.
        self._transport = transport
        key = base64.b64encode(os.urandom(16))
        transport.write(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: " + key + b"\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        if not self._open:
            data = self._shake_hands(data)
        if self._tail:
            data = self._tail + data
        decode, on_trade = self._decode, self._on_trade
        begin, end = 0, len(data)
        while end - begin >= 2:
            size, start = data[begin + 1], begin + 2
            if size > 125:
                start += 2 if size == 126 else 8
                size = int.from_bytes(data[begin + 2 : start], "big")
            stop = start + size
            if stop > end:
                break
            if self._answers:
                self._answers -= 1
            else:
                on_trade(decode(data[start:stop]))
            begin = stop
        self._tail = data[begin:]

    def _shake_hands(self, data: bytes) -> bytes:
        self._tail += data
        head, found, rest = self._tail.partition(b"\r\n\r\n")
        if not found:
            return b""
        assert b" 101 " in head
        self._open, self._tail = True, b""
        payload = _subscription(symbols(100))
        mask = struct.pack("!BBH", 0x81, 0x80 | 126, len(payload)) + bytes(4)
        self._transport.write(mask + payload)
        return rest
