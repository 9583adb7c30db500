"""Fixtures: a raw client of the simulator, with aiohttp and JSON only."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from qos_async.sim import Limits, Simulator

FREE = Limits(symbols=100, connections=10, command_interval=0.0, http_requests=10_000)
START = 1_741_958_430.0  # 2025-03-14 13:20 UTC: pre-market in New York.


class Wire:
    """One websocket; ``request`` waits for the reply and keeps pushes for ``push``."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.pushes: list[dict[str, Any]] = []
        self._reqids = itertools.count(1)

    async def send(self, type: str, *codes: str, **body: Any) -> None:
        if codes:
            body["codes"] = list(codes)
        if type != "H":
            body.setdefault("reqid", next(self._reqids))
        await self.ws.send_str(json.dumps({"type": type, **body}))

    async def request(self, type: str, *codes: str, **body: Any) -> Any:
        await self.send(type, *codes, **body)
        return await self.reply()

    async def reply(self) -> Any:
        while True:
            content = await self.next()
            if "tp" not in content:
                return content
            self.pushes.append(content)

    async def push(self) -> Any:
        if self.pushes:
            return self.pushes.pop(0)
        return await self.next()

    async def next(self) -> Any:
        message = await self.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, message
        content = json.loads(message.data)
        assert isinstance(content, dict)
        return content

    async def receive(self) -> aiohttp.WSMessage:
        async with asyncio.timeout(3):
            return await self.ws.receive()

    async def end(self) -> int | None:
        """Read until the end; return the close code, or None."""
        while True:
            message = await self.receive()
            if message.type is aiohttp.WSMsgType.CLOSE:
                return int(message.data)
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                return None

    async def quiet(self, seconds: float = 0.15) -> bool:
        """Return whether nothing arrives for a while."""
        try:
            async with asyncio.timeout(seconds):
                await self.ws.receive()
        except TimeoutError:
            return True
        return False


class Raw:
    """A client of one simulator, with its key."""

    def __init__(self, sim: Simulator, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self.session = session
        self.headers = {"key": sim.key}
        self.wires: list[Wire] = []

    async def post(self, path: str, **body: Any) -> Any:
        status, content = await self.post_any(path, body)
        assert status == 200, content
        return content

    async def post_any(self, path: str, body: Any) -> tuple[int, Any]:
        url = self.sim.http_url + path
        async with self.session.post(url, json=body, headers=self.headers) as response:
            return response.status, json.loads(await response.read())

    async def dial(self, **options: Any) -> Wire:
        options.setdefault("headers", self.headers)
        url = options.pop("url", self.sim.stream_url)
        timeout = aiohttp.ClientWSTimeout(ws_close=0.1)
        ws = await self.session.ws_connect(
            url, autoping=False, timeout=timeout, **options
        )
        self.wires.append(Wire(ws))
        return self.wires[-1]

    async def close(self) -> None:
        self.sim.unmute()
        await asyncio.gather(*(wire.ws.close() for wire in self.wires))


Enter = Callable[..., Awaitable[Raw]]


@pytest.fixture
async def enter() -> AsyncGenerator[Enter, None]:
    """Start simulators, each with a client: ``raw = await enter(speed=10)``."""
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> Raw:
            options.setdefault("plan", FREE)
            options.setdefault("start", START)
            options.setdefault("history", 120.0)
            sim = await stack.enter_async_context(Simulator(**options))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            raw = Raw(sim, session)
            stack.push_async_callback(raw.close)
            return raw

        yield start


@pytest.fixture
async def raw(enter: Enter) -> Raw:
    """A client of a simulator with generous limits."""
    return await enter()


@pytest.fixture(autouse=True)
def no_warnings(caplog: pytest.LogCaptureFixture) -> Any:
    """Fail on any warning or error in the log."""
    yield
    logged = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert not logged, [one.getMessage() for one in logged]
