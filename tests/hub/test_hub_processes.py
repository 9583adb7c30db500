"""``qos hub`` as a process that is killed, restarted or robbed of its key."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import websockets

from qos_async.sim import Simulator, Variants
from tests.support.hub_process import (
    BareClient,
    HubProcess,
    VendorClient,
    check_links,
    hub_process,
)
from tests.support.tape_judge import Consumer, check_trades

pytestmark = pytest.mark.slow

SYMBOL = "US:AAPL"


@asynccontextmanager
async def three_clients(
    hub: HubProcess,
) -> AsyncGenerator[tuple[Consumer, BareClient, VendorClient]]:
    """Run a client of ours, a bare websocket and the vendor's SDK."""
    consumer = Consumer(hub.client(), SYMBOL)
    await consumer.start()
    bare, vendor = (
        BareClient(hub.stream_url, SYMBOL),
        VendorClient(hub.stream_url, SYMBOL),
    )
    await vendor.start()
    try:
        yield consumer, bare, vendor
    finally:
        await asyncio.gather(consumer.stop(), bare.stop(), vendor.stop())


def trades_of(client: BareClient | VendorClient, link: int) -> int:
    return len(client.links[link]) if link < len(client.links) else 0


@pytest.mark.fault("H19")
async def test_clients_of_a_hub_that_is_killed_have_each_trade_once_or_a_gap():
    async with (
        Simulator(rate=8.0) as sim,
        hub_process(sim) as hub,
        three_clients(hub) as (consumer, bare, vendor),
    ):
        others = (bare, vendor)
        await sim.until(
            lambda: all(trades_of(one, 0) > 5 for one in others), timeout=15
        )
        assert await hub.stop(signal.SIGKILL) == -signal.SIGKILL
        await hub.start()
        await sim.until(
            lambda: (
                all(trades_of(one, 1) > 5 for one in others) and bool(consumer.gaps())
            ),
            timeout=30,
        )
        assert consumer.client.stats.reconnects_by_reason["broken"] == 1
        assert len(consumer.gaps()) == 1
        assert bare.codes == [None]
        check_trades(consumer, sim)
        check_links(bare.links, sim, SYMBOL)
        check_links(vendor.links, sim, SYMBOL)
        assert sim.connections == 1
        assert sim.violations == []


@pytest.mark.fault("H17")
async def test_a_restart_under_load_refuses_no_client_and_loses_no_trade_silently():
    async with Simulator(rate=4.0) as sim, hub_process(sim) as hub:
        consumers = [Consumer(hub.client(), SYMBOL) for _ in range(25)]
        await asyncio.gather(*(consumer.start() for consumer in consumers))
        bare = [BareClient(hub.stream_url, SYMBOL) for _ in range(15)]
        await sim.until(lambda: all(trades_of(one, 0) for one in bare), timeout=15)
        assert await hub.stop(signal.SIGTERM) == 0
        await hub.start()
        await sim.until(lambda: all(trades_of(one, -1) for one in bare), timeout=15)
        await sim.until(
            lambda: all(consumer.gaps() for consumer in consumers), timeout=30
        )
        assert all(one.codes == [1012] for one in bare)
        for consumer in consumers:
            assert consumer.client.stats.reconnects_by_reason["close 1012"] == 1
            check_trades(consumer, sim)
        for one in bare:
            check_links(one.links, sim, SYMBOL)
        stats = await hub.stats()
        assert stats.refused == 0
        assert len(stats.clients) == 40
        assert sim.violations == []
        await asyncio.gather(
            *(one.stop() for one in consumers), *(one.stop() for one in bare)
        )


async def take_key(sim: Simulator) -> None:
    """Connect with the key of the hub, again and again."""
    while True:
        async with websockets.connect(f"{sim.stream_url}?key={sim.key}") as ws:
            with pytest.raises(websockets.ConnectionClosed):
                await ws.recv()
        await asyncio.sleep(0.1)


@pytest.mark.fault("H20")
async def test_a_hub_whose_key_is_taken_again_and_again_ends_with_a_sentence():
    variants = Variants(second_connection="close_oldest")
    async with (
        Simulator(rate=8.0, variants=variants) as sim,
        hub_process(sim) as hub,
        hub.client() as client,
    ):
        await client.connect()
        changes = client.states()
        taking = asyncio.create_task(take_key(sim))
        assert await hub.stop() == 1
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        lost = [
            line for line in hub.lines if line.startswith("qos: warning: link lost")
        ]
        assert len(lost) == 4
        assert all("replaced by a new connection" in line for line in lost)
        assert hub.lines[-1].startswith(
            "qos: another client seems to use this plan's only connection: stop that one"
        )
        assert "1012: another client seems to use" in (await anext(changes)).reason
        await changes.aclose()
