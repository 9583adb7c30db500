"""Where a follower begins in a stream: amid an outage, and among the ticks of its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from msgspec.json import decode

from qos_async import Gap, Interrupted, Topic, Trade
from qos_async.jetstream.api import call
from qos_async.recordings import archive, follow, replay
from qos_async.recordings.format import Entry
from qos_async.recordings.recorded_recovery import PlacedDecoder, RecordedRecovery
from qos_async.recordings.replay_timeline import Timeline
from qos_async.recordings.source import Resume
from qos_async.recordings.timeline_events import (
    FramesReceived,
    TimelineEvent,
    TopicRecovered,
)
from tests.support.written_stream import BTC, ETH, Log, Writer, push

SYMBOLS = (BTC.symbol, ETH.symbol)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


async def played(log: Log, start: Any = None) -> list[Any]:
    """Return what a replay yields, notices included."""
    async with replay(str(log.place), None, start=start, numbers=str) as client:
        return [one async for one in client.watch_trades(*SYMBOLS).events()]


def ticks(events: list[Any]) -> list[Trade[str]]:
    return [one for one in events if isinstance(one, Trade)]


async def followed(log: Log, start: Any, end: int | str, **options: Any) -> list[Any]:
    """Return the ticks of a follower up to a number of them, or to a place.

    It has not handled the last one.
    """
    found: list[Any] = []
    async with follow(str(log.place), start, numbers=str, **options) as client:
        async with asyncio.timeout(20):
            async for tick in client.watch_trades(*SYMBOLS):
                found.append(tick)
                if end in (len(found), tick.place):
                    return found
    raise AssertionError(f"the loop ended after {len(found)} ticks")


async def record_outage(log: Log, *, left: int = 0, following: int = 0) -> None:
    """Write an outage of one topic: pushes before, in and behind it.

    Args:
        log: The stream.
        left: How many pushes, stored before its beginning, are in it.
        following: How many pushes, stored before its end, are behind it.
    """
    writer = log.writer
    await writer.begin()
    await writer.event("subscribed", topics=[str(BTC), str(ETH)])
    await writer.trades(BTC, 1)
    await writer.trades(ETH, 11)
    async with received_together(writer):
        await writer.trades(BTC, 2, 3)
        await writer.trades(ETH, 12)
        outage = {"topics": [str(BTC)], "reason": "a pause", "since": 5}
        await writer.event("suspect", **outage, topic_left=left)
    await writer.trades(ETH, 13)
    await writer.trades(BTC, 5, 6)
    await writer.trades(ETH, 14)
    await writer.trades(BTC, 7)
    async with received_together(writer):
        await writer.trades(BTC, 8, 9)
        await writer.trades(ETH, 15)
        rows = [Raw(push(BTC, 4)), 0, 1]
        end = {"rows": rows, "omitted": [2], "status": "filled", "until": 6}
        await writer.event("fetched", **outage, **end, topic_left=following)
    await writer.trades(ETH, 16)
    await writer.trades(BTC, 10)


@asynccontextmanager
async def received_together(writer: Writer) -> AsyncGenerator[None]:
    writer.step, step = 0, writer.step
    yield
    writer.step = step


bursts = pytest.mark.parametrize(("left", "following"), [(0, 0), (1, 2), (2, 1)])


@pytest.mark.fault("N135")
@bursts
async def test_a_start_amid_an_outage_has_all_that_was_held_back(
    log: Log, left: int, following: int
):
    await record_outage(log, left=left, following=following)
    whole = ticks(await played(log))
    assert sorted(int(one.price) for one in whole) == [
        *(number for number in range(1, 11) if number != {0: 7, 1: 6, 2: 5}[left]),
        *range(11, 17),
    ]
    places = [one.place for one in whole if one.symbol == BTC.symbol]
    assert places == sorted({*places})
    for number, tick in enumerate(whole[:-1], 1):
        later = whole[number:]
        assert ticks(await played(log, tick.place)) == later
        assert await followed(log, tick.place, len(later)) == later


@pytest.mark.fault("N135")
async def test_a_start_amid_an_outage_is_announced(log: Log):
    await record_outage(log)
    whole = await played(log)
    [amid] = [one for one in ticks(whole) if one.price == "13"]
    first, *others = await played(log, amid.place)
    assert isinstance(first, Interrupted)
    assert (first.topic, first.reason) == (BTC, "a pause")
    [gap] = [one for one in others if isinstance(one, Gap)]
    assert gap in whole


@pytest.mark.fault("N135")
async def test_a_start_amid_an_outage_needs_no_direct_reads(log: Log):
    info = await call(log.wire, f"STREAM.INFO.{log.stream}")
    config = info["config"] | {"allow_direct": False}
    await call(log.wire, f"STREAM.UPDATE.{log.stream}", config)
    await record_outage(log)
    whole = ticks(await played(log))
    [number] = [number for number, one in enumerate(whole) if one.price == "13"]
    assert ticks(await played(log, whole[number].place)) == whole[number + 1 :]


@pytest.mark.fault("N135")
@bursts
async def test_a_durable_follower_that_ends_amid_an_outage_loses_nothing(
    log: Log, left: int, following: int
):
    await record_outage(log, left=left, following=following)
    whole = ticks(await played(log))
    for number in range(1, len(whole)):
        name = f"bot-{number}"
        assert await followed(log, "first", number, durable=name) == whole[:number]
        # The last one was being handled; a few before it may come again.
        rest = await followed(log, None, whole[-1].place, durable=name)
        assert rest == whole[-len(rest) :]
        assert whole[number - 1] in rest


def places(entries: list[Entry], *, alone: bool) -> list[tuple[str, str]]:
    """Return price and place of each tick; with ``alone`` each entry comes for itself."""
    timeline = Timeline()
    recovery = RecordedRecovery(PlacedDecoder(str))
    found: list[tuple[str, str]] = []

    def add(events: list[TimelineEvent]) -> None:
        for event in events:
            if isinstance(event, TopicRecovered):
                read = recovery.read(event, lambda _: False)
                ticks = (*read.recovered, *read.held)
                found.extend((one.price, one.place) for one in ticks)
            elif isinstance(event, FramesReceived):
                pushed = (one for entry in event.entries for one in entry.single())
                found.extend((decode(one.frame)["p"], one.place) for one in pushed)

    for entry in entries:
        add(timeline.add(entry))
        if alone:
            add(timeline.flush())
    add(timeline.end())
    return found


@pytest.mark.fault("N136")
async def test_places_do_not_depend_on_how_a_stream_is_read(log: Log):
    """A burst may be read in parts, before the entry that stands amid it is stored."""
    await record_outage(log, following=2)
    reader = await log.open("first", grows=False)
    entries = await reader.all()
    together, alone = places(entries, alone=False), places(entries, alone=True)
    assert sorted(together) == sorted(alone)
    assert len({*dict(alone).values()}) == len(alone) == 15


@pytest.mark.fault("N136")
async def test_outages_that_end_together_leave_each_tick_its_place(
    log: Log, tmp_path: Path
):
    """An archive has a file for each market, so that its entries stand alone."""
    writer, apple = log.writer, Topic("trade", "US:AAPL")
    topics = [str(BTC), str(apple)]
    await writer.begin()
    await writer.event("subscribed", topics=topics)
    await writer.event("suspect", topics=topics, reason="a pause", since=5)
    async with received_together(writer):
        await writer.trades(apple, 1)
        await writer.trades(BTC, 1)
        for topic in topics:
            end = {"status": "filled", "reason": "a pause", "since": 5, "until": 6}
            await writer.event("fetched", topics=[topic], **end, topic_left=1)
    await writer.trades(BTC, 2)
    await writer.trades(apple, 2)
    await asyncio.to_thread(archive, str(log.place), tmp_path, now=LATER)
    for symbol in (BTC.symbol, apple.symbol):
        found = []
        for place in (str(log.place), tmp_path / symbol[:2]):
            async with replay(place, None, numbers=str) as client:
                ticks = [one async for one in client.watch_trades(symbol)]
            found.append([(one.price, one.place) for one in ticks])
        assert found[0] == found[1]
        assert [price for price, _ in found[0]] == ["1", "2"]


async def record_takeover(log: Log, *, second: bool) -> None:
    """Write an outage that a recorder has not survived, and its successor ends.

    Args:
        log: The stream.
        second: Whether another recorder begins amid the first epoch.
    """
    main, other = log.writer, Writer(log.wire, log.stream, "other")
    end = {"status": "filled", "until": 6}
    await main.begin()
    await main.event("subscribed", topics=[str(BTC)])
    await main.trades(BTC, 1)
    if second:
        await other.begin()
        await other.event("subscribed", topics=[str(ETH)])
    outage = {"topics": [str(BTC)], "reason": "a pause", "since": 5}
    await main.event("suspect", **outage)
    await main.trades(BTC, 2)
    await main.event("fetched", **outage, **end)
    await main.event("suspect", **outage)
    await main.trades(BTC, 3)
    await main.trades(BTC, 4)
    await main.begin(run="s", link=False, awaited=[str(BTC)])
    await main.event("opened")
    await main.event("subscribed", topics=[str(BTC)])
    await main.trades(BTC, 6)
    rows = [Raw(push(BTC, 5)), 1]
    await main.event("fetched", **outage, **end, rows=rows)
    await main.trades(BTC, 7)


async def record_killed(log: Log) -> None:
    """Write outages of two topics, of which a killed recorder has ended one."""
    main, topics = log.writer, [str(BTC), str(ETH)]
    outage = {"reason": "a pause", "since": 5}
    await main.begin()
    await main.event("subscribed", topics=topics)
    await main.trades(BTC, 1)
    await main.trades(ETH, 11)
    await main.event("suspect", topics=topics, **outage)
    await main.trades(ETH, 12)
    await main.trades(BTC, 2)
    await main.trades(ETH, 13)
    end = {"status": "filled", "until": 6}
    await main.event("fetched", topics=[str(BTC)], **outage, **end)
    await main.trades(BTC, 3)
    await main.begin(run="s")
    await main.event("subscribed", topics=topics)
    await main.trades(BTC, 4)
    await main.trades(ETH, 14)


@pytest.mark.fault("N152")
async def test_ticks_of_an_outage_without_a_recorded_end_follow_what_was_delivered(
    log: Log,
):
    await record_killed(log)
    whole = ticks(await played(log))
    assert [one.price for one in whole] == ["1", "11", "2", "3", "12", "13", "4", "14"]
    assert [one.place for one in whole] == sorted({one.place for one in whole})
    for number, tick in enumerate(whole[:-1], 1):
        assert ticks(await played(log, tick.place)) == whole[number:]
        name = f"bot-{number}"
        assert await followed(log, "first", number, durable=name) == whole[:number]
        rest = await followed(log, None, whole[-1].place, durable=name)
        assert rest == whole[-len(rest) :]
        assert whole[number - 1] in rest


@pytest.mark.fault("N152")
@pytest.mark.parametrize("kills", [1, 2, 3])
async def test_a_start_between_two_recorders_has_what_the_first_held_back(
    log: Log, kills: int
):
    main, outage = log.writer, {"reason": "a pause", "since": 5}
    await main.begin()
    await main.event("subscribed", topics=[str(ETH)])
    await main.event("suspect", topics=[str(ETH)], **outage)
    await main.trades(ETH, 12)
    for number in range(kills):
        await main.begin(run=f"r{number}")
        await main.event("opened")
    await main.event("subscribed", topics=[str(ETH)])
    await main.trades(ETH, 13)
    [last] = [one for one in ticks(await played(log)) if one.price == "13"]
    info = await call(log.wire, f"STREAM.INFO.{log.stream}")
    for sequence in range(1, info["state"]["last_seq"]):
        reader = await log.open(Resume(sequence=sequence), grows=False)
        entries = [*reader.opening.before, *await reader.all()]
        found = dict(places(entries, alone=True))
        assert found["13"] == last.place
        assert "12" in found


@pytest.mark.fault("N135")
@pytest.mark.parametrize("second", [False, True])
async def test_a_start_amid_an_outage_has_what_an_older_epoch_held_back(
    log: Log, *, second: bool
):
    await record_takeover(log, second=second)
    whole = ticks(await played(log))
    assert [one.price for one in whole] == ["1", "2", "5", "4", "3", "6", "7"]
    for number, tick in enumerate(whole[:-1], 1):
        assert ticks(await played(log, tick.place)) == whole[number:]


@pytest.mark.fault("N153")
@pytest.mark.parametrize("kind", ["unsubscribed", "rejected"])
async def test_what_was_held_back_of_a_topic_that_is_left_comes_once(
    log: Log, kind: str
):
    main, topics = log.writer, [str(BTC), str(ETH)]
    await main.begin()
    await main.event("subscribed", topics=topics)
    await main.event("suspect", topics=topics[:1], reason="a pause", since=5)
    await main.trades(BTC, 1)
    await main.trades(ETH, 11)
    await main.event(kind, topics=topics[:1], reason="unknown")  # type: ignore[arg-type]
    await main.trades(ETH, 12)
    whole = ticks(await played(log))
    assert [one.price for one in whole] == ["11", "1", "12"]
    for number, tick in enumerate(whole[:-1], 1):
        assert ticks(await played(log, tick.place)) == whole[number:]


@pytest.mark.fault("N155")
async def test_an_outage_goes_on_until_its_recorder_has_a_successor(log: Log):
    """What others record meanwhile does not end it: a start there would not know that."""
    main, other = log.writer, Writer(log.wire, log.stream, "other")
    await main.begin()
    await main.event("subscribed", topics=[str(BTC)])
    await main.event("suspect", topics=[str(BTC)], reason="a pause", since=5)
    await main.trades(BTC, 1)
    await other.begin()
    await other.event("subscribed", topics=[str(ETH)])
    for number in (11, 12, 13):
        other.up += 30_000_000_000
        await other.trades(ETH, number)
    await main.begin(run="s")
    await main.event("subscribed", topics=[str(BTC)])
    await other.trades(ETH, 14)
    whole = ticks(await played(log))
    assert [one.price for one in whole] == ["11", "12", "13", "1", "14"]
    for number, tick in enumerate(whole[:-1], 1):
        assert ticks(await played(log, tick.place)) == whole[number:]
