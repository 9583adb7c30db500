"""Loops that start tasks eagerly, as ``asyncio.eager_task_factory`` does."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from qos_async import AuthenticationError, Client, ConnectError, LinkState, Trade
from tests.support.memory_transport import Network, opened, trade

pytestmark = [
    pytest.mark.virtual_time,
    pytest.mark.fault("E1"),
    pytest.mark.skipif(
        not hasattr(asyncio, "eager_task_factory"),
        reason="asyncio.eager_task_factory is new in Python 3.12",
    ),
]


@pytest.fixture(autouse=True)
async def _eager() -> None:
    factory: Any = getattr(asyncio, "eager_task_factory", None)
    asyncio.get_running_loop().set_task_factory(factory)


async def test_connecting_raises_a_failure_that_needed_no_wait():
    net = Network(ConnectError("no route"))
    async with opened(net) as client:
        with pytest.raises(ConnectError, match="no route"):
            await client.connect()


async def test_the_first_back_off_is_not_skipped():
    net = Network(*[ConnectError("no route")] * 3)
    async with opened(net) as client:
        with pytest.raises(ConnectError):
            await client.connect()
        await net.link()
    waits = [later - earlier for earlier, later in pairwise(net.dialled_at)]
    assert waits == [0.5, 1.0, 2.0]


async def test_connecting_again_dials_at_once():
    net = Network(*[ConnectError("no route")] * 4)
    async with opened(net) as client:
        for _ in range(4):
            with pytest.raises(ConnectError):
                await client.connect()
        await client.connect()
        assert client.state is LinkState.OPEN
        assert asyncio.get_running_loop().time() < 0.1


async def watch(client: Client) -> None:
    await anext(client.watch_trades("US:AAPL"))


async def enter(client: Client) -> None:
    async with client.watch_trades("US:AAPL"):
        pass


async def fetch(client: Client) -> None:
    await client.fetch_snapshots("US:AAPL", via="stream")


@pytest.mark.parametrize("use", [Client.connect, watch, enter, fetch])
async def test_a_key_that_is_rejected_without_a_wait_is_raised(use):
    net = Network(AuthenticationError("bad key"))
    async with opened(net) as client:
        with pytest.raises(AuthenticationError, match="bad key"):
            await use(client)
        assert client.state is LinkState.CLOSED
        with pytest.raises(AuthenticationError):
            client.watch_trades("US:AAPL")


async def test_subscriptions_requests_and_outages_work():
    net = Network()
    async with opened(net) as client:
        changes = client.states()
        await client.connect()
        async with client.watch_trades("US:AAPL") as trades:
            net.peers[0].push(trade(1))
            assert isinstance(await anext(trades), Trade)
            assert not await client.fetch_snapshots("US:AAPL", via="stream")
            net.peers[0].end()
            (await net.link(1)).push(trade(2))
            assert (await anext(trades)).price == 2
    states = [change.state async for change in changes]
    assert states == [
        LinkState.CONNECTING,
        LinkState.OPEN,
        LinkState.BACKOFF,
        LinkState.CONNECTING,
        LinkState.OPEN,
        LinkState.CLOSED,
    ]
