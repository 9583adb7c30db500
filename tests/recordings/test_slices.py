"""Parts of recordings: from a time or a place, to a time or a place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from qos_async import Gap, Interrupted, RecordingError, Trade, replay
from qos_async.recordings import convert
from tests.support.recording_files import (
    START,
    event,
    fetched,
    recorded,
    trades,
    write,
)

TOPICS = ("trade US:AAPL",)


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(START / 1e9 + seconds, UTC)


@pytest.fixture
def place(tmp_path):
    lines = [trades(second, str(second)) for second in range(1, 7)]
    write(tmp_path / "in", recorded(*lines, topics=TOPICS, end=7))
    return tmp_path / "in"


async def prices(place, **options):
    async with replay(place, None, **options) as client:
        return [str(tick.price) async for tick in client.watch_trades("US:AAPL")]


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        (None, None, "123456"),
        ("first", None, "123456"),
        (at(3), None, "3456"),
        (at(3.5), None, "456"),
        (None, at(3), "12"),
        (at(2), at(5), "234"),
        (at(0), at(99), "123456"),
        (at(99), None, ""),
        (None, at(-1), ""),
    ],
)
async def test_a_replay_has_what_was_received_from_start_to_before_end(
    place, start, end, wanted
):
    assert "".join(await prices(place, start=start, end=end)) == wanted


@pytest.mark.fault("N151")
async def test_a_slice_by_time_ends_at_its_microsecond(tmp_path):
    lines = [trades(number / 1e6, str(number)) for number in range(1, 13)]
    write(tmp_path, recorded(*lines, topics=TOPICS, end=7))
    begins = datetime.fromtimestamp(START // 10**9, UTC)
    wrong = []
    for number in range(1, 13):
        bound = begins + timedelta(microseconds=number)
        before, after = (
            await prices(tmp_path, end=bound),
            await prices(tmp_path, start=bound),
        )
        if len(before) != number - 1 or len(after) != 13 - number:
            wrong.append((number, len(before), len(after)))
    assert wrong == []


async def test_slices_by_place_make_up_the_whole(place):
    async with replay(place, None) as client:
        ticks = [tick async for tick in client.watch_trades("US:AAPL")]
    for number, tick in enumerate(ticks, 1):
        assert len(await prices(place, end=tick.place)) == number
        assert len(await prices(place, start=tick.place)) == 6 - number


async def test_what_was_known_at_the_start_is_known(place):
    async with replay(place, None, start=at(4)) as client:
        assert client.begins_at == at(4)
        async with client.watch_trades("US:AAPL") as sub:
            first = await anext(aiter(sub))
            assert str(first.price) == "4"
            found = await client.fetch_trades("US:AAPL", count=10)
    assert [str(one.price) for one in found["US:AAPL"]][:3] == ["1", "2", "3"]


@pytest.mark.fault("N135")
async def test_an_outage_that_goes_on_at_the_start_ends_as_it_was_recorded(tmp_path):
    lines = (
        trades(1, "1"),
        event(2, "lost", reason="cut"),
        event(4, "opened"),
        event(4, "subscribed", topics=list(TOPICS)),
        trades(5, "5"),
        fetched(6, since=1, until=4, status="partial"),
        trades(7, "7"),
    )
    write(tmp_path, recorded(*lines, topics=TOPICS, gaps=True, end=8))
    async with replay(tmp_path, None, start=at(3)) as client:
        events = [one async for one in client.watch_trades("US:AAPL").events()]
    interrupted, gap, *others = events
    assert isinstance(interrupted, Interrupted)
    assert interrupted.reason == "cut"
    assert isinstance(gap, Gap)
    assert (gap.since, gap.until, gap.status) == (at(1), at(4), "partial")
    assert [str(one.price) for one in others if isinstance(one, Trade)] == ["5", "7"]


@pytest.mark.fault("N96", "N135")
@pytest.mark.parametrize("kind", ["suspect", "fetched"])
async def test_slices_amid_frames_received_together_make_up_the_whole(tmp_path, kind):
    """An event behind them moves some: to the end of an outage, or behind it."""
    outage = {"topics": list(TOPICS), "reason": "a pause", "since": START}
    lines = [event(2, "suspect", **outage), trades(3, "3")]
    if kind == "suspect":
        lines = [trades(3, "3", "4", "5"), event(3, "suspect", **outage, left=2)]
    else:
        lines += [trades(4, "4", "5", "6"), fetched(4, left=2)]
    end = () if kind == "fetched" else (trades(5, "6"), fetched(6, 1, omitted=[0]))
    lines = [trades(1, "1"), *lines, *end, trades(7, "7")]
    write(tmp_path, recorded(*lines, topics=TOPICS, gaps=True))
    async with replay(tmp_path, None) as client:
        ticks = [tick async for tick in client.watch_trades("US:AAPL")]
    for number, tick in enumerate(ticks[:-1], 1):
        later = [str(one.price) for one in ticks[number:]]
        assert await prices(tmp_path, start=tick.place) == later


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"start": datetime(2025, 1, 1)}, "start=.* has no time zone: use"),  # noqa: DTZ001 - the fault
        ({"end": datetime(2025, 1, 1)}, "end=.* has no time zone: use"),  # noqa: DTZ001 - the fault
        ({"start": 3}, 'start must be None, "first", an aware datetime, or a place'),
        ({"end": "first"}, "end must be None, an aware datetime, or a place such as"),
        ({"end": "2025-01-01"}, "end must be None, an aware datetime, or a place such"),
    ],
)
def test_another_bound_is_an_error(place, bounds, message):
    with pytest.raises(ValueError, match=message):
        replay(place, **bounds)


@pytest.mark.parametrize("name", ["start", "end"])
async def test_a_place_of_another_recording_is_an_error(place, name):
    other = f"{1:016d}.other.0.{1:010d}.00000"
    with pytest.raises(RecordingError, match=r"is not in .*another recording"):
        await prices(place, **{name: other})


def test_a_conversion_has_only_the_symbols_and_times_that_were_named(
    place, tmp_path, monkeypatch
):
    made = convert(place, tmp_path / "out", start=at(2), end=at(5))
    assert made.rows == {"trade": 3}
    some = convert(place, tmp_path / "y", symbols=["US:AAPL", "US:TSLA"])
    assert (some.rows, some.absent) == ({"trade": 6}, ("US:TSLA",))
    none = convert(place, tmp_path / "z", symbols="US:AAPL", end=at(-5))
    assert (none.rows, none.absent) == ({}, ())


def test_a_conversion_of_symbols_that_are_not_there_names_those_that_are(
    place, tmp_path
):
    words = r"has no US:NOSUCH, US:TSLA: its symbols are US:AAPL$"
    with pytest.raises(RecordingError, match=words):
        convert(place, tmp_path / "out", symbols=["US:TSLA", "US:NOSUCH"])
    assert not (tmp_path / "out").exists()
