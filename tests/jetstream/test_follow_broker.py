"""Followers of a stream whose broker fails, or that want few of many topics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest

from qos_async import (
    DropOldest,
    Dropped,
    Gap,
    Interrupted,
    LinkState,
    RequestError,
    Topic,
    Trade,
)
from qos_async._core.wire import wire_topic
from qos_async.jetstream.api import call
from qos_async.jetstream.feed import Feed, Placed
from qos_async.jetstream.messages import encode_headers
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.streams import StreamOptions, ensure_stream
from qos_async.jetstream.subjects import topic_subject
from qos_async.jetstream.wanted import MOST_FILTERS, Wanted
from qos_async.jetstream.wire import Wire
from qos_async.recordings import RecordingError, follow
from tests.support.nats_servers import NatsServer
from tests.support.written_stream import BTC, ETH, Log, push

OPTIONS = StreamOptions(max_bytes=50_000_000)


@pytest.fixture
async def log(node: NatsServer, stream_name: str) -> AsyncGenerator[Log]:
    async with Wire(parse_place(f"{node.url}/{stream_name}", {})) as wire:
        await wire.connect()
        await ensure_stream(wire, stream_name, OPTIONS)
        made = Log(node, wire, stream_name)
        await made.writer.begin()
        await made.writer.event("subscribed", topics=[str(BTC), str(ETH)])
        yield made
        with suppress(RecordingError):
            await call(wire, f"STREAM.DELETE.{stream_name}")


class Reading:
    """A loop over the events of a follower."""

    def __init__(self, subscription: Any) -> None:
        self.found: list[Any] = []
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._read(subscription))

    async def _read(self, subscription: Any) -> None:
        async for event in subscription.events():
            self.found.append(event)
            self._changed.set()

    async def until(self, kind: type, count: int = 1) -> None:
        async with asyncio.timeout(30):
            while len([one for one in self.found if isinstance(one, kind)]) < count:
                self._changed.clear()
                await self._changed.wait()

    async def trades(self, count: int) -> list[str]:
        await self.until(Trade, count)
        return [str(one.price) for one in self.found if isinstance(one, Trade)]

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.mark.fault("N143")
async def test_an_absent_broker_is_an_outage_that_is_filled(
    log: Log, node: NatsServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("qos_async.jetstream.outage.SILENCE", 2.5)
    async with follow(str(log.place)) as client:
        reading = Reading(client.watch_trades(BTC.symbol))
        states: list[LinkState] = []

        async def watch() -> None:
            async for change in client.states():
                states.append(change.state)  # noqa: PERF401 - it never ends

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0.2)
        await log.writer.trades(BTC, 1)
        await reading.until(Trade)
        await asyncio.to_thread(node.kill)
        await reading.until(Interrupted)
        await asyncio.to_thread(node.start)
        await log.wire.connect()
        await log.writer.trades(BTC, 2)
        assert await reading.trades(2) == ["1", "2"]
        await reading.aclose()
        watching.cancel()
    _, interrupted, gap, _ = reading.found
    assert interrupted.topic == gap.topic == BTC
    assert isinstance(gap, Gap)
    assert gap.status == "filled"
    assert gap.since < gap.until
    assert f"the store {log.place}" in interrupted.reason
    assert gap.reason == interrupted.reason
    assert gap.reason.count(str(node.port)) == 1, gap.reason
    # Open, lost, and open again.
    assert states.count(LinkState.OPEN) == 2
    assert states[-1] is LinkState.OPEN


@pytest.mark.fault("N143")
async def test_a_follower_does_not_report_a_short_absence_of_the_broker(
    log: Log, node: NatsServer
):
    async with follow(str(log.place)) as client:
        reading = Reading(client.watch_trades(BTC.symbol))
        await asyncio.sleep(0.2)
        await log.writer.trades(BTC, 1)
        await reading.until(Trade)
        await asyncio.to_thread(node.kill)
        await asyncio.to_thread(node.start)
        await log.wire.connect()
        await log.writer.trades(BTC, 2)
        assert await reading.trades(2) == ["1", "2"]
        assert all(isinstance(one, Trade) for one in reading.found)
        await reading.aclose()


@pytest.mark.fault("N144")
async def test_a_store_that_was_set_back_is_read_again(
    own_node: NatsServer, stream_name: str
):
    await asyncio.to_thread(own_node.start)
    place = parse_place(f"{own_node.url}/{stream_name}", {})
    async with Wire(place) as wire:
        await wire.connect()
        await ensure_stream(wire, stream_name, OPTIONS)
        log = Log(own_node, wire, stream_name)
        await log.writer.begin()
        await log.writer.event("subscribed", topics=[str(BTC), str(ETH)])
        await log.writer.trades(BTC, 1)
        await asyncio.to_thread(own_node.terminate)
        copy = own_node.copy_store()
        await asyncio.to_thread(own_node.start)
        await wire.connect()
        async with follow(str(place), "first") as client:
            reading = Reading(client.watch_trades(BTC.symbol, ETH.symbol))
            subject = topic_subject(stream_name, wire_topic(BTC))
            stamps = [log.writer.stamp(subject) for _ in range(3)]
            for number, stamp in enumerate(stamps, 2):
                await log.writer.send(subject, push(BTC, number), stamp)
            assert await reading.trades(4) == ["1", "2", "3", "4"]
            await asyncio.to_thread(own_node.kill)
            own_node.roll_back(copy)
            await asyncio.to_thread(own_node.start)
            await wire.connect()
            # What was lost comes again behind something new, with other sequences.
            await log.writer.trades(ETH, 9)
            for number, stamp in enumerate(stamps, 2):
                await log.writer.send(subject, push(BTC, number), stamp)
            await log.writer.trades(BTC, 5)
            found = await reading.trades(6)
            assert sorted(found) == ["1", "2", "3", "4", "5", "9"]
            await reading.aclose()


def test_few_topics_are_filtered_by_the_server_and_many_by_the_reader():
    topics = [wire_topic(Topic("trade", f"US:S{number}")) for number in range(30)]
    few = Wanted("S", frozenset(topics[:MOST_FILTERS]))
    assert len(few.filters) == MOST_FILTERS + 2
    assert few.filters[-2:] == ["S.link.*", "S.fence.*"]
    many = Wanted("S", frozenset(topics))
    assert many.filters == []
    for wanted in (few, many):
        assert topic_subject("S", topics[0]) in wanted
        assert "S.link.main" in wanted
        assert "S.fence.main" in wanted
        assert "S.T.US.OTHER" not in wanted
    assert Wanted("S", frozenset()).filters == ["S.link.*", "S.fence.*"]
    assert "S.T.US.OTHER" in Wanted("S")


@pytest.mark.parametrize("count", [3, 30])
async def test_a_follower_reads_its_topics_and_those_that_are_added(
    log: Log, count: int
):
    topics = [Topic("trade", f"US:S{number}") for number in range(count + 2)]
    symbols = [topic.symbol for topic in topics]
    for number, topic in enumerate(topics):
        await log.writer.trades(topic, number)
    async with follow(str(log.place), "first") as client:
        subscription = client.watch_trades(*symbols[:count])
        reading = Reading(subscription)
        assert await reading.trades(count) == [str(number) for number in range(count)]
        await log.writer.trades(topics[count], 100)
        await log.writer.trades(topics[0], 101)
        await reading.trades(count + 1)
        await subscription.add(symbols[count])
        await subscription.remove(symbols[0])
        await log.writer.trades(topics[count], 102)
        await log.writer.trades(topics[0], 103)
        await log.writer.trades(topics[count], 104)
        await reading.trades(count + 3)
        await subscription.add(symbols[0])  # What came meanwhile is no hole.
        await log.writer.trades(topics[0], 105)
        prices = await reading.trades(count + 4)
        assert prices[count:] == ["101", "102", "104", "105"]
        assert all(isinstance(one, Trade) for one in reading.found)
        await reading.aclose()


@pytest.mark.fault("N147")
async def test_a_consumer_that_sends_heartbeats_only_is_replaced(
    log: Log, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("qos_async.jetstream.feed.IDLE", 0.5)
    feed = Feed(log.wire, log.place)
    feed.want(Wanted(log.stream, frozenset({wire_topic(BTC)})), is_live=False)
    await feed.read()
    while await feed.read():
        pass
    # Its messages never arrive, though its heartbeats do.
    starved = feed.pull._consumer.name
    feed.pull._consumer.name = "another"
    await log.writer.trades(BTC, 1)
    async with asyncio.timeout(10):
        found: list[Placed] = []
        while not found:
            found = await feed.read()
    assert found[0].accepted.message.data == push(BTC, 1)
    assert feed.pull._consumer.name not in ("another", starved)
    await feed.aclose()


async def test_last_values_come_from_the_stream_whatever_is_watched(log: Log):
    for number in range(0, 140, 2):
        await log.writer.trades(BTC, number, number + 1)
    symbols = [f"US:S{number}" for number in range(150)]
    for symbol in symbols:
        subject = topic_subject(log.stream, wire_topic(Topic("snapshot", symbol)))
        text = '{"tp":"S","c":"%s","lp":"%d","ts":1750000000}'
        await log.writer.put(subject, (text % (symbol, len(symbol))).encode())
    depth = topic_subject(log.stream, wire_topic(Topic("depth", BTC.symbol)))
    book = b'{"tp":"D","c":"CF:BTCUSDT","b":[{"p":"1","v":"2"}],"a":[],"ts":1750000000}'
    await log.writer.put(depth, book)
    bars = topic_subject(log.stream, wire_topic(Topic("kline", BTC.symbol, "1m")))
    bar = (
        '{"tp":"K","c":"CF:BTCUSDT","o":"1","cl":"%d","h":"9","l":"1","v":"1",'
        '"ts":%d,"kt":1}'
    )
    for start, close in ((60, 5), (60, 7), (120, 8)):
        await log.writer.put(bars, (bar % (close, start)).encode())
    async with follow(str(log.place)) as client:
        last = await client.fetch_trades(BTC.symbol, count=101)
        assert [int(one.price) for one in last[BTC.symbol]] == list(range(39, 140))
        assert (
            len((await client.fetch_trades(BTC.symbol, count=5000))[BTC.symbol]) == 140
        )
        snapshots = await client.fetch_snapshots(*symbols, "US:NONE")
        assert len(snapshots) == 150
        assert snapshots.missing == ("US:NONE",)
        assert str(snapshots["US:S7"].last_price) == "5"
        depths = await client.fetch_depth(BTC.symbol, ETH.symbol, via="stream")
        assert depths[BTC.symbol].bids[0].size == 2
        for count, closes in ((1, [8]), (10, [7, 8])):
            found = await client.fetch_klines(BTC.symbol, interval="1m", count=count)
            assert [int(one.close) for one in found[BTC.symbol]] == closes
        with pytest.raises(RequestError, match="known to the service only"):
            await client.fetch_instruments(BTC.symbol)
        with pytest.raises(ValueError, match="count"):
            await client.fetch_trades(BTC.symbol, count=10_001)


@pytest.mark.fault("N145")
async def test_a_slow_loop_loses_nothing_unless_its_buffer_says_so(log: Log):
    async with follow(str(log.place), "first") as client:
        everything = client.watch_trades(BTC.symbol)
        bounded = client.watch_trades(ETH.symbol, buffer=DropOldest(10))
        async with everything, bounded:
            for number in range(100):
                await log.writer.trades(BTC, *range(number * 50, number * 50 + 50))
                await log.writer.trades(ETH, *range(number * 50, number * 50 + 50))
            await asyncio.sleep(0.5)  # Neither loop reads.
            reading, dropping = Reading(everything), Reading(bounded)
            found = await reading.trades(5000)
            assert found == [str(number) for number in range(5000)]
            await dropping.until(Dropped)
            async with asyncio.timeout(20):
                while bounded.stats.received < 5000 or bounded.stats.backlog:  # noqa: ASYNC110 - counters
                    await asyncio.sleep(0.05)
            lost = sum(o.count for o in dropping.found if isinstance(o, Dropped))
            got = sum(isinstance(one, Trade) for one in dropping.found)
            assert lost + got == 5000
            await reading.aclose()
            await dropping.aclose()


@pytest.mark.fault("N142")
async def test_retention_is_a_gap_of_the_topics_that_it_took_from(log: Log):
    await log.writer.trades(BTC, 0)
    await log.writer.trades(ETH, 0)
    async with follow(str(log.place), "first") as client:
        sub = client.watch_trades(BTC.symbol, ETH.symbol, buffer=DropOldest(100_000))
        reading = Reading(sub)
        await reading.trades(2)
        subject = topic_subject(log.stream, wire_topic(BTC))
        lost = [log.writer.stamp(subject) for _ in range(2)]
        for stamp in lost:
            headers = encode_headers(stamp)
            del headers["Qos-Entry"]  # As if it was removed before it was read.
            await log.wire.request(subject, b"x", headers=headers)
        await call(log.wire, f"STREAM.PURGE.{log.stream}", {"keep": 1})
        await log.writer.trades(BTC, 3)
        await log.writer.trades(ETH, 4)
        await reading.trades(4)
        [gap] = [one for one in reading.found if isinstance(one, Gap)]
        assert (gap.topic, gap.reason, gap.status) == (BTC, "retention", "unfilled")
        await reading.aclose()
