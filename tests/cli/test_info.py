"""``qos info``, ``qos archive`` and ``qos doctor`` of a directory."""

from __future__ import annotations

import json

import pytest

from qos_async.recordings import Recorder
from tests.support.recording_files import (
    SECOND,
    START,
    event,
    fetched,
    recorded,
    started,
    trades,
    write,
)


@pytest.fixture
def place(tmp_path):
    lines = (
        trades(1, "1", "2"),
        event(2, "lost", reason="the cable"),
        event(4, "opened"),
        event(4, "subscribed", topics=["trade US:AAPL"]),
        event(5, "dropped", count=3),
        fetched(6, since=1, until=4, status="partial"),
        trades(3600, "3"),
    )
    write(tmp_path / "in", recorded(*lines, gaps=True, end=3700))
    return tmp_path / "in"


def test_info_shows_what_a_recording_has_and_lacks(place, qos):
    ran = qos("info", place)
    assert ran.code == 0
    assert ran.lines[:6] == [
        str(place),
        "  recorded    2023-11-14 22:13:20 to 2023-11-14 23:15:00 UTC (1 h 1 min)",
        f"  size        3 frames, {ran.lines[2].split(', ')[1]}, 1 file",
        "              3 frames dropped: the disk was too slow",
        "  topics      1 trade: US:AAPL",
        "  gaps        1 of 1 topic: 1 partial",
    ]
    assert ran.lines[6].endswith(
        "trade US:AAPL: 3.0 s, partial, 0 recovered: the cable"
    )
    assert ran.lines[7] == "  damage      none"


def test_info_of_a_recording_is_one_json_object(place, qos):
    found = json.loads(qos("info", place, "--json").out)
    assert (found["kind"], found["frames"], found["dropped"]) == ("directory", 3, 3)
    assert found["topics"] == ["trade US:AAPL"]
    assert found["is_closed"] is True
    [gap] = found["gaps"]
    assert (gap["status"], gap["until"] - gap["since"]) == ("partial", 3_000_000_000)


def test_info_shows_an_outage_that_has_not_ended_and_a_recorder_that_was_killed(
    tmp_path, qos
):
    lines = recorded(trades(1, "1"), event(2, "lost", reason="cut"), gaps=True)
    write(tmp_path, lines.rpartition(b'{"at"')[0] + b'{"at')
    out = qos("info", tmp_path).out
    assert "its recorder is running, or was killed" in out
    assert "gaps        1 of 1 topic: 1 open" in out
    assert "trade US:AAPL: not ended: cut" in out
    assert "damage      qos-1.jsonl.zst: ends in the middle of a line" in out


@pytest.mark.fault("N156")
@pytest.mark.parametrize(
    ("end", "since", "reason"),
    [
        ([event(6, "closed")], 6, "the recording was closed"),
        ([], 5, "the recording was interrupted"),
        ([event(6, "lost", reason="the cable")], 6, "the cable"),
    ],
)
def test_info_shows_the_time_between_two_runs(tmp_path, qos, end, since, reason):
    topics = ["trade US:AAPL"]
    begin = started(gaps=True, run="a"), event(0, "opened")
    subscribed = event(0, "subscribed", topics=topics)
    write(tmp_path, *begin, subscribed, trades(5, "1"), *end, name="qos-1")
    later = started(20, run="b", gaps=True), event(20, "opened")
    subscribed = event(21, "subscribed", topics=topics)
    write(tmp_path, *later, subscribed, trades(22, "2"), name="qos-2")
    [gap] = json.loads(qos("info", tmp_path, "--json").out)["gaps"]
    assert (gap["since"] - START, gap["until"] - START) == (since * SECOND, 21 * SECOND)
    assert (gap["status"], gap["reason"]) == ("unfilled", reason)


def test_the_files_of_one_run_have_no_gap_between_them(tmp_path, qos):
    topics = ["trade US:AAPL"]
    for number in range(3):
        begin = started(number, run="a", number=number, link=True, topics=topics)
        write(tmp_path, begin, trades(number + 0.5, "1"), name=f"qos-{number}")
    assert json.loads(qos("info", tmp_path, "--json").out)["gaps"] == []


def test_many_gaps_and_topics_are_summed_up(tmp_path, qos):
    topics = [f"trade US:A{number}" for number in range(12)]
    ends = [fetched(6, topic=topic, since=1, until=4) for topic in topics]
    lost = event(2, "lost", reason="cut"), event(4, "opened")
    write(tmp_path, recorded(*lost, *ends, topics=topics, gaps=True))
    out = qos("info", tmp_path).out
    assert "topics      12 trade: US:A0, US:A1, US:A10, " in out
    assert " and 4 more" in out
    assert "gaps        12 of 12 topics: 12 filled" in out
    assert "... and 4 before these; --json has all" in out


@pytest.mark.parametrize("command", ["info", "archive", "doctor"])
def test_a_place_without_a_recording_is_reported(command, tmp_path, qos):
    more = ["-o", tmp_path / "out"] if command == "archive" else []
    ran = qos(command, tmp_path / "none", *more)
    assert ran.code == 1
    assert "does not exist" in " ".join((ran.out + ran.err).split())
    assert not (tmp_path / "out").exists()


def test_archive_prints_the_files_that_it_has_written(place, tmp_path, qos):
    ran = qos("archive", place, "-o", tmp_path / "out")
    assert ran.code == 0
    [line] = ran.lines
    assert line.startswith("US/qos-US-2023-11-14.jsonl.zst: 3 pushes, 1 gap, ")
    assert ran.err == f"1 file written, 0 unchanged, in {tmp_path / 'out'}\n"
    assert qos("archive", place, "-o", tmp_path / "out").err.startswith(
        "0 files written"
    )
    found = json.loads(qos("archive", place, "-o", tmp_path / "new", "--json").out)
    assert [one["path"] for one in found["written"]] == [
        "US/qos-US-2023-11-14.jsonl.zst"
    ]


def test_doctor_checks_a_directory_its_disk_and_its_recorder(place, qos):
    ran = qos("doctor", place, "--json")
    assert ran.code == 0
    found = {one["check"]: one for one in map(json.loads, ran.lines)}
    assert "1 file" in found["recording"]["detail"]
    assert found["recorder"]["detail"].endswith("the last one ended regularly")
    assert " free; " in found["disk"]["detail"]
    assert "may enter it" in found["permissions"]["detail"]
    recorder = Recorder(place)
    recorder.attach(str)
    out = qos("doctor", place, "--json").out
    recorder.close()
    assert "one writes to it; its last entry is" in out


def test_doctor_reports_damage(tmp_path, qos):
    write(tmp_path, recorded(trades(1, "1")) + b'{"at')
    ran = qos("doctor", tmp_path)
    assert ran.code == 1
    assert "FAILED  recording" in ran.out
    assert "ends in the middle" in " ".join(ran.out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("convert", "in", "-o", "out", "--from", "2d", "--to", "3d"), "is not before"),
        (
            ("convert", "in", "-o", "out", "--csv", "--numbers", "text"),
            "leave out --numb",
        ),
        (("convert", "in", "-o", "out", "--symbols", "AAPL"), "malformed symbol"),
        (("convert", "in", "-o", "x.csv"), "a directory, with files for each channel"),
        (("convert", "in", "-o", "a/x.parquet"), "channel and day: try -o a/x\n"),
        (("replay", "in", "--from", "yesteryear"), "is not a time: try a day"),
        (("info", "nats://host"), "the name of the stream is missing"),
    ],
)
def test_mistakes_are_usage_errors(words, message, qos):
    ran = qos(*words)
    assert ran.code == 2
    assert message in ran.err
