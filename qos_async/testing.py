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
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from qos_async.sim import Simulator

__all__ = ["qos_simulator"]

_PLAIN, _MARKED = "_qos_simulator_plain", "_qos_simulator_asyncio"
_PYTEST_ASYNCIO = ("asyncio", "pytest_asyncio.plugin")  # Installed; by -p.


def pytest_configure(config: pytest.Config) -> None:
    """Offer the fixture in the forms that the run's asyncio plugins understand."""
    plugin = ModuleType("qos_async.testing.fixtures")  # pytest looks into modules.
    fixtures = plugin.__dict__
    fixtures[_PLAIN] = pytest.fixture(_simulator, name=_PLAIN)
    if any(config.pluginmanager.hasplugin(name) for name in _PYTEST_ASYNCIO):
        import pytest_asyncio  # noqa: PLC0415 - it is loaded already, or we are not here.

        fixtures[_MARKED] = pytest_asyncio.fixture(
            _copy_of_simulator, name=_MARKED, loop_scope="function"
        )
    config.pluginmanager.register(plugin, plugin.__name__)


@pytest.fixture
def qos_simulator(request: pytest.FixtureRequest) -> Simulator:
    """Give a running ``Simulator`` with ``seed=1`` and a generous plan."""
    # It has to run in the loop of the test, and every plugin has a loop of its own.
    anyio = "anyio_backend" in request.fixturenames
    marked = any(request.config.pluginmanager.hasplugin(one) for one in _PYTEST_ASYNCIO)
    simulator: Simulator = request.getfixturevalue(
        _MARKED if marked and not anyio else _PLAIN
    )
    return simulator


async def _simulator() -> AsyncGenerator[Simulator, None]:
    from qos_async.sim import Limits, Simulator  # noqa: PLC0415 - see the module.

    plan = Limits(command_interval=0.0, http_requests=10_000)
    async with Simulator(seed=1, plan=plan) as simulator:
        yield simulator


async def _copy_of_simulator() -> AsyncGenerator[Simulator, None]:
    # pytest-asyncio marks the function itself; anyio must not see that mark.
    async for simulator in _simulator():
        yield simulator
