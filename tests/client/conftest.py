"""A simulator and a client for it, both fast."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from qos_async import Client, Limits, Timing
from qos_async.sim import Simulator
from tests.support.memory_transport import KEY

__all__ = ["Start"]

Start = Callable[..., Any]


@pytest.fixture
async def start(fast_limits: Limits) -> AsyncGenerator[Start]:
    """Start simulators whose plan is the client's: ``sim = await start()``.

    Their ``violations`` fail the test, unless it clears them.
    """
    running: list[Simulator] = []
    async with AsyncExitStack() as stack:

        async def begin(**options: Any) -> Simulator:
            options.setdefault("plan", fast_limits)
            options.setdefault("rate", 50.0)
            options.setdefault("history", 10.0)
            options.setdefault("key", KEY)
            sim = await stack.enter_async_context(Simulator(**options))
            running.append(sim)
            return sim

        yield begin
    assert [sim.violations for sim in running] == [[] for _ in running]


@pytest.fixture
async def sim(start: Start) -> Simulator:
    """One simulator with nothing special."""
    running: Simulator = await start()
    return running


@pytest.fixture
def dial(fast_timing: Timing) -> Callable[..., Client]:
    """Make a client for a simulator: ``async with dial(sim) as client``."""

    def make(sim: Simulator, **options: Any) -> Client:
        options.setdefault("key", KEY)
        options.setdefault("limits", sim.plan)
        options.setdefault("timing", fast_timing)
        options.setdefault("http_url", sim.http_url)
        options.setdefault("stream_url", sim.stream_url)
        return Client(**options)

    return make
