"""A stream as a log of entries, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from qos_async._core.wire import wire_topic
from qos_async.jetstream.api import call
from qos_async.jetstream.messages import encode_headers
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.source import StreamSource
from qos_async.jetstream.streams import StreamOptions, ensure_stream
from qos_async.jetstream.subjects import topic_subject
from qos_async.jetstream.wire import Wire
from qos_async.recordings import RecordingError, follow
from qos_async.recordings.format import Entry, encode_header
from qos_async.recordings.replay_timeline import Timeline
from qos_async.recordings.timeline_events import (
    TimelineEvent,
    TopicRecovered,
)
from tests.support.nats_servers import NatsServer
from tests.support.written_stream import BTC, ETH, Log, Writer, push


def prices(entries: Sequence[Entry]) -> list[bytes]:
    return [entry.frame for entry in entries if entry.kind == "frame"]


async def test_what_is_stored_and_what_follows_are_one_sequence(log: Log):
    await log.writer.begin()
    await log.writer.event("subscribed", topics=[str(BTC)])
    await log.writer.trades(BTC, 1, 2)
    reader = await log.open("first")
    assert not reader.source.live
    await reader.read(3)
    assert reader.source.live
    await log.writer.trades(BTC, 3)
    entries = await reader.read(4)
    assert prices(entries) == [push(BTC, number) for number in (1, 2, 3)]
    assert [entry.elapsed for entry in entries] == sorted(e.elapsed for e in entries)


async def test_a_follower_begins_with_the_topics(log: Log):
    await log.writer.begin()
    await log.writer.event("subscribed", topics=[str(BTC), str(ETH)])
    await log.writer.event("unsubscribed", topics=[str(ETH)])
    await log.writer.trades(BTC, 1, 2)
    reader = await log.open()
    assert reader.source.live
    assert reader.opening.topics == {BTC}
    [started] = reader.opening.before
    assert (started.link, started.topics) == (True, (BTC,))
    await log.writer.trades(BTC, 3)
    assert prices(await reader.read(1)) == [push(BTC, 3)]


async def test_a_stream_is_replayed_to_its_end(log: Log):
    await log.writer.begin()
    for number in range(1500):
        await log.writer.trades(BTC, number)
    reader = await log.open("first", grows=False)
    assert reader.opening.ends_at
    assert prices(await reader.all()) == [push(BTC, number) for number in range(1500)]


@pytest.mark.fault("N53")
async def test_a_follower_goes_on_at_a_place(log: Log):
    await log.writer.begin()
    other = Writer(log.wire, log.stream, "another")
    await other.begin()
    for number in range(50):
        await log.writer.trades(BTC, 2 * number, 2 * number + 1)
        await other.trades(ETH, number)
    everything = await (await log.open("first", grows=False)).all()
    frames = [entry for entry in everything if entry.kind == "frame"]
    for number in (0, 1, 2, 77, 148, 149):
        reader = await log.open(frames[number].place, grows=False)
        resume = reader.opening.resume
        rest = [entry for entry in await reader.all() if entry.kind == "frame"]
        while rest and resume.is_past(rest[0].place):
            rest.pop(0)
        assert [entry.place for entry in rest] == [
            e.place for e in frames[number + 1 :]
        ]


async def test_a_follower_goes_on_at_a_time(log: Log):
    await log.writer.begin()
    await log.writer.trades(BTC, 1)
    await asyncio.sleep(0.01)
    now = datetime.now(UTC)
    await asyncio.sleep(0.01)
    await log.writer.trades(BTC, 2)
    reader = await log.open(now)
    assert prices(await reader.read(1)) == [push(BTC, 2)]


async def test_places_are_the_same_each_time_and_sorted(log: Log):
    await log.writer.begin()
    for number in range(12):
        await log.writer.trades(BTC, number, number)
    first = [
        entry.place for entry in await (await log.open("first", grows=False)).all()
    ]
    again = [
        entry.place for entry in await (await log.open("first", grows=False)).all()
    ]
    assert first == again == sorted(set(first))


@pytest.mark.parametrize("start", ["", "1.2", "second", "1.main.1.1.1"])
async def test_a_start_that_cannot_be_kept_is_an_error(log: Log, start: str):
    with pytest.raises(RecordingError, match="place"):
        await log.open(start)


async def test_a_stream_that_does_not_exist_is_an_error(node: NatsServer):
    source = StreamSource(parse_place(f"{node.url}/NOTHING", {}))
    with pytest.raises(RecordingError, match="there is no stream NOTHING"):
        await source.open()
    await source.aclose()


@pytest.mark.fault("N50")
async def test_a_message_that_is_stored_twice_counts_once(log: Log):
    await log.writer.begin()
    subject = topic_subject(log.stream, wire_topic(BTC))
    stamp = log.writer.stamp(subject)
    for _ in range(2):
        headers = encode_headers(stamp) | {"Nats-Msg-Id": str(log.writer.up)}
        log.writer.up += 1  # Else the server recognises it.
        await log.wire.request(subject, push(BTC, 1), headers=headers)
    await log.writer.trades(BTC, 2)
    reader = await log.open("first", grows=False)
    assert prices(await reader.all()) == [push(BTC, 1), push(BTC, 2)]


@pytest.mark.fault("N50")
async def test_messages_out_of_order_are_put_into_order(log: Log):
    await log.writer.begin()
    subject = topic_subject(log.stream, wire_topic(BTC))
    await log.writer.trades(BTC, 0)
    stamps = [log.writer.stamp(subject) for _ in range(3)]
    for number in (3, 2, 1):
        await log.writer.send(subject, push(BTC, number), stamps[number - 1])
    reader = await log.open("first", grows=False)
    assert prices(await reader.all()) == [push(BTC, number) for number in range(4)]


@pytest.mark.fault("N51")
async def test_a_lost_message_is_a_hole_of_its_topic(log: Log):
    await log.writer.begin()
    await log.writer.event("subscribed", topics=[str(BTC), str(ETH)])
    await log.writer.trades(BTC, 1)
    log.writer.stamp(topic_subject(log.stream, wire_topic(BTC)))  # Lost.
    await log.writer.trades(BTC, 3)
    await log.writer.trades(ETH, 4)
    reader = await log.open("first", grows=False)
    entries = await reader.all()
    [suspect, fetched] = [e for e in entries if e.kind in ("suspect", "fetched")]
    assert suspect.topics == fetched.topics == (BTC,)
    assert (fetched.reason, fetched.status) == ("store", "unfilled")
    assert fetched.since < fetched.until
    strict = await log.open("first", grows=False, strict=True)
    with pytest.raises(RecordingError, match="has lost messages"):
        await strict.all()


@pytest.mark.fault("N50")
async def test_messages_of_an_epoch_that_is_over_do_not_count(log: Log):
    await log.writer.begin()
    await log.writer.trades(BTC, 1)
    newer = Writer(log.wire, log.stream, "main")
    newer.up = log.writer.up
    await newer.begin(run="s")
    await newer.trades(BTC, 2)
    await log.writer.trades(BTC, 9)
    await newer.trades(BTC, 3)
    reader = await log.open("first", grows=False)
    assert prices(await reader.all()) == [push(BTC, number) for number in (1, 2, 3)]


@pytest.mark.fault("N51")
async def test_what_retention_took_is_in_the_log(log: Log):
    await log.writer.begin()
    await log.writer.trades(BTC, 1)
    reader = await log.open("first")
    await reader.read(1)
    for number in range(2, 2000):
        await log.writer.trades(BTC, number)
    await call(log.wire, f"STREAM.PURGE.{log.stream}", {"keep": 10})
    async with asyncio.timeout(20):
        while reader.entries[-1].frame != push(BTC, 1999):
            reader.entries += await reader.source.read()
    [gap] = [e for e in reader.entries if e.kind == "fetched"]
    assert (gap.topics, gap.reason, gap.status) == ((BTC,), "retention", "unfilled")


@pytest.mark.fault("N52")
async def test_the_loss_of_a_link_is_an_outage_of_its_topics_only(log: Log):
    other = Writer(log.wire, log.stream, "another")
    await log.writer.begin()
    await other.begin()
    await log.writer.event("subscribed", topics=[str(BTC)])
    await other.event("subscribed", topics=[str(ETH)])
    await log.writer.event("lost", reason="cut")
    reader = await log.open("first", grows=False)
    [suspect] = [e for e in await reader.all() if e.kind == "suspect"]
    assert (suspect.topics, suspect.reason) == ((BTC,), "cut")


@pytest.mark.fault("N52")
async def test_an_outage_that_a_killed_recorder_left_ends_with_its_successor(log: Log):
    await log.writer.begin()
    await log.writer.event("subscribed", topics=[str(BTC)])
    await log.writer.trades(BTC, 1)
    reader = await log.open()
    await log.writer.begin(run="s")
    await log.writer.event("subscribed", topics=[str(BTC), str(ETH)])
    await log.writer.trades(BTC, 2)
    entries = await reader.read(4)
    kinds = [entry.kind for entry in entries]
    assert kinds == ["suspect", "subscribed", "fetched", "frame"]
    assert entries[0].topics == entries[2].topics == (BTC,)
    assert entries[2].status == "unfilled"


@pytest.mark.fault("N92")
@pytest.mark.parametrize("awaited", [[], [str(ETH)]])
async def test_an_outage_is_over_when_the_state_shows_that_the_link_is_open(
    log: Log, awaited: list[str]
):
    """A recorder whose spool was full had no room for the ``fetched``, and starts anew."""
    topics = [str(BTC), str(ETH)]
    await log.writer.begin()
    await log.writer.event("subscribed", topics=topics)
    await log.writer.trades(BTC, 1)
    reader = await log.open()
    await log.writer.event("suspect", topics=topics, reason="a pause", since=5)
    await log.writer.event("dropped", count=0)
    state: dict[str, Any] = {"topics": topics, "awaited": awaited, "gaps": True}
    await log.writer.link(encode_header(0, "s", 0, link=True, **state))
    await log.writer.trades(BTC, 2)
    entries = (await reader.read(3 if awaited else 4))[1:]
    ended = [BTC] if awaited else [BTC, ETH]
    assert [(entry.kind, *entry.topics) for entry in entries] == [
        *(("fetched", topic) for topic in ended),
        ("frame",),
    ]
    assert {entry.status for entry in entries[:-1]} == {"unfilled"}
    assert {entry.since for entry in entries[:-1]} == {5}  # Since it began.


@pytest.mark.fault("N93")
async def test_places_are_unique_where_one_entry_ends_outages_of_several_topics(
    log: Log,
):
    topics = [str(BTC), str(ETH)]
    await log.writer.begin()
    await log.writer.event("subscribed", topics=topics)
    await log.writer.trades(BTC, 1)
    await log.writer.event("suspect", topics=topics, reason="a pause")
    for number in (2, 3):
        await log.writer.trades(BTC, number)
        await log.writer.trades(ETH, number)
    await log.writer.event("dropped", count=0)
    state: dict[str, Any] = {"topics": topics, "gaps": True}
    await log.writer.link(encode_header(0, "s", 0, link=True, **state))
    await log.writer.trades(ETH, 4)
    async with follow(str(log.place), "first", numbers=str) as client:
        found = aiter(client.watch_trades(BTC.symbol, ETH.symbol))
        async with asyncio.timeout(20):
            trades = [await anext(found) for _ in range(6)]
    assert sorted((one.symbol, one.price) for one in trades) == sorted(
        [(BTC.symbol, n) for n in "123"] + [(ETH.symbol, n) for n in "234"]
    )
    places = [one.place for one in trades]
    assert len({*places}) == len(places)
    for symbol in (BTC.symbol, ETH.symbol):
        own = [one.place for one in trades if one.symbol == symbol]
        assert own == sorted(own)


@pytest.mark.fault("N94")
async def test_a_recorder_that_ends_cleanly_leaves_an_outage_to_its_successor(log: Log):
    """Its last subscription is closed before it, so its topics are unsubscribed."""
    await log.writer.begin()
    await log.writer.event("subscribed", topics=[str(BTC)])
    await log.writer.trades(BTC, 1)
    reader = await log.open()
    await log.writer.event("unsubscribed", topics=[str(BTC)])
    await log.writer.trades(BTC, 2)  # It was received before the reply.
    await log.writer.event("closed")
    await log.writer.begin(run="s", link=False)
    await log.writer.event("opened")
    await log.writer.event("subscribed", topics=[str(BTC)])
    await log.writer.trades(BTC, 3)
    entries = await reader.read(6)
    kinds = [entry.kind for entry in entries]
    assert kinds[:3] == ["unsubscribed", "frame", "suspect"]
    assert kinds[3:] == ["subscribed", "fetched", "frame"]
    assert entries[4].status == "unfilled"
    assert 0 < entries[4].since < entries[4].until


@pytest.mark.fault("N94")
async def test_a_topic_that_is_subscribed_again_has_a_gap(log: Log):
    await log.writer.begin()
    await log.writer.event("subscribed", topics=[str(BTC)])
    await log.writer.trades(BTC, 1)
    reader = await log.open()
    await log.writer.event("unsubscribed", topics=[str(BTC)])
    await log.writer.event("subscribed", topics=[str(BTC)])
    await log.writer.trades(BTC, 2)
    kinds = [entry.kind for entry in await reader.read(5)]
    assert kinds == ["unsubscribed", "subscribed", "suspect", "fetched", "frame"]


@pytest.mark.fault("N95")
async def test_an_outage_in_which_pushes_were_dropped_is_not_filled(log: Log):
    await log.writer.begin()
    await log.writer.event("subscribed", topics=[str(BTC)])
    await log.writer.trades(BTC, 1)
    reader = await log.open()
    await log.writer.event("suspect", topics=[str(BTC)], reason="a pause", since=5)
    await log.writer.event("dropped", count=2)
    await log.writer.trades(BTC, 4)
    more: dict[str, Any] = {"topics": [str(BTC)], "status": "filled", "since": 5}
    await log.writer.event("fetched", **more, until=6, reason="a pause", rows=[0, 1, 2])
    await log.writer.event("suspect", topics=[str(BTC)], reason="a pause", since=7)
    await log.writer.event("fetched", **more, until=9, rows=[])
    entries = await reader.read(7)
    # Its end, the hole, and what was held back behind it.
    begin, hole = ["suspect", "fetched"], ["suspect", "fetched"]
    kinds = [entry.kind for entry in entries]
    assert kinds == [*begin, *hole, "frame", "suspect", "fetched"]
    fetched = entries[1]
    assert (fetched.status, fetched.rows, fetched.since) == ("unfilled", (), 5)
    assert fetched.until == fetched.at
    assert entries[6].status == "filled"


@pytest.mark.fault("N97")
@pytest.mark.parametrize("again", [False, True])
async def test_an_outage_during_which_pushes_are_dropped_goes_on(
    log: Log, *, again: bool
):
    """While its link is lost, and behind a state that the same process writes again."""
    await log.writer.begin()
    await log.writer.event("subscribed", topics=[str(BTC)])
    await log.writer.trades(BTC, 1)
    reader = await log.open()
    await log.writer.event("lost", reason="cut")
    await log.writer.event("dropped", count=2)
    if again:
        state: dict[str, Any] = {"link": False, "topics": [], "gaps": True}
        state["awaited"] = [str(BTC)]
        await log.writer.link(encode_header(log.writer.up, "s", 0, **state))
    await log.writer.event("opened")
    await log.writer.event("subscribed", topics=[str(BTC)])
    await log.writer.trades(BTC, 4)
    more: dict[str, Any] = {"topics": [str(BTC)], "status": "filled", "since": 5}
    await log.writer.event("fetched", **more, until=6, reason="cut", rows=[0, 1, 2])
    await log.writer.trades(BTC, 5)
    entries = await reader.read(5)
    kinds = [entry.kind for entry in entries]
    assert kinds == ["suspect", "subscribed", "frame", "fetched", "frame"]
    assert (entries[3].status, entries[3].rows) == ("unfilled", ())


@pytest.mark.fault("N149")
async def test_an_outage_goes_on_where_its_recorder_ends_while_the_link_is_lost(
    log: Log,
):
    """Although the recorder ended it, with what it knew then."""
    subscribed = {"topics": [str(BTC)]}
    await log.writer.begin()
    await log.writer.event("subscribed", **subscribed)
    await log.writer.trades(BTC, 1)
    reader = await log.open()
    await log.writer.event("lost", reason="cut")
    await log.writer.event("opened")
    await log.writer.event("subscribed", **subscribed)
    await log.writer.trades(BTC, 4)
    held = (await reader.read(3))[2]
    await log.writer.event("lost", reason="again")
    more: dict[str, Any] = {"status": "unfilled", "since": 5, **subscribed}
    await log.writer.event("fetched", **more, until=6, reason="cut", rows=[0])
    await log.writer.event("closed")
    await log.writer.begin(run="s", link=False)
    await log.writer.event("subscribed", **subscribed)
    await log.writer.trades(BTC, 9)
    entries = await reader.read(8)
    kinds = [entry.kind for entry in entries]
    assert kinds[:5] == ["suspect", "subscribed", "frame", "fetched", "suspect"]
    assert kinds[5:] == ["subscribed", "fetched", "frame"]
    following, end = entries[4], entries[6]
    assert following.topics == end.topics == (BTC,)
    assert following.since == end.since == held.at
    assert end.status == "unfilled"


@pytest.mark.fault("N92")
async def test_an_outage_that_a_recorder_did_not_survive_lasts_since_it_began(log: Log):
    await log.writer.begin()
    await log.writer.event("subscribed", topics=[str(BTC)])
    await log.writer.trades(BTC, 1)
    reader = await log.open()
    await log.writer.event("lost", reason="cut")
    await log.writer.event("opened")
    await log.writer.begin(run="s", link=False)
    await log.writer.event("subscribed", topics=[str(BTC)])
    suspect, _, fetched = await reader.read(3)
    assert (suspect.kind, fetched.kind) == ("suspect", "fetched")
    assert 0 < fetched.since == suspect.since


@pytest.mark.fault("N51")
async def test_topics_are_known_where_retention_took_the_beginning(log: Log):
    await log.writer.begin()
    await log.writer.event("subscribed", topics=[str(BTC)])
    await log.writer.trades(BTC, 1)
    await log.writer.trades(BTC, 2)
    await call(log.wire, f"STREAM.PURGE.{log.stream}", {"keep": 1})
    await log.writer.event("lost", reason="cut")
    entries = await (await log.open("first", grows=False)).all()
    assert [(e.kind, e.topics) for e in entries] == [("frame", ()), ("suspect", (BTC,))]


@pytest.mark.fault("N51")
async def test_a_message_does_not_wait_for_a_lost_one_for_ever(log: Log):
    await log.writer.begin()
    reader = await log.open()
    await log.writer.trades(BTC, 1)
    log.writer.stamp(topic_subject(log.stream, wire_topic(BTC)))  # Lost.
    await log.writer.trades(BTC, 3)
    assert prices(await reader.read(2)) == [push(BTC, 1), push(BTC, 3)]


@pytest.mark.fault("N53")
async def test_a_follower_goes_on_after_the_server_was_killed(
    own_node: NatsServer, stream_name: str
):
    await asyncio.to_thread(own_node.start)
    async with Wire(parse_place(f"{own_node.url}/{stream_name}", {})) as wire:
        await wire.connect()
        await ensure_stream(wire, stream_name, StreamOptions(max_bytes=50_000_000))
        log = Log(own_node, wire, stream_name)
        await log.writer.begin()
        reader = await log.open()
        await log.writer.trades(BTC, 1)
        await reader.read(1)
        reading = asyncio.create_task(reader.read(2))
        await asyncio.to_thread(own_node.kill)
        await asyncio.to_thread(own_node.start)
        await wire.connect()
        await log.writer.trades(BTC, 2)
        assert prices(await reading) == [push(BTC, 1), push(BTC, 2)]
        await reader.source.aclose()


async def test_a_packed_source_returns_the_same_pushes_in_fewer_entries(log: Log):
    await log.writer.begin(topics=[str(BTC), str(ETH)])
    for number in range(60):
        await log.writer.trades(BTC, 3 * number, 3 * number + 1, 3 * number + 2)
        await log.writer.trades(ETH, number)
        if number % 20 == 7:
            await log.writer.event("suspect", topics=[str(BTC)], since=1, reason="x")
            await log.writer.trades(BTC, 1000 + number, 2000 + number)
            await log.writer.event("fetched", topics=[str(BTC)], status="filled")
    singles = await (await log.open("first", grows=False)).all()
    packed = await (await log.open("first", grows=False, packed=True)).all()
    assert [one for entry in packed for one in entry.single()] == singles
    assert [one.place for one in singles] == [
        place for entry in packed for place in entry.places() or [entry.place]
    ]
    assert len(packed) < len(singles)
    assert len(events_of(packed)) == len(events_of(singles))
    assert recovered(packed) == recovered(singles)


def recovered(entries: list[Entry]) -> list[list[Entry]]:
    events = events_of(entries)
    return [event.held for event in events if isinstance(event, TopicRecovered)]


def events_of(entries: list[Entry]) -> list[TimelineEvent]:
    timeline = Timeline()
    return [event for entry in entries for event in timeline.add(entry)]
