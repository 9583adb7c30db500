"""The recovery after an outage, against the simulator, whose tape is the oracle."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from qos_async import Client, Gap, Kline, Limits, Snapshot, Topic, Trade
from qos_async.sim import Simulator, Variants
from tests.support.factories import drain, gaps

pytestmark = pytest.mark.slow

BTC, ETH = "CF:BTCUSDT", "CF:ETHUSDT"
FAST = Limits(command_interval=0.02, symbols=40)


def key(trade: Trade[Any]) -> tuple[int, Decimal, Decimal | None]:
    return trade.timestamp, trade.price, trade.size


def taped(
    sim: Simulator, symbol: str = BTC
) -> list[tuple[int, Decimal, Decimal | None]]:
    return [
        (row["ts"], Decimal(str(row["p"])), Decimal(str(row["v"])))
        for row in sim.tape(symbol)
    ]


def trades(events: list[Any]) -> list[Trade[Any]]:
    return [event for event in events if isinstance(event, Trade)]


def runs_of(part: list[Any], whole: list[Any]) -> bool:
    """Return whether ``part`` is a contiguous run of ``whole``."""
    size = len(part)
    return any(part == whole[at : at + size] for at in range(len(whole) - size + 1))


async def until_anchored(sim: Simulator, sub: Any) -> None:
    """Wait until trades of two seconds were received of each symbol.

    With those of one, some of that second may be older than the subscription: then
    nothing can be verified (``may_predate``).
    """

    def seconds(symbol: str) -> set[int]:
        return {t.timestamp for t in sub._queue.pending if t.symbol == symbol}

    symbols = {topic.symbol for topic in sub.topics}
    await sim.until(
        lambda: all(len(seconds(symbol)) > 1 for symbol in symbols), timeout=20
    )


async def until_gaps(sim: Simulator, sub: Any, number: int) -> None:
    """Wait until ``number`` gaps were delivered."""
    await sim.until(lambda: sub.stats.gaps == number, timeout=9)


def unchanged(client: Client) -> bool:
    session = client._stream._protocol
    recovery = session.recovery
    assert recovery is not None
    return not (recovery.cases or recovery.echoes or session.outages.open)


@pytest.mark.parametrize(("rate", "newest_first"), [(2.0, True), (5.0, False)])
async def test_filled_means_that_the_tape_was_delivered(
    rate, newest_first, start, dial
):
    variants = Variants(trades_newest_first=newest_first)
    sim = await start(rate=rate, plan=FAST, variants=variants, seed=int(rate))
    async with dial(sim) as client, client.watch_trades(BTC, ETH) as sub:
        await until_anchored(sim, sub)
        sim.reject_upgrades(503, 3)
        sim.cut()
        await until_gaps(sim, sub, 2)
        await asyncio.sleep(0.3)
        events = drain(sub)
        for symbol in (BTC, ETH):
            mine = [e for e in events if symbol in str(e)]
            [gap] = gaps(mine)
            delivered, tape = list(map(key, trades(mine))), taped(sim, symbol)
            assert gap.recovered == sum(t.recovered for t in trades(mine))
            if gap.status == "filled":
                assert runs_of(delivered, tape)
            late = mine[mine.index(gap) + 1 :]
            assert [t.recovered for t in late] == sorted(
                (t.recovered for t in late), reverse=True
            )
            assert not any(t.recovered for t in mine[: mine.index(gap)])
            assert gap.status == "filled", (symbol, gap)
        assert sub.stats.recovered == sum(gap.recovered for gap in gaps(events))
        assert [f.type for f in sim.frames if f.type != "H"][:3] == ["T", "T", "RT"]


async def test_nothing_is_delivered_twice_with_cuts_at_any_time(start, dial):
    sim = await start(rate=5.0, plan=FAST, seed=7)
    async with dial(sim) as client, client.watch_trades(BTC) as sub:
        await asyncio.sleep(1.2)
        for pause in (0.0, 0.05, 0.3):
            sim.cut()
            await sim.until(lambda: ("T", BTC, None) in sim.subscribed)
            await asyncio.sleep(pause)
        await sim.until(lambda: client._stream._protocol.outages.open == {}, timeout=9)
        await asyncio.sleep(0.3)
        events = drain(sub)
        delivered, tape = list(map(key, trades(events))), taped(sim)
        assert all(delivered.count(one) <= tape.count(one) for one in set(delivered))
        if {gap.status for gap in gaps(events)} == {"filled"}:
            assert runs_of(delivered, tape)
        assert [t.timestamp for t in trades(events)] == sorted(
            t.timestamp for t in trades(events)
        )


async def test_a_mute_link_is_an_outage_like_any_other(start, dial):
    sim = await start(rate=4.0, plan=FAST)
    async with dial(sim) as client, client.watch_trades(BTC) as sub:
        await until_anchored(sim, sub)
        sim.mute(new_connections=False)
        await until_gaps(sim, sub, 1)
        await asyncio.sleep(0.3)
        events = drain(sub)
        [gap] = gaps(events)
        assert "nothing was received" in gap.reason
        assert gap.status == "filled"
        assert runs_of(list(map(key, trades(events))), taped(sim))


async def test_a_history_that_is_too_short_makes_the_gap_partial(start, dial):
    sim = await start(rate=120.0, plan=FAST)
    async with dial(sim) as client, client.watch_trades(BTC) as sub:
        await asyncio.sleep(0.5)
        sim.cut()
        await until_gaps(sim, sub, 1)
        await asyncio.sleep(0.2)
        events = drain(sub)
        [gap] = gaps(events)
        assert gap.status in ("partial", "unverified")
        delivered, tape = list(map(key, trades(events))), taped(sim)
        assert all(delivered.count(one) <= tape.count(one) for one in set(delivered))


async def test_without_a_reply_live_ticks_are_delivered(start, dial):
    sim = await start(rate=5.0, plan=FAST)
    async with dial(sim) as client, client.watch_trades(BTC) as sub:
        await asyncio.sleep(0.5)
        sim.reject("No permission.", "RT")
        sim.cut()
        await until_gaps(sim, sub, 1)
        await asyncio.sleep(0.5)
        events = drain(sub)
        [gap] = gaps(events)
        assert (gap.status, gap.recovered) == ("unfilled", 0)
        assert trades(events[events.index(gap) :])


async def test_all_channels_are_recovered_with_few_frames(start, dial):
    sim = await start(rate=5.0, plan=FAST)
    symbols = [BTC, ETH, "US:AAPL", "US:TSLA", "HK:700"]
    topics = [
        Topic(kind, s) for kind in ("trade", "snapshot", "depth") for s in symbols
    ]
    topics += [Topic("kline", s, n) for s in symbols for n in ("1m", "5m")]
    async with dial(sim) as client, client.watch(*topics) as sub:
        await asyncio.sleep(0.6)
        sim.cut()
        await until_gaps(sim, sub, len(topics))
        await asyncio.sleep(0.1)
        frames = [f.type for f in sim.frames if f.link == 2 and f.type != "H"]
        assert set(frames[:5]) == {"T", "S", "D", "K"}
        # A snapshot or book that is pushed first need not be requested.
        assert set(frames[5:]) <= {"RT", "RK", "RS", "RD"}
        assert frames.count("RK") == 2
        # Requested again for a symbol whose first new trade came after the reply.
        assert 1 <= frames.count("RT") <= 1 + len(symbols)
        assert frames.count("RS") <= 1 >= frames.count("RD")
        assert len(gaps(drain(sub))) == len(topics)
        assert sim.violations == []


async def test_final_klines_add_up_across_an_outage(start, dial):
    sim = await start(rate=2.0, plan=FAST, speed=100.0)
    async with dial(sim) as client:
        async with client.watch_klines(BTC, interval="1m", final=True) as sub:
            await asyncio.sleep(1.3)
            sim.reject_upgrades(503, 8)
            sim.cut()
            await until_gaps(sim, sub, 1)
            await asyncio.sleep(1.3)
            bars = [e for e in drain(sub) if isinstance(e, Kline)]
        starts = [bar.timestamp for bar in bars]
        assert starts == list(range(starts[0], starts[-1] + 60, 60))
        true = (await client.fetch_klines(BTC, interval="1m", count=100))[BTC]
        truth = {bar.timestamp: (bar.close, bar.volume) for bar in true}
        assert {b.timestamp: (b.close, b.volume) for b in bars} == {
            one: truth[one] for one in starts
        }


async def test_snapshots_are_current_at_once_in_a_quiet_market(start, dial):
    sim = await start(speed=0.0, plan=FAST)
    async with dial(sim) as client, client.watch_snapshots(BTC) as sub:
        await asyncio.sleep(0.1)
        sim.cut()
        await until_gaps(sim, sub, 1)
        gap, fresh = drain(sub)
        assert isinstance(gap, Gap)
        assert isinstance(fresh, Snapshot)
        assert (gap.status, fresh.recovered) == ("filled", True)


async def test_requests_are_served_and_nothing_is_left(start, dial):
    sim = await start(rate=5.0, plan=FAST)
    async with dial(sim) as client:
        async with client.watch_trades(BTC) as sub, client.watch_depth(BTC):
            await asyncio.sleep(0.3)
            sim.cut()
            recovery = client._stream._protocol.recovery
            await sim.until(lambda: recovery.cases)
            async with asyncio.timeout(1):
                assert await client.fetch_depth(BTC, via="stream")
            assert sub.stats.gaps == 0
        assert unchanged(client)


async def test_without_recovery_nothing_is_requested(start, dial):
    sim = await start(rate=20.0, plan=FAST)
    async with dial(sim, recover=False) as client, client.watch_trades(BTC) as sub:
        await asyncio.sleep(0.2)
        sim.cut()
        await until_gaps(sim, sub, 1)
        await asyncio.sleep(0.3)
        assert [gap.status for gap in gaps(drain(sub))] == ["unfilled"]
        assert sim.received("RT") == []
        assert client.stats.gaps == 1
