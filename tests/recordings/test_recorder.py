"""Recorder: every frame is in the files, and the stream never waits for the disk."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from qos_async import Client, QosError, Recorder, RecordingError, Topic
from qos_async.recordings import convert, read
from qos_async.recordings import recorder as module
from tests.support.cli_process import ROOT
from tests.support.recording_files import SECOND

TRADE = b'{"tp":"T","c":"US:AAPL","p":"1","v":"1","ts":1,"d":1}'
AAPL = Topic("trade", "US:AAPL")


@pytest.fixture
def place(tmp_path):
    return tmp_path / "deep" / "recordings"


@pytest.fixture
def clock(monkeypatch):
    now = [1_700_000_000 * SECOND]
    monkeypatch.setattr("qos_async.recordings.recorder.time.time_ns", lambda: now[0])
    return now


def take(recorder, frames, *, plain=False):
    recorder.frames(frames, sum(map(len, frames)), plain=plain)


def entries(place):
    return [(entry.kind, entry.frame or entry.reason) for entry in read(place)]


async def test_received_frames_are_in_a_file_that_only_its_owner_may_read(place):
    recorder = Recorder(place)
    assert list(place.iterdir()) == []
    recorder.opened()
    recorder.subscribed([AAPL])
    take(recorder, [TRADE, TRADE], plain=True)
    take(recorder, [b"\xff"])
    recorder.lost("the cable")
    await recorder.aclose()
    assert entries(place) == [
        ("started", ""),
        ("opened", ""),
        ("subscribed", ""),
        ("frame", TRADE),
        ("frame", TRADE),
        ("frame", b"\xff"),
        ("lost", "the cable"),
        ("closed", ""),
    ]
    [file] = recorder.paths
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert recorder.stats.frames == 3
    assert recorder.stats.bytes_written == file.stat().st_size


async def test_flush_writes_everything_received_so_far(place):
    recorder = Recorder(place, flush=1000)
    recorder.opened()
    take(recorder, [TRADE])
    await recorder.flush()
    assert entries(place)[-1] == ("frame", TRADE)
    await recorder.aclose()


async def test_a_new_file_starts_every_hour_with_the_state_of_the_link(place, clock):
    recorder = Recorder(place)
    recorder.opened()
    recorder.subscribed([AAPL])
    take(recorder, [TRADE])
    clock[0] += 3600 * SECOND
    take(recorder, [TRADE])
    await recorder.aclose()
    names = [path.name for path in recorder.paths]
    assert names == [
        "qos-20231114T221320.000000Z.jsonl.zst",
        "qos-20231114T231320.000000Z.jsonl.zst",
    ]
    first, second = [e for e in read(place) if e.kind == "started"]
    assert (first.number, first.link, first.topics) == (0, False, ())
    assert (second.number, second.link, second.topics) == (1, True, (AAPL,))
    assert first.run == second.run


async def test_a_new_file_starts_at_the_size_limit_and_none_is_overwritten(
    place, clock
):
    place.mkdir(parents=True)
    taken = place / "qos-20231114T221320.000000Z.jsonl.zst"
    taken.write_text("mine")
    recorder = Recorder(place, rotate=None, max_bytes=1)
    recorder.opened()
    await recorder.flush()
    clock[0] -= 60 * SECOND  # Names continue in order when the clock is set back.
    take(recorder, [TRADE])
    await recorder.aclose()
    assert taken.read_text() == "mine"
    assert [path.name[24:26] for path in recorder.paths] == ["01", "02"]
    assert recorder.stats.files == 2


async def test_a_full_disk_stops_the_recording_and_not_the_stream(
    place, monkeypatch, caplog
):
    reported = asyncio.get_running_loop().create_future()
    recorder = Recorder(place, on_error=reported.set_result)
    recorder.opened()
    take(recorder, [TRADE])
    await recorder.flush()

    room, real = [9], os.write

    def full(file, data):
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[: room.pop()])

    monkeypatch.setattr("qos_async.recordings.block_file.os.write", full)
    take(recorder, [TRADE] * 2)
    with pytest.raises(
        RecordingError, match="No space left on device; the stream goes"
    ):
        await recorder.flush()
    assert await reported is recorder.error
    take(recorder, [TRADE] * 3)
    assert recorder.stats.dropped == 5
    assert recorder.stats.frames == 1
    await recorder.aclose()
    assert entries(place)[-1] == ("frame", TRADE)  # The partial write was removed.
    [record] = [r for r in caplog.records if r.name == "qos_async.recorder"]
    assert "stopped: No space left on device" in record.getMessage()


async def test_a_file_that_cannot_be_created_stops_the_recording(place):
    recorder = Recorder(place)
    place.rmdir()
    recorder.opened()
    with pytest.raises(RecordingError, match="No such file or directory"):
        await recorder.flush()
    await recorder.aclose()


@pytest.mark.fault("N91")
async def test_frames_dropped_because_of_a_slow_disk_are_marked_in_the_file(
    place, monkeypatch, clock
):
    monkeypatch.setattr(module, "_MAX_WAITING", 3 * len(TRADE))
    recorder = Recorder(place, flush=1000)
    recorder.opened()
    take(recorder, [TRADE] * 3)
    take(recorder, [TRADE] * 2)
    clock[0] += SECOND
    take(recorder, [TRADE])
    await recorder.flush()
    ended_at = clock[0] = clock[0] + SECOND
    take(recorder, [TRADE])
    await recorder.aclose()
    assert recorder.stats.dropped == 3
    found = [*read(place)]
    kinds = [(entry.kind, entry.count) for entry in found]
    # The gap is from the last frame before it to this entry.
    assert [entry.at for entry in found if entry.kind == "dropped"] == [ended_at]
    assert kinds[2:] == [
        *[("frame", 0)] * 3,
        ("dropped", 3),
        ("frame", 0),
        ("closed", 0),
    ]


async def test_closing_gives_up_on_a_disk_that_hangs(place, monkeypatch):
    monkeypatch.setattr(module, "_CLOSE_TIMEOUT", 0.01)
    recorder = Recorder(place)
    assert isinstance(recorder, module.DirectoryRecorder)
    monkeypatch.setattr(recorder._writer, "_write_all", lambda: time.sleep(0.1))
    recorder.opened()
    await recorder.aclose()
    assert "the disk did not respond for 0.01 seconds" in str(recorder.error)
    while recorder._writer.is_alive():  # noqa: ASYNC110 - a thread's end
        await asyncio.sleep(0.01)


async def test_an_echoed_key_is_redacted_in_json_and_in_base64(place):
    recorder = Recorder(place)
    recorder.attach(lambda text: text.replace("s3cret", "***"))
    recorder.opened()
    take(recorder, [b'{"msg":"bad key s3cret"}', b"\xffs3cret"])
    await recorder.aclose()
    assert [text for kind, text in entries(place) if kind == "frame"] == [
        b'{"msg":"bad key ***"}',
        b"\xff***",
    ]


async def test_a_recorder_is_attached_to_one_client_once(place):
    recorder = Recorder(place)
    async with Client("key", recorder=recorder):
        with pytest.raises(
            ValueError, match="a Recorder can only be attached to one client, once"
        ):
            Client("key", recorder=recorder)
    assert list(place.iterdir()) == []  # Nothing came, so there is no file.


def test_a_client_accepts_only_recorders(place):
    with pytest.raises(
        ValueError, match=r"must be a qos_async.Recorder or None, not '"
    ):
        Client("key", recorder=str(place))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rotate": 0}, "rotate must be a number above 0 or None, not 0"),
        ({"max_bytes": -1}, "max_bytes must be"),
        ({"rotate": 1e300}, r"rotate must be at most 1000000000 seconds, not 1e\+300"),
        ({"rotate": 10**400}, "rotate must be at most 1000000000 seconds, not 10000"),
        (
            {"max_bytes": float("inf")},
            "max_bytes must be a number above 0 or None, not inf",
        ),
        ({"flush": 1e10}, "flush must be at most 1000000 seconds, not 10000000000"),
        ({"flush": None}, "flush must be"),
        ({"flush": True}, "flush must be"),
        ({"level": 20}, "level must be a whole number from 1 to 19, not 20"),
    ],
)
def test_invalid_numbers_raise(place, options, words):
    with pytest.raises(ValueError, match=words):
        Recorder(place, **options)


def test_a_directory_that_cannot_be_used_raises(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RecordingError, match="is a file: expected a directory"):
        Recorder(file)
    with pytest.raises(RecordingError, match="cannot make the directory"):
        Recorder(file / "below")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(RecordingError, match="is not writable"):
        Recorder(tmp_path)


def test_a_killed_process_loses_only_what_came_after_the_last_flush(tmp_path):
    code = f"""
import asyncio, os, signal
from qos_async.recordings.recorder import Recorder
async def main():
    recorder = Recorder({str(tmp_path)!r}, flush=1000)
    recorder.opened()
    recorder.frames([b'{{"n":1}}'], 7, plain=True)
    await recorder.flush()
    recorder.frames([b'{{"n":2}}'], 7, plain=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert entries(tmp_path) == [("started", ""), ("opened", ""), ("frame", b'{"n":1}')]


@pytest.mark.parametrize("before", [0, 1])
async def test_frames_are_counted_as_dropped_when_no_file_can_be_created(
    place, monkeypatch, before
):
    recorder = Recorder(place, max_bytes=1)
    for _ in range(before):
        take(recorder, [TRADE])
        await recorder.flush()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("qos_async.recordings.writer.create_file", full)
    take(recorder, [TRADE] * 2)
    take(recorder, [TRADE])
    await recorder.aclose()
    stats = recorder.stats
    assert (stats.frames, stats.dropped, stats.waiting) == (before, 3, 0)


@pytest.mark.qos(virtual=True)
async def test_a_cut_is_recorded_as_an_outage_and_leaving_the_client_is_not(
    place, qos_simulator, qos_environment
):
    async with Client(recorder=Recorder(place)) as client:
        trades = client.watch_trades("CF:BTCUSDT")
        await anext(aiter(trades))
        qos_simulator.cut()
        await qos_simulator.until(lambda: len(qos_simulator.frames) > 1, timeout=60)
        await anext(aiter(trades))
    kinds = [entry.kind for entry in read(place)]
    assert kinds.count("opened") == 2
    assert kinds.count("lost") == 1
    assert kinds[-1] == "closed"


@pytest.mark.parametrize(
    "key", ["e", "at", "12", "123", "frame", "trade", "subscribed"]
)
def test_a_key_that_is_a_word_of_the_file_format_is_rejected(place, key):
    with pytest.raises(
        ValueError, match="too short or too common a word to be redacted"
    ):
        Client(key, recorder=Recorder(place))


@pytest.mark.fault("F29")
def test_a_second_recorder_in_a_directory_is_refused_at_once(place):
    first = Recorder(place)
    second = Recorder(place)
    first.attach(str)
    words = r"another recorder writes to .*recordings: stop it, or use"
    with pytest.raises(RecordingError, match=words):
        second.attach(str)
    with pytest.raises(
        RecordingError,
        match=r"another recorder writes to .*recordings: stop it, or use",
    ):
        Recorder(place)
    first.close()
    second.attach(str)
    second.close()


@pytest.mark.fault("F38")
@pytest.mark.parametrize(
    "arguments",
    [("",), ("demo", "x"), ("e",)],
    ids=["no key", "too many arguments", "a key that cannot be redacted"],
)
def test_a_client_that_cannot_be_made_does_not_keep_the_directory(place, arguments):
    held = Recorder(place)
    with pytest.raises((QosError, ValueError, TypeError)):
        Client(*arguments, recorder=held)
    with pytest.raises(ValueError, match="numbers"):
        Client("demo-key-of-a-test", recorder=held, numbers=int)
    Recorder(place).attach(str)


@pytest.mark.fault("F29")
def test_a_recorder_of_another_process_is_refused_until_that_has_ended(place):
    code = f"""
import sys
from qos_async.recordings.recorder import Recorder
recorder = Recorder({str(place)!r})
recorder.attach(str)
print("there", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(RecordingError, match="another recorder writes to"):
            Recorder(place)
        other.kill()
        other.wait()
        Recorder(place).close()


def test_a_recorder_that_was_dropped_does_not_keep_the_directory(place):
    gc.disable()
    try:
        Recorder(place)
        Recorder(place).attach(str)
        Recorder(place).close()
    finally:
        gc.enable()


async def test_a_recording_is_read_and_converted_while_it_is_written(place, tmp_path):
    recorder = Recorder(place)
    recorder.opened()
    take(recorder, [TRADE])
    await recorder.flush()
    assert entries(place)[-1] == ("frame", TRADE)
    assert convert(place, tmp_path / "out").rows == {"trade": 1}
    await recorder.aclose()


def test_a_file_system_without_locks_is_recorded_to(place, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    recorder = Recorder(place)
    recorder.attach(str)
    Recorder(place).attach(str)
    take(recorder, [TRADE])
    recorder.close()
    first, *_ = read(place)
    assert not first.locked
