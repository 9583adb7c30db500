"""A simulator that is as quick as the documents are patient."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from qos_async import Limits
from qos_async.sim import Simulator

PLAN = Limits(symbols=100, connections=50, command_interval=0.0, http_requests=10_000)


@pytest.fixture
def rate() -> float:
    """Trades of each symbol in a second; a test that interrupts a program wants few."""
    return 20.0


@pytest.fixture
async def simulator(rate: float) -> AsyncGenerator[Simulator]:
    async with Simulator(seed=1, rate=rate, plan=PLAN) as running:
        yield running


@pytest.fixture
def environment(simulator: Simulator) -> dict[str, str]:
    """What points a program at the simulator."""
    return {
        "QOS_API_KEY": simulator.key,
        "QOS_HTTP_URL": simulator.http_url,
        "QOS_STREAM_URL": simulator.stream_url,
    }
