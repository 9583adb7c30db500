"""A pytest plugin: a QOS server of your own for every test that asks for one.

It is there as soon as the package is installed, under pytest-asyncio (strict or auto)
and under anyio's plugin on asyncio.

    async def test_a_cut_is_told(qos_simulator, qos_client):
        async with qos_client.watch_trades("CF:BTCUSDT") as trades:
            await anext(trades)
            qos_simulator.cut()
            async for event in trades.events():
                if isinstance(event, Gap):
                    break

Fixtures:
    qos_simulator: A running ``Simulator``; its methods are what can go wrong.
    qos_client: A ``Client`` that is connected to it, closed after the test.
    qos_environment: Points every other ``Client()`` at it, by the environment.

Options of a test, a class or a module (``pytestmark``) stand in a mark; what stands
closer to the test wins:

    @pytest.mark.qos(seed=7, rate=50, plan=Limits(symbols=3), numbers=float)

Those of ``Simulator`` are ``seed``, ``speed``, ``plan``, ``faults``, ``variants``,
``start``, ``history``, ``rate``, ``push_interval``, ``heartbeat_limit``, ``open_universe`` and
``oldest_bars``. Those of ``Client`` are ``numbers``, ``key_in``, ``limits`` (the plan's
by default), ``timing``, ``recover``, ``recorder`` and ``transport``. Unless told
otherwise, the plan allows a command at any time and plenty of requests, and the client
dials again at once, so that tests are fast.

With ``virtual=True`` the test runs on a loop whose clock jumps over every wait, in a
network in memory: an hour's outage is over in less than a second. Then plan and patience
are those of production, for waiting costs nothing, and ``time.time`` tells the virtual
time. ``horizon`` is how many virtual seconds it may take, 86,400 by default. It needs
pytest-asyncio 1.4 or newer; under anyio's plugin let your fixture ``anyio_backend``
return ``("asyncio", {"loop_factory": SimLoop})``.

For tests without a pytest plugin there is ``simulate``. ``SimLoop``, ``VirtualLoop``,
``Network``, ``Connection`` and more are described in ``qos_async.testing.virtual``.

pytest loads this module in every run on a machine that has the package installed, so
it imports the simulator only when a fixture is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qos_async.testing.plugin import (
    pytest_configure,
    pytest_generate_tests,
    qos_client,
    qos_environment,
    qos_simulator,
)

if TYPE_CHECKING:
    from qos_async.testing.virtual import (
        Connection,
        Deadlock,
        Horizon,
        Network,
        SimLoop,
        VirtualLoop,
        simulate,
    )

__all__ = [
    "Connection",
    "Deadlock",
    "Horizon",
    "Network",
    "SimLoop",
    "VirtualLoop",
    "pytest_configure",
    "pytest_generate_tests",
    "qos_client",
    "qos_environment",
    "qos_simulator",
    "simulate",
]


def __getattr__(name: str) -> Any:
    # Not in __dir__: pytest looks at all that is there, which would import it.
    if name in __all__:
        return getattr(import_module("qos_async.testing.virtual"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
