"""Hubs that record into a stream, stand by, or serve from it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from qos_async import Client, Recorder, follow
from qos_async.hub import Hub
from qos_async.jetstream.api import call
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.wire import Wire
from qos_async.sim import Simulator
from tests.support.hub_process import (
    HubProcess,
    VendorClient,
    check_links,
    hub_process,
)
from tests.support.hub_rig import Rig
from tests.support.nats_servers import NatsServer
from tests.support.stream_judge import check_tape, live_entries, read_stream
from tests.support.tape_judge import Consumer, check_trades

SYMBOL = "US:AAPL"


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(rate=10) as simulator:
        yield simulator


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.05)


async def ready(hub: HubProcess) -> None:
    async with asyncio.timeout(40):
        while not (await hub.stats()).ready:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.1)


async def waits_for(hub: HubProcess, reason: str) -> None:
    """Wait until a hub stands by for a reason."""
    async with asyncio.timeout(40):
        while reason not in (await hub.stats()).upstream_reason:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.1)
    stats = await hub.stats()
    assert (stats.ready, stats.upstream) == (False, "standby")


def ticks(vendor: VendorClient, link: int) -> int:
    return len(vendor.links[link]) if link < len(vendor.links) else 0


@asynccontextmanager
async def two_clients(hub: HubProcess) -> AsyncGenerator[tuple[Consumer, VendorClient]]:
    """Run a client of ours and the SDK of the vendor."""
    consumer = Consumer(hub.client(), SYMBOL)
    vendor = VendorClient(hub.stream_url, SYMBOL)
    await consumer.start()
    await vendor.start()
    try:
        yield consumer, vendor
    finally:
        await asyncio.gather(consumer.stop(), vendor.stop())


@pytest.mark.slow
@pytest.mark.fault("H46", "H47")
async def test_a_standby_hub_takes_over_and_a_hub_of_the_stream_serves_both(
    sim: Simulator, node: NatsServer, stream_name: str
):
    place = f"{node.url}/{stream_name}"
    options = ("--record", place, "--lease", "2", "--subscribe", "trades", SYMBOL)
    async with hub_process(sim, *options) as holder:
        await ready(holder)
        async with (
            hub_process(sim, *options) as standby,
            hub_process(None, "--from", place) as served,
        ):
            await waits_for(standby, "waiting for the lease, which process")
            assert sim.connections == 1
            await ready(served)
            async with two_clients(served) as (consumer, vendor):
                await until(lambda: ticks(vendor, 0) > 5)
                assert await holder.stop(signal.SIGTERM) == 0
                await ready(standby)
                # An outage that was filled closes no link of a hub.
                before = sum(map(len, vendor.links))
                await until(lambda: sum(map(len, vendor.links)) > before + 5)
                assert sim.connections == 1
                await asyncio.sleep(0.5)
                check_trades(consumer, sim, to_now=False)
                check_links(vendor.links, sim, SYMBOL)
            assert await standby.stop(signal.SIGTERM) == 0
            assert await served.stop(signal.SIGTERM) == 0
    found = live_entries(await read_stream(node.url, stream_name))
    async with Wire(parse_place(place, {})) as wire:  # It has half of the room.
        await call(wire, f"STREAM.DELETE.{stream_name}")
    assert check_tape(found, SYMBOL, sim.tape(SYMBOL)) > 20
    kinds = [one.entry.kind for one in found if one.entry is not None]
    assert kinds.count("closed") == 2
    assert sim.violations == []


@pytest.mark.slow
@pytest.mark.fault("H48")
async def test_clients_of_a_stream_whose_broker_is_away_are_closed_until_it_is_back(
    sim: Simulator, own_node: NatsServer
):
    await asyncio.to_thread(own_node.start)
    place = f"{own_node.url}/QOS"
    client = Client(
        sim.key,
        http_url=sim.http_url,
        stream_url=sim.stream_url,
        recorder=(recorder := Recorder(place)),
    )
    async with client, client.watch_trades(SYMBOL) as trades:
        await anext(aiter(trades))
        await recorder.flush()
        async with Hub(follow(place, numbers=str)) as hub:
            rig = Rig(sim, hub)
            async with rig.raw() as raw:
                assert (await raw.ask(type="T", codes=[SYMBOL]))["msg"] == "OK"
                own_node.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
                async with asyncio.timeout(30):
                    code, reason = await raw.closing()
                assert code == 1012
                assert "may be missing: the recording cannot be read" in reason
                assert not hub.is_ready
                status, body, _ = await rig.post("/trade", {"codes": [SYMBOL]})
                assert status == 502
                assert body["msg"].startswith("the recording cannot be read")
            own_node.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
            await until(lambda: hub.is_ready)
            async with rig.raw() as raw:
                began = sim.now
                assert (await raw.ask(type="T", codes=[SYMBOL]))["msg"] == "OK"
                pushed = await raw.receive()
                assert pushed["ts"] >= began - 2


@pytest.mark.slow
@pytest.mark.fault("H47")
async def test_a_hub_whose_broker_refuses_the_password_ends_with_the_remedy(
    sim: Simulator, own_node: NatsServer
):
    own_node.configure('authorization { user: "u", password: "right-one" }')
    await asyncio.to_thread(own_node.start)
    place = f"nats://u:wrong-one@127.0.0.1:{own_node.port}/QOS"
    async with hub_process(sim, "--record", place, "--lease", "5") as hub:
        assert await hub.stop() == 1
    assert "refuses the credentials: check QOS_NATS_USER" in hub.lines[-1]
    assert "wrong-one" not in "".join(hub.lines)
