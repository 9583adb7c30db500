"""A session of the user's own with too few connections."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from qos_async import Client, ConnectError, Limits, Timing
from qos_async.sim import Simulator
from tests.support.memory_transport import KEY

pytestmark = pytest.mark.fault("F30")

PLAN = Limits(command_interval=0.0, http_requests=1000, connections=2)
QUICK = Timing(connect_timeout=0.3, backoff_initial=0.01, backoff_max=0.05)
ADVICE = r"no free connection.*TCPConnector\(limit=0\)"
HELD = r"no free connection: the websocket holds one.*TCPConnector\(limit=0\)"


def client(sim: Simulator, session: aiohttp.ClientSession) -> Client:
    return Client(
        KEY,
        http_url=sim.http_url,
        stream_url=sim.stream_url,
        limits=PLAN,
        timing=QUICK,
        session=session,
    )


def lent(**limits: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(**limits))


@pytest.mark.parametrize("limits", [{"limit": 1}, {"limit_per_host": 1}])
async def test_a_request_beside_the_websocket_says_what_to_do(limits):
    async with (
        Simulator(key=KEY, plan=PLAN) as sim,
        lent(**limits) as session,
        client(sim, session) as one,
    ):
        await one.connect()
        with pytest.raises(ConnectError, match=HELD):
            await one.fetch_snapshots("US:AAPL")
        assert await one.fetch_snapshots("US:AAPL", via="stream")


@pytest.mark.parametrize("limits", [{"limit": 1}, {"limit_per_host": 1}])
async def test_a_websocket_beside_another_connection_says_what_to_do(limits):
    async with (
        Simulator(key=KEY, plan=PLAN) as sim,
        lent(**limits) as session,
        client(sim, session) as one,
    ):
        held = await session.ws_connect(sim.stream_url, headers={"key": KEY})
        with pytest.raises(ConnectError, match=ADVICE) as raised:
            await one.connect()
        assert "websocket holds" not in str(raised.value)
        with pytest.raises(ConnectError, match=ADVICE) as raised:
            await one.fetch_snapshots("US:AAPL")
        assert "websocket holds" not in str(raised.value)
        sim.cut()
        await held.receive()
        await held.close()
        await asyncio.sleep(0.1)


async def test_a_session_with_room_works():
    async with (
        Simulator(key=KEY, plan=PLAN) as sim,
        lent(limit=2) as session,
        client(sim, session) as one,
    ):
        await one.connect()
        assert await one.fetch_snapshots("US:AAPL")


async def test_a_server_that_does_not_answer_is_no_fault_of_the_session():
    opened: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(
        lambda _, writer: opened.append(writer), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    async with lent(limit=1) as session:
        url = f"ws://127.0.0.1:{port}/ws"
        async with Client(
            KEY, stream_url=url, limits=PLAN, timing=QUICK, session=session
        ) as one:
            with pytest.raises(ConnectError, match=r"did not connect within 0\.3 s$"):
                await one.connect()
    server.close()
    for writer in opened:
        writer.close()
        await writer.wait_closed()
