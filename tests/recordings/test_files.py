"""Files of a recording that were copied, renamed or deleted."""

from __future__ import annotations

import shutil

import pytest

from qos_async import Gap, replay
from qos_async.recordings import contents, convert, read
from tests.support.factories import prices
from tests.support.memory_transport import gaps_and_ticks
from tests.support.recording_files import (
    event,
    frame,
    started,
    trades,
    write,
    write_bytes,
    write_old,
)

AAPL = "US:AAPL"
TOPICS = [f"trade {AAPL}"]


def write_file(place, number, *, run="a", writer=write):
    """Write file ``number`` of a run, with one trade, whose price is the number."""
    at = 10 * number
    opening = event(at, "opened") + event(at, "subscribed", topics=TOPICS)
    text = started(
        at, run=run, number=number, link=number > 0, topics=TOPICS if number else ()
    )
    text += (b"" if number else opening) + trades(at + 1, number)
    return writer(place, text, name=f"qos-{number}")


@pytest.fixture(params=[write, write_old], ids=["format 2", "format 1"])
def files(request, tmp_path):
    place = tmp_path / "recorded"
    return [write_file(place, number, writer=request.param) for number in range(4)]


async def played(place):
    """Return the prices and gaps of a replay."""
    async with replay(place, None) as client, client.watch_trades(AAPL) as sub:
        found = [one async for one in gaps_and_ticks(sub.events())]
    gaps = [one for one in found if isinstance(one, Gap)]
    return prices([one for one in found if not isinstance(one, Gap)]), gaps


def damage(place):
    return [entry.reason for entry in read(place) if entry.kind == "damaged"]


@pytest.mark.fault("F37")
@pytest.mark.parametrize(
    "name", ["qos-1 (1)", "qos-copy", "Copy of qos-1", "a", "qos-1 - Kopie"]
)
async def test_a_copy_of_a_file_is_left_out_and_reported(files, tmp_path, name):
    place = files[0].parent
    copy = f"{name}.jsonl.zst"
    shutil.copy(files[1], place / copy)
    [fault] = contents(place).faults
    assert fault == f"{copy}: repeats {files[1].name}, and is left out"
    assert damage(place) == [fault]
    assert (await played(place))[0] == [0, 1, 2, 3]
    made = convert(place, tmp_path / "out")
    assert (made.rows, made.faults) == ({"trade": 4}, (fault,))


@pytest.mark.fault("F37")
def test_of_a_file_and_a_shorter_copy_the_longer_is_read(tmp_path):
    texts = [started() + event(0, "opened") + trades(1, 1), trades(2, 2)]
    write(tmp_path, *texts, name="qos-0")
    shutil.copy(write(tmp_path, *texts[:1], name="qos"), tmp_path / "a.jsonl.zst")
    assert len(contents(tmp_path).faults) == 2
    assert [e.kind for e in read(tmp_path)].count("frame") == 2


@pytest.mark.fault("F37")
def test_a_file_with_the_name_of_one_of_another_run_is_read_in_its_own(files, tmp_path):
    place = files[0].parent
    text = started(100, run="b") + trades(101, 9)
    later = write(place, text, name="qos-4")
    aside = files[3].rename(tmp_path / "aside")
    later.rename(files[3])
    aside.rename(later)
    assert contents(place).faults == ()
    times = [entry.at for entry in read(place) if entry.kind == "frame"]
    assert times == sorted(times)


@pytest.mark.fault("F37")
async def test_exchanged_files_are_played_in_order(files, tmp_path):
    aside = files[1].rename(tmp_path / "aside")
    files[2].rename(files[1])
    aside.rename(files[2])
    assert await played(files[0].parent) == ([0, 1, 2, 3], [])


@pytest.mark.fault("F37")
@pytest.mark.parametrize(
    ("gone", "what"),
    [
        ([1], "file 1 of the recording is missing"),
        ([2], "file 2 of the recording is missing"),
        ([1, 2], "files 1 to 2 of the recording are missing"),
    ],
)
async def test_a_missing_file_is_reported(files, tmp_path, gone, what):
    for number in gone:
        files[number].unlink()
    place = files[0].parent
    [fault] = contents(place).faults
    assert what in fault
    assert damage(place) == [fault]
    left, gaps = await played(place)
    assert left == [number for number in range(4) if number not in gone]
    assert [gap.reason for gap in gaps] == [f"the recording is damaged: {fault}"]
    assert convert(place, tmp_path / "out").faults == (fault,)


@pytest.mark.parametrize("gone", [[0], [0, 1], [3], [2, 3], [0, 3]])
def test_the_first_and_last_files_may_be_deleted(files, gone):
    for number in gone:
        files[number].unlink()
    assert contents(files[0].parent).faults == ()


def test_a_single_file_of_several_has_nothing_missing(files):
    assert contents(files[2]).faults == ()


@pytest.mark.fault("F37")
def test_a_file_with_a_damaged_head_keeps_its_number(tmp_path):
    files = [write_file(tmp_path, n, run=("61" * 8)) for n in range(3)]
    for file in files:
        raw = bytearray(file.read_bytes())
        raw[20] ^= 1
        file.write_bytes(raw)
    shutil.copy(files[1], tmp_path / "copy.jsonl.zst")
    faults = contents(tmp_path).faults
    repeats = [one for one in faults if "repeats" in one]
    assert len(faults) == 4
    assert repeats == ["copy.jsonl.zst: repeats qos-1.jsonl.zst, and is left out"]


def test_a_file_that_became_empty_is_a_missing_one(tmp_path):
    for number in range(3):
        write_file(tmp_path, number)
    write_bytes(tmp_path, b"", name="qos-1")
    faults = contents(tmp_path).faults
    assert [one for one in faults if "file 1 of the recording is missing" in one]


def test_unidentified_files_stay_where_their_names_are(tmp_path):
    write_bytes(tmp_path, b"hello", name="qos-00")
    write(tmp_path, started(1) + frame(1, b"{}"), name="qos-1")
    write_bytes(tmp_path, b"hello", name="qos-11")
    write(tmp_path, started(2, run="b") + frame(2, b"{}"), name="qos-2")
    kinds = [entry.kind for entry in read(tmp_path)]
    whole = ["started", "frame"]
    assert kinds == ["damaged", *whole, "damaged", *whole]


@pytest.mark.fault("F37")
def test_a_hidden_file_that_a_copy_left_behind_is_no_part_of_the_recording(files):
    first = files[0]
    first.with_name(f"._{first.name}").write_bytes(b"\0\5\x16\7" + bytes(200))
    assert damage(first.parent) == []
