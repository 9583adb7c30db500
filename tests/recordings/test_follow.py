"""Followers of a recording: what is written while they read, and what was before."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from qos_async import (
    Adjustment,
    Gap,
    Interrupted,
    RecordingError,
    RequestError,
    Trade,
)
from qos_async.recordings import Follow, follow, replay
from qos_async.recordings.blocks import FileId, compressor, encode_block, encode_head
from qos_async.recordings.format import load_zstd
from qos_async.testing.virtual import simulate
from tests.support.factories import prices
from tests.support.memory_transport import kline, snapshot, trade
from tests.support.recording_files import (
    SECOND,
    START,
    event,
    fetched,
    frame,
    started,
    trades,
)

AAPL = "US:AAPL"
FORWARD = Adjustment.FORWARD
TOPIC = f"trade {AAPL}"
BEGAN = datetime.fromtimestamp(START / SECOND, UTC)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


class GrowingFile:
    """A file of a recording that a test writes block by block, as a recorder does."""

    def __init__(self, place, number=0, *, run="a", at=0.0, **header):
        place.mkdir(exist_ok=True)
        self._file = FileId(run.ljust(8, "-").encode(), number)
        self._packer = compressor(load_zstd(), 3)
        name = f"{BEGAN + timedelta(seconds=at):qos-%Y%m%dT%H%M%S.%f}Z.jsonl.zst"
        self.path = place / name
        self._lines = 0
        self.path.write_bytes(encode_head(self._file))
        self.write(started(at, run=run, number=number, **{"gaps": True, **header}))

    def write(self, *texts):
        text = b"".join(texts)
        packed = encode_block(self._file, self._lines, text, self._packer)
        self._lines += text.count(b"\n")
        with self.path.open("r+b") as file:
            file.seek(0, 2)
            file.write(packed)
            size = file.tell()
            file.seek(0)
            file.write(encode_head(self._file, lines=self._lines, size=size))

    def write_raw(self, raw):
        with self.path.open("ab") as file:
            file.write(raw)


def begun(place, *parts, **options):
    """Return a file with an open link, a topic, and parts."""
    file = GrowingFile(place, **options)
    file.write(event(0, "opened"), event(0, "subscribed", topics=[TOPIC]), *parts)
    return file


class Reading:
    """The events of a follower, read in the background."""

    def __init__(self, place, **options):
        self.client = follow(place, **options)
        self.events: list[Any] = []
        self._task: asyncio.Task[None]

    async def __aenter__(self):
        await self.client.__aenter__()
        self._task = asyncio.create_task(self._read())
        await asyncio.sleep(0.2)
        return self

    async def __aexit__(self, *_):
        await asyncio.sleep(0.2)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.client.aclose()

    async def _read(self):
        async for one in self.client.watch_trades(AAPL).events():
            self.events.append(one)

    async def until(self, *wanted):
        """Wait until these prices were received, and no others."""
        for _ in range(100):
            if len(self.prices) >= len(wanted):
                break
            await asyncio.sleep(0.05)
        assert self.prices == list(wanted)

    @property
    def prices(self):
        return prices(self.events)

    @property
    def gaps(self):
        return [one for one in self.events if isinstance(one, Gap)]

    async def ended(self):
        await self._task


def simulated(test):
    """Run a test in virtual time."""

    def run(tmp_path, **options):
        return simulate(lambda: test(tmp_path / "recordings", **options))

    run.__name__ = test.__name__
    return run


@simulated
async def test_a_follower_gets_what_is_written_from_now_on(tmp_path):
    file = begun(tmp_path, trades(1, 1, 2))
    async with Reading(tmp_path) as reading:
        assert reading.client.live
        file.write(trades(2, 3), trades(3, 4))
        await reading.until(3, 4)
        file.write(trades(5, 5))
        await reading.until(3, 4, 5)
        assert [one.received_at for one in reading.events] == [
            START + n * SECOND for n in (2, 3, 5)
        ]
    assert not reading.gaps


@simulated
async def test_past_and_live_are_one_sequence(tmp_path):
    file = begun(tmp_path, trades(1, 1, 2))
    file.write(trades(2, 3))
    client = follow(tmp_path, start="first")
    async with client, client.watch_trades(AAPL) as sub:
        assert not client.live
        got = [await anext(sub)]
        file.write(trades(3, 4))
        got += [await anext(sub) for _ in range(3)]
        assert prices(got) == [1, 2, 3, 4]
        reading = asyncio.create_task(_next(sub))
        await asyncio.sleep(0.2)
        assert client.live
        file.write(trades(4, 5))
        assert prices([await reading]) == [5]


@simulated
async def test_a_batch_of_the_past_ends_in_time_when_nothing_follows_it(tmp_path):
    """While it catches up a batch has no time limit; caught up, it has."""
    begun(tmp_path, trades(1, 1, 2)).write(trades(2, 3))
    async with follow(tmp_path, start="first") as client:
        batches = client.watch_trades(AAPL).batches(max_items=100, max_wait=0.05)
        async with asyncio.timeout(5):
            assert prices(await anext(batches)) == [1, 2, 3]
        await batches.aclose()


@simulated
async def test_a_follower_crosses_files_and_a_run_that_was_killed(tmp_path):
    file = begun(tmp_path)
    async with Reading(tmp_path) as reading:
        file.write(trades(1, 1))
        second = GrowingFile(tmp_path, 1, at=2, link=True, topics=[TOPIC])
        second.write(trades(2, 2))
        await reading.until(1, 2)
        assert not reading.gaps
        second.write_raw(b"half a block")
        other = GrowingFile(tmp_path, run="b", at=9)
        other.write(event(9, "opened"), event(9, "subscribed", topics=[TOPIC]))
        other.write(trades(10, 3))
        await reading.until(1, 2, 3)
        [gap] = reading.gaps
        assert (gap.since, gap.until) == (BEGAN + timedelta(seconds=2), _at(9))
        assert isinstance(reading.events[2], Interrupted)


async def _next(sub):
    return await anext(sub)


def _at(seconds):
    return BEGAN + timedelta(seconds=seconds)


@pytest.mark.fault("R5")
@simulated
async def test_a_block_that_is_half_written_is_waited_for(tmp_path):
    file = begun(tmp_path)
    async with Reading(tmp_path) as reading:
        whole = file.path.read_bytes()
        file.write(trades(1, 1))
        written = file.path.read_bytes()
        file.path.write_bytes(whole)
        for size in range(len(whole), len(written), 7):
            with file.path.open("r+b") as opened:
                opened.seek(len(whole))
                opened.write(written[len(whole) : size])
            await asyncio.sleep(0.06)
            assert not reading.events
        file.path.write_bytes(written)
        await reading.until(1)
    assert not reading.gaps


@pytest.mark.fault("R5")
@simulated
async def test_a_file_that_is_seen_before_its_first_block_is_no_gap(tmp_path):
    begun(tmp_path)
    async with Reading(tmp_path) as reading:
        second = GrowingFile(tmp_path, 1, at=2, link=True, topics=[TOPIC])
        second.write(trades(2, 2))
        whole = second.path.read_bytes()
        begun_head = encode_head(FileId(b"a-------", 1))
        for size in (0, 30, len(begun_head), len(begun_head) + 9):
            raw = begun_head + whole[len(begun_head) :]
            second.path.write_bytes(raw[:size])
            await asyncio.sleep(0.2)
        second.path.write_bytes(whole)
        third = GrowingFile(tmp_path, 2, at=4, link=True, topics=[TOPIC])
        third.write(trades(4, 3))
        await reading.until(2, 3)
    assert not reading.gaps


@simulated
async def test_a_directory_that_does_not_exist_is_waited_for(tmp_path):
    async with Reading(tmp_path) as reading:
        assert reading.client.live
        await asyncio.sleep(3)
        begun(tmp_path, trades(1, 1))
        await reading.until(1)


@simulated
async def test_an_outage_begins_at_once_and_ends_with_what_was_fetched(tmp_path):
    file = begun(tmp_path, trades(1, 1))
    async with Reading(tmp_path, start="first") as reading:
        await reading.until(1)
        file.write(event(2, "lost", reason="the cable"))
        await asyncio.sleep(0.2)
        assert isinstance(reading.events[-1], Interrupted)
        file.write(event(9, "opened"), event(9, "subscribed", topics=[TOPIC]))
        file.write(trades(9, 3))
        await asyncio.sleep(0.5)
        assert reading.prices == [1]
        file.write(fetched(10, trade("2.50")))
        file.write(trades(11, 4))
        await reading.until(1, 2, 3, 4)
    [gap] = reading.gaps
    assert (gap.status, gap.reason, gap.recovered) == ("filled", "the cable", 1)
    assert (gap.since, gap.until) == (_at(1), _at(9))
    assert [one.recovered for one in reading.events if isinstance(one, Trade)] == [
        False,
        True,
        False,
        False,
    ]
    assert str(reading.events[3].price) == "2.50"
    places = [one.place for one in reading.events if isinstance(one, Trade)]
    assert places == sorted(set(places))


@simulated
async def test_an_outage_whose_end_was_not_recorded_ends_after_twenty_seconds(tmp_path):
    """As in older recordings; in others each end is recorded, or the recorder has one."""
    file = begun(tmp_path, trades(1, 1), gaps=False)
    async with Reading(tmp_path, start="first") as reading:
        file.write(event(2, "suspect", topics=[TOPIC], reason="a pause"))
        file.write(trades(9, 2), trades(28, 3))
        await asyncio.sleep(0.5)
        assert reading.prices == [1]
        file.write(trades(31, 4))
        await reading.until(1, 2, 3, 4)
    assert [gap.status for gap in reading.gaps] == ["unfilled"]


@simulated
async def test_places_are_unique_in_order_and_those_of_a_replay(tmp_path):
    file = begun(tmp_path, trades(1, 1, 1, 2), trades(2, 3))
    file.write(trades(3, 4))
    GrowingFile(tmp_path, run="b", at=50).write(
        event(50, "opened"), event(50, "subscribed", topics=[TOPIC]), trades(51, 5)
    )
    async with Reading(tmp_path, start="first") as reading:
        await reading.until(1, 1, 2, 3, 4, 5)
    places = [one.place for one in reading.events if isinstance(one, Trade)]
    assert places == sorted(set(places))
    async with replay(tmp_path, None) as client:
        again = [tick.place async for tick in client.watch_trades(AAPL)]
    assert again == places


@simulated
async def test_a_follower_starts_after_a_place_or_at_a_time(tmp_path):
    begun(tmp_path, trades(1, 1, 2), trades(2, 3), trades(3, 4))
    GrowingFile(tmp_path, 1, at=10, link=True, topics=[TOPIC]).write(trades(11, 5))
    async with Reading(tmp_path, start="first") as whole:
        await whole.until(1, 2, 3, 4, 5)
    for number, tick in enumerate(whole.events):
        async with Reading(tmp_path, start=tick.place) as reading:
            await reading.until(*range(number + 2, 6))
            assert not reading.gaps
    for at, rest in [(0, 1), (1, 1), (1.5, 3), (3, 4), (3.1, 5), (10.5, 5), (12, 6)]:
        async with Reading(tmp_path, start=_at(at)) as reading:
            await reading.until(*range(rest, 6))


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (datetime(2025, 1, 1), "has no time zone: use datetime.now"),  # noqa: DTZ001
        ("now", r'must be None, "first", an aware datetime, or a place'),
        (5, "must be None"),
    ],
)
def test_an_invalid_start_raises(start, words):
    with pytest.raises(ValueError, match=words):
        follow("recordings", start=start)


def test_other_invalid_arguments_raise():
    with pytest.raises(ValueError, match="durable must be a name of 1 to 64 letters"):
        follow("recordings", durable="a/b")
    with pytest.raises(ValueError, match="numbers must be one of"):
        follow("recordings", numbers=int)
    client = follow("recordings")
    with pytest.raises(RuntimeError, match=r"enter it first: async with follow\(...\)"):
        _ = client.live


@pytest.mark.fault("R4")
@simulated
async def test_a_start_that_is_not_kept_any_more_raises(tmp_path):
    first = begun(tmp_path, trades(1, 1))
    GrowingFile(tmp_path, 1, at=10, link=True, topics=[TOPIC]).write(trades(11, 2))
    async with Reading(tmp_path, start="first") as reading:
        await reading.until(1, 2)
    first.path.unlink()
    for start, words in [
        (reading.events[0].place, "its file was deleted, or it is of another"),
        (_at(1), "is kept from 2023-11-14 22:13:30 UTC on, and not from"),
    ]:
        with pytest.raises(RecordingError, match=words):
            async with follow(tmp_path, start=start):
                pass


@pytest.mark.fault("R4")
@simulated
async def test_deleted_files_are_a_gap_or_with_strict_an_error(tmp_path):
    begun(tmp_path, trades(1, 1))
    for strict in (False, True):
        async with Reading(tmp_path, start="first", strict=strict) as reading:
            await reading.until(1)
            name = GrowingFile(tmp_path, 5, at=50, link=True, topics=[TOPIC])
            name.write(trades(51, 2))
            if strict:
                with pytest.raises(RecordingError, match=r"4 before .* are missing"):
                    await reading.ended()
                continue
            await reading.until(1, 2)
            assert [gap.reason for gap in reading.gaps] == ["retention"]
        name.path.unlink()


@simulated
async def test_damage_is_a_gap_or_with_strict_an_error(tmp_path):
    file = begun(tmp_path, trades(1, 1))
    size = file.path.stat().st_size
    file.write(trades(2, 2))
    file.write(trades(3, 3))
    raw = bytearray(file.path.read_bytes())
    raw[size + 50] ^= 1
    file.path.write_bytes(raw)
    async with Reading(tmp_path, start="first") as reading:
        await reading.until(1, 3)
        [gap] = reading.gaps
        assert "the recording is damaged" in gap.reason
    async with Reading(tmp_path, start="first", strict=True) as reading:
        with pytest.raises(
            RecordingError, match=r"is not whole: .*strict=False goes on"
        ):
            await reading.ended()


@simulated
async def test_questions_are_answered_with_the_last_values(tmp_path):
    topics = [TOPIC, f"snapshot {AAPL}", f"kline {AAPL} 1m"]
    file = begun(tmp_path, event(0, "subscribed", topics=topics), trades(1, *range(60)))
    file.write(frame(2, snapshot("83504.10"), kline(60, 7), kline(120, 8)))
    async with follow(tmp_path) as client:
        last = await client.fetch_trades(AAPL, count=3)
        assert prices(last[AAPL]) == [57, 58, 59]
        assert str((await client.fetch_snapshots(AAPL))[AAPL].last_price) == "83504.10"
        bars = await client.fetch_klines(AAPL, interval="1m", count=5)
        assert [int(bar.close) for bar in bars[AAPL]] == [7, 8]
        assert (await client.fetch_depth(AAPL)).missing == (AAPL,)
        for ask in (
            lambda: client.fetch_instruments(AAPL),
            lambda: client.fetch_calendar("US"),
            lambda: client.fetch_klines(AAPL, interval="1m", adjust=FORWARD),
        ):
            with pytest.raises(RequestError, match="known to the service only"):
                await ask()
        with pytest.raises(RequestError, match="known to the service only"):
            await client.fetch_instruments(AAPL, via="stream")


@simulated
@pytest.mark.fault("N146")
async def test_a_batch_that_is_not_full_comes_when_a_follower_has_caught_up(tmp_path):
    begun(tmp_path, trades(1, *range(3)))
    async with follow(tmp_path, "first") as client:
        batches = client.watch_trades(AAPL).batches(max_items=1000)
        async with asyncio.timeout(20):
            assert prices(await anext(batches)) == [0, 1, 2]


@simulated
async def test_a_slow_consumer_of_a_live_follower_loses_nothing(tmp_path):
    file = begun(tmp_path)
    client = follow(tmp_path)
    async with client, client.watch_trades(AAPL) as sub:
        await asyncio.sleep(0.2)
        assert client.live
        for block in range(40):
            first = block * 2000
            file.write(trades(block, *range(first, first + 2000)))
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)
        assert 32_768 < sub.stats.backlog < 65_536
        got = []
        async for tick in sub:
            got.append(int(tick.price))
            if len(got) == 80_000:
                break
        assert sub.stats.dropped == 0
    assert got == list(range(80_000))


# Durable names


async def handled(place, count, **options):
    """Return the prices that a durable follower handles before it ends."""
    got = []
    async with follow(place, durable="bot-1", **options) as client:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                async for tick in client.watch_trades(AAPL):
                    got.append(tick)
                    if len(got) > count:
                        break
    return prices(got)


@simulated
async def test_a_durable_follower_goes_on_after_what_it_has_handled(tmp_path):
    begun(tmp_path, *(trades(n, n) for n in range(1, 9)))
    assert await handled(tmp_path, 3, start="first") == [1, 2, 3, 4]
    # It did not come back for the next one after the fourth.
    assert await handled(tmp_path, 2) == [4, 5, 6]
    assert await handled(tmp_path, 99) == [6, 7, 8]
    assert await handled(tmp_path, 99) == []


@simulated
async def test_a_durable_follower_begins_now_and_misses_nothing_after_that(tmp_path):
    file = begun(tmp_path, trades(1, 1))
    assert await handled(tmp_path, 99) == []
    file.write(trades(2, 2))
    assert await handled(tmp_path, 99) == [2]


@pytest.mark.fault("R6")
@simulated
async def test_a_durable_name_has_one_follower(tmp_path):
    begun(tmp_path, trades(1, 1))
    async with follow(tmp_path, durable="bot-1"):
        words = "another follower of .* has the durable name 'bot-1': stop it, or use"
        with pytest.raises(RecordingError, match=words):
            async with follow(tmp_path, durable="bot-1"):
                pass
        async with follow(tmp_path, durable="bot-2"):
            pass
    async with follow(tmp_path, durable="bot-1"):
        pass


@pytest.mark.fault("R4")
@simulated
async def test_what_retention_took_from_a_durable_follower_is_a_gap(tmp_path):
    first = begun(tmp_path, trades(1, 1), trades(2, 2))
    assert await handled(tmp_path, 1, start="first") == [1, 2]
    second = GrowingFile(tmp_path, 1, at=10, link=True, topics=[TOPIC])
    second.write(trades(11, 3))
    first.path.unlink()
    async with Reading(tmp_path, durable="bot-1") as reading:
        await reading.until(3)
        [gap] = reading.gaps
        assert gap.reason == "retention"
        assert gap.until == _at(10)
    second.path.unlink()
    GrowingFile(tmp_path, 2, at=20, link=True, topics=[TOPIC]).write(trades(21, 4))
    for _ in range(2):  # The name is free again.
        with pytest.raises(RecordingError, match="its file was deleted"):
            async with follow(tmp_path, durable="bot-1", strict=True):
                pass


@simulated
async def test_a_place_that_cannot_be_written_is_an_error_at_the_end(tmp_path):
    file = begun(tmp_path)
    client = follow(tmp_path, durable="bot-1")
    await client.__aenter__()
    ticks = client.watch_trades(AAPL)
    [folder] = (tmp_path.parent / "state" / "qos-async" / "follow").iterdir()
    await ticks.ready()
    shutil.rmtree(folder)
    for price in (1, 2):
        file.write(trades(price, price))
        await anext(ticks)
    await asyncio.sleep(2)
    with pytest.raises(RecordingError, match="cannot write the place of the durable"):
        await client.aclose()


@simulated
async def test_a_place_that_cannot_be_read_is_an_error(tmp_path):
    begun(tmp_path, trades(1, 1))
    assert await handled(tmp_path, 9, start="first") == [1]
    [file] = (tmp_path.parent / "state").rglob("place.json")
    file.write_bytes(b"{")
    with pytest.raises(RecordingError, match="delete the file to begin at start="):
        async with follow(tmp_path, durable="bot-1"):
            pass


@pytest.mark.fault("R7")
@simulated
async def test_a_durable_follower_in_an_outage_gets_its_gap_after_a_restart(tmp_path):
    file = begun(tmp_path, trades(1, 1))
    async with Reading(tmp_path, durable="bot-1", start="first") as reading:
        await reading.until(1)
        file.write(event(2, "lost", reason="the cable"))
        await asyncio.sleep(2)
    file.write(event(9, "opened"), event(9, "subscribed", topics=[TOPIC]))
    file.write(trades(9, 2), fetched(10), trades(11, 3))
    async with Reading(tmp_path, durable="bot-1") as reading:
        await reading.until(2, 3)
        assert [gap.reason for gap in reading.gaps] == ["the cable"]


def test_a_follower_has_a_type_of_its_own(tmp_path):
    client = follow(tmp_path, numbers=float)
    assert isinstance(client, Follow)
    assert re.fullmatch(r"<Follow of '.*'>", repr(client))
