"""A pytest plugin: the fixture ``qos_simulator``, a running QOS server of your own.

    async def test_prices_arrive(qos_simulator):
        async with Client(
            qos_simulator.key,
            http_url=qos_simulator.http_url,
            stream_url=qos_simulator.stream_url,
        ) as client:
            assert await client.fetch_snapshots("US:AAPL")

Its plan allows a command at any time and plenty of requests, so tests are fast; for
another plan, seed or fault use ``qos_async.sim.Simulator`` itself. It works under
pytest-asyncio, strict or auto, and under anyio's plugin on asyncio.

pytest loads this module in every run on a machine that has the package installed, so
it imports the simulator only when the fixture is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from qos_async.sim import Simulator

__all__ = ["pytest_configure"]

_PYTEST_ASYNCIO = ("asyncio", "pytest_asyncio.plugin")  # Installed; by -p.


def pytest_configure(config: pytest.Config) -> None:
    """Offer the fixture in the form that the run's asyncio plugin understands."""
    fixture: Any = pytest.fixture
    if any(config.pluginmanager.hasplugin(name) for name in _PYTEST_ASYNCIO):
        import pytest_asyncio  # noqa: PLC0415 - it is loaded already, or we are not here.

        fixture = partial(pytest_asyncio.fixture, loop_scope="function")
    plugin = ModuleType("qos_async.testing.fixtures")  # pytest looks into modules.
    plugin.__dict__["qos_simulator"] = fixture(_simulator, name="qos_simulator")
    config.pluginmanager.register(plugin, plugin.__name__)


async def _simulator() -> AsyncGenerator[Simulator, None]:
    """Give a running ``Simulator`` with ``seed=1`` and a generous plan."""
    from qos_async.sim import Limits, Simulator  # noqa: PLC0415 - see the module.

    plan = Limits(command_interval=0.0, http_requests=10_000)
    async with Simulator(seed=1, plan=plan) as simulator:
        yield simulator
