"""Archives: which day an entry belongs to, and that a file is read like the whole."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from qos_async import Gap, Interrupted, RecordingError, Trade, replay
from qos_async.recordings import Archived, archive, contents
from qos_async.recordings.archive_days import TradingDays
from tests.support.memory_transport import trade
from tests.support.recording_files import (
    event,
    fetched,
    frame,
    recorded,
    started,
    trades,
    write,
)

LATER = datetime(2100, 1, 1, tzinfo=UTC)
BTC = "trade CF:BTCUSDT"
AAPL = "trade US:AAPL"
# The recordings begin at 2023-11-14 22:13:20 UTC, a Tuesday.
MIDNIGHT = 6400


def btc(at: float, *prices: str) -> Any:
    return frame(at, *({**trade(price), "c": "CF:BTCUSDT"} for price in prices))


def made(place: Path, out: Path, **options: Any) -> Archived:
    return archive(place, out, **{"now": LATER, **options})


async def events(place: Path, topic: str) -> list[Any]:
    """Return what a subscriber of a topic receives, in terms of which files are equal."""
    async with replay(place, None) as client:
        found: list[Any] = []
        [wanted] = [one for one in client.topics if str(one) == topic]
        async for one in client.watch(wanted).events():
            if isinstance(one, Gap):
                found.append((one.status, one.reason, one.recovered))
            elif isinstance(one, Interrupted):
                found.append(one.reason)
            elif isinstance(one, Trade):
                found.append(
                    (str(one.price), one.place, one.recovered, one.received_at)
                )
    return found


# Days


@pytest.mark.parametrize(
    ("market", "time", "wanted"),
    [
        ("US", "2025-01-02T14:30Z", "2025-01-02"),
        ("US", "2025-01-03T00:59Z", "2025-01-02"),
        ("US", "2025-01-03T01:00Z", "2025-01-03"),  # 20:00 in New York
        ("US", "2025-01-04T01:00Z", "2025-01-06"),  # Friday 20:00
        ("US", "2025-07-03T00:00Z", "2025-07-03"),  # in summer time
        ("HK", "2025-01-01T15:59Z", "2025-01-01"),
        ("HK", "2025-01-01T16:00Z", "2025-01-02"),
        ("SH", "2025-01-04T02:00Z", "2025-01-06"),
        ("CF", "2025-01-04T23:59Z", "2025-01-04"),
        ("FX", "2025-01-05T21:59Z", "2025-01-06"),
        ("FX", "2025-01-06T22:00Z", "2025-01-07"),
        ("IX", "2025-01-04T23:59Z", "2025-01-04"),
    ],
)
def test_each_time_belongs_to_a_trading_day(market, time, wanted):
    at = int(datetime.fromisoformat(time).timestamp()) * 1_000_000_000
    days, day = TradingDays(market), date.fromisoformat(wanted)
    assert days.date_at(at) == day
    assert days.begins_at(day) <= at < days.ends_at(day)
    assert days.date_at(days.begins_at(day)) == day
    assert days.date_at(days.ends_at(day)) > day


# Files


@pytest.mark.fault("N73")
async def test_a_day_of_a_market_is_read_like_the_whole(tmp_path):
    lines = (
        trades(1, "1"),
        btc(1, "100"),
        btc(MIDNIGHT - 1, "101", "102"),
        btc(MIDNIGHT, "103"),
        trades(MIDNIGHT + 1, "2"),
    )
    write(tmp_path / "in", recorded(*lines, topics=(AAPL, BTC), end=9000, gaps=True))
    found = await asyncio.to_thread(made, tmp_path / "in", tmp_path / "out")
    assert [(one.path, one.frames) for one in found.written] == [
        ("CF/qos-CF-2023-11-14.jsonl.zst", {"trade": 3}),
        ("CF/qos-CF-2023-11-15.jsonl.zst", {"trade": 1}),
        ("US/qos-US-2023-11-14.jsonl.zst", {"trade": 2}),
    ]
    for topic, market in ((AAPL, "US"), (BTC, "CF")):
        whole = await events(tmp_path / "in", topic)
        assert await events(tmp_path / "out" / market, topic) == whole
    second = tmp_path / "out" / "CF" / "qos-CF-2023-11-15.jsonl.zst"
    assert [one[0] for one in await events(second, BTC)] == ["103"]


@pytest.mark.fault("N73")
async def test_an_outage_over_the_end_of_a_day_is_in_one_file(tmp_path):
    lines = (
        btc(MIDNIGHT - 9, "1"),
        event(MIDNIGHT - 8, "lost", reason="cut"),
        event(MIDNIGHT - 2, "opened"),
        event(MIDNIGHT - 2, "subscribed", topics=[BTC]),
        btc(MIDNIGHT - 1, "4"),
        btc(MIDNIGHT + 1, "5"),
        fetched(
            MIDNIGHT + 2,
            {**trade("2"), "c": "CF:BTCUSDT"},
            0,
            topic=BTC,
            since=MIDNIGHT - 9,
            until=MIDNIGHT - 1,
        ),
        btc(MIDNIGHT + 3, "6"),
    )
    write(tmp_path / "in", recorded(*lines, topics=(BTC,), end=9000, gaps=True))
    found = await asyncio.to_thread(made, tmp_path / "in", tmp_path / "out")
    [first, second] = found.written
    assert (first.frames, second.frames) == ({"trade": 3}, {"trade": 1})
    assert [(gap.status, gap.recovered) for gap in first.gaps] == [("filled", 1)]
    whole = await events(tmp_path / "in", BTC)
    assert await events(tmp_path / "out" / "CF", BTC) == whole
    assert ("filled", "the cable", 1) in whole


@pytest.mark.fault("N73")
@pytest.mark.parametrize("gaps", [True, False])
async def test_what_a_killed_recorder_lost_is_a_gap(tmp_path, gaps):
    """Also of a recorder that did not record the ends of outages."""
    first = recorded(trades(1, "1"), topics=(AAPL,), gaps=gaps).rpartition(b'{"at"')[0]
    second = (
        started(100, run="b", gaps=gaps),
        event(101, "opened"),
        event(101, "subscribed", topics=[AAPL]),
        trades(102, "2"),
        event(103, "lost", reason="cut"),
        event(104, "opened"),
        event(104, "subscribed", topics=[AAPL]),
        *([fetched(105, topic=AAPL, status="partial")] if gaps else []),
        trades(106, "3"),
        event(107, "closed"),
    )
    write(tmp_path / "in", first, name="qos-1")
    write(tmp_path / "in", b"".join(second), name="qos-2")
    [day] = (await asyncio.to_thread(made, tmp_path / "in", tmp_path / "out")).written
    statuses = ["unfilled", "partial" if gaps else "unfilled"]
    assert [gap.status for gap in day.gaps] == statuses
    assert day.gaps[0].reason == "the recording was interrupted"
    found = await events(tmp_path / "out" / "US", AAPL)
    prices = [one[0] for one in found if isinstance(one, tuple) and len(one) == 4]
    assert prices == ["1", "2", "3"]
    assert [
        one[0] for one in found if isinstance(one, tuple) and len(one) == 3
    ] == statuses


def test_damage_is_a_gap_and_reported(tmp_path):
    lines = recorded(trades(1, "1"), trades(2, "2"), topics=(AAPL,), gaps=True)
    more = b"nonsense\n" + trades(3, "3") + event(9, "closed")
    write(tmp_path / "in", lines.rpartition(b'{"at"')[0] + more)
    found = made(tmp_path / "in", tmp_path / "out")
    assert "qos-1.jsonl.zst: an entry is left out" in found.faults[0]
    [day] = found.written
    assert (day.frames, len(day.gaps)) == ({"trade": 3}, 1)
    assert "the recording is damaged" in day.gaps[0].reason


# Runs


def test_a_file_that_has_more_than_is_left_is_kept(tmp_path):
    full = recorded(trades(1, "1"), trades(2, "2"), topics=(AAPL,), end=3)
    file = write(tmp_path / "in", full)
    made(tmp_path / "in", tmp_path / "out")
    archived = tmp_path / "out" / "US" / "qos-US-2023-11-14.jsonl.zst"
    before = archived.read_bytes()
    file.unlink()
    write(tmp_path / "in", recorded(trades(2, "2"), topics=(AAPL,), end=3))
    found = made(tmp_path / "in", tmp_path / "out")
    assert found.kept == ("US/qos-US-2023-11-14.jsonl.zst",)
    assert archived.read_bytes() == before
    write(tmp_path / "in", recorded(trades(1, "1", "3", "4"), topics=(AAPL,), end=3))
    assert len(made(tmp_path / "in", tmp_path / "out").written) == 1
    assert archived.read_bytes() != before


def test_days_that_are_not_over_or_were_begun_before_are_left_out(tmp_path):
    write(tmp_path / "in", recorded(btc(1, "1"), btc(MIDNIGHT, "2"), topics=(BTC,)))
    now = datetime(2023, 11, 15, 1, tzinfo=UTC)
    found = made(tmp_path / "in", tmp_path / "out", now=now)
    assert [one.date for one in found.written] == ["2023-11-14"]
    assert found.unfinished == ("CF 2023-11-15",)
    start = datetime(2023, 11, 14, 23, tzinfo=UTC)
    found = made(tmp_path / "in", tmp_path / "later", start=start)
    assert [one.date for one in found.written] == ["2023-11-15"]


def test_the_manifest_has_counts_and_gaps_of_all_days(tmp_path):
    write(tmp_path / "in", recorded(btc(1, "1"), topics=(BTC,), end=3))
    made(tmp_path / "in", tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    [day] = manifest["files"]
    assert manifest["form"] == 1
    assert (day["market"], day["date"]) == ("CF", "2023-11-14")
    assert (day["frames"], day["symbols"]) == ({"trade": 1}, ["CF:BTCUSDT"])
    assert (day["gaps"], len(day["sha256"])) == ([], 64)
    assert {one.name for one in (tmp_path / "out").iterdir()} == {"CF", "manifest.json"}
    assert [str(one) for one in contents(tmp_path / "out" / "CF").topics] == [BTC]


def test_another_file_of_that_name_is_not_replaced(tmp_path):
    write(tmp_path / "in", recorded(btc(1, "1"), topics=(BTC,), end=3))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text("[]")
    with pytest.raises(RecordingError, match="is not a manifest of an archive: use an"):
        made(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").read_text() == "[]"


async def test_within_an_event_loop_the_error_has_the_remedy(tmp_path):
    write(tmp_path / "in", recorded(btc(1, "1"), topics=(BTC,), end=3))
    with pytest.raises(
        RuntimeError, match=r"call it in a thread, with asyncio\.to_thr"
    ):
        made(tmp_path / "in", tmp_path / "out")
