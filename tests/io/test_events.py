"""Events of a subscription: interruptions, rejections, and iterators that are closed."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from qos_async import (
    ClosedError,
    DropOldest,
    Gap,
    Interrupted,
    Latest,
    LinkState,
    Rejected,
    RejectedError,
    RequestTimeoutError,
    Strict,
    Topic,
    Trade,
)
from qos_async.markets import bars
from tests.support.memory_transport import Network, kline, opened, trade

pytestmark = pytest.mark.virtual_time

AAPL, TSLA = Topic("trade", "US:AAPL"), Topic("trade", "US:TSLA")
BUFFERS = [Latest(), DropOldest(), DropOldest(1), Strict()]


class Collected:
    """Collects what an iterator yields, in a task of its own."""

    def __init__(self, iterator: Any) -> None:
        self.items: list[Any] = []
        self.task = asyncio.create_task(self._run(iterator))

    async def _run(self, iterator: Any) -> None:
        async for item in iterator:
            self.items.extend(item if isinstance(item, list) else [item])

    @property
    def kinds(self) -> list[str]:
        return [type(item).__name__ for item in self.items]


def rejecting(*symbols: str, message: str = "no such code") -> Any:
    def respond(_: Any, frame: Any) -> str:
        named = str(frame.get("codes", ()))
        adds = frame["type"] in ("T", "S", "D", "K")
        bad = adds and any(symbol.partition(":")[2] in named for symbol in symbols)
        return message if bad else "OK"

    return respond


async def cut(net: Network, *, lasting: float = 5.0) -> None:
    """Cut the link; for some seconds no new one is acknowledged."""
    last = net.peers[-1]
    net.respond = lambda _, frame: "OK" if frame["type"] == "H" else None
    last.end(text="cut by a test")
    await asyncio.sleep(lasting)
    net.respond = lambda *_: "OK"
    net.peers[-1].end(text="again")
    await asyncio.sleep(lasting)


# Interruptions


@pytest.mark.parametrize("buffer", BUFFERS, ids=repr)
async def test_an_interruption_is_emitted_when_it_begins_and_its_gap_when_it_ends(
    buffer,
):
    net = Network()
    async with opened(net, jitter=0.0) as client:  # noqa: SIM117
        async with client.watch_trades("US:AAPL", buffer=buffer) as trades:
            events = Collected(trades.events())
            net.peers[0].push(trade(1))
            await asyncio.sleep(1)
            net.respond = lambda _, frame: "OK" if frame["type"] == "H" else None
            net.peers[0].end(text="cut by a test")
            await asyncio.sleep(0.1)
            assert events.kinds == ["Trade", "Interrupted"]
            [interrupted] = events.items[1:]
            assert interrupted.topic == AAPL
            assert interrupted.reason == "cut by a test"
            assert interrupted.since.utcoffset() is not None
            net.respond = lambda *_: "OK"
            net.peers[-1].end()
            await asyncio.sleep(20)
            net.peers[-1].push(trade(2))
            await asyncio.sleep(10)
            assert events.kinds == ["Trade", "Interrupted", "Gap", "Trade"]
            assert events.items[2].topic == AAPL
            assert events.items[2].reason == "cut by a test"


async def test_each_topic_of_a_subscription_is_interrupted_in_order_of_name():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:TSLA,AAPL") as trades:
        events = Collected(trades.events())
        net.peers[0].push(trade(1), trade(1, "US:TSLA"))
        await asyncio.sleep(1)
        net.peers[0].end()
        await asyncio.sleep(0.01)
        assert [e.topic for e in events.items[2:4]] == [AAPL, TSLA]


async def test_outages_alternate_with_their_gaps():
    net = Network()
    async with (
        opened(net, jitter=0.0) as client,
        client.watch_trades("US:AAPL") as trades,
    ):
        events = Collected(trades.events())
        for number in range(3):
            net.peers[-1].push(trade(number))
            await cut(net)
        await asyncio.sleep(60)
        kinds = [kind for kind in events.kinds if kind != "Trade"]
        assert kinds == ["Interrupted", "Gap"] * 3


@pytest.mark.parametrize("buffer", BUFFERS, ids=repr)
async def test_a_consumer_that_never_reads_collects_few_notices(buffer):
    net = Network()
    async with opened(net, jitter=0.0) as client:  # noqa: SIM117
        async with client.watch_trades("US:AAPL", buffer=buffer) as trades:
            events = trades.events()
            for _ in range(20):
                await cut(net)
            await asyncio.sleep(60)
            found = Collected(events)
            await asyncio.sleep(1)
            assert found.kinds == ["Interrupted", "Gap"]
            gap = found.items[1]
            assert gap.until - gap.since > gap.until - gap.until


async def test_events_that_begin_amid_an_outage_begin_with_its_notice():
    net = Network(None, 50.0)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].end(text="cut by a test")
        await asyncio.sleep(1)
        events = Collected(trades.events())
        await asyncio.sleep(1)
        assert events.kinds == ["Interrupted"]
        await asyncio.sleep(100)
        assert events.kinds == ["Interrupted", "Gap"]


async def test_a_subscription_made_amid_an_outage_is_not_interrupted():
    net = Network(None, 50.0)
    async with opened(net) as client, client.watch_trades("US:AAPL"):
        net.peers[0].end()
        await asyncio.sleep(1)
        late = client.watch_trades("US:AAPL")
        events = Collected(late.events())
        await asyncio.sleep(100)
        net.peers[-1].push(trade(1))
        await asyncio.sleep(10)
        assert events.kinds == ["Trade"]
        await late.aclose()


async def test_a_subscription_made_amid_a_recovery_is_not_interrupted():
    net = Network()
    async with opened(net, jitter=0.0) as client:  # noqa: SIM117
        async with client.watch_trades("US:AAPL") as old:
            net.peers[0].push(trade(1))
            await asyncio.sleep(1)
            net.respond = lambda _, frame: None if frame["type"] == "RT" else "OK"
            net.peers[0].end()
            await asyncio.sleep(2)  # Live again, and its trades are requested.
            joined = Collected(client.watch_trades("US:AAPL").events())
            waiting = Collected(old.events())
            await asyncio.sleep(60)
            assert joined.kinds == []
            assert waiting.kinds == ["Trade", "Interrupted", "Gap"]
            joined.task.cancel()


async def test_plain_loops_and_batches_skip_interruptions():
    net = Network()
    async with (
        opened(net, jitter=0.0) as client,
        client.watch_trades("US:AAPL") as trades,
    ):
        trades.events()  # Enables the notices.
        for number in range(2):
            net.peers[-1].push(trade(number))
            await asyncio.sleep(1)
            await cut(net)
        assert (await anext(trades)).price == 0
        assert [tick.price for tick in await anext(trades.batches())] == [1]


# Rejections


async def test_a_rejected_topic_is_an_event_and_the_others_go_on():
    net = Network(respond=rejecting("US:TSLA"))
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL,TSLA")
        events = Collected(trades.events())
        await asyncio.sleep(10)
        net.peers[0].push(trade(1))
        await asyncio.sleep(1)
        assert events.items[0] == Rejected(TSLA, "no such code")
        assert events.kinds == ["Rejected", "Trade"]
        assert trades.topics == (AAPL,)
        assert not events.task.done()
        await trades.aclose()


async def test_a_plain_loop_still_raises_the_rejection_of_one_topic():
    net = Network(respond=rejecting("US:TSLA"))
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL,TSLA")
        with pytest.raises(RejectedError, match="no such code") as caught:
            await anext(trades)
        assert caught.value.symbols == ("US:TSLA",)
        net.peers[0].push(trade(1))
        assert (await anext(trades)).price == 1


async def test_events_of_which_every_topic_is_rejected_end_with_the_error():
    net = Network(respond=rejecting("US:AAPL", "US:TSLA"))
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL,TSLA")
        events = Collected(trades.events())
        await asyncio.wait([events.task])
        assert isinstance(events.task.exception(), RejectedError)
        assert events.items == [
            Rejected(AAPL, "no such code"),
            Rejected(TSLA, "no such code"),
        ]


async def test_the_rejection_shows_the_servers_text_without_the_key():
    net = Network(
        respond=rejecting(
            "US:TSLA", message="bad canary-7d1f+KEY/0 \x1b[31m" + 999 * "x"
        )
    )
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL,TSLA")
        rejected = await anext(trades.events())
        assert isinstance(rejected, Rejected)
        assert "canary" not in rejected.message
        assert rejected.message.isprintable()
        assert len(rejected.message) < 500
        await trades.aclose()


# Waiting for the acknowledgement


async def test_ready_returns_when_the_server_has_acknowledged():
    net = Network(respond=lambda *_: None)
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        ready = asyncio.create_task(trades.ready())
        await (peer := await net.link()).next_frame("T")
        await asyncio.sleep(1)
        assert not ready.done()
        peer.answer(peer.sent[-1])
        await asyncio.sleep(0.1)
        assert ready.done()
        await ready
        await trades.ready()


async def test_ready_raises_a_rejection_and_the_others_go_on():
    net = Network(respond=rejecting("US:TSLA"))
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL,TSLA")
        with pytest.raises(RejectedError, match="no such code"):
            await trades.ready()
        await trades.ready()
        net.peers[0].push(trade(1))
        assert (await anext(trades)).price == 1


async def test_ready_raises_where_the_server_does_not_reply_or_the_client_is_closed():
    net = Network(respond=lambda _, frame: "OK" if frame["type"] == "H" else None)
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        with pytest.raises(RequestTimeoutError):
            await trades.ready()
        await client.aclose()
        with pytest.raises(ClosedError):
            await trades.ready()


# Batches with events


async def test_batches_have_notices_in_place_where_that_is_wanted():
    net = Network()
    async with (
        opened(net, jitter=0.0) as client,
        client.watch_trades("US:AAPL") as trades,
    ):
        events = Collected(trades.batches(events=True, max_wait=0.5))
        net.peers[0].push(trade(1), trade(2))
        await cut(net)
        net.peers[-1].push(trade(3))
        await asyncio.sleep(60)
        assert events.kinds == ["Trade", "Trade", "Interrupted", "Gap", "Trade"]


async def test_a_notice_alone_is_a_batch():
    net = Network(None, 50.0)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        batches = trades.batches(events=True, max_wait=0.5)
        net.peers[0].end()
        [notice] = await anext(batches)
        assert isinstance(notice, Interrupted)


async def test_batches_with_events_have_no_frames():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        with pytest.raises(ValueError, match="without events=True"):
            trades.batches(events=True).to_polars()


# Closing iterators

ITERATORS = {
    "events": lambda trades, _: trades.events(),
    "stale events": lambda trades, _: trades.events(stale=True),
    "batches": lambda trades, _: trades.batches(),
    "batches with events": lambda trades, _: trades.batches(events=True),
    "frames": lambda trades, _: trades.batches().to_polars(),
    "bars": lambda trades, _: bars(trades, "1m"),
    "states": lambda _, client: client.states(),
}


@pytest.mark.parametrize("name", ITERATORS)
async def test_a_closed_iterator_ends_and_its_subscription_goes_on(name):
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        iterator = ITERATORS[name](trades, client)
        net.peers[0].push(trade(1))
        await asyncio.sleep(1)
        await iterator.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
        await iterator.aclose()
        assert (await anext(trades)).price == 1
        assert client.state is LinkState.OPEN


@pytest.mark.parametrize("name", ITERATORS)
async def test_closing_an_iterator_ends_the_task_that_waits_in_it(name):
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        iterator = ITERATORS[name](trades, client)
        consumer = Collected(iterator)
        await asyncio.sleep(1)
        await iterator.aclose()
        await asyncio.sleep(1)
        assert consumer.task.done()
        assert consumer.items == []
        net.peers[0].push(trade(1))
        assert (await anext(trades)).price == 1


@pytest.mark.parametrize("name", ["events", "batches", "frames"])
async def test_an_iterator_alone_keeps_its_subscription(name):
    net = Network()
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        await trades.ready()
        iterator = ITERATORS[name](trades, client)
        del trades
        gc.collect()
        await asyncio.sleep(5)
        assert net.peers[0].types() == ["T"]
        del iterator
        gc.collect()
        await asyncio.sleep(5)
        assert net.peers[0].types() == ["T", "TC"]


async def test_bars_that_are_closed_emit_no_unfinished_bar():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        iterator = bars(trades, "1m")
        consumer = Collected(iterator)
        net.peers[0].push(trade(1))
        await asyncio.sleep(1)
        await iterator.aclose()
        await asyncio.sleep(1)
        assert consumer.task.done()
        assert consumer.items == []


async def test_bars_that_are_closed_unread_let_their_subscription_go():
    net = Network()
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        await trades.ready()
        iterator = bars(trades, "1m")
        await iterator.aclose()
        del trades
        gc.collect()
        await asyncio.sleep(5)
        assert net.peers[0].types() == ["T", "TC"]


async def test_events_of_finished_klines_have_their_gaps_too():
    net = Network()
    async with opened(net, jitter=0.0) as client:
        watched = client.watch_klines("US:AAPL", interval="1m", final=True)
        async with watched as klines:
            events = Collected(klines.events())
            net.peers[0].push(kline(60, 1), kline(120, 2))
            await cut(net)
            net.peers[-1].push(kline(180, 3), kline(240, 4))
            await asyncio.sleep(60)
            assert events.kinds == ["Kline", "Interrupted", "Gap", "Kline"]
            assert isinstance(events.items[2], Gap)
            assert not any(isinstance(item, Trade) for item in events.items)


# Two consumers


async def test_a_second_consumer_of_events_is_refused_though_an_event_waits():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        first = asyncio.create_task(anext(trades.events()))
        await asyncio.sleep(0)
        net.peers[0].push(trade(1))
        for second in (trades.events(), trades.batches(events=True)):
            with pytest.raises(RuntimeError, match="one consumer at a time"):
                await anext(second)
        assert isinstance(await first, Trade)


@pytest.mark.parametrize("way", ["events", "batches"])
async def test_another_task_may_read_once_the_first_is_cancelled_or_closed(way):
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:

        def iterator() -> Any:
            return trades.events() if way == "events" else trades.batches(events=True)

        first = asyncio.create_task(anext(iterator()))
        await asyncio.sleep(0)
        first.cancel()
        net.peers[0].push(trade(1))
        assert await anext(iterator())
        closed = iterator()
        second = asyncio.create_task(anext(closed))
        await asyncio.sleep(0)
        await closed.aclose()
        net.peers[0].push(trade(2))
        assert await anext(iterator())
        with pytest.raises(StopAsyncIteration):
            await second
        third = asyncio.create_task(anext(iterator()))
        await asyncio.sleep(0)
        await closed.aclose()
        net.peers[0].push(trade(3))
        assert await third


@pytest.mark.parametrize("way", ["plain", "batches"])
@pytest.mark.parametrize("closed", [False, True])
async def test_a_tick_that_waits_is_read_though_the_task_before_was_cancelled(
    way, closed
):
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        iterator: Any = trades if way == "plain" else trades.batches(max_wait=0.0)
        first = asyncio.create_task(anext(iterator))
        await asyncio.sleep(0)
        first.cancel()
        net.peers[0].push(trade(1))
        if closed:
            await trades.aclose()
        async with asyncio.timeout(1):
            assert await anext(iterator)


# Rejections at the end


@pytest.mark.parametrize("way", ["events", "batches"])
async def test_what_is_buffered_is_read_before_the_end_though_a_topic_was_rejected(way):
    net = Network(respond=rejecting("US:TSLA"))
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL,TSLA")
        events = trades.events() if way == "events" else trades.batches(events=True)
        await asyncio.sleep(10)
        net.peers[0].push(trade(1), trade(2))
        await trades.aclose()
        collected = Collected(events)
        await collected.task
        assert collected.kinds == ["Rejected", "Trade", "Trade"]


async def test_events_are_read_before_the_error_of_the_last_rejection():
    net = Network()
    async with opened(net, jitter=0.0) as client:
        trades = client.watch_trades("US:AAPL,TSLA")
        await trades.ready()
        net.peers[0].push(trade(1), trade(2, "US:TSLA"))
        events = trades.events()
        net.respond = rejecting("US:AAPL", "US:TSLA")
        net.peers[0].end()
        await asyncio.sleep(60)
        collected = Collected(events)
        await asyncio.wait([collected.task])
        assert isinstance(collected.task.exception(), RejectedError)
        assert collected.kinds[:2] == ["Trade", "Trade"]
        assert collected.kinds.count("Rejected") == 2


async def test_a_subscription_of_which_only_rejected_topics_are_left_is_closed():
    def respond(_: Any, frame: Any) -> str | None:
        return {"T": "no such code", "H": "OK"}.get(frame["type"])

    net = Network(respond=respond)
    async with opened(net) as client:
        prices = Topic("snapshot", "US:AAPL")
        mixed = client.watch(TSLA, prices)
        await asyncio.sleep(5)
        await mixed.remove(prices)
        assert client.stats.subscriptions == 0
        assert not client._stream._queues


# A buffer that is full of what was held back


@pytest.mark.parametrize("way", ["aclose", "remove"])
async def test_closing_a_strict_subscription_in_recovery_leaves_the_others(way):
    net = Network()
    async with opened(net, jitter=0.0) as client:
        strict = client.watch_trades("US:AAPL", buffer=Strict(1))
        other = client.watch_trades("US:AAPL")
        await strict.ready()
        net.peers[0].push(trade(0))
        await anext(strict)
        await anext(other)
        net.respond = lambda _, frame: None if frame["type"][0] == "R" else "OK"
        net.peers[0].end()
        await asyncio.sleep(1.5)
        net.peers[-1].push(trade(1), trade(2), trade(3))
        await asyncio.sleep(0)
        assert client.stats.held
        await (strict.aclose() if way == "aclose" else strict.remove("US:AAPL"))
        await asyncio.sleep(60)
        assert "TC" not in net.peers[-1].types()
        assert [(await anext(other)).price for _ in range(3)] == [1, 2, 3]


# Draining


async def test_draining_does_not_wait_for_an_iterator_that_was_closed():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        events = trades.events()
        net.peers[0].push(trade(1))
        assert isinstance(await anext(events), Trade)
        await events.aclose()
        before = asyncio.get_running_loop().time()
        assert await client.drain()
        assert asyncio.get_running_loop().time() - before < 1
