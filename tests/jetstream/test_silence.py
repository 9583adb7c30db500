"""A recorder that is killed and has no successor: its followers notice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qos_async import Gap, Interrupted, Trade
from qos_async.jetstream import silence
from qos_async.jetstream.lease import Lease, ensure_leases
from qos_async.recordings import follow
from tests.support.written_stream import BTC, ETH, Log, Writer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "_INTERVAL", 0.05)
    monkeypatch.setattr(silence, "_SHORTEST", 0.5)


async def leased(log: Log) -> Lease:
    """Return a lease of the writer, which is held and not renewed."""
    await ensure_leases(log.wire, log.stream)
    lease = Lease(log.wire, log.stream, log.writer.name, seconds=0.1)
    async with asyncio.timeout(20):
        await lease.acquire()
    return lease


class Consumer:
    """A loop over the events of a follower, in a task."""

    def __init__(self, client: Any) -> None:
        self._loop = client.watch_trades(BTC.symbol, ETH.symbol).events()

    async def next(self, kind: Any, count: int = 1) -> list[Any]:
        """Return the events up to so many of a kind."""
        found: list[Any] = []
        async with asyncio.timeout(20):
            while sum(isinstance(one, kind) for one in found) < count:
                found.append(await anext(self._loop))
        return found


@pytest.mark.fault("N137")
@pytest.mark.parametrize("goes_on", [True, False], ids=["goes on", "is replaced"])
async def test_a_recorder_that_is_silent_is_an_outage(
    log: Log,
    goes_on: bool,  # noqa: FBT001 - of a parametrised test
):
    topics = [str(BTC)]
    lease = await leased(log)
    await log.writer.begin(topics=topics)
    other = Writer(log.wire, log.stream, "another")
    await other.begin(topics=[str(ETH)])
    async with follow(str(log.place), "first", numbers=str) as client:
        consumer = Consumer(client)
        await log.writer.trades(BTC, 1)
        await consumer.next(Trade)
        [notice] = await consumer.next(Interrupted)
        assert notice.topic == BTC
        assert notice.reason == "nothing is received from the recorder main"
        await other.trades(ETH, 11)
        [trade] = await consumer.next(Trade)
        assert trade.symbol == ETH.symbol
        if goes_on:
            await log.writer.trades(BTC, 2)
        else:
            log.writer.previous.clear()
            await log.writer.begin(run="s", topics=topics)
            await log.writer.trades(BTC, 2)
        # The lease is not renewed by a successor either: it may be silent again.
        gap, *_, trade = await consumer.next(Trade)
        assert isinstance(gap, Gap)
        assert (gap.topic, gap.since) == (BTC, notice.since)
        why = ("filled", notice.reason), ("unfilled", "the recorder has changed")
        assert (gap.status, gap.reason) == why[not goes_on]
        assert trade.price == "2"
    await lease.release()


@pytest.mark.fault("N137")
async def test_a_recorder_that_renews_its_lease_is_quiet_and_no_outage(log: Log):
    lease = await leased(log)
    keeping = asyncio.create_task(lease.keep())
    await log.writer.begin(topics=[str(BTC)])
    async with follow(str(log.place), "first", numbers=str) as client:
        consumer = Consumer(client)
        await log.writer.trades(BTC, 1)
        await consumer.next(Trade)
        await asyncio.sleep(1.5)
        await log.writer.trades(BTC, 2)
        [trade] = await consumer.next(Trade)
        assert trade.price == "2"
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
