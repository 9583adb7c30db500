"""Damage of recordings: nothing damaged passes in silence, and what follows is read."""

from __future__ import annotations

import random

import pytest

from qos_async import Gap, Recorder, RecordingError, Topic, replay
from qos_async.recordings import contents, convert, read
from tests.support.factories import prices
from tests.support.memory_transport import gaps_and_ticks
from tests.support.recording_files import (
    blocks,
    event,
    recorded,
    started,
    trades,
    write,
    write_bytes,
    write_old,
)

AAPL = "US:AAPL"
TOPIC = f"trade {AAPL}"


def block_texts():
    """Return the texts of five blocks: the first opens the link, the last closes it."""
    first, *_ = recorded(topics=[TOPIC]).rpartition(b'{"at"')
    middle = [trades(at, at, 10 * at) for at in (1, 2, 3)]
    return [first, *middle, event(4, "closed")]


@pytest.fixture
def whole(tmp_path):
    return b"".join(blocks(*block_texts()))


def entries(place):
    """Return what is read, up to damage, without what depends on entries before."""
    return [(entry.at, entry.kind, entry.frame) for entry in read(place)]


def check(place, original):
    """Check that damage is reported; return what is read apart from that."""
    try:
        found = entries(place)
    except RecordingError:
        return None
    kept = [one for one in found if one[1] != "damaged"]
    if kept == original:
        return kept
    assert any(kind == "damaged" for _, kind, _ in found)
    assert set(kept) <= set(original)
    return kept


@pytest.mark.fault("F5")
def test_a_flipped_bit_at_any_byte_is_reported_and_what_follows_is_read(
    tmp_path, whole
):
    original = entries(write_bytes(tmp_path, whole))
    parts = blocks(*block_texts())
    ends = [sum(map(len, parts[: n + 1])) for n in range(len(parts))]
    for place in range(len(whole)):
        raw = bytearray(whole)
        raw[place] ^= 1 << place % 8
        file = write_bytes(tmp_path, bytes(raw))
        kept = check(file, original)
        assert kept is not None
        if place < ends[0]:
            assert kept == original
            assert "damaged" in [kind for _, kind, _ in entries(file)]
            continue
        assert kept != original
        after = sum(end <= place for end in ends)  # The number of the damaged block.
        assert kept[-1] == original[-1] or after == len(parts) - 1
        assert len(original) - len(kept) == [0, 3, 2, 2, 2, 1][after]


@pytest.mark.fault("F5")
def test_bits_flipped_at_random_in_a_long_recording_are_reported(tmp_path):
    texts = [started() + event(0, "opened") + event(0, "subscribed", topics=[TOPIC])]
    texts += [trades(at, *range(at, at + 20)) for at in range(1, 40)]
    whole = b"".join(blocks(*texts))
    original = entries(write_bytes(tmp_path, whole))
    rng = random.Random(5)
    for _ in range(400):
        raw = bytearray(whole)
        for _ in range(rng.choice((1, 1, 1, 2, 9))):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        kept = check(write_bytes(tmp_path, bytes(raw)), original)
        assert kept is not None
        assert len(kept) >= len(original) - 9 * 20


@pytest.mark.fault("F5")
def test_a_file_that_is_cut_anywhere_is_reported(tmp_path, whole):
    original = entries(write_bytes(tmp_path, whole))
    for size in range(1, len(whole)):
        file = write_bytes(tmp_path, whole[:size])
        try:
            found = [kind for _, kind, _ in entries(file)]
        except RecordingError:  # Less than the first bytes.
            assert size < 60
            continue
        assert found[-1] == "damaged"
        assert len(found) <= len(original)


def _swapped(head, one, two, three, *rest):
    return [head, one, three, two, *rest]


def _moved_ahead(head, *rest):
    return [head, rest[-1], *rest[:-1]]


def _repeated(head, one, two, *rest):
    return [head, one, two, two, *rest]


def _deleted(head, one, two, *rest):
    return [head, one, *rest]


def _last_deleted(*parts):
    return list(parts[:-1])


def _other_file():
    return blocks(*block_texts(), trades(9, 9), number=1)


def _foreign(head, one, two, *rest):
    return [head, one, _other_file()[2], *rest]


def _first_foreign(head, one, *rest):
    return [head, _other_file()[1], *rest]


def _head_and_first_foreign(head, one, *rest):
    return [*_other_file()[:2], *rest]


def _head_foreign(head, *rest):
    return [_other_file()[0], *rest]


def _followed_by_another_file(*parts):
    return [*parts, *_other_file()]


@pytest.mark.fault("F5", "F65")
@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (_swapped, 0),
        (_moved_ahead, 0),
        (_repeated, 0),
        (_deleted, 2),
        (_last_deleted, 1),
        (_foreign, 2),
        (_first_foreign, 3),
        (_head_and_first_foreign, 3),
        (_head_foreign, 0),
        (_followed_by_another_file, 0),
    ],
)
def test_blocks_that_are_not_in_their_place_are_reported(tmp_path, change, missing):
    parts = blocks(*block_texts())
    original = entries(write_bytes(tmp_path, b"".join(parts)))
    file = write_bytes(tmp_path, b"".join(change(*parts)))
    found = entries(file)
    kept = [one for one in found if one[1] != "damaged"]
    assert len(kept) < len(found)
    assert len(original) - len(kept) == missing
    assert [one for one in original if one in kept] == kept


def test_a_block_that_is_being_written_is_no_damage(tmp_path, whole):
    more = blocks(*block_texts(), trades(9, 9))[-1]
    for size in (1, 11, 12, 40, len(more) - 1):
        file = write_bytes(tmp_path, whole + more[:size])
        assert contents(file).faults == ()
    assert [e.kind for e in read(write_bytes(tmp_path, whole + more))][-1] == "frame"


@pytest.mark.fault("F5")
async def test_damage_is_a_gap_of_a_replay_and_what_follows_is_played(tmp_path, whole):
    parts = blocks(*block_texts())
    damaged = bytearray(parts[3])
    damaged[-8] ^= 1
    parts[3] = bytes(damaged)
    write_bytes(tmp_path, b"".join(parts))
    [fault] = contents(tmp_path).faults
    assert "2 entries at bytes" in fault
    async with replay(tmp_path, None) as client, client.watch_trades(AAPL) as sub:
        one, ten, gap, *ticks = [one async for one in gaps_and_ticks(sub.events())]
    assert isinstance(gap, Gap)
    assert gap.reason == f"the recording is damaged: {fault}"
    assert prices([one, ten]) == [1, 10]
    assert prices(ticks) == [3, 30]
    made = convert(tmp_path, tmp_path / "out")
    assert (made.rows, made.faults) == ({"trade": 4}, (fault,))


async def test_a_topic_whose_subscription_is_damaged_can_be_replayed(tmp_path):
    parts = blocks(*block_texts())
    write_bytes(tmp_path, b"".join([parts[0], *parts[2:]]))
    assert contents(tmp_path).topics == {Topic("trade", AAPL)}
    async with replay(tmp_path, None) as client, client.watch_trades(AAPL) as sub:
        assert prices([tick async for tick in sub]) == [1, 10, 2, 20, 3, 30]


@pytest.mark.parametrize("other", [b"hello", b"\x28\xb5\x2f\xfd junk", b"P*M\x18junk"])
def test_a_file_that_is_no_recording_does_not_end_the_others(tmp_path, other, whole):
    write_bytes(tmp_path, other, name="qos-0")
    write_bytes(tmp_path, whole, name="qos-1")
    [fault] = contents(tmp_path).faults
    assert "qos-0" in fault
    assert next(read(tmp_path)).kind == "damaged"
    assert convert(tmp_path, tmp_path / "out").rows == {"trade": 6}


def test_an_unknown_kind_of_entry_is_skipped_and_counted(tmp_path):
    new = b'{"at":1700000001000000000,"up":1,"event":"recovered","data":[1]}\n'
    file = write(tmp_path, recorded(new, trades(2, 1), new))
    assert "unknown" not in {entry.kind for entry in read(file)}
    assert contents(file).unknown == 2
    assert convert(file, tmp_path / "out").unknown == 2


@pytest.mark.fault("F5")
def test_a_newer_format_raises_and_names_it(tmp_path, whole, monkeypatch):
    monkeypatch.setattr("qos_async.recordings.blocks.VERSION", 3)
    write(tmp_path, started())
    write_bytes(tmp_path, whole, name="qos-2")
    monkeypatch.undo()
    with pytest.raises(RecordingError, match="has format 3, written by a newer qos-"):
        list(read(tmp_path))


def test_damage_of_format_1_is_reported_and_the_next_frame_is_read(tmp_path):
    file = write_old(tmp_path, *block_texts())
    raw = bytearray(file.read_bytes())
    second = raw.index(b"\x28\xb5\x2f\xfd", 4)
    raw[second + 5 : second + 8] = b"\xff\xff\xff"
    found = [one.kind for one in read(write_bytes(tmp_path, bytes(raw)))]
    assert found.count("damaged") == 1
    assert found[-5:] == ["frame", "frame", "frame", "frame", "closed"]


async def test_a_recorder_writes_what_is_checked(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.opened()
    for number in range(3):
        recorder.frames([b'{"n":%d}' % number], 7, plain=True)
        await recorder.flush()
    await recorder.aclose()
    [file] = recorder.paths
    whole = file.read_bytes()
    original = entries(file)
    assert len(original) == 6
    for place in range(len(whole)):
        raw = bytearray(whole)
        raw[place] ^= 16
        file.write_bytes(raw)
        check(file, original)
