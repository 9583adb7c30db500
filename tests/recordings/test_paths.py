"""Paths of recordings: the home directory, or a sentence on what is wrong."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from qos_async import RecordingError, replay
from qos_async.recordings import Recorder, contents, convert, read
from qos_async.recordings.recorder import DirectoryRecorder
from qos_async.recordings.replay_server import ReplayServer
from tests.support.recording_files import recorded, trades, write


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in", recorded(trades(1, 1)))
    return tmp_path


CALLS = {
    "read": lambda path: list(read(path)),
    "contents": contents,
    "replay": replay,
    "server": ReplayServer,
    "recorder": Recorder,
    "convert": lambda path: convert(path, "out"),
    "output": lambda path: convert("in", path),
}
KINDS = {"str": str, "bytes": os.fsencode, "path": Path}


@pytest.mark.fault("F20")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "is empty: name a file or directory"),
        (b"", "is empty"),
        ("a\0b", "has a NUL character"),
        ("~no-such-user/x", "begins with ~no-such-user, which is no known home"),
        (3, "must be a path, such as 'data', not 3"),
        (None, "must be a path, such as 'data', not None"),
    ],
)
def test_a_path_that_cannot_be_one_raises(call, path, words):
    with pytest.raises(ValueError, match=words):
        call(path)


@pytest.mark.fault("F20")
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_a_path_of_any_bytes_is_one(home):
    place: Any = os.fsencode(home) + b"/\xff\xe9"
    write(Path(os.fsdecode(place)), recorded(trades(1, 1)))
    assert contents(place).topics
    converted = convert(place, place + b"/out")
    assert converted.rows == {"trade": 1}
    assert all(file.exists() for file in converted.files)
    with closing(Recorder(place + b"/new")):
        assert Path(os.fsdecode(place + b"/new")).exists()


@pytest.mark.fault("F20")
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_tilde_is_the_home_directory(home, kind):
    assert contents(kind("~/in")).topics
    assert len(list(read(kind("~/in")))) == 5
    assert repr(replay(kind("~/in"))) == f"<Replay of {str(home / 'in')!r}>"
    assert convert(kind("~/in"), kind("~/out")).rows == {"trade": 1}
    assert (home / "out").is_dir()
    recorder = Recorder(kind("~/rec"))
    assert isinstance(recorder, DirectoryRecorder)
    assert recorder.directory == home / "rec"
    recorder.close()
    assert not (home / "~").exists()


def test_a_directory_that_is_named_tilde_is_dot_slash_tilde(home):
    Recorder("./~").close()
    assert (home / "~").is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_raises(home):
    (home / "in").chmod(0)
    try:
        with pytest.raises(RecordingError, match="cannot read"):
            contents("in")
    finally:
        (home / "in").chmod(0o700)


def test_a_file_that_cannot_be_read_raises(home, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(RecordingError, match=r"cannot read .*: Permission denied"):
        contents("in")


def test_a_directory_is_not_read_as_a_file(home):
    (home / "in" / "qos-2.jsonl.zst").mkdir()
    assert len(list(read("in"))) == 5
    with pytest.raises(RecordingError, match="has no recordings"):
        contents("in/qos-2.jsonl.zst")
