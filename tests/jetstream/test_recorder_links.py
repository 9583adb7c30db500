"""Links of recorders as entries of one log."""

from __future__ import annotations

from typing import Any

import pytest

from qos_async import Topic
from qos_async.jetstream.recorder_links import RecorderLinks
from qos_async.recordings.format import Entry, Kind
from qos_async.recordings.replay_timeline import Timeline
from qos_async.recordings.timeline_events import (
    FramesReceived,
    TopicRecovered,
)

BTC = Topic("trade", "CF:BTCUSDT")
SECOND = 1_000_000_000


def entry(kind: Kind, at: float = 0.0, **fields: Any) -> Entry:
    moment = round(at * SECOND)
    return Entry(at=moment, elapsed=moment, kind=kind, **fields)


def started(at: float, run: str, *, link: bool = False, **fields: Any) -> Entry:
    return entry("started", at, run=run, link=link, gaps=True, **fields)


def frame(at: float) -> Entry:
    return entry("frame", at, frame=b'{"tp":"T","c":"CF:BTCUSDT","p":"1","ts":1}')


def translated(*entries: Entry) -> list[Entry]:
    links = RecorderLinks()
    return [one for each in entries for one in links.translate("main", each)]


def kinds(entries: list[Entry]) -> list[str]:
    return [one.kind for one in entries if one.kind in ("suspect", "fetched")]


@pytest.mark.fault("N120")
def test_what_a_recorder_unsubscribed_is_interrupted_until_its_successor_has_it():
    before = [
        started(0, "a"),
        entry("subscribed", 1, topics=(BTC,)),
        frame(2),
        entry("unsubscribed", 3, topics=(BTC,)),
        entry("closed", 4),
    ]
    found = translated(*before)
    assert kinds(found) == ["suspect"]
    assert found[-1].reason == "the recorder has ended"
    after = [
        started(5, "b", awaited=(BTC,)),
        entry("opened", 6),
        entry("subscribed", 7, topics=(BTC,)),
        entry("fetched", 9, topics=(BTC,), status="filled"),
    ]
    found = translated(*before, *after)
    assert kinds(found) == ["suspect", "fetched"]
    assert found[-1].status == "filled"


@pytest.mark.fault("N124")
def test_topics_that_are_live_when_a_state_is_recorded_again_have_a_gap_at_once():
    found = translated(
        started(0, "a"),
        entry("subscribed", 1, topics=(BTC,)),
        frame(2),
        started(3, "b", link=True, topics=(BTC,)),
        frame(4),
    )
    assert kinds(found) == ["suspect", "fetched"]
    [gap] = [one for one in found if one.kind == "fetched"]
    assert (gap.status, gap.since, gap.until) == ("unfilled", 2 * SECOND, 3 * SECOND)


@pytest.mark.fault("N121")
def test_an_outage_of_any_length_ends_as_it_was_recorded():
    found = translated(
        started(0, "a"),
        entry("opened", 0),
        entry("subscribed", 1, topics=(BTC,)),
        frame(2),
        entry("lost", 3, reason="the network"),
        entry("opened", 60),
        frame(61),
        entry("subscribed", 61.1, topics=(BTC,)),
        frame(75),
        entry("fetched", 76, topics=(BTC,), status="partial"),
        frame(77),
    )
    timeline = Timeline()
    events = [
        one
        for entry in found
        for one in timeline.add(entry)
        if isinstance(one, (TopicRecovered, FramesReceived))
    ]
    [end] = [one for one in events if isinstance(one, TopicRecovered)]
    assert end.entry is not None
    assert end.entry.status == "partial"
    assert len(end.held) == 2


@pytest.mark.fault("N94")
@pytest.mark.parametrize("overlap", [False, True])
def test_a_topic_that_another_recorder_has_now_is_not_interrupted(*, overlap: bool):
    links = RecorderLinks()
    subscribed = entry("subscribed", 3, topics=(BTC,))
    ends = [("old", entry("closed", 4)), ("new", subscribed)]
    if overlap:
        ends = [("new", subscribed), ("old", entry("closed", 4))]
    entries = [
        ("old", started(0, "a")),
        ("old", entry("subscribed", 1, topics=(BTC,))),
        ("new", started(2, "b")),
        *ends,
        ("old", started(6, "c", awaited=(BTC,))),
    ]
    found = [one for name, each in entries for one in links.translate(name, each)]
    assert kinds(found) == ([] if overlap else ["suspect", "fetched"])
    assert links.awaited == frozenset()


@pytest.mark.fault("N137")
def test_a_topic_that_another_recorder_has_is_not_interrupted_by_silence():
    links, eth = RecorderLinks(), Topic("trade", "CF:ETHUSDT")
    for name, topics in (("main", (BTC, eth)), ("other", (BTC,))):
        for one in (started(0, name), entry("subscribed", 1, topics=topics)):
            list(links.translate(name, one))
    [found] = links.fall_silent("main", entry("unknown", 9))
    assert (found.kind, found.topics) == ("suspect", (eth,))
    [found] = links.fall_silent("other", entry("unknown", 9))
    assert (found.kind, found.topics) == ("suspect", (BTC,))
    assert not links.live_recorders
    ended = [one for one in links.translate("main", frame(10)) if one.kind != "frame"]
    assert [(one.topics, one.status) for one in ended] == [
        ((eth,), "filled"),
        ((BTC,), "unfilled"),
    ]
