"""Readers that are slow, leave, fail or cannot make up their minds; and clocks."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from typing import Any

import pytest

from qos_async import Client, DropOldest, Dropped, Gap, Latest, Strict, Topic
from qos_async.sim import Simulator
from qos_async.testing.virtual import simulate
from tests.support.memory_transport import KEY, Network, opened, snapshot, trade

pytestmark = pytest.mark.virtual_time

SYMBOLS = ("US:AAPL", "US:TSLA", "HK:700", "CF:BTCUSDT")


def held(net: Network) -> set[str]:
    """What the server has subscribed, on the newest link."""
    return {symbol for _, symbol, _ in net.peers[-1].topics}


# Slow readers (U4, U5)


@pytest.mark.fault("U4", "U5", "I7", "I9")
async def test_only_the_slow_consumer_loses_ticks_and_the_server_sees_one_subscription():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as quick:
        slow = [
            client.watch_trades("US:AAPL", buffer=buffer)
            for buffer in (DropOldest(10), Latest(), Strict(10))
        ]
        got: list[int] = []
        for number in range(100):
            net.peers[0].push(trade(number))
            got.append(int((await anext(quick)).price))
        assert got == list(range(100))
        assert net.peers[0].types() == ["T"]
        assert [one.stats.dropped for one in slow] == [90, 99, 0]
        for one in (quick, *slow):
            stats = one.stats
            assert stats.received == stats.delivered + stats.dropped + stats.backlog
        dropped, *kept = [await anext(slow[0].events()) for _ in range(11)]
        assert dropped == Dropped(90)
        assert [int(tick.price) for tick in kept] == list(range(90, 100))  # type: ignore[union-attr]


@pytest.mark.fault("U4", "I17")
async def test_a_consumer_that_never_reads_does_not_block_others():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        for number in range(1000):
            net.peers[0].push(trade(number), snapshot(number))
        await asyncio.sleep(60)
        assert trades.stats.backlog == 1000
        assert client.stats.links == 1
        assert net.peers[0].sent[-1]["type"] == "H"


@pytest.mark.fault("U5")
async def test_a_later_subscription_starts_with_the_next_tick_and_sends_nothing():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL"):
        net.peers[0].push(trade(1), trade(2))
        await asyncio.sleep(1)
        async with client.watch_trades("US:AAPL") as late:
            net.peers[0].push(trade(3))
            assert (await anext(late)).price == 3
        await asyncio.sleep(1)
        assert net.peers[0].types() == ["T"]


# Readers that leave or fail (U3, U6)


@pytest.mark.fault("U3")
async def test_dropped_subscriptions_are_removed_one_by_one(recwarn):
    net = Network()
    async with opened(net) as client:

        async def look(number: int) -> None:
            async for tick in client.watch_trades("US:AAPL"):
                assert tick.price == number
                break

        for number in range(5):
            looking = [asyncio.create_task(look(number)) for _ in range(3)]
            await asyncio.sleep(1)
            net.peers[0].push(trade(number))
            await asyncio.gather(*looking)
        await asyncio.sleep(1)
        gc.collect()
        assert client._stream._queues == {}
        assert held(net) == set()
    assert [str(one.message) for one in recwarn] == []


@pytest.mark.fault("U6")
@pytest.mark.parametrize("how", ["ticks", "events", "batches"])
async def test_an_error_in_one_loop_does_not_affect_others(how):
    net = Network()
    async with opened(net) as client:

        async def fail() -> None:
            async with client.watch_trades("US:AAPL", "US:TSLA") as trades:
                source: Any = trades if how == "ticks" else getattr(trades, how)()
                async for _ in source:
                    raise ZeroDivisionError

        failing = asyncio.create_task(fail())
        async with client.watch_trades("US:AAPL") as trades:
            net.peers[0].push(trade(1))
            with pytest.raises(ZeroDivisionError):
                await failing
            net.peers[0].push(trade(2))
            assert [int((await anext(trades)).price) for _ in range(2)] == [1, 2]
            await asyncio.sleep(1)
            assert held(net) == {"US:AAPL"}


@pytest.mark.fault("U6")
def test_a_transient_failure_of_the_key_callable_is_one_failed_attempt():
    """The only code of the user's that a client calls."""
    requested: list[int] = []

    def key() -> str:
        requested.append(1)
        if len(requested) == 2:
            raise ZeroDivisionError
        return KEY

    async def use() -> None:
        async with (
            Simulator(start=1_741_958_430.0, rate=1.0, key=KEY) as sim,
            Client(key, http_url=sim.http_url, stream_url=sim.stream_url) as client,
            client.watch_trades("CF:BTCUSDT") as trades,
        ):
            sim.cut()
            async with asyncio.timeout(60):
                while client.stats.links < 2:
                    await anext(trades)
        assert len(requested) == 3

    simulate(use)


# Readers that cannot make up their minds (U8, U9)


@pytest.mark.fault("U9", "I6")
async def test_topics_removed_and_added_within_one_outage_are_sent_once():
    net = Network(None, 10.0)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].end()
        await asyncio.sleep(1)
        for _ in range(5):
            await trades.remove("US:AAPL")
            adding = asyncio.create_task(trades.add("US:AAPL", "US:TSLA"))
            await asyncio.sleep(0.1)
            await trades.remove("US:TSLA")
            await adding if adding.done() else adding.cancel()
        await asyncio.sleep(30)
        assert net.peers[1].types("RT") == ["T"]
        assert held(net) == {"US:AAPL"}


@pytest.mark.fault("U8", "I1", "I2", "I6")
@pytest.mark.parametrize("seed", range(12))
async def test_changes_that_race_a_reconnect_converge_to_the_wanted_topics(seed):
    chance = random.Random(seed)
    net = Network(latency=0.3)
    async with opened(net, jitter=0.3) as client:
        async with client.watch_trades("US:IBM") as trades:
            for _ in range(60):
                symbol = chance.choice(SYMBOLS)
                match chance.randrange(4):
                    case 0:
                        adding = asyncio.create_task(trades.add(symbol))
                        await asyncio.sleep(chance.random())
                        adding.cancel()
                        await asyncio.wait([adding])
                    case 1:
                        await trades.remove(symbol)
                    case 2:
                        if net.open_peers:
                            net.open_peers[-1].end()
                    case _:
                        await asyncio.sleep(chance.random())
            await asyncio.sleep(60)
            assert held(net) == {topic.symbol for topic in trades.topics}
            assert len(net.open_peers) == 1
        await asyncio.sleep(5)
        assert held(net) == set()


# Calendars that jump: U11


@pytest.mark.fault("U11")
@pytest.mark.parametrize("jump", [-3600.0, 3600.0, -86400.0 * 365])
async def test_a_wall_clock_that_jumps_moves_no_deadline_and_reverses_no_gap(
    jump, monkeypatch
):
    begun, loop = time.time(), asyncio.get_running_loop()
    shift = 0.0
    monkeypatch.setattr(time, "time", lambda: begun + loop.time() + shift)
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))
    net = Network(None, 7.0)
    async with opened(net, jitter=0.0) as client:
        async with client.watch_trades("US:AAPL") as trades:
            net.peers[0].push(trade(1))
            await asyncio.sleep(60)
            shift = jump
            await asyncio.sleep(600)
            assert client.stats.links == 1
            beats = [frame for frame in net.peers[0].sent if frame["type"] == "H"]
            assert 40 <= len(beats) <= 50
            net.peers[0].push(trade(2))
            await asyncio.sleep(5)
            shift = 0.0  # In the middle of an outage, too.
            net.peers[0].end()
            await asyncio.sleep(2)
            shift = jump
            net.respond = lambda _, frame: "OK"
            await asyncio.sleep(60)
            events = trades.events()
            received = [await anext(events) for _ in range(3)]
        gap = received[2]
        assert isinstance(gap, Gap)
        assert gap.topic == Topic("trade", "US:AAPL")
        assert 0 <= (gap.until - gap.since).total_seconds() <= 20
