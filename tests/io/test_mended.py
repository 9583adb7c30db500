"""What a hostile reader of the whole once found: each was silent harm to somebody."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from qos_async import (
    AuthenticationError,
    ConnectError,
    Gap,
    LimitError,
    LinkState,
    RejectedError,
    Trade,
)
from qos_async._io.transport import DialError
from tests.support.memory_transport import Network, kline, opened, trade

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("way_in")]


def refused(times: int, words: str) -> Any:
    """Refuse trades on every link but the first, so many times."""
    left = [times]

    def rule(peer: Any, frame: Any) -> str:
        if frame["type"] == "T" and peer.number and left[0]:
            left[0] -= 1
            return words
        return "OK"

    return rule


async def test_a_topic_resubscribed_before_its_removal_was_sent_gets_its_gap():
    net = Network(latency=1.0)
    async with opened(net, recover=False) as client:
        async with client.watch_trades("US:AAPL"):
            pass
        await net.peers[0].hear("TC")
        again = client.watch_trades("US:AAPL")
        net.peers[0].push(trade(1))
        await net.peers[0].hear("T")
        await asyncio.sleep(2)
        net.peers[0].push(trade(2))
        events = again.events()
        told = [type(await anext(events)) for _ in range(3)]
        assert told == [Trade, Gap, Trade]


async def test_a_resubscribed_topic_without_missed_ticks_gets_no_gap():
    net = Network(latency=1.0)
    async with opened(net, recover=False) as client:
        async with client.watch_trades("US:AAPL"):
            pass
        await net.peers[0].hear("TC")
        again = client.watch_trades("US:AAPL")
        await asyncio.sleep(5)
        net.peers[0].push(trade(2))
        assert isinstance(await anext(again.events()), Trade)


async def test_a_kline_interrupted_by_an_outage_is_not_final():
    net = Network()
    async with opened(net, recover=False) as client:
        bars = client.watch_klines("US:AAPL", interval="1m", final=True)
        (await net.link()).push(kline(60))
        await asyncio.sleep(1)
        net.peers[0].end()
        (await net.link(1)).push(kline(600), kline(660))
        assert (await anext(bars)).timestamp == 600


async def test_a_kline_of_a_removed_and_added_topic_is_not_final():
    net = Network()
    async with (
        opened(net) as client,
        client.watch_klines("US:AAPL,TSLA", interval="1m", final=True) as bars,
    ):
        net.peers[0].push(kline(60))
        await asyncio.sleep(1)
        await bars.remove("US:AAPL")
        await asyncio.sleep(1)
        await bars.add("US:AAPL")
        net.peers[0].push(kline(600), kline(660))
        assert (await anext(bars)).timestamp == 600


async def test_a_rejected_symbol_named_key_is_not_a_rejected_key():
    def rule(_: Any, frame: Any) -> str:
        return "KEY not found" if "KEY" in str(frame) else "OK"

    net = Network(rule=rule)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        with pytest.raises(RejectedError) as caught:
            await client.watch_trades("US:KEY").__aenter__()
        assert caught.value.symbols == ("US:KEY",)
        with pytest.raises(RejectedError):
            await client.fetch_snapshots("US:KEY", via="stream")
        net.peers[0].push(trade(1))
        assert (await anext(trades)).price == 1


@pytest.mark.fault("T14")
async def test_a_rejected_upgrade_is_retried_while_a_dead_link_may_hold_the_slot():
    no = AuthenticationError("refused the websocket (HTTP 403)")
    net = Network(None, no, no, no)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].end()
        (await net.link(1)).push(trade(1))
        assert (await anext(trades)).price == 1


@pytest.mark.fault("T14", "P24", "T18")
@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (AuthenticationError("refused"), AuthenticationError),
        (DialError("the server redirects", is_permanent=True), ConnectError),
    ],
)
async def test_a_rejected_upgrade_that_lasts_is_final(refusal: Any, told: Any):
    net = Network(None, *[refusal] * 100)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        start = asyncio.get_running_loop().time()
        net.peers[0].end()
        with pytest.raises(told):
            await anext(trades)
        assert 120 <= asyncio.get_running_loop().time() - start <= 240


async def test_adding_raises_its_own_rejection_even_while_a_loop_reads():
    def rule(_: Any, frame: Any) -> str:
        return "no such symbol" if "NONE" in str(frame) else "OK"

    net = Network(rule=rule, latency=0.1)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        reading = asyncio.create_task(anext(trades))
        await asyncio.sleep(1)
        with pytest.raises(RejectedError):
            await trades.add("US:NONE")
        net.peers[0].push(trade(1))
        assert (await reading).price == 1


async def test_a_rejection_whose_add_was_cancelled_is_raised_in_the_loop():
    def rule(_: Any, frame: Any) -> str:
        return "no such symbol" if "NONE" in str(frame) else "OK"

    net = Network(rule=rule, latency=0.5)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        adding = asyncio.create_task(trades.add("US:NONE"))
        await asyncio.sleep(0.1)
        adding.cancel()
        with pytest.raises(RejectedError):
            await anext(trades)


@pytest.mark.fault("P8")
async def test_a_live_topic_is_subscribed_again_after_a_transient_rejection():
    net = Network(rule=refused(3, "system busy"))
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].end()
        await net.link(1)
        await asyncio.sleep(10)
        net.peers[1].push(trade(1))
        assert (await anext(trades)).price == 1


@pytest.mark.fault("P8")
async def test_a_live_topic_is_removed_after_a_lasting_rejection():
    net = Network(rule=refused(100, "exceeded the limit"))
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].end()
        with pytest.raises(LimitError):
            await anext(trades)
        assert net.peers[1].types() == ["T"] * 4


@pytest.mark.fault("P3")
async def test_a_subscription_without_an_ack_is_logged(caplog):
    net = Network(rule=lambda _, f: "OK" if f["type"] == "H" else None)
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        await asyncio.sleep(20)
        assert "no reply to the subscription of trade US:AAPL" in caplog.text
        assert trades.stats.received == 0


async def test_connecting_does_not_wait_for_the_back_off():
    net = Network(None, ConnectError("no"), ConnectError("no"), ConnectError("no"))
    async with opened(net, chance=1.0) as client:
        await client.connect()
        net.peers[0].end()
        async for change in client.states():
            if change.state is LinkState.BACKOFF and len(net.dialled_at) == 4:
                break
        start = asyncio.get_running_loop().time()
        await client.connect()
        assert asyncio.get_running_loop().time() - start < 0.5


async def test_the_server_cannot_set_recovered():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].push(trade(1, recovered=True))
        assert (await anext(trades)).recovered is False


@pytest.mark.fault("T6", "P23")
async def test_maintenance_without_a_code_is_no_contention(caplog):
    caplog.set_level(logging.ERROR)
    net = Network()
    net.on_link = lambda peer: peer.end(1005 if peer.number < 20 else None)
    async with opened(net) as client:
        with pytest.raises(ConnectError):
            await client.connect()
        await net.link(25)
        assert client.state is not LinkState.CLOSED
