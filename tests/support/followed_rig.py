"""A simulator, a client that records it, and a hub of what it records, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from qos_async import Client, Recorder, Topic, follow
from qos_async.hub import Hub
from qos_async.sim import Simulator
from tests.support.hub_rig import TIMING, Rig

__all__ = ["followed", "recording", "simulated_market"]

_FLUSH_INTERVAL = 0.1


def simulated_market(**options: Any) -> Simulator:
    """Return a simulator of few ticks."""
    return Simulator(**{"rate": 2.0, "push_interval": 0.1, **options})


@asynccontextmanager
async def recording(
    sim: Simulator, place: Path, topics: Sequence[Topic], **options: Any
) -> AsyncGenerator[Client[Any]]:
    """Record topics; all that was received is written ten times a second."""
    recorder = Recorder(place)
    client = Client(
        sim.key,
        http_url=sim.http_url,
        stream_url=sim.stream_url,
        timing=TIMING,
        recorder=recorder,
        **options,
    )

    async def flush() -> None:
        while True:
            await asyncio.sleep(_FLUSH_INTERVAL)
            await recorder.flush()

    async with client, client.watch(*topics):
        flushing = asyncio.create_task(flush())
        try:
            yield client
        finally:
            flushing.cancel()
            await asyncio.gather(flushing, return_exceptions=True)


@asynccontextmanager
async def followed(
    sim: Simulator, place: Path, *, start: Any = None, **options: Any
) -> AsyncGenerator[Rig]:
    """Run a hub that follows a directory."""
    async with Hub(follow(place, start, numbers=str), **options) as hub:
        yield Rig(sim, hub)
