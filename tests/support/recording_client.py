"""A client that records trades while a test goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from qos_async import Client, Recorder
from qos_async.sim import Simulator

__all__ = ["recording_client"]


@asynccontextmanager
async def recording_client(
    sim: Simulator, recorder: Recorder, *symbols: str
) -> AsyncGenerator[Client]:
    """Record the trades of symbols, until the end of the block."""
    client = Client(
        sim.key, http_url=sim.http_url, stream_url=sim.stream_url, recorder=recorder
    )
    async with client, client.watch_trades(*symbols) as trades:
        reading = asyncio.create_task(_drain(trades))
        yield client
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _drain(trades: Any) -> None:
    async for _ in trades:
        pass
