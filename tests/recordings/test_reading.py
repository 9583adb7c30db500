"""Recordings read: what is whole is given, what is not is told."""

from __future__ import annotations

import sys

import pytest

from qos_async import RecordingError, Topic
from qos_async.recordings import MissingZstdError, contents, read
from tests.support.recording_files import (
    START,
    begun,
    event,
    frame,
    recorded,
    trades,
    write,
)


def kinds(place):
    return [entry.kind for entry in read(place)]


@pytest.mark.parametrize(
    "raw", [b'{"tp":"T","c":"US:AAPL"}', b"\xff\x00{", b'{"a":\n1}', b"", b"1,2", b"}"]
)
def test_each_frame_is_given_as_it_came(tmp_path, raw):
    file = write(tmp_path, begun(), frame(1.5, raw, b'{"other":1}'))
    _, first, second = read(file)
    assert (first.at, first.frame) == (START + 1_500_000_000, raw)
    assert second.frame == b'{"other":1}'


def test_files_are_read_in_the_order_of_their_names(tmp_path):
    write(tmp_path, begun(2, number=1, link=True), trades(2, 2), name="qos-2")
    write(tmp_path, begun(), trades(1, 1), name="qos-1")
    (tmp_path / "notes.txt").write_text("not of the recording")
    assert [entry.at - START for entry in read(tmp_path)] == [
        0,
        10**9,
        *[2 * 10**9] * 2,
    ]


def test_a_truncated_tail_is_read_up_to_the_last_whole_line(tmp_path):
    texts = begun() + trades(1, 1), trades(2, 2), trades(3, 3)
    whole = write(tmp_path, *texts).read_bytes()
    for size in range(1, len(whole)):
        (tmp_path / "qos-1.jsonl.zst").write_bytes(whole[:size])
        entries = list(read(tmp_path))
        whole_lines = ["begun", "frame", "frame", "frame"][: len(entries) - 1]
        assert [entry.kind for entry in entries[:-1]] == whole_lines
        # Between two whole frames nobody can see that more was to come.
        assert entries[-1].kind == "damaged" or len(entries) in (2, 3)
    assert "ends in the middle, at byte" in entries[-1].reason


def test_what_is_damaged_is_told_and_the_next_file_is_read(tmp_path):
    file = write(tmp_path, begun() + trades(1, 1), trades(2, 2))
    raw = bytearray(file.read_bytes())
    raw[-9] ^= 0xFF
    raw[-20] ^= 0xFF
    file.write_bytes(raw)
    write(tmp_path, begun(9, run="b"), name="qos-2")
    assert kinds(tmp_path)[-2:] == ["damaged", "begun"]
    assert kinds(tmp_path)[:2] == ["begun", "frame"]


def test_a_line_that_is_none_ends_a_file(tmp_path):
    write(tmp_path, begun() + b'{"at":1}\n' + trades(1, 1))
    *_, last = read(tmp_path)
    assert last.kind == "damaged"
    assert "neither a frame nor an event" in last.reason


def test_an_empty_file_says_so_and_alone_is_no_recording(tmp_path):
    (tmp_path / "qos-1.jsonl.zst").touch()
    assert kinds(tmp_path) == ["damaged"]
    with pytest.raises(RecordingError, match="is empty: nothing was recorded there"):
        contents(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (trades(1, 1), "does not begin like one"),
        (b'{"some":"json"}\n', "is no recording: not a line of a recording"),
        (b"hello\n", "is no recording: not a line of a recording"),
        (
            b'{"x":' + b"[" * 100_000 + b"\n",
            "is no recording: not a line of a recording",
        ),
        (begun().replace(b'ing":1', b'ing":9'), "pip install --upgrade qos-async"),
    ],
)
def test_something_else_is_told(tmp_path, text, words):
    write(tmp_path, text)
    with pytest.raises(RecordingError, match=words):
        list(read(tmp_path))


def test_what_is_not_compressed_missing_or_without_files_is_told(tmp_path):
    other = tmp_path / "prices.csv"
    other.write_text("price\n1\n")
    with pytest.raises(RecordingError, match="is not compressed with zstandard"):
        list(read(other))
    with pytest.raises(RecordingError, match="holds no recording: its files would be"):
        list(read(tmp_path))
    with pytest.raises(
        RecordingError, match=r"there is no .*nowhere: give a recording"
    ):
        list(read(tmp_path / "nowhere"))


def test_contents_tell_all_but_the_frames(tmp_path):
    more = event(3, "subscribed", topics=["kline CF:BTCUSDT 1m"])
    write(tmp_path, recorded(trades(1, 1, 2), more, trades(5, 3)))
    found = contents(tmp_path)
    assert found.topics == {
        Topic("trade", "US:AAPL"),
        Topic("kline", "CF:BTCUSDT", "1m"),
    }
    assert (found.begins_at, found.ends_at) == (START, START + 1000 * 10**9)
    assert found.faults == ()


def test_the_last_frame_tells_where_an_unfinished_recording_ends(tmp_path):
    write(tmp_path, begun() + trades(1, 1) + trades(7, 1))
    assert contents(tmp_path).ends_at == START + 7 * 10**9


def test_two_recordings_of_one_time_are_told_apart(tmp_path):
    write(tmp_path, begun() + trades(5, 1), name="qos-1")
    write(tmp_path, begun(2, run="b") + trades(3, 1), name="qos-2")
    with pytest.raises(RecordingError, match="give each a directory of its own"):
        contents(tmp_path)


def test_without_zstandard_it_says_what_to_install(tmp_path, monkeypatch):
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingZstdError, match=r"pip install 'qos-async\[record\]'"):
        list(read(tmp_path))
