"""Subscriptions over in-memory links, in virtual time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from qos_async import (
    AuthenticationError,
    ClosedError,
    DropOldest,
    Dropped,
    Gap,
    LaggedError,
    Latest,
    QosError,
    RejectedError,
    RequestTimeoutError,
    Snapshot,
    Strict,
    Subscription,
    Topic,
)
from tests.support.memory_transport import (
    Frame,
    Network,
    Peer,
    gaps_and_ticks,
    kline,
    opened,
    snapshot,
    trade,
)

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("delivery")]

Read = AsyncIterator[Any]


def prices(ticks: list[Any]) -> list[int]:
    return [int(tick.price) for tick in ticks]


def rejecting(*symbols: str, message: str = "no such code"):
    """Reject frames that name any of ``symbols``."""

    def respond(peer: Peer, frame: Frame) -> str:
        named = ",".join(frame.get("codes", []))
        rejected = any(one.partition(":")[2] in named for one in symbols)
        return message if rejected and not frame["type"].endswith("C") else "OK"

    return respond


async def soon(awaitable: Any, seconds: float = 30) -> Any:
    async with asyncio.timeout(seconds):
        return await awaitable


# Entering and leaving


async def test_entering_waits_for_the_ack():
    net = Network(latency=3.0)
    async with opened(net) as client, client.watch_trades("US:AAPL"):
        assert asyncio.get_running_loop().time() == pytest.approx(3)
        assert ("T", "US:AAPL", None) in net.peers[0].topics


async def test_leaving_unsubscribes():
    net = Network()
    async with opened(net) as client:
        async with client.watch_klines("US:AAPL", interval="5m"):
            pass
        await asyncio.sleep(1)
        assert net.peers[0].sent[-1]["type"] == "KC"
        assert net.peers[0].sent[-1]["kt"] == 5


async def test_a_rejected_symbol_is_named_and_the_others_are_unsubscribed():
    net = Network(respond=rejecting("US:NONE"))
    async with opened(net) as client:
        with pytest.raises(RejectedError, match="no such code") as caught:
            async with client.watch_trades("US:AAPL,NONE,TSLA,IBM", "HK:700"):
                pass
        assert caught.value.symbols == ("US:NONE",)
        await asyncio.sleep(5)
        assert net.peers[0].topics == {}


async def test_a_rejection_is_raised_once_in_a_loop_that_continues_with_the_rest():
    net = Network(respond=rejecting("US:NONE"))
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL,NONE")
        with pytest.raises(RejectedError) as caught:
            await anext(trades)
        assert caught.value.symbols == ("US:NONE",)
        net.peers[0].push(trade(1))
        assert (await anext(trades)).price == 1
        net.peers[0].end()
        await asyncio.sleep(5)
        net.peers[1].push(trade(2))
        assert (await anext(trades)).price == 2
        assert "NONE" not in str(net.peers[1].sent)


async def test_a_rejection_is_raised_although_ticks_are_always_buffered():
    net = Network(respond=rejecting("US:NONE"))
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL,NONE")
        peer = await net.link()
        await asyncio.sleep(1)
        with pytest.raises(RejectedError):  # noqa: PT012
            for number in range(100):
                peer.push(trade(number), trade(number))
                await asyncio.sleep(0.1)
                await anext(trades)


async def test_closing_delivers_buffered_ticks_although_a_rejection_was_not_raised():
    net = Network(respond=rejecting("US:NONE"))
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL,NONE")
        peer = await net.link()
        await asyncio.sleep(1)
        peer.push(trade(1), trade(2))
        await asyncio.sleep(1)
        await trades.aclose()
        got: list[Any] = []
        rejections = 0
        for _ in range(2):
            try:
                got.extend([tick async for tick in trades])
            except RejectedError:
                rejections += 1
        assert (prices(got), rejections) == ([1, 2], 1)


async def test_a_terminal_error_is_raised_after_buffered_ticks_even_behind_a_rejection():
    net = Network(respond=rejecting("US:NONE"))
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL,NONE")
        peer = await net.link()
        await asyncio.sleep(1)
        peer.push(trade(1), trade(2), {"msg": "Key expired."})
        await asyncio.sleep(1)
        got: list[Any] = []
        errors: list[type[BaseException]] = []
        for _ in range(5):
            try:
                got.append(await anext(trades))
            except QosError as exc:
                errors.append(type(exc))
        assert prices(got) == [1, 2]
        assert errors[-1] is AuthenticationError


async def test_a_loop_over_rejected_symbols_ends_with_the_rejection():
    net = Network(respond=rejecting("US:AAPL"))
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        for _ in range(2):
            with pytest.raises(RejectedError):
                await soon(anext(trades))


async def test_entering_without_an_ack_times_out_and_leaves_nothing_behind():
    net = Network(respond=lambda _, f: None if f["type"] == "T" else "OK")
    async with opened(net) as client:
        with pytest.raises(RequestTimeoutError, match="trade US:AAPL"):
            async with client.watch_trades("US:AAPL"):
                pass
        await asyncio.sleep(10)
        assert net.peers[0].types()[-1] == "TC"  # The first may have been obeyed.


async def test_a_loop_waits_for_the_ack_without_a_timeout():
    net = Network(respond=lambda _, f: None if f["type"] == "T" else "OK")
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        reading = asyncio.create_task(_one(trades))
        await asyncio.sleep(60)
        net.respond = lambda *_: "OK"
        await asyncio.sleep(10)
        net.peers[-1].push(trade(1))
        assert (await reading).price == 1


@pytest.mark.fault("P3")
async def test_a_subscription_without_an_ack_is_logged(caplog):
    net = Network(respond=lambda _, f: "OK" if f["type"] == "H" else None)
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        await asyncio.sleep(20)
        assert "no reply to the subscription of trade US:AAPL" in caplog.text
        assert trades.stats.received == 0


async def _one(trades: Any) -> Any:
    return await anext(trades)


async def test_a_closed_subscription_delivers_buffered_ticks_and_ends():
    net = Network()
    async with opened(net) as client:
        async with client.watch_trades("US:AAPL") as trades:
            net.peers[0].push(trade(1), trade(2))
            await asyncio.sleep(1)
        assert prices([tick async for tick in trades]) == [1, 2]
        assert [tick async for tick in trades] == []
        with pytest.raises(ClosedError):
            await trades.add("US:TSLA")
        with pytest.raises(ClosedError):
            async with trades:
                pass
        await trades.remove("US:AAPL")
        await trades.aclose()


async def test_closing_ends_a_loop_that_waits():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        reading = asyncio.create_task(_all(trades))
        await asyncio.sleep(1)
        await trades.aclose()
        assert await reading == []


async def _all(trades: Any) -> list[Any]:
    return [tick async for tick in trades]


@pytest.mark.fault("U6")
async def test_an_error_in_the_body_passes_through_and_unsubscribes():
    net = Network()
    async with opened(net) as client:
        with pytest.raises(ZeroDivisionError):
            async with client.watch_trades("US:AAPL"):
                _ = 1 // 0
        await asyncio.sleep(1)
        assert net.peers[0].topics == {}


@pytest.mark.fault("U3")
async def test_dropping_the_last_reference_unsubscribes():
    net = Network()
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        (await net.link()).push(trade(1))
        async for _ in trades:
            break
        batches = trades.batches()
        del trades, _
        gc.collect()
        await asyncio.sleep(1)
        assert net.peers[0].types() == ["T"]  # The batches still need it.
        del batches
        gc.collect()
        await asyncio.sleep(1)
        assert net.peers[0].types() == ["T", "TC"]
        assert not client._stream._queues


@pytest.mark.fault("U3")
async def test_a_consumer_that_breaks_does_not_buffer_ticks_for_ever():
    net = Network()
    async with opened(net) as client:

        async def look() -> None:
            async for _ in client.watch_trades("US:AAPL"):
                break

        looking = asyncio.create_task(look())
        (await net.link()).push(trade(1))
        await looking
        net.peers[0].push(*[trade(i) for i in range(100)])
        await asyncio.sleep(1)
        assert client.stats.unrouted == 100


async def test_ticks_of_other_topics_in_a_burst_are_not_delivered():
    net = Network()
    async with (
        opened(net) as client,
        client.watch_trades("US:AAPL", "HK:700") as trades,
    ):
        await asyncio.sleep(1)
        net.peers[0].push(
            trade(1),
            trade(2, "US:TSLA"),
            trade(3, "HK:00700"),
            trade(4, "not a symbol"),
            trade(5, recovered=True, received_at=7),
        )
        await asyncio.sleep(1)
        ticks = [await anext(trades) for _ in range(trades.stats.backlog)]
        assert [(t.symbol, int(t.price)) for t in ticks] == [
            ("US:AAPL", 1),
            ("HK:700", 3),
            ("US:AAPL", 5),
        ]
        assert not any(t.recovered for t in ticks)
        assert min(t.received_at for t in ticks) > 7
        assert client.stats.unrouted == 2
        assert client.stats.ticks_by_channel["trade"] == 5


async def test_a_burst_is_split_by_channel():
    net = Network()
    async with (
        opened(net) as client,
        client.watch_trades("US:AAPL") as trades,
        client.watch_snapshots("US:AAPL") as snapshots,
    ):
        await asyncio.sleep(1)
        net.peers[0].push(trade(1), snapshot(2), trade(3), snapshot(4))
        await asyncio.sleep(1)
        assert trades.stats.received == snapshots.stats.received == 2
        assert [(await anext(trades)).price for _ in "ab"] == [1, 3]
        assert (await anext(snapshots)).last_price == 4  # It keeps the newest.


async def test_a_burst_is_split_between_subscriptions_that_share_topics():
    net = Network()
    async with (
        opened(net) as client,
        client.watch_trades("US:AAPL") as one,
        client.watch_trades("US:AAPL,TSLA") as two,
        client.watch(Topic("trade", "US:TSLA"), Topic("snapshot", "US:AAPL")) as three,
    ):
        await asyncio.sleep(1)
        net.peers[0].push(
            trade(1), trade(2, "US:TSLA"), snapshot(3), trade(4), trade(5, "US:NONE")
        )
        await asyncio.sleep(1)
        readers: list[Subscription[Any]] = [one, two, three]
        got = [
            [
                int(tick.last_price or 0)
                if isinstance(tick, Snapshot)
                else int(tick.price)
                for tick in [await anext(sub) for _ in range(sub.stats.backlog)]
            ]
            for sub in readers
        ]
        assert got == [[1, 4], [1, 2, 4], [2, 3]]
        assert client.stats.unrouted == 1


# Adding and removing


async def test_symbols_are_added_and_removed_while_it_lives():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        await trades.add("HK:00700", ["US:TSLA"])
        assert [str(t) for t in trades.topics] == [
            "trade HK:700",
            "trade US:AAPL",
            "trade US:TSLA",
        ]
        assert net.peers[0].sent[-1]["codes"] == ["HK:700", "US:TSLA"]
        net.peers[0].push(trade(1, "HK:700"))
        await asyncio.sleep(1)
        await trades.remove("HK:700", "US:AAPL")
        await asyncio.sleep(1)
        assert list(net.peers[0].topics) == [("T", "US:TSLA", None)]
        assert (await anext(trades)).symbol == "HK:700"  # It was there before.


async def test_adding_a_rejected_symbol_raises_and_the_rest_stays_subscribed():
    net = Network(respond=rejecting("US:NONE"))
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        with pytest.raises(RejectedError) as caught:
            await trades.add("US:NONE", "US:TSLA")
        assert caught.value.symbols == ("US:NONE",)
        net.peers[0].push(trade(1, "US:TSLA"))
        assert (await anext(trades)).price == 1
        assert [topic.symbol for topic in trades.topics] == ["US:AAPL", "US:TSLA"]


async def test_adding_a_present_and_removing_an_absent_symbol_send_nothing():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        await trades.add("US:AAPL")
        await trades.remove("US:TSLA")
        await asyncio.sleep(1)
        assert net.peers[0].types() == ["T"]


async def test_a_rejected_symbol_can_be_subscribed_again():
    net = Network(respond=rejecting("US:TSLA", message="not yet listed"))
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        with pytest.raises(RejectedError):
            await trades.add("US:TSLA")
        net.respond = lambda *_: "OK"
        await trades.add("US:TSLA")
        net.peers[0].push(trade(1, "US:TSLA"))
        assert (await anext(trades)).price == 1


async def test_adding_raises_its_own_rejection_even_while_a_loop_reads():
    def respond(_: Any, frame: Any) -> str:
        return "no such symbol" if "NONE" in str(frame) else "OK"

    net = Network(respond=respond, latency=0.1)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        reading = asyncio.create_task(anext(trades))
        await asyncio.sleep(1)
        with pytest.raises(RejectedError):
            await trades.add("US:NONE")
        net.peers[0].push(trade(1))
        assert (await reading).price == 1


async def test_a_rejection_whose_add_was_cancelled_is_raised_in_the_loop():
    def respond(_: Any, frame: Any) -> str:
        return "no such symbol" if "NONE" in str(frame) else "OK"

    net = Network(respond=respond, latency=0.5)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        adding = asyncio.create_task(trades.add("US:NONE"))
        await asyncio.sleep(0.1)
        adding.cancel()
        with pytest.raises(RejectedError):
            await anext(trades)


async def test_a_rejected_symbol_named_key_is_not_a_rejected_key():
    def respond(_: Any, frame: Any) -> str:
        return "KEY not found" if "KEY" in str(frame) else "OK"

    net = Network(respond=respond)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        with pytest.raises(RejectedError) as caught:
            await client.watch_trades("US:KEY").__aenter__()
        assert caught.value.symbols == ("US:KEY",)
        with pytest.raises(RejectedError):
            await client.fetch_snapshots("US:KEY", via="stream")
        net.peers[0].push(trade(1))
        assert (await anext(trades)).price == 1


# Reading


async def test_a_second_reader_of_one_subscription_raises():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        first = asyncio.create_task(_one(trades))
        await asyncio.sleep(1)
        for second in (trades, trades.events(), trades.batches()):
            with pytest.raises(RuntimeError, match="one consumer"):
                await soon(anext(second))
        net.peers[0].push(trade(1))
        assert (await first).price == 1


async def test_a_batch_being_filled_is_a_reader_too():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        filling = asyncio.create_task(_one(trades.batches(max_wait=10)))
        await asyncio.sleep(1)
        net.peers[0].push(trade(1))
        await asyncio.sleep(1)
        with pytest.raises(RuntimeError, match="one consumer"):
            await soon(anext(trades), 1)
        assert prices(await filling) == [1]


async def test_after_a_cancelled_reader_another_may_read():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        first = asyncio.create_task(_one(trades))
        await asyncio.sleep(1)
        first.cancel()
        await asyncio.wait([first])
        net.peers[0].push(trade(1))
        assert (await anext(trades)).price == 1


async def test_ticks_have_their_time_of_receipt_and_are_not_recovered():
    net = Network()
    async with opened(net) as client, client.watch_trades("HK:00700") as trades:
        net.peers[0].push(trade(1, "HK:00700"))  # As the vendor's examples write it.
        tick = await anext(trades)
        assert tick.symbol == "HK:700"
        assert tick.received_at > 1_700_000_000 * 10**9
        assert tick.recovered is False


async def test_the_server_cannot_set_recovered():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].push(trade(1, recovered=True))
        assert (await anext(trades)).recovered is False


@pytest.mark.fault("U2")
@pytest.mark.parametrize("how", ["one by one", "batches", "events"])
@pytest.mark.parametrize("steps", range(8))
async def test_cancelling_a_reader_as_a_tick_arrives_loses_nothing(how, steps):
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        got: list[Any] = []
        cancelled = 0
        for number in range(20):
            task = asyncio.create_task(_one(_source(trades, how)))
            await asyncio.sleep(1)
            net.peers[0].push(trade(number))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if task.cancelled():
                cancelled += 1
            else:
                found = task.result()
                got.extend(found if isinstance(found, list) else [found])
        await asyncio.sleep(1)
        got.extend([await anext(trades) for _ in range(trades.stats.backlog)])
        assert prices(got) == list(range(20))
        assert cancelled or steps >= 1
        stats = trades.stats
        assert stats.received == stats.delivered == 20


def _source(trades: Subscription[Any], how: str) -> Any:
    match how:
        case "batches":
            return trades.batches(max_items=3, max_wait=0.5)
        case "events":
            return trades.events()
        case _:
            return trades


# Batches


async def test_batches_are_never_empty_never_too_long_and_lose_nothing():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        batches = trades.batches(max_items=10, max_wait=0.5)
        net.peers[0].push(*[trade(i) for i in range(25)])
        got = [await anext(batches) for _ in range(3)]
        assert [len(batch) for batch in got] == [10, 10, 5]
        assert prices([tick for batch in got for tick in batch]) == list(range(25))


async def test_a_batch_is_returned_max_wait_after_its_first_tick():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        clock = asyncio.get_running_loop().time
        batches = trades.batches(max_wait=2.0)
        asyncio.get_running_loop().call_later(10, net.peers[0].push, trade(1))
        asyncio.get_running_loop().call_later(11, net.peers[0].push, trade(2))
        asyncio.get_running_loop().call_later(13, net.peers[0].push, trade(3))
        start = clock()
        assert prices(await anext(batches)) == [1, 2]
        assert clock() - start == pytest.approx(12)
        assert prices(await anext(batches)) == [3]
        assert clock() - start <= 15


async def test_ticks_buffered_while_the_reader_was_busy_are_returned_at_once():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        clock = asyncio.get_running_loop().time
        batches = trades.batches(max_wait=2.0)
        net.peers[0].push(trade(1))
        await anext(batches)
        net.peers[0].push(trade(2))
        await asyncio.sleep(5)
        start = clock()
        assert prices(await anext(batches)) == [2]
        assert clock() == start


async def test_the_end_of_the_subscription_ends_a_batch_early_and_then_the_loop():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        reading = asyncio.create_task(_all(trades.batches(max_wait=1000)))
        await asyncio.sleep(1)
        net.peers[0].push(trade(1))
        await asyncio.sleep(1)
        await trades.aclose()
        [batch] = await soon(reading, 1)
        assert prices(batch) == [1]


@pytest.mark.parametrize(
    "wrong", [{"max_items": 0}, {"max_wait": -1}, {"max_wait": float("nan")}]
)
async def test_batches_with_invalid_arguments_raise(wrong):
    async with opened(Network()) as client:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            client.watch_trades("US:AAPL").batches(**wrong)


# Buffers


@pytest.mark.fault("U4")
async def test_a_strict_consumer_gets_buffered_ticks_and_then_the_error():
    net = Network()
    async with opened(net) as client:  # noqa: SIM117
        async with client.watch_trades("US:AAPL", buffer=Strict(2)) as trades:
            net.peers[0].push(*[trade(i) for i in range(5)])
            await asyncio.sleep(1)
            got = [await anext(trades)]
            net.peers[0].push(trade(9))  # There is room again, but ticks are missing.
            await asyncio.sleep(1)
            with pytest.raises(LaggedError):  # noqa: PT012
                while True:
                    got.append(await anext(trades))
            assert prices(got) == [0, 1]
            with pytest.raises(LaggedError):
                await anext(trades)
            with pytest.raises(LaggedError):
                await anext(trades.events())


@pytest.mark.fault("U4", "U5")
async def test_one_lagging_consumer_does_not_affect_another():
    net = Network()
    async with opened(net) as client:
        strict = client.watch_trades("US:AAPL", buffer=Strict(1))
        async with client.watch_trades("US:AAPL") as fine:
            net.peers[0].push(*[trade(i) for i in range(4)])
            assert prices([await anext(fine) for _ in range(4)]) == [0, 1, 2, 3]
            assert (await anext(strict)).price == 0
            with pytest.raises(LaggedError):
                await anext(strict)


@pytest.mark.fault("U4", "I7")
async def test_dropped_stands_where_ticks_were_lost_and_the_counters_agree():
    net = Network()
    async with opened(net) as client:  # noqa: SIM117
        async with client.watch_trades("US:AAPL", buffer=DropOldest(3)) as trades:
            events = trades.events()
            net.peers[0].push(trade(0))
            assert (await anext(events)).price == 0  # type: ignore[union-attr]
            net.peers[0].push(*[trade(i) for i in range(1, 8)])
            await asyncio.sleep(1)
            assert await anext(events) == Dropped(4)
            assert prices([await anext(events) for _ in range(2)]) == [5, 6]
            stats = trades.stats
            assert (stats.received, stats.delivered, stats.dropped) == (8, 3, 4)
            assert stats.backlog == 1


@pytest.mark.fault("U4")
async def test_latest_keeps_the_newest_of_each_topic():
    net = Network()
    async with opened(net) as client:  # noqa: SIM117
        async with client.watch_snapshots("US:AAPL,TSLA") as quotes:
            for number in range(10):
                net.peers[0].push(snapshot(number), snapshot(number, "US:TSLA"))
            await asyncio.sleep(1)
            two = [await anext(quotes) for _ in range(2)]
            assert {(q.symbol, int(q.last_price or 0)) for q in two} == {
                ("US:AAPL", 9),
                ("US:TSLA", 9),
            }
            stats = quotes.stats
            assert stats.received == 20 == stats.delivered + stats.dropped


@pytest.mark.fault("U4", "I8")
@pytest.mark.parametrize("buffer", [Latest(), DropOldest(2), DropOldest(), Strict()])
async def test_a_gap_is_kept_by_every_buffer(buffer):
    net = Network()
    async with opened(net) as client:  # noqa: SIM117
        async with client.watch_trades("US:AAPL", buffer=buffer) as trades:
            net.peers[0].push(trade(1))
            await asyncio.sleep(1)
            net.peers[0].end()
            peer = await net.link(1)
            await peer.next_frame("T")
            peer.push(*[trade(i) for i in range(2, 9)])
            await asyncio.sleep(1)
            events = gaps_and_ticks(trades.events())
            received = [await anext(events) for _ in range(trades.stats.backlog + 1)]
            assert sum(isinstance(one, Gap) for one in received) == 1
            stats = trades.stats
            assert (
                stats.received == 8 == stats.delivered + stats.dropped + stats.backlog
            )


@pytest.mark.fault("U4", "I16")
async def test_an_idle_reader_does_not_collect_gaps_for_ever():
    net = Network()
    net.on_link = lambda peer: asyncio.get_running_loop().call_later(100, peer.end)
    async with opened(net, jitter=0.0) as client:  # noqa: SIM117
        async with client.watch_trades("US:AAPL") as trades:
            await asyncio.sleep(5_000)
            assert trades.stats.gaps > 40
            assert len(trades._queue.buffer._notices) == 1  # type: ignore[attr-defined]


# Klines


async def test_final_klines_come_once_each_when_the_next_one_begins():
    net = Network()
    async with opened(net) as client:
        sub = client.watch_klines("US:AAPL", interval="1m", final=True)
        async with sub as klines:
            for frame in (
                kline(60, 1),
                kline(60, 2),
                kline(120, 3),
                kline(60, 9),  # A straggler.
                kline(120, 4),
                kline(180, 5),
                kline(180, 6),
            ):
                net.peers[0].push(frame)
            await asyncio.sleep(1)
            got = [await anext(klines) for _ in range(klines.stats.backlog)]
            assert [(k.timestamp, int(k.close)) for k in got] == [(60, 2), (120, 4)]


async def test_klines_of_another_interval_are_not_delivered():
    net = Network()
    async with opened(net) as client:  # noqa: SIM117
        async with client.watch_klines("US:AAPL", interval="1m") as klines:
            net.peers[0].push(kline(60, kt=5), kline(60, 7, kt=1))
            assert (await anext(klines)).close == 7
            assert client.stats.unrouted == 1


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


async def test_the_repr_of_a_subscription_shows_its_topics():
    async with opened(Network()) as client:
        trades = client.watch_trades("US:AAPL")
        assert repr(trades) == "<Subscription trade US:AAPL backlog=0>"
        await trades.aclose()
        assert repr(trades) == "<Subscription of nothing closed>"
