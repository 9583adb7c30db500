"""Fixtures: a simulator without rate limits, and the environment that points to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from qos_async import Limits
from qos_async.sim import Simulator

PLAN = Limits(symbols=100, connections=50, command_interval=0.0, http_requests=10_000)


@pytest.fixture
def rate() -> float:
    """Trades of each symbol per second; low in tests that interrupt a program."""
    return 20.0


@pytest.fixture
async def simulator(rate: float) -> AsyncGenerator[Simulator]:
    async with Simulator(seed=1, rate=rate, plan=PLAN) as running:
        yield running


@pytest.fixture
def environment(simulator: Simulator) -> dict[str, str]:
    """Environment variables that point a program to the simulator."""
    return {
        "QOS_API_KEY": simulator.key,
        "QOS_HTTP_URL": simulator.http_url,
        "QOS_STREAM_URL": simulator.stream_url,
    }
