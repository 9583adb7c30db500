"""Frames that are allowed, and yet no way to behave."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from tests.io.test_aiohttp_transport import linger, talking

_START, _MORE, _END, _PING = b"\x01\x00", b"\x00\x00", b"\x80\x02{}", b"\x89\x00"


@pytest.mark.fault("P16")
@pytest.mark.parametrize(
    "flood", [_MORE * 500_000, _PING * 80_000], ids=["fragments", "pings"]
)
async def test_a_flood_of_empty_frames_ends_and_lets_other_tasks_run(flood: bytes):
    started = asyncio.Event()

    async def talk(ws: web.WebSocketResponse) -> None:
        await started.wait()
        ws._req.transport.write(_START + flood + _END)  # type: ignore[union-attr]
        await linger(ws)

    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with talking(talk) as transport:
        socket = await transport.dial()
        worker = asyncio.create_task(work())
        started.set()
        async with asyncio.timeout(20):
            assert list(await socket.receive()) == [b"{}"]
        worker.cancel()
        await socket.close(graceful=False)
    assert turns
