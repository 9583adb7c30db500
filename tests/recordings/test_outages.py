"""Outages in recordings: a replay has each gap, and what was fetched, as it was live."""

from __future__ import annotations

import asyncio
import contextlib
import random
from decimal import Decimal
from typing import Any

import pytest

from qos_async import (
    Client,
    Gap,
    Interrupted,
    Limits,
    Recorder,
    Tick,
    Topic,
    follow,
    replay,
)
from qos_async.recordings import read
from qos_async.sim import Simulator
from qos_async.testing.virtual import simulate

pytestmark = pytest.mark.slow

BTC, ETH, TENCENT = "CF:BTCUSDT", "CF:ETHUSDT", "HK:700"
TOPICS = [
    Topic("trade", BTC),
    Topic("trade", ETH),
    Topic("snapshot", BTC),
    Topic("depth", ETH),
    Topic("kline", BTC, "1m"),
]
PLAN = Limits(command_interval=0.05, symbols=40)


async def recorded_live(place, seed, trouble, *, rate=3.0, numbers=Decimal, **options):
    """Record a client of a simulator in trouble; return the events of each consumer."""
    async with (
        Simulator(seed=seed, rate=rate, plan=PLAN) as sim,
        Client(
            sim.key,
            http_url=sim.http_url,
            stream_url=sim.stream_url,
            limits=PLAN,
            recorder=Recorder(place),
            numbers=numbers,
            **options,
        ) as client,
    ):
        return await consumed(client, lambda: trouble(sim, random.Random(seed)))


async def consumed(client, run):
    """Return the events of two consumers, until ``run`` has ended or they have."""
    # Both are subscribed at once, before the first tick.
    events: tuple[list[Any], list[Any]] = [], []
    subscriptions = client.watch(*TOPICS), client.watch(*TOPICS[:2])
    tasks = [
        asyncio.create_task(collect(sub, got))
        for sub, got in zip(subscriptions, events, strict=True)
    ]
    if run is not None:
        with contextlib.suppress(asyncio.CancelledError):
            await run()
        for task in tasks:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=run is not None)
    return events


async def collect(sub, got):
    async for event in sub.events():
        got.append(event)


async def replayed(place, **options):
    async with replay(place, **options) as client:
        return await consumed(client, None)


def essence(event):
    """Return all of an event that a replay must have."""
    if isinstance(event, Gap):
        # The wall clock is read at another microsecond for the recording.
        return event
    if isinstance(event, Interrupted):
        return "interrupted", event.topic, event.reason
    fields = event.to_dict()
    del fields["received_at"]
    fields.pop("place", None)
    return type(event).__name__, fields


def check_same(live, again):
    """Check that a replay has the events that were consumed live, and in that order."""
    for one, other in zip(live, again, strict=True):
        assert list(map(essence, other[: len(one)])) == list(map(essence, one))


async def cuts(sim, rng):
    await asyncio.sleep(3)
    sim.reject_upgrades(503, 2)
    sim.cut()
    await asyncio.sleep(20)
    for _ in range(rng.randint(1, 3)):
        sim.cut()
        await asyncio.sleep(rng.choice((0.0, 0.3, 1.2, 4.0, 9.0)))
        if rng.random() < 0.4:
            sim.reject_upgrades(503, rng.randint(1, 3))
            sim.cut()
        await asyncio.sleep(rng.choice((5.0, 30.0)))
    await asyncio.sleep(40)


async def silence(sim, rng):
    """Mute the link until it is given up, twice."""
    for _ in range(2):
        await asyncio.sleep(3)
        sim.mute(new_connections=False)
        await asyncio.sleep(60)


async def garbage(sim, rng):
    """Push frames that cannot be read, between others and in an outage."""
    for _ in range(8):
        await asyncio.sleep(rng.choice((0.0, 0.4, 3.0)))
        sim.push_garbage()
        if rng.random() < 0.3:
            sim.cut()
        await asyncio.sleep(rng.choice((0.0, 1.0, 20.0)))
    await asyncio.sleep(30)


async def no_replies(sim, rng):
    """Cut the link of a server that rejects requests, or does not reply to them."""
    for number in range(4):
        await asyncio.sleep(5)
        if number % 2:
            sim.reject("No permission.", ("RT", "RS", "RK"))
        else:
            sim.drop_replies("RT")
        sim.cut()
        await asyncio.sleep(30)


TROUBLES = [cuts, silence, garbage, no_replies]


@pytest.mark.fault("R1")
@pytest.mark.parametrize(("rate", "seed"), [(3.0, 0), (3.0, 1), (3.0, 2), (40.0, 0)])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_replay_has_the_events_of_outages_item_by_item(tmp_path, trouble, rate, seed):
    live = simulate(
        lambda: recorded_live(tmp_path, seed, trouble, rate=rate), seed=seed
    )
    assert any(isinstance(event, Gap) for event in live[0])
    check_same(live, simulate(lambda: replayed(tmp_path, speed=None)))
    check_same(live, simulate(lambda: replayed(tmp_path, speed=20.0)))


@pytest.mark.fault("R1")
def test_a_gap_that_was_filled_live_is_filled_in_the_replay(tmp_path):
    live = simulate(lambda: recorded_live(tmp_path, 1, cuts), seed=1)
    again = simulate(lambda: replayed(tmp_path, speed=None))
    assert "fetched" in {entry.kind for entry in read(tmp_path)}
    for events in (*live, *again):
        gaps = [event for event in events if isinstance(event, Gap)]
        assert "filled" in {gap.status for gap in gaps}
        assert sum(gap.recovered for gap in gaps)


@pytest.mark.parametrize("numbers", [float, str])
def test_recovered_ticks_are_replayed_in_any_type_of_numbers(tmp_path, numbers):
    live = simulate(lambda: recorded_live(tmp_path, 2, cuts, numbers=numbers), seed=2)
    check_same(live, simulate(lambda: replayed(tmp_path, speed=None, numbers=numbers)))


def test_a_client_that_fetches_nothing_records_its_gaps(tmp_path):
    live = simulate(lambda: recorded_live(tmp_path, 3, cuts, recover=False), seed=3)
    check_same(live, simulate(lambda: replayed(tmp_path, speed=None)))


# Followers


async def followed_live(place, seed, trouble, *, rate):
    """Return the events of a recorded client, and of followers of its recording."""
    recorder = Recorder(place, rotate=7.0)
    async with (
        Simulator(seed=seed, rate=rate, plan=PLAN) as sim,
        Client(
            sim.key,
            http_url=sim.http_url,
            stream_url=sim.stream_url,
            limits=PLAN,
            recorder=recorder,
        ) as client,
        follow(place, "first") as first,
        follow(place) as late,
    ):
        beside = [
            asyncio.create_task(consumed(one, asyncio.Event().wait))
            for one in (first, late)
        ]
        writing = asyncio.create_task(flush(recorder))
        live = await consumed(client, lambda: trouble(sim, random.Random(seed)))
        writing.cancel()
        await recorder.flush()
        await asyncio.sleep(5)
        for task in beside:
            task.cancel()
        return live, *await asyncio.gather(*beside)


def by_topic(events):
    """Return the events of each topic: blocks may end between those of two topics."""
    found: dict[Topic, list[Any]] = {topic: [] for topic in TOPICS}
    for event in events:
        found[event.topic].append(event)
    return found


@pytest.mark.parametrize(("rate", "seed"), [(3.0, 0), (3.0, 1), (40.0, 0)])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_follower_has_the_events_of_the_recorded_client(
    tmp_path, trouble, rate, seed
):
    live, first, late = simulate(
        lambda: followed_live(tmp_path, seed, trouble, rate=rate), seed=seed
    )
    for topic, events in by_topic(live[0]).items():
        mine = list(map(essence, events))
        followed = list(map(essence, by_topic(first[0])[topic]))
        assert followed[: len(mine)] == mine
        joined = list(map(essence, by_topic(late[0])[topic]))
        # One of them may have been cancelled a tick earlier.
        end = min(len(followed), len(joined))
        assert joined[:end] == followed[:end]
        assert len(mine) <= end
    places = [tick.place for tick in first[0] if isinstance(tick, Tick)]
    assert len(places) == len(set(places))
    again = simulate(lambda: replayed(tmp_path, speed=None))
    replayed_places = [tick.place for tick in again[0] if isinstance(tick, Tick)]
    assert places == replayed_places[: len(places)]


async def flush(recorder):
    """Write at other times than those of the recorder's thread, which is not simulated."""
    while True:
        await asyncio.sleep(0.3)
        await recorder.flush()
