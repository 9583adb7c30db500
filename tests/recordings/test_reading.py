"""Reading of recordings: complete lines are read, damage is reported."""

from __future__ import annotations

import sys

import pytest

from qos_async import RecordingError, Topic
from qos_async.recordings import MissingZstdError, contents, read
from tests.support.recording_files import (
    SECOND,
    START,
    event,
    fetched,
    frame,
    recorded,
    started,
    trades,
    write,
    write_old,
)


def kinds(place):
    return [entry.kind for entry in read(place)]


@pytest.mark.parametrize(
    "raw", [b'{"tp":"T","c":"US:AAPL"}', b"\xff\x00{", b'{"a":\n1}', b"", b"1,2", b"}"]
)
def test_each_frame_is_read_as_it_was_received(tmp_path, raw):
    file = write(tmp_path, started(), frame(1.5, raw, b'{"other":1}'))
    _, first, second = read(file)
    assert (first.at, first.frame) == (START + 1_500_000_000, raw)
    assert second.frame == b'{"other":1}'


@pytest.mark.fault("F10")
def test_a_recording_of_a_symbol_that_is_refused_today_is_read_without_it(tmp_path):
    topics = ["trade US:AAPL\uff0cTSLA", "trade HK:700"]
    file = write(tmp_path, started(topics=topics) + trades(1, 1))
    assert kinds(file) == ["started", "frame"]
    assert contents(file).topics == {Topic("trade", "HK:700")}


def test_files_are_read_in_the_order_of_their_names(tmp_path):
    write(tmp_path, started(2, number=1, link=True), trades(2, 2), name="qos-2")
    write(tmp_path, started(), trades(1, 1), name="qos-1")
    (tmp_path / "notes.txt").write_text("not of the recording")
    assert [entry.at - START for entry in read(tmp_path)] == [
        0,
        10**9,
        *[2 * 10**9] * 2,
    ]


def test_a_truncated_file_of_format_1_is_read_up_to_its_last_complete_line(tmp_path):
    texts = started() + trades(1, 1), trades(2, 2), trades(3, 3)
    whole = write_old(tmp_path, *texts).read_bytes()
    for size in range(1, len(whole)):
        (tmp_path / "qos-1.jsonl.zst").write_bytes(whole[:size])
        entries = list(read(tmp_path))
        whole_lines = ["started", "frame", "frame", "frame"][: len(entries) - 1]
        assert [entry.kind for entry in entries[:-1]] == whole_lines
        # Between two complete frames a truncation cannot be detected.
        assert entries[-1].kind == "damaged" or len(entries) in (2, 3)
    assert "ends in the middle, at byte" in entries[-1].reason


def test_damage_is_reported_and_the_next_file_is_read(tmp_path):
    file = write(tmp_path, started() + trades(1, 1), trades(2, 2))
    raw = bytearray(file.read_bytes())
    raw[-9] ^= 0xFF
    raw[-20] ^= 0xFF
    file.write_bytes(raw)
    write(tmp_path, started(9, run="b"), name="qos-2")
    assert kinds(tmp_path)[-2:] == ["damaged", "started"]
    assert kinds(tmp_path)[:2] == ["started", "frame"]


def test_an_invalid_line_is_reported_and_what_follows_is_read(tmp_path):
    write(tmp_path, started() + b'{"at":1}\n' + trades(1, 1))
    _, damaged, following = read(tmp_path)
    assert damaged.kind == "damaged"
    assert "neither a frame nor an event" in damaged.reason
    assert following.kind == "frame"


def test_an_empty_file_is_damaged_and_alone_is_not_a_recording(tmp_path):
    (tmp_path / "qos-1.jsonl.zst").touch()
    assert kinds(tmp_path) == ["damaged"]
    with pytest.raises(RecordingError, match="is empty: nothing was recorded in it"):
        contents(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (trades(1, 1), "does not start with a header"),
        (b'{"some":"json"}\n', "is not a recording: not a line of a recording"),
        (b"hello\n", "is not a recording: not a line of a recording"),
        (
            b'{"x":' + b"[" * 100_000 + b"\n",
            "is not a recording: not a line of a recording",
        ),
        (
            started().replace(b'ing":2', b'ing":9'),
            "has format 9, .* reads formats up to 2: pip install --upgrade qos-async",
        ),
    ],
)
def test_a_file_that_is_not_a_recording_raises(tmp_path, text, words):
    write(tmp_path, text)
    with pytest.raises(RecordingError, match=words):
        list(read(tmp_path))


def test_uncompressed_missing_and_empty_recordings_raise(tmp_path):
    other = tmp_path / "prices.csv"
    other.write_text("price\n1\n")
    with pytest.raises(RecordingError, match="is not compressed with zstandard"):
        list(read(other))
    with pytest.raises(RecordingError, match="has no recordings: no file is named"):
        list(read(tmp_path))
    with pytest.raises(
        RecordingError, match=r"nowhere does not exist: expected a recording"
    ):
        list(read(tmp_path / "nowhere"))


def test_contents_are_everything_but_the_frames(tmp_path):
    more = event(3, "subscribed", topics=["kline CF:BTCUSDT 1m"])
    write(tmp_path, recorded(trades(1, 1, 2), more, trades(5, 3)))
    found = contents(tmp_path)
    assert found.topics == {
        Topic("trade", "US:AAPL"),
        Topic("kline", "CF:BTCUSDT", "1m"),
    }
    assert (found.begins_at, found.ends_at) == (START, START + 1000 * 10**9)
    assert found.faults == ()


def test_a_rejected_topic_is_no_topic_of_the_recording(tmp_path):
    rejected = event(1, "rejected", topics=["trade US:TSLA"], reason="No permission.")
    write(tmp_path, recorded(trades(1, 1), rejected))
    assert contents(tmp_path).topics == {Topic("trade", "US:AAPL")}
    [entry] = [one for one in read(tmp_path) if one.kind == "rejected"]
    assert entry.reason == "No permission."


def test_the_end_of_an_outage_is_an_entry_with_the_rows_of_the_wire(tmp_path):
    row = {"tp": "T", "c": "US:AAPL", "p": "1.50"}
    write(tmp_path, recorded(fetched(8, row, 3, omitted=[2], left=1)))
    [entry] = [one for one in read(tmp_path) if one.kind == "fetched"]
    assert entry.rows == (b'{"tp":"T","c":"US:AAPL","p":"1.50"}', 3)
    assert (entry.status, entry.omitted, entry.left) == ("filled", (2,), 1)
    assert (entry.since, entry.until) == (START + 10**9, START + 9 * 10**9)


def test_an_unfinished_recording_ends_with_its_last_frame(tmp_path):
    write(tmp_path, started() + trades(1, 1) + trades(7, 1))
    assert contents(tmp_path).ends_at == START + 7 * 10**9


def test_two_recordings_of_the_same_time_raise(tmp_path):
    write(tmp_path, started() + trades(5, 1), name="qos-1")
    write(tmp_path, started(2, run="b") + trades(3, 1), name="qos-2")
    with pytest.raises(RecordingError, match="put each into its own directory"):
        contents(tmp_path)


def test_without_zstandard_the_error_has_the_command_to_install_it(
    tmp_path, monkeypatch
):
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingZstdError, match=r"pip install 'qos-async\[record\]'"):
        list(read(tmp_path))


@pytest.mark.fault("F4")
@pytest.mark.parametrize("step", [3600, -3600, 0])
def test_the_length_of_a_recording_is_not_that_of_the_wall_clock(tmp_path, step):
    later = trades(20 + step, "2", up=20)
    write(tmp_path, recorded(trades(5, "1"), later, end=30 + step, up=30))
    assert contents(tmp_path).elapsed == 30 * SECOND
