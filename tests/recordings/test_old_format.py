"""Recordings of format 1, as earlier versions wrote them, are still read.

``tests/samples/recording-format-1`` was recorded by version 0.1.0 with a clock of its own: a
recorder with two files, an outage, dropped frames and one that is not JSON; then one that
was killed, whose clock was set back by 300 s in an outage.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from qos_async import Gap, Topic, replay
from qos_async.recordings import Recorder, contents, convert, read
from tests.support.memory_transport import gaps_and_ticks

OLD = Path(__file__).parents[1] / "samples" / "recording-format-1"
AAPL = Topic("trade", "US:AAPL")
PRICES = ["1.10", "1.20", "1.30", "1.40", "1.50", "1.60", "2.10", "2.20"]


@pytest.mark.fault("F5")
def test_it_is_read():
    found = contents(OLD)
    assert found.topics == {AAPL, Topic("kline", "CF:BTCUSDT", "1m")}
    assert (found.faults, found.unknown) == ((), 0)
    assert found.begins_at == 1_700_000_000 * 10**9
    assert found.ends_at - found.begins_at == 655 * 10**9
    kinds = [entry.kind for entry in read(OLD)]
    assert [kinds.count(kind) for kind in ("started", "frame", "dropped")] == [3, 11, 1]
    assert b"\xff\x00 not json" in [entry.frame for entry in read(OLD)]
    elapsed = [entry.elapsed for entry in read(OLD)]
    assert elapsed == sorted(elapsed)


async def test_it_is_replayed():
    async with replay(OLD, None) as client, client.watch_trades("US:AAPL") as sub:
        got = [one async for one in gaps_and_ticks(sub.events())]
    gaps = [one for one in got if isinstance(one, Gap)]
    assert [str(one.price) for one in got if not isinstance(one, Gap)] == PRICES
    assert [gap.reason for gap in gaps] == [
        "a frame could not be read",
        "the cable",
        "3 frames were not recorded: the disk was too slow",
        "the recording was closed",
        "reset",
    ]
    assert all(gap.since <= gap.until for gap in gaps)
    assert gaps[0].since.second == 22


def test_it_is_converted(tmp_path):
    made = convert(OLD, tmp_path / "out", numbers=Decimal)
    assert made.rows == {"trade": 8, "kline": 1}
    assert made.unreadable == 1


async def test_files_of_both_formats_are_one_recording(tmp_path):
    for file in OLD.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    recorder = Recorder(tmp_path)
    recorder.opened()
    recorder.frames([b'{"n":1}'], 7, plain=True)
    await recorder.aclose()
    assert [entry.kind for entry in read(tmp_path)].count("frame") == 12
    assert contents(tmp_path).faults == ()
