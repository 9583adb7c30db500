"""Places in a directory ascend, and each is a start from which the rest comes once."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import pytest

from qos_async import follow, replay
from qos_async.recordings.files import files_in
from qos_async.recordings.format import load_zstd
from qos_async.recordings.reading import FileReader
from qos_async.recordings.writer import FrameBatch, RecordedEvent, Writer
from tests.support.memory_transport import trade
from tests.support.recording_files import (
    START,
    blocks,
    event,
    fetched,
    frame,
    recorded,
    started,
    write,
    write_bytes,
)

AAPL, TSLA = "US:AAPL", "US:TSLA"
TOPICS = ["trade US:AAPL", "trade US:TSLA"]
LAST = 99
OPTIONS = {"topics": TOPICS, "gaps": True, "run": "a"}


def aapl(at, *numbers):
    return frame(at, *(trade(number) for number in numbers))


def tsla(at, *numbers):
    return frame(at, *(trade(number, TSLA) for number in numbers))


def suspect(at, *topics, **more):
    since = START + round(at * 1e9)
    return event(at, "suspect", topics=topics, reason="a pause", since=since, **more)


def killed(*parts):
    """Return the lines of a recorder that was killed."""
    whole = recorded(*parts, **OPTIONS)
    return whole[: whole.rindex(b"\n", 0, -1) + 1]


def second_run():
    return b"".join(
        [
            *(started(50, run="b", gaps=True), event(50, "opened")),
            *(event(50, "subscribed", topics=TOPICS), tsla(51, 98), aapl(52, LAST)),
        ]
    )


async def ticks(client, last=None):
    found = []
    async with client:
        async for one in client.watch_trades(AAPL, TSLA):
            found.append((int(one.price), one.place))
            if one.price == last:
                break
    return found


async def check(folder, *, grows=True):
    """Check that places ascend, and that a start at each has the rest; return prices."""
    whole = await ticks(replay(folder, None))
    assert [place for _, place in whole] == sorted({place for _, place in whole})
    for number, (_, place) in enumerate(whole[:-1], 1):
        assert await ticks(replay(folder, None, start=place)) == whole[number:]
        if grows:
            assert await ticks(follow(folder, place), LAST) == whole[number:]
    return [price for price, _ in whole]


@pytest.mark.fault("N153")
@pytest.mark.parametrize("kind", ["subscribed", "rejected", "unsubscribed"])
async def test_an_event_before_the_end_of_an_outage_hides_no_tick(tmp_path, kind):
    """It stands behind frames of which some follow the end: the start is there."""
    more = {"reason": "unknown"} if kind == "rejected" else {}
    lines = (
        *(suspect(1, TOPICS[0]), aapl(2, 1, 2, 3)),
        event(2, kind, topics=["trade US:MSFT"], **more),
        fetched(2, since=1, until=2, left=2),
    )
    write(tmp_path, killed(*lines), name="qos-1")
    write(tmp_path, second_run(), name="qos-2")
    assert await check(tmp_path) == [1, 2, 3, 98, LAST]


@pytest.mark.fault("N153")
async def test_what_is_fetched_while_the_link_is_lost_comes_behind_a_start(tmp_path):
    lines = (
        event(2, "lost", reason="the cable"),
        fetched(3, trade(1), trade(2), since=2, until=3, status="partial"),
        fetched(3, trade(3, TSLA), topic=TOPICS[1], since=2, until=3, status="partial"),
    )
    write(tmp_path, killed(*lines), name="qos-1")
    write(tmp_path, second_run(), name="qos-2")
    assert await check(tmp_path) == [1, 2, 3, 98, LAST]


def outages(*, end=()):
    """Return outages of two topics, of which one has ended."""
    return (
        *(suspect(1, *TOPICS), aapl(2, 1), tsla(3, 11)),
        *(fetched(4, topic=TOPICS[1], since=1, until=4), *end),
    )


@pytest.mark.fault("N153")
@pytest.mark.parametrize("kind", ["rejected", "unsubscribed"])
async def test_what_was_held_back_of_a_topic_that_is_left_has_later_places(
    tmp_path, kind
):
    more = {"reason": "unknown"} if kind == "rejected" else {}
    left = event(6, kind, topics=TOPICS[:1], **more)
    write(tmp_path, killed(*outages(end=(tsla(5, 12), left))), name="qos-1")
    write(tmp_path, second_run(), name="qos-2")
    assert await check(tmp_path) == [11, 12, 1, 98, LAST]


@pytest.mark.fault("N153")
async def test_what_was_held_back_at_damage_has_later_places(tmp_path):
    parts = blocks(killed(*outages()), tsla(5, 12), tsla(6, 13), run=b"a-------")
    parts[2] = parts[2][:-1] + bytes([parts[2][-1] ^ 1])
    write_bytes(tmp_path, b"".join(parts), name="qos-1")
    write(tmp_path, second_run(), name="qos-2")
    assert await check(tmp_path) == [11, 1, 13, 98, LAST]


@pytest.mark.fault("N153")
async def test_what_is_held_back_at_the_end_has_later_places(tmp_path):
    write(tmp_path, killed(*outages()), name="qos-1")
    assert await check(tmp_path, grows=False) == [11, 1]


@pytest.mark.fault("N153")
async def test_frames_behind_the_end_of_a_broken_outage_have_later_places(tmp_path):
    lines = (
        *(event(2, "lost", reason="the cable"), event(3, "dropped", count=2)),
        *(event(4, "opened"), event(4, "subscribed", topics=TOPICS)),
        *(aapl(5, 1), aapl(6, 2, 3), fetched(6, since=2, until=6, left=1)),
    )
    write(tmp_path, killed(*lines), name="qos-1")
    write(tmp_path, second_run(), name="qos-2")
    assert await check(tmp_path) == [1, 2, 3, 98, LAST]


@pytest.mark.fault("N154")
async def test_slices_amid_an_outage_make_up_the_whole(tmp_path):
    write(tmp_path, killed(*outages(end=(fetched(7, since=1, until=7),))), name="qos-1")
    write(tmp_path, second_run(), name="qos-2")
    whole = await ticks(replay(tmp_path, None))
    for _, place in whole[:-1]:
        first = await ticks(replay(tmp_path, None, end=place))
        assert first + await ticks(replay(tmp_path, None, start=place)) == whole
    for second in (2.5, 3.5, 5, 9):
        bound = datetime.fromtimestamp(START / 1e9 + second, UTC)
        first = await ticks(replay(tmp_path, None, end=bound))
        assert first + await ticks(replay(tmp_path, None, start=bound)) == whole


@pytest.mark.fault("N153")
@pytest.mark.parametrize("rotate", [None, 1.0])
def test_frames_are_in_one_block_with_the_event_that_moves_them(tmp_path, rotate):
    """A follower reads block by block, and a block cannot move frames of another."""
    tmp_path.joinpath("in").mkdir()
    writer = Writer(
        tmp_path / "in", load_zstd(), rotate=rotate, max_bytes=None, flush=60, level=1
    )
    frames = [b'{"n":"%s"}' % (b"x" * 1000)] * 99
    batch = FrameBatch(10**9 - 1, 1, frames, 99_000, plain=True)
    writer.put(batch)
    writer.put(RecordedEvent(10**9, 2, "fetched", {"topics": TOPICS[:1], "left": 1}))
    writer.put(FrameBatch(10**9 + 1, 3, frames, 99_000, plain=True))
    writer.close(10)
    [file, *_] = files_in(tmp_path / "in")
    with closing(FileReader(file, load_zstd())) as reader:
        entries = reader.read() or []
    assert [one.kind for one in entries][-2:] == ["frame", "fetched"]
