"""``aclose`` of every asynchronous iterator that the package returns."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qos_async import Client, Recorder, Stale, Subscription, replay
from qos_async.markets import bars
from qos_async.testing.virtual import simulate
from tests.support.memory_transport import Network, opened, trade

pytestmark = pytest.mark.fault("F18")

Make = Callable[[Client, Subscription[Any]], Any]
HISTORY: dict[str, Any] = {"interval": "1d", "start": 0}

ITERATORS: dict[str, Make] = {
    "subscription": lambda client, trades: trades,
    "events": lambda client, trades: trades.events(),
    "events with stale": lambda client, trades: trades.events(stale=True),
    "batches": lambda client, trades: trades.batches(),
    "batches with events": lambda client, trades: trades.batches(events=True),
    "polars frames": lambda client, trades: trades.batches().to_polars(),
    "pandas frames": lambda client, trades: trades.batches().to_pandas(),
    "arrow tables": lambda client, trades: trades.batches().to_arrow(),
    "states": lambda client, trades: client.states(),
    "bars": lambda client, trades: bars(trades, "1m"),
    "bars by the clock": lambda client, trades: bars(trades, "1m", close_after=1.0),
    "bars of events": lambda client, trades: bars(trades.events(), "1m"),
    "bars of staleness": lambda client, trades: bars(trades.events(stale=True), "1m"),
    "history": lambda client, trades: client.iter_history("US:AAPL", **HISTORY),
}


@contextlib.asynccontextmanager
async def subscribed() -> Any:
    """Yield a client and a quiet subscription; its HTTP requests are never answered."""
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:

        async def wait(*args: Any, **options: Any) -> Any:
            await asyncio.Event().wait()

        client._http.fetch = wait  # type: ignore[method-assign]
        yield net, client, trades


@pytest.mark.virtual_time
@pytest.mark.parametrize("make", ITERATORS.values(), ids=ITERATORS)
async def test_aclosing_ends_an_iterator_and_the_task_that_waits_in_it(make):
    async with subscribed() as (_, client, trades):
        async with contextlib.aclosing(make(client, trades)) as iterator:
            aiter(iterator)
            waiting = asyncio.create_task(anext(iterator, "the end"))
            await asyncio.sleep(1)
            assert not waiting.done()
        async with asyncio.timeout(1):
            assert await waiting == "the end"
            assert await anext(iterator, "the end") == "the end"
            await iterator.aclose()


@pytest.mark.virtual_time
@pytest.mark.parametrize("make", ITERATORS.values(), ids=ITERATORS)
async def test_an_iterator_that_was_never_used_can_be_closed(make):
    async with subscribed() as (_, client, trades):
        iterator = make(client, trades)
        await iterator.aclose()
        async with asyncio.timeout(1):
            assert [item async for item in iterator] == []


@pytest.mark.virtual_time
@pytest.mark.parametrize("name", [name for name in ITERATORS if name != "subscription"])
async def test_closing_an_iterator_leaves_its_subscription_and_its_ticks(name):
    async with subscribed() as (net, client, trades):
        iterator = ITERATORS[name](client, trades)
        net.peers[0].push(trade(1))
        await iterator.aclose()
        net.peers[0].push(trade(2))
        assert [(await anext(trades)).price for _ in range(2)] == [1, 2]


@pytest.mark.virtual_time
async def test_a_task_that_is_cancelled_in_a_page_of_history_is_cancelled():
    async with subscribed() as (_, client, trades):
        pages = ITERATORS["history"](client, trades)
        waiting = asyncio.create_task(anext(pages))
        await asyncio.sleep(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await anext(pages)


def test_closing_discards_reports_of_staleness():
    async def main() -> None:
        net = Network()
        async with (
            opened(net) as client,
            client.watch_trades("CF:BTCUSDT", "CF:X") as trades,
        ):
            events = trades.events(stale=True)
            for at in range(60):
                net.peers[0].push(trade(at, "CF:BTCUSDT"))
                await anext(events)
                await asyncio.sleep(1)
            for at in range(600):
                net.peers[0].push(trade(at, "CF:X"))
                await asyncio.sleep(0.5)
                if at < 30:
                    assert not isinstance(await anext(events), Stale)
            while trades.stats.backlog:
                assert not isinstance(await anext(events), Stale)
            await events.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(events)

    simulate(main)


async def test_the_iterators_of_a_replay_can_be_closed(tmp_path: Path):
    net = Network()
    async with (
        opened(net, recorder=Recorder(tmp_path)) as client,
        client.watch_trades("US:AAPL") as trades,
    ):
        net.peers[0].push(trade(1))
        await anext(trades)
    async with replay(tmp_path, speed=None) as player:
        for name, make in ITERATORS.items():
            if name != "history":  # A recording has none.
                played = player.watch_trades("US:AAPL")
                async with contextlib.aclosing(make(player, played)) as iterator:
                    aiter(iterator)
                await played.aclose()
