"""Stale in events(): against scripted links, in virtual time, with a wall clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from typing import Any

import pytest

from qos_async import (
    Gap,
    Interrupted,
    Market,
    Snapshot,
    Stale,
    Topic,
    Trade,
    TradingDay,
)
from qos_async.testing.virtual import WALL, simulate, simulation
from tests.support.memory_transport import Network, Peer, opened, snapshot, trade

BITCOIN, APPLE, HANG_SENG = "CF:BTCUSDT", "US:AAPL", "IX:HSI"
# The wall shows 9:20:30 in New York in the beginning: before the opening.


async def beat(peer: Peer, symbol: str, times: int = 40, every: float = 1.0) -> None:
    """Push trades, one every so often."""
    for number in range(times):
        peer.push(trade(number, symbol))
        await asyncio.sleep(every)


async def collect(events: Any, seconds: float) -> list[Any]:
    """Return the events of ``seconds`` seconds."""
    found: list[Any] = []
    try:
        async with asyncio.timeout(seconds):
            async for event in events:
                found.append(event)  # noqa: PERF401 - it ends by the clock
    except TimeoutError:
        pass
    return found


def kinds(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events if not isinstance(event, Trade)]


def test_a_quiet_open_market_is_stale_once_until_it_ticks_again():
    async def main() -> None:
        net = Network()
        async with opened(net) as client, client.watch_trades(BITCOIN) as trades:
            await beat(net.peers[0], BITCOIN)
            events = trades.events(stale=True)
            assert kinds(await collect(events, 1.0)) == []
            # Intervals are learned while a loop iterates.
            beating = asyncio.create_task(beat(net.peers[0], BITCOIN))
            found = await collect(events, 1000)
            await beating
            assert kinds(found) == ["Stale"]
            stale = found[-1]
            assert isinstance(stale, Stale)
            assert stale.topic == Topic("trade", BITCOIN)
            assert 60 < stale.quiet < 80
            assert 0.5 < stale.usual < 2
            last = datetime.fromtimestamp(WALL + 80, UTC)
            assert abs((stale.since - last).total_seconds()) < 2
            beating = asyncio.create_task(beat(net.peers[0], BITCOIN))
            again = await collect(events, 1000)
            await beating
            assert kinds(again) == ["Stale"]
            assert isinstance(again[-1], Stale)
            assert (len(net.peers), client.stats.gaps) == (1, 0)  # Nothing was done.

    simulate(main)


def test_only_events_with_stale_include_stale():
    async def main() -> None:
        net = Network()
        async with opened(net) as client, client.watch_trades(BITCOIN) as trades:
            beating = asyncio.create_task(beat(net.peers[0], BITCOIN))
            assert kinds(await collect(trades.events(), 1000)) == []
            await beating

    simulate(main)


def test_a_quiet_closed_market_is_not_suspicious(monkeypatch):
    before_lunch = datetime(2025, 3, 14, 3, 56, tzinfo=UTC).timestamp()
    monkeypatch.setattr(simulation, "WALL", before_lunch)

    async def main() -> None:
        net = Network()
        async with opened(net) as client, client.watch_trades("HK:700") as trades:
            beating = asyncio.create_task(beat(net.peers[0], "HK:700", 238))
            events = trades.events(stale=True)
            assert kinds(await collect(events, 64 * 60)) == []  # Lunch.
            await beating
            assert kinds(await collect(events, 120)) == ["Stale"]

    simulate(main)


@pytest.mark.fault("F3")
@pytest.mark.parametrize(
    ("wall", "expected"),
    [
        (datetime(2025, 3, 15, 2, tzinfo=UTC), ["Stale"]),  # A Saturday.
        (datetime(2025, 3, 14, 6, tzinfo=UTC), ["Stale"]),  # Hours later.
        (datetime(2025, 3, 14, 2, tzinfo=UTC), ["Stale"]),
    ],
)
def test_market_hours_are_by_the_clock_of_the_server(monkeypatch, wall, expected):
    monkeypatch.setattr(simulation, "WALL", wall.timestamp())
    server = datetime(2025, 3, 14, 2, tzinfo=UTC).timestamp()  # 10:00 in Hong Kong.

    def with_time(peer: Peer, frame: Any) -> None:
        peer.answer(frame, time=int(server + asyncio.get_running_loop().time()))

    async def main() -> None:
        net = Network(respond=with_time)
        async with opened(net) as client, client.watch_trades("HK:700") as trades:
            beating = asyncio.create_task(beat(net.peers[0], "HK:700"))
            assert kinds(await collect(trades.events(stale=True), 200)) == expected
            await beating

    simulate(main)


def test_a_holiday_is_not_suspicious():
    days = [TradingDay(date=date(2025, 3, 13)), TradingDay(date=date(2025, 3, 17))]

    async def main(calendar: Any) -> list[str]:
        net = Network()
        async with opened(net) as client, client.watch_trades(APPLE) as trades:
            beating = asyncio.create_task(beat(net.peers[0], APPLE))
            events = trades.events(stale=True, calendar=calendar)
            found = await collect(events, 500)
            await beating
            return kinds(found)

    assert simulate(lambda: main({Market.US: days})) == []
    assert simulate(lambda: main(None)) == ["Stale"]


def test_a_market_without_known_hours_is_never_stale():
    async def main() -> None:
        net = Network()
        async with opened(net) as client, client.watch_trades(HANG_SENG) as trades:
            beating = asyncio.create_task(beat(net.peers[0], HANG_SENG))
            assert kinds(await collect(trades.events(stale=True), 3000)) == []
            await beating

    simulate(main)


def test_an_outage_is_a_gap_and_not_a_quiet_market():
    async def main() -> None:
        net = Network(None, 500.0)
        async with opened(net, recover=False) as client:  # noqa: SIM117
            async with client.watch_trades(BITCOIN) as trades:
                peer = net.peers[0]
                beating = asyncio.create_task(beat(peer, BITCOIN))
                asyncio.get_running_loop().call_later(41, peer.end)
                events = trades.events(stale=True)
                found = await collect(events, 560)
                await beating
                assert kinds(found) == ["Interrupted", "Gap"]
                assert kinds(await collect(events, 60)) == ["Stale"]

    simulate(main)


def test_stale_follows_directly_after_all_received_ticks():
    async def main() -> None:
        net, loop = Network(), asyncio.get_running_loop()
        async with opened(net) as client:
            topics = Topic("trade", BITCOIN), Topic("snapshot", BITCOIN)
            async with client.watch(*topics) as sub:
                events = aiter(sub.events(stale=True))
                beating = asyncio.create_task(beat(net.peers[0], BITCOIN))
                await collect(events, 41)
                await beating
                net.peers[0].push(*[snapshot(n, BITCOIN) for n in range(40)])
                for _ in range(
                    40
                ):  # A slow consumer: the silence is detected meanwhile.
                    assert isinstance(await anext(events), Snapshot)
                    await asyncio.sleep(5)
                before = loop.time()
                assert isinstance(await anext(events), Stale)
                assert loop.time() == before

    simulate(main)


def test_a_topic_is_stale_although_another_never_stops():
    async def main() -> None:
        net, ether = Network(), "CF:ETHUSDT"
        async with opened(net) as client:  # noqa: SIM117
            async with client.watch_trades(BITCOIN, ether) as trades:
                both = [
                    asyncio.create_task(beat(net.peers[0], BITCOIN, 40)),
                    asyncio.create_task(beat(net.peers[0], ether, 300)),
                ]
                found = await collect(trades.events(stale=True), 299)
                await asyncio.gather(*both)
                stale = [event for event in found if isinstance(event, Stale)]
                assert [one.topic.symbol for one in stale] == [BITCOIN]

    simulate(main)


@pytest.mark.parametrize("end", ["aclose", "remove"])
def test_an_unsubscribed_topic_is_never_stale(end):
    async def main() -> None:
        net = Network()
        async with (
            opened(net) as client,
            client.watch_trades(BITCOIN, "CF:X") as trades,
        ):
            beating = asyncio.create_task(beat(net.peers[0], BITCOIN))
            events = trades.events(stale=True)
            await collect(events, 41)
            await beating
            await (trades.aclose() if end == "aclose" else trades.remove(BITCOIN))
            assert await collect(events, 500) == []
            if end == "remove":  # The earlier statistics are gone.
                await trades.add(BITCOIN)
                assert await collect(events, 500) == []

    simulate(main)


def test_gaps_and_errors_are_delivered_together_with_stale():
    async def main() -> None:
        net = Network()
        async with opened(net) as client, client.watch_trades(BITCOIN) as trades:
            net.peers[0].push(trade(1, BITCOIN))
            await asyncio.sleep(1)
            net.peers[0].end()
            peer = await net.link(1)
            await peer.next_frame("T")
            peer.push(trade(2, BITCOIN))
            events = trades.events(stale=True)
            found = [await anext(events) for _ in range(4)]
            assert isinstance(found[1], Interrupted)
            assert isinstance(found[2], Gap)
            first = asyncio.create_task(collect(events, 10))
            await asyncio.sleep(1)
            with pytest.raises(RuntimeError, match="one consumer at a time"):
                await anext(events)
            assert await first == []

    simulate(main)
