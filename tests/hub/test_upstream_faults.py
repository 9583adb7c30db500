"""Faults of the service, as a hub and its clients see them; the tape is the judge."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from qos_async import Client, Interrupted
from qos_async.errors import LimitError
from qos_async.hub import Hub
from qos_async.sim import Simulator, Variants
from qos_async.testing.virtual import simulate
from tests.support.hub_rig import TIMING, rigged
from tests.support.sweep import running_loop
from tests.support.tape_judge import check_trades

TAKES_OVER = Variants(second_connection="close_oldest")


async def take_key(sim: Simulator, *, pause: float, times: int = 1_000_000) -> None:
    """Connect with the key of the hub, and again a while after each time it is closed."""
    async with aiohttp.ClientSession(headers={"key": sim.key}) as session:
        for _ in range(times):
            with suppress(aiohttp.ClientError):
                async with session.ws_connect(sim.stream_url) as ws:
                    while (await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                        pass
            await asyncio.sleep(pause)


@asynccontextmanager
async def stranger(sim: Simulator, *, pause: float) -> AsyncGenerator[None]:
    """Run another program with the same key."""
    task = asyncio.create_task(take_key(sim, pause=pause))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def dials(sim: Simulator) -> int:
    return sum(request.path == "/ws" for request in sim.requests)


@pytest.mark.fault("H20")
def test_a_stranger_that_keeps_taking_the_key_ends_the_hub_and_clients_get_the_reason():
    async def main() -> None:
        async with rigged(variants=TAKES_OVER) as rig, rig.raw() as raw:
            await raw.ask(type="H")  # Without topics it stays until the hub ends.
            closing = asyncio.create_task(raw.closing())
            began = asyncio.get_running_loop().time()
            async with stranger(rig.sim, pause=0.1):
                with pytest.raises(LimitError, match="another client seems to use"):
                    async with asyncio.timeout(300):
                        await rig.hub.serve_forever()
            lasted = asyncio.get_running_loop().time() - began
            code, reason = await closing
            assert code == 1012
            assert reason.startswith(
                "another client seems to use this plan's only conn"
            )
            assert lasted > 2  # It waits longer each time.
            assert dials(rig.sim) <= 12  # Of both together.
            async with aiohttp.ClientSession() as http:
                with pytest.raises(aiohttp.WSServerHandshakeError) as error:
                    await http.ws_connect(rig.hub.stream_url)
                assert error.value.status == 429
            assert rig.hub.stats.upstream == "closed"
            assert "another client" in rig.hub.stats.upstream_reason
            await asyncio.sleep(600)
            assert rig.sim.connections == 0

    simulate(main)


@pytest.mark.fault("H20")
def test_a_stranger_that_takes_the_key_now_and_then_costs_gaps_and_no_fight():
    async def main() -> None:
        async with rigged(variants=TAKES_OVER) as rig:
            consumer = await rig.consumer("US:AAPL")
            async with stranger(rig.sim, pause=40.0):
                await asyncio.sleep(1200)
                assert "replaced by a new connection" in rig.hub.stats.upstream_reason
            await asyncio.sleep(60)
            check_trades(consumer, rig.sim)
            assert rig.hub.is_ready
            assert dials(rig.sim) <= 2 * (1200 / 40) + 4
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H20")
@pytest.mark.parametrize("status", [429, 403])
def test_while_a_stranger_holds_the_key_clients_wait_and_the_hub_dials_seldom(status):
    async def main() -> None:
        variants = Variants(second_connection_status=status)
        async with rigged(variants=variants, heartbeat_limit=300.0) as rig:
            consumer = await rig.consumer("US:AAPL")
            async with aiohttp.ClientSession(headers={"key": rig.sim.key}) as session:
                rig.sim.cut()
                async with session.ws_connect(rig.sim.stream_url):
                    await asyncio.sleep(60)
                    assert not rig.hub.is_ready
                    assert rig.hub.stats.upstream in ("backoff", "connecting")
                    assert f"HTTP {status}" in rig.hub.stats.upstream_reason
                    assert dials(rig.sim) < 60
                    assert any(isinstance(e, Interrupted) for e in consumer.events)
            await asyncio.sleep(60)
            assert rig.hub.is_ready
            check_trades(consumer, rig.sim)
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H21")
def test_a_service_that_falls_silent_is_noticed_and_its_clients_get_a_gap():
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            consumer = await rig.consumer("US:AAPL")
            await raw.ask(type="T", codes=["US:AAPL"], reqid=1)
            closing = asyncio.create_task(raw.closing())
            await asyncio.sleep(10)
            rig.sim.mute()
            muted_at = rig.sim.now
            await asyncio.sleep(40)
            assert not rig.hub.is_ready
            code, reason = await closing
            assert code == 1012
            assert re.fullmatch(
                r"US:AAPL: ticks of the last \d+ s may be missing: "
                "the link to the service is down",
                reason,
            )
            assert any(isinstance(e, Interrupted) for e in consumer.events)
            rig.sim.unmute()
            await asyncio.sleep(60)
            check_trades(consumer, rig.sim)
            # The hub replied to heartbeats until it noticed.
            [gap] = consumer.gaps()
            assert muted_at - 3 < gap.since.timestamp() < muted_at + 1
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H21")
def test_replies_that_are_late_or_never_come_delay_one_client_and_no_push():
    async def main() -> None:
        async with rigged() as rig:
            consumer = await rig.consumer("US:AAPL")
            rig.sim.delay_replies(3.0, "D", count=1)
            rig.sim.drop_replies("S", count=2)
            async with rig.raw() as slow, asyncio.timeout(60):
                reply = await slow.ask(type="D", codes=["US:TSLA"], reqid=1)
                assert reply["msg"] == "OK"
                reply = await slow.ask(type="S", codes=["US:TSLA"], reqid=2)
                assert reply["msg"] == "OK"
            check_trades(consumer, rig.sim)
            assert consumer.gaps() == []
            assert rig.sim.violations == []
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H21")
def test_a_slow_network_delays_ticks_and_loses_none():
    async def main() -> None:
        running_loop().net.latency = (0.3, 0.8)
        async with rigged() as rig:
            consumer = await rig.consumer("US:AAPL")
            await asyncio.sleep(120)
            check_trades(consumer, rig.sim)
            assert len(consumer.events) > 120
            assert consumer.gaps() == []
            assert rig.sim.violations == []
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H21")
@pytest.mark.parametrize("status", [503, None])
def test_a_service_that_refuses_is_asked_less_and_less_often(status):
    async def main() -> None:
        async with rigged() as rig:
            consumer = await rig.consumer("US:AAPL")
            rig.sim.reject_upgrades(status, count=None)
            rig.sim.cut()
            await asyncio.sleep(60)
            assert not rig.hub.is_ready
            assert rig.hub.stats.upstream_reason
            async with aiohttp.ClientSession() as http:
                with pytest.raises(aiohttp.WSServerHandshakeError) as error:
                    await http.ws_connect(rig.hub.stream_url)
                assert error.value.status == 503
                assert error.value.headers is not None
                assert error.value.headers["Retry-After"] == "1"
            # Every second on the average, as TIMING has it; aiohttp repeats each that
            # is aborted.
            assert dials(rig.sim) < 120
            rig.sim.allow_upgrades()
            await asyncio.sleep(60)
            check_trades(consumer, rig.sim)
            await consumer.stop()

    simulate(main)


@pytest.mark.fault("H21")
def test_a_hub_that_starts_before_the_service_serves_once_it_is_there():
    async def main() -> None:
        async with Simulator() as sim:
            sim.go_down()
            upstream = Client(
                sim.key, http_url=sim.http_url, stream_url=sim.stream_url, timing=TIMING
            )
            async with Hub(upstream) as hub:
                await asyncio.sleep(20)
                assert not hub.is_ready
                async with Client(
                    "any", http_url=hub.http_url, stream_url=hub.stream_url
                ) as client:
                    trades = client.watch_trades("US:AAPL")
                    await asyncio.sleep(20)
                    sim.come_back()
                    async with asyncio.timeout(90):
                        assert (await anext(aiter(trades))).symbol == "US:AAPL"

    simulate(main)


@pytest.mark.fault("H4")
def test_the_reason_of_an_expired_key_is_in_the_close_frame():
    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            await raw.ask(type="H")  # No topic: the link is not closed before.
            rig.sim.expire_key()
            rig.sim.cut()
            async with asyncio.timeout(300):
                code, reason = await raw.closing()
            assert code == 1012
            assert "key is wrong or expired" in reason

    simulate(main)
