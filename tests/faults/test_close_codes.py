"""Back-off and final errors after each close code of the server."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import Any

import pytest

from qos_async import (
    AuthenticationError,
    ConnectError,
    Gap,
    LimitError,
    Limits,
    LinkState,
    Trade,
)
from qos_async._io.transport import DialError
from tests.support.memory_transport import Network, Peer, gaps_and_ticks, opened, trade

pytestmark = pytest.mark.virtual_time

TWO = Limits(connections=2, command_interval=0.0)


def waits(net: Network) -> list[float]:
    return [later - earlier for earlier, later in pairwise(net.dialled_at)]


def closing(code: int | None, *, after: float = 0.0, words: str = "bye") -> Any:
    def on_link(peer: Peer) -> None:
        asyncio.get_running_loop().call_later(after, peer.end, code, words)

    return on_link


@pytest.mark.fault("T2", "T6", "T7", "T8", "T9", "T10", "T11")
@pytest.mark.parametrize(
    ("code", "least", "most"),
    [
        (1000, 0.0, 0.5),
        (1001, 0.0, 0.5),
        (1012, 0.0, 0.5),
        (1005, 0.0, 0.5),
        (None, 0.0, 0.5),
        (1006, 0.0, 0.5),
        (1011, 0.0, 0.5),
        (1008, 30.0, 60.0),
        (1013, 10.0, 20.0),
        (1002, 0.0, 0.5),
        (1003, 0.0, 0.5),
        (1007, 0.0, 0.5),
        (1009, 0.0, 0.5),
        (3000, 30.0, 60.0),
        (4999, 30.0, 60.0),
    ],
)
@pytest.mark.parametrize("chance", [0.0, 1.0])
async def test_after_a_close_the_client_backs_off_reconnects_and_delivers_the_gap(
    code, least, most, chance
):
    net = Network()
    async with (
        opened(net, jitter=chance, recover=False) as client,
        client.watch_trades("US:AAPL") as trades,
    ):
        net.peers[0].push(trade(1))
        await asyncio.sleep(5)
        changes = client.states()
        net.peers[0].end(code, f"closed with {code}")
        lost = await anext(changes)
        assert lost.reason == f"closed with {code}"
        assert lost.retry_in == least + chance * (most - least)
        (await net.link(1)).push(trade(2))
        events = gaps_and_ticks(trades.events())
        first, gap, second = [await anext(events) for _ in range(3)]
        assert isinstance(first, Trade)
        assert isinstance(gap, Gap)
        assert isinstance(second, Trade)
        assert gap.reason == lost.reason
    assert waits(net) == [pytest.approx(5 + lost.retry_in)]


@pytest.mark.fault("T8")
async def test_three_policy_violations_end_the_client():
    net = Network()
    net.on_link = closing(1008, after=5, words="the server closed: too many symbols")
    async with opened(net, limits=TWO) as client:
        trades = client.watch_trades("US:AAPL")
        with pytest.raises(LimitError, match=r"rules.*too many symbols.*Limits"):
            await anext(trades)
        assert client.state is LinkState.CLOSED
        with pytest.raises(LimitError):
            await client.connect()
    assert waits(net) == [65, 65]


@pytest.mark.fault("T8", "P24")
async def test_a_close_reason_about_the_key_is_an_authentication_error():
    net = Network()
    net.on_link = closing(1008, after=5, words="the server closed: Key expired.")
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        with pytest.raises(
            AuthenticationError,
            match=r"Key expired.*it is complete and has not expired",
        ):
            await anext(trades)


@pytest.mark.fault("T8")
async def test_policy_violations_between_stable_links_are_never_final():
    net = Network()
    net.on_link = closing(1008, after=60)
    async with opened(net) as client:
        await client.connect()
        await net.link(20)
        assert client.state is not LinkState.CLOSED


@pytest.mark.fault("T10", "T11")
@pytest.mark.parametrize("code", [None, 1002, 1009, 4000])
async def test_a_server_that_cannot_keep_a_link_is_retried_for_ever(code):
    net = Network()
    net.on_link = closing(code, after=1)
    async with opened(net, limits=TWO) as client:
        await client.connect()
        await asyncio.sleep(3600)
        assert client.state is not LinkState.CLOSED
    assert len(net.peers) < 75


@pytest.mark.fault("T12", "I14")
@pytest.mark.parametrize("seed", range(5))
async def test_a_server_that_accepts_and_closes_gets_few_dials_an_hour(seed):
    net = Network()
    net.on_link = closing(None)
    async with opened(net) as client:
        client._stream._supervisor._rng = random.Random(seed).random
        with pytest.raises(ConnectError):
            await client.connect()
        await asyncio.sleep(3600)
    assert 60 < len(net.peers) <= 150


@pytest.mark.fault("P23")
async def test_a_client_over_the_connection_limit_connects_when_there_is_room():
    net = Network(*[DialError("HTTP 429", retry_after=1.0)] * 60)
    async with opened(net, limits=Limits()) as client:
        with pytest.raises(ConnectError, match="429"):
            await client.connect()
        await net.link()
        async for change in client.states():
            if change.state is LinkState.OPEN:
                break
    assert min(waits(net)) >= 1.0
    assert net.dialled_at[-1] > 50 * 60


@pytest.mark.fault("P23")
async def test_evictions_with_an_unknown_code_back_off_before_contention_ends_it():
    net = Network()
    net.on_link = closing(4001, after=5, words="replaced by another connection")
    async with opened(net, jitter=0.0) as client:
        trades = client.watch_trades("US:AAPL")
        with pytest.raises(LimitError, match=r"another client.*replaced"):
            await anext(trades)
    assert waits(net) == [35] * 4


@pytest.mark.fault("T13", "T12")
async def test_a_server_that_accepts_and_sends_nothing_times_out():
    net = Network(respond=lambda peer, frame: None)
    async with opened(net) as client:
        with pytest.raises(ConnectError):
            await client.connect()
        assert asyncio.get_running_loop().time() <= 30
        assert client.state is not LinkState.OPEN
        assert net.peers[0].closed_gracefully is False


@pytest.mark.fault("T14", "P24")
@pytest.mark.parametrize("via", ["loop", "question", "connect"])
async def test_a_revoked_key_ends_every_waiting_task_after_two_minutes(via):
    net = Network(None, *[AuthenticationError("refused (HTTP 401)")] * 100)
    async with opened(net, jitter=0.5) as client:
        await client.connect()
        trades = client.watch_trades("US:AAPL")
        await net.peers[0].next_frame("T")
        net.peers[0].end(1008)
        start = asyncio.get_running_loop().time()
        with pytest.raises(AuthenticationError, match="401"):
            await anext(trades)
        assert 120 <= asyncio.get_running_loop().time() - start <= 300
        with pytest.raises(AuthenticationError):  # noqa: PT012
            if via == "loop":
                await anext(client.watch_depth("US:AAPL"))
            elif via == "question":
                await client.fetch_snapshots("US:AAPL", via="stream")
            else:
                await client.connect()


@pytest.mark.fault("T20")
async def test_a_server_that_loses_its_trust_is_not_retried():
    spoiled = DialError("cannot be trusted", is_permanent=True, untrusted=True)
    net = Network(None, spoiled)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].end()
        with pytest.raises(ConnectError, match="trusted"):
            await anext(trades)
    assert len(net.dialled_at) == 2
