"""Beginning and end of a hub, cancelled at any step, and what clients leave behind."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from typing import Any

import pytest

from qos_async import Client, LinkState
from qos_async.errors import QosError
from qos_async.hub import Hub
from qos_async.sim import Simulator
from qos_async.testing.virtual import simulate
from tests.hub.test_connections import HEAD, Stranger, connect
from tests.support.hub_rig import Rig, rigged
from tests.support.sweep import running_loop
from tests.support.tape_judge import check_trades


@pytest.mark.fault("H33")
@pytest.mark.parametrize("step", range(20))
def test_a_hub_that_is_cancelled_while_it_is_entered_leaves_nothing_open(step: int):
    async def main() -> None:
        async with Simulator() as sim:
            client = Client(sim.key, http_url=sim.http_url, stream_url=sim.stream_url)
            hub = Hub(client)
            entering = asyncio.create_task(hub.__aenter__())
            await asyncio.sleep(step * 0.008)
            entering.cancel()
            await asyncio.gather(entering, return_exceptions=True)
            await hub.aclose()
            assert client.state in (LinkState.CLOSED, LinkState.IDLE)
            await asyncio.sleep(2)
            assert sim.connections == 0

    simulate(main)


@pytest.mark.fault("H33")
@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05, 0.5])
def test_a_hub_that_is_closed_while_it_is_entered_does_not_serve(seconds: float):
    async def main() -> None:
        async with Simulator() as sim:
            hub = Hub(Client(sim.key, stream_url=sim.stream_url))
            entering = asyncio.create_task(hub.__aenter__())
            await asyncio.sleep(seconds)
            await hub.aclose()
            await asyncio.gather(entering, return_exceptions=True)
            assert not hub.is_ready
            await hub.aclose()
            await asyncio.sleep(2)
            assert sim.connections == 0

    simulate(main)


@pytest.mark.fault("H33")
@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.7, 1.05, 1.2])
def test_a_hub_whose_end_is_cancelled_closes_everything(seconds: float):
    async def main() -> None:
        async with Simulator() as sim:
            client = Client(sim.key, http_url=sim.http_url, stream_url=sim.stream_url)
            hub = await Hub(client).__aenter__()
            rig = Rig(sim, hub)
            async with rig.raw() as raw:
                await raw.ask(type="T", codes=["US:AAPL"], reqid=1)
                closing = asyncio.create_task(hub.aclose())
                await asyncio.sleep(seconds)
                closing.cancel()
                await asyncio.gather(closing, return_exceptions=True)
                await raw.closing()
            assert client.state is LinkState.CLOSED
            await asyncio.sleep(1)
            assert sim.connections == 0

    simulate(main)


@pytest.mark.fault("H33")
@pytest.mark.parametrize("sent", [b"", b"GET /hub/ws HT", HEAD + b"Content-Length: 9"])
def test_a_hub_closes_while_a_handshake_is_under_way(sent: bytes):
    async def main() -> None:
        async with rigged() as rig:
            stranger = await connect(rig)
            stranger.transport.write(sent)
            await asyncio.sleep(0.1)
        async with asyncio.timeout(2):
            await stranger.ended.wait()

    simulate(main)


@pytest.mark.fault("H17")
def test_requests_that_wait_when_the_hub_stops_are_answered():
    async def main() -> None:
        async with rigged() as rig:
            rig.sim.delay_replies(20.0, "RS")
            asking = asyncio.create_task(rig.post("/snapshot", {"codes": ["US:AAPL"]}))
            await asyncio.sleep(1)
            await rig.hub.aclose()
            status, body, headers = await asking
            assert (status, body["msg"]) == (503, "the hub has stopped")
            assert headers["Retry-After"] == "1"

    simulate(main)


@pytest.mark.fault("H33")
def test_a_part_that_fails_ends_the_hub(monkeypatch, caplog):
    def fail(self: Any, now: float) -> None:
        raise ZeroDivisionError("of this test")

    async def main() -> None:
        async with rigged() as rig, rig.raw() as raw:
            monkeypatch.setattr("qos_async.hub.places.Places.expire", fail)
            code, reason = await raw.closing()
            assert code == 1012
            assert reason.startswith("internal error: ZeroDivisionError")
            with pytest.raises(QosError, match="internal error"):
                await rig.hub.serve_forever()

    simulate(main)
    assert "please report it" in caplog.text


async def visit(rig: Rig, number: int) -> None:
    """Come, do one of several things, and go in one of several ways."""
    stranger = await connect(rig)
    key = b"key: k%d\r\n" % number
    head = b"GET /hub/ws HTTP/1.1\r\nHost: localhost\r\n" + key
    upgrade = (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\n\r\n"
    )
    body = json.dumps({"codes": ["CF:BTCUSDT"]}).encode()
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    match number % 4:
        case 0:
            stranger.transport.write(head + upgrade + subscription(number))
        case 1:
            stranger.transport.write(HEAD.replace(b"key: any\r\n", key) + length + body)
        case 2:
            stranger.transport.write(head)
        case _:
            pass
    await asyncio.sleep(0.2)
    leave(stranger, number)


def subscription(number: int) -> bytes:
    """Return a frame that subscribes, masked with zeros."""
    command = {"type": "TSD"[number % 3], "codes": ["CF:BTCUSDT"], "reqid": number}
    payload = json.dumps(command).encode()
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def leave(stranger: Stranger, number: int) -> None:
    """End a connection with FIN, or with RST."""
    if number % 8 < 4:
        stranger.transport.close()
    else:
        stranger.transport.abort()


@pytest.mark.fault("H34")
def test_clients_that_come_and_go_leave_nothing_behind():
    sizes: list[int] = []

    async def main() -> None:
        async with rigged(rate=0.1) as rig:
            watcher = await rig.consumer("CF:BTCUSDT")
            tasks = 0
            for lap in range(5):
                for number in range(0, 400, 20):
                    visits = [visit(rig, n) for n in range(number, number + 20)]
                    await asyncio.gather(*visits)
                    await asyncio.sleep(0.5)
                await asyncio.sleep(40)
                assert len(rig.hub.stats.clients) == 1
                running_loop().net.connections.clear()  # It has every one.
                gc.collect()
                found = asyncio.all_tasks()
                assert lap == 0 or len(found) == tasks
                tasks = len(found)
                if lap == 1:
                    tracemalloc.start(2)
                elif lap > 1:
                    sizes.append(_allocated())
            check_trades(watcher, rig.sim)
            await watcher.stop()
            assert rig.sim.connections == 1

    try:
        simulate(main)
    finally:
        tracemalloc.stop()
    assert max(sizes[1:]) - sizes[0] < 10_000


def _allocated() -> int:
    """Return the bytes that the hub and aiohttp have allocated."""
    of_hub = [
        tracemalloc.Filter(True, "*/qos_async/hub/*", all_frames=True),
        tracemalloc.Filter(True, "*/qos_async/_server/*", all_frames=True),
        tracemalloc.Filter(True, "*/aiohttp/*", all_frames=True),
        # It keeps every frame, for tests.
        tracemalloc.Filter(False, "*/qos_async/sim/*", all_frames=True),
    ]
    snapshot = tracemalloc.take_snapshot().filter_traces(of_hub)
    return sum(found.size for found in snapshot.statistics("filename"))
