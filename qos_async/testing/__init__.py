"""Pytest plugin: a simulated QOS server, and a client of it, as fixtures.

It is active as soon as the package is installed, under pytest-asyncio (strict or auto)
and under anyio's plugin on asyncio.

    async def test_a_cut_is_reported(qos_simulator, qos_client):
        async with qos_client.watch_trades("CF:BTCUSDT") as trades:
            await anext(trades)
            qos_simulator.cut()
            async for event in trades.events():
                if isinstance(event, Gap):
                    break

Fixtures:
    qos_simulator: A running ``Simulator``; its methods inject faults.
    qos_client: A ``Client`` that is connected to it, closed after the test.
    qos_environment: Environment variables that connect every other ``Client()`` to it.

Options are set by a mark on a test, a class or a module (``pytestmark``); the mark that
is closest to the test wins:

    @pytest.mark.qos(seed=7, rate=50, plan=Limits(symbols=3), numbers=float)

Those of ``Simulator`` are ``seed``, ``speed``, ``plan``, ``faults``, ``variants``,
``start``, ``history``, ``rate``, ``push_interval``, ``heartbeat_limit``, ``open_universe``,
``oldest_bars`` and ``market_hours``. Those of ``Client`` are ``numbers``, ``key_in``, ``limits`` (the plan's
by default), ``timing``, ``recover``, ``recorder`` and ``transport``. By default the plan
allows a command at any time and 10,000 requests, and the client reconnects within half
a second, so that tests are fast.

With ``virtual=True`` the test runs on a loop whose clock jumps over every wait, with a
network in memory: an hour's outage takes less than a second. Then plan and timing are
those of production, because waiting takes no time, and ``time.time`` returns the virtual
time. ``horizon`` is the number of virtual seconds that it may take, 86,400 by default.
It needs pytest-asyncio 1.4 or newer; under anyio's plugin your fixture ``anyio_backend``
must return ``("asyncio", {"loop_factory": SimLoop})``.

For tests without these plugins there is ``simulate``. ``SimLoop``, ``VirtualLoop``,
``Network``, ``Connection`` and more are described in ``qos_async.testing.virtual``.

pytest loads this module in every run on a machine that has the package installed, so
it imports the simulator only when a fixture is requested.
"""

from __future__ import annotations

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
    # Not in __dir__: pytest inspects everything there, which would import it.
    if name in __all__:
        from qos_async._lazy import import_attribute  # noqa: PLC0415 - only when needed

        return import_attribute("qos_async.testing.virtual", name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
