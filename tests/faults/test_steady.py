"""What tests/soak does at length, in little: so that it runs, and is seen to bite."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Generator
from typing import Any

import pytest

from qos_async.testing.virtual import simulate
from tests.support import soak_loads as loads
from tests.support.memory_transport import Network, opened, trade
from tests.support.soak_meter import Meter, sizes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")


@pytest.fixture(autouse=True)
def quiet() -> Generator[None]:
    """Log nothing: pytest would keep the records."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.fault("U17", "I16")
@pytest.mark.virtual_time
async def test_reconnects_leave_nothing_behind():
    report = await loads.reconnects(80, 60)
    assert (report.count, report.left) == (80, {})


@pytest.mark.fault("U18", "I16")
@pytest.mark.virtual_time
async def test_subscriptions_that_open_and_close_leave_nothing_behind():
    report = await loads.churn(symbols=300, readers=300)
    assert (report.count, report.left) == (300, {})


@pytest.mark.fault("U17", "I8", "I10")
def test_hours_with_outages_lose_nothing_silently():
    report = simulate(lambda: loads.days(6, 60, seed=2), horizon=1e9)
    assert report.more["trades"] > 3000


@pytest.mark.fault("U16", "I7")
async def test_ticks_through_a_socket_are_all_counted():
    report = await loads.firehose(100_000, 60)
    assert report.count == 100_000


@pytest.mark.fault("I16")
@pytest.mark.parametrize("leak", ["tasks", "timers", "files", "objects", "entries"])
@pytest.mark.virtual_time
async def test_the_meter_detects_growth(leak, tmp_path):
    kept: list[Any] = []
    loop = asyncio.get_running_loop()
    async with opened(Network()) as client:
        await client.connect()
        meter = Meter("steps", 1000, 60, client)
        grow = {
            "tasks": lambda: loop.create_task(asyncio.sleep(1e9)),
            "timers": lambda: loop.call_later(1e9, print),
            "files": lambda: (tmp_path / "file").open("a"),
            "objects": lambda: [[]],
            "entries": lambda: client._stream._pending._futures.update(
                {len(kept): loop.create_future()}
            ),
        }[leak]
        while meter.add():
            kept.append(grow())
        report = meter.report()
        with pytest.raises(AssertionError):
            meter.check(report)
        for one in kept:
            for end in ("cancel", "close"):
                getattr(one, end, lambda: None)()
        client._stream._pending._futures.clear()
        await asyncio.sleep(0)


@pytest.mark.fault("I16")
@pytest.mark.virtual_time
async def test_the_meter_finds_the_containers_of_a_client():
    net = Network()
    async with opened(net) as client:
        before = sizes(client)
        trades = client.watch_trades("US:AAPL,TSLA")
        (await net.link()).push(trade(1))
        await asyncio.sleep(1)
        grown = {
            p.rpartition(".")[2]
            for p, n in sizes(client).items()
            if n > before.get(p, 0)
        }
        assert {"_wanted", "symbols", "_held", "_queues", "pending"} <= grown
        await trades.aclose()
