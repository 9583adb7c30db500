"""What a client receives, as messages: one for each topic of a burst."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from qos_async import Gap, Interrupted, Recorder, RecordingError, Topic
from qos_async.jetstream import recorder as module
from qos_async.jetstream.messages import decode_link
from qos_async.jetstream.spool import Spool
from qos_async.recordings.format import Entry

PLACE = "nats://user:pass-word-1@127.0.0.1:1/QOS"  # Nothing listens there.
AAPL = Topic("trade", "US:AAPL")
LINK = "QOS.link.default"


def push(price: int, code: str = "US:AAPL", tp: str = "T", **more: Any) -> bytes:
    return json.dumps({"tp": tp, "c": code, "p": str(price), **more}).encode()


@pytest.fixture
def recorder() -> module.StreamRecorder:
    made = Recorder(PLACE)
    assert isinstance(made, module.StreamRecorder)
    made.attach(lambda text: text.replace("s3cret", "***"))
    made._log.begin()
    return made


def take(recorder: Recorder, *frames: bytes) -> None:
    recorder.frames(frames, sum(map(len, frames)), plain=True)


async def messages(recorder: module.StreamRecorder) -> list[tuple[str, bytes]]:
    """Return subjects and payloads, without the first ``started``."""
    spool = recorder._spool
    found = await spool.read(0, 10_000)
    return [(one.subject, one.payload) for one in found[1:]]


async def entries(recorder: module.StreamRecorder) -> list[Entry]:
    found = await messages(recorder)
    return [decode_link(payload) for subject, payload in found if subject == LINK]


@pytest.mark.fault("N99")
async def test_topics_that_change_before_the_first_era_are_in_its_beginning():
    """An earlier process may have left an era in the spool, which is not theirs."""
    recorder = Recorder(PLACE)
    assert isinstance(recorder, module.StreamRecorder)
    recorder.attach(str)
    recorder.subscribed([AAPL])
    recorder.unsubscribed([AAPL])
    recorder.subscribed([Topic("trade", "US:TSLA")])
    assert not recorder._spool.pending
    recorder._log.begin()
    [message] = await recorder._spool.read(0, 10)
    assert decode_link(message.payload).topics == (Topic("trade", "US:TSLA"),)


async def test_pushes_of_a_topic_that_come_together_share_a_message(recorder):
    one, two, three = push(1), push(2, "HK:700"), push(3)
    take(recorder, one, two, three)
    take(recorder, one)
    assert await messages(recorder) == [
        ("QOS.T.US.AAPL", one + b"\n" + three),
        ("QOS.T.HK.700", two),
        ("QOS.T.US.AAPL", one),
    ]
    assert recorder.stats.frames == 4


async def test_each_channel_and_interval_has_a_subject(recorder):
    frames = [
        push(1, tp="S"),
        push(1, tp="D"),
        push(1, tp="K", kt=5),
        push(1, "US:A.B"),
    ]
    take(recorder, *frames)
    assert [subject for subject, _ in await messages(recorder)] == [
        "QOS.S.US.AAPL",
        "QOS.D.US.AAPL",
        "QOS.K.US.AAPL.5",
        "QOS.T.US.A%2EB",
    ]


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff\xfe",
        b"not json",
        b'{"tp":"T",\n"c":"US:AAPL"}',
        b'{"tp":"X","c":"US:AAPL"}',
        b'{"tp":"T","c":"AAPL"}',
        b'{"tp":"K","c":"US:AAPL"}',
        b'{"tp":"T","c":"US:' + b"A" * 500 + b'"}',
    ],
)
async def test_a_frame_without_a_topic_is_an_entry_of_the_link(recorder, frame):
    take(recorder, frame)
    [entry] = await entries(recorder)
    assert (entry.kind, entry.frame) == ("frame", frame)


async def test_replies_of_the_service_are_left_out(recorder):
    take(recorder, b'{"type":"H","msg":"OK","time":1}')
    assert await messages(recorder) == []


async def test_the_key_is_redacted_in_pushes_and_entries(recorder):
    take(recorder, push(1, note="s3cret"), b"\xffs3cret")
    recorder.lost("s3cret was refused")
    assert b"s3cret" not in b"".join(payload for _, payload in await messages(recorder))


async def test_events_of_the_link_are_entries(recorder):
    recorder.opened()
    recorder.subscribed([AAPL])
    recorder.rejected([Topic("trade", "US:TSLA")], "no permission")
    recorder.unsubscribed([AAPL])
    recorder.unsubscribed([])
    recorder.lost("the cable")
    found = await entries(recorder)
    assert [(one.kind, one.reason) for one in found] == [
        ("opened", ""),
        ("subscribed", ""),
        ("rejected", "no permission"),
        ("unsubscribed", ""),
        ("lost", "the cable"),
    ]


async def test_what_was_left_of_a_burst_counts_pushes_of_the_topic_only(recorder):
    now = datetime.now(UTC)
    take(recorder, push(1), push(2, "HK:700"), push(3), push(4, "HK:700"), push(5))
    recorder.suspect(Interrupted(topic=AAPL, since=now, reason="unreadable"), left=3)
    gap = Gap(
        topic=AAPL,
        since=now,
        until=now,
        reason="unreadable",
        status="filled",
        recovered=0,
    )
    recorder.fetched(gap, [], [], left=1)
    suspect, fetched = await entries(recorder)
    assert (suspect.topic_left, fetched.topic_left) == (2, 1)


async def test_a_large_burst_is_split_into_messages_that_a_server_takes(recorder):
    frames = [push(n, note="x" * 1000) for n in range(2000)]
    take(recorder, *frames)
    payloads = [payload for _, payload in await messages(recorder)]
    assert max(map(len, payloads)) < 500_000
    assert b"\n".join(payloads) == b"\n".join(frames)


@pytest.mark.fault("N34")
async def test_a_frame_that_no_server_takes_is_an_announced_gap(recorder):
    take(recorder, push(1, note="x" * 1_000_000))
    take(recorder, push(2))
    [entry] = await entries(recorder)
    assert (entry.kind, entry.count) == ("dropped", 1)
    assert recorder.stats.dropped == 1


@pytest.mark.fault("N34")
async def test_what_finds_no_room_is_an_announced_gap_and_the_state_comes_again(
    recorder,
):
    recorder._spool = recorder._log.spool = spool = Spool(None, memory=20_000)
    recorder._log.begin()
    number = 0
    while not recorder.stats.dropped:
        take(recorder, push(number))
        number += 1
    recorder.subscribed([AAPL])
    dropped = recorder.stats.dropped
    spool.mark_stored(spool.next_number - 1)
    last = spool.next_number
    take(recorder, push(number))
    found = [
        decode_link(one.payload)
        for one in await spool.read(last)
        if one.subject == LINK
    ]
    assert [(one.kind, one.count) for one in found] == [
        ("dropped", dropped),
        ("started", 0),
    ]
    assert found[1].topics == (AAPL,)


@pytest.mark.fault("N91")
async def test_the_entry_of_what_was_dropped_stands_at_the_end_of_that(
    recorder, monkeypatch
):
    now = [1_750_000_000_000_000_000]
    monkeypatch.setattr(time, "time_ns", lambda: now[0])
    recorder._spool = recorder._log.spool = spool = Spool(None, memory=0)
    recorder._log.begin()
    for number in range(3):
        take(recorder, push(number))
        now[0] += 1_000_000_000
    spool.mark_stored(spool.next_number - 1)
    last = spool.next_number
    take(recorder, push(3))
    [message, *_] = await spool.read(last)
    entry = decode_link(message.payload)
    assert (entry.kind, entry.at) == ("dropped", now[0])
    assert message.at == now[0]


def test_the_place_shows_no_credentials(recorder):
    assert recorder.place == "nats://127.0.0.1:1/QOS"
    assert repr(recorder) == "<Recorder 'nats://127.0.0.1:1/QOS' 0 frames>"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rotate": 60}, "rotate is an option of a directory"),
        ({"level": 3}, "level is an option of a directory"),
        ({"lease": 0}, "lease must be"),
        ({"lease": 0.5}, "lease must be at least 1 s, not 0.5"),
        ({"lease": 1e9}, "lease must be"),
        ({"name": "a.b"}, "cannot be the name of a recorder"),
        ({"on_broker_loss": "stay"}, 'on_broker_loss must be "keep" or "close"'),
        ({"on_conflict": "fight"}, "on_conflict must be"),
        ({"spool": ""}, "spool is empty"),
    ],
)
def test_options_that_a_stream_does_not_take_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Recorder(PLACE, **options)


@pytest.mark.parametrize(
    "options", [{"lease": 10}, {"name": "a"}, {"spool": "x"}, {"on_conflict": "yield"}]
)
def test_options_of_a_stream_are_refused_for_a_directory(options, tmp_path):
    [name] = options
    with pytest.raises(ValueError, match=f"{name} is an option of a stream, such as"):
        Recorder(tmp_path, **options)


@pytest.mark.fault("N35")
def test_two_recorders_of_a_name_cannot_share_a_spool(tmp_path):
    one, two = (Recorder(PLACE, spool=tmp_path) for _ in range(2))
    other = Recorder(PLACE, spool=tmp_path, name="b")
    one.attach(str)
    other.attach(str)
    with pytest.raises(RecordingError, match="another recorder uses the spool in"):
        two.attach(str)
    for recorder in (one, two, other):
        recorder.close()


def test_stats_are_metrics(recorder):
    text = recorder.stats.to_openmetrics()
    assert "qos_recorder_pending 1\n" in text
    assert "qos_recorder_lease_held" in text
    assert "\nqos_recorder_lease_held " not in text
    assert text.endswith("# EOF\n")
