"""Tests of recordings on the command line: record, replay and convert."""

from __future__ import annotations

import signal
import sys

import pytest

from qos_async import Client, Timing
from qos_async.cli import exits, main
from qos_async.recordings import contents
from tests.support.cli_process import finish, start, wait_for
from tests.support.recording_files import event, recorded, trades, write


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A plan without waits."""
    config = tmp_path / "qos-async" / "config.toml"
    config.parent.mkdir()
    config.write_text("[limits]\ncommand_interval = 0.0\n")
    config.chmod(0o600)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QOS_API_KEY", "key")
    return tmp_path


def test_a_recording_is_also_written_as_parquet(tmp_path, quick, capsys):
    """Runs in this process, which has the imports already."""
    place = tmp_path / "recordings"
    words = (
        "record",
        "--sim",
        "--speed",
        "50",
        "trades",
        "CF:BTCUSDT",
        "--seconds",
        "0.3",
    )
    assert main([*words, "-o", str(place), "--to", "parquet"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"1 topic to {place}; Ctrl-C ends it"
    assert " frames in 0.00 MB, 1 file" in lines[1]
    assert f" trade rows, 1 file, in {place / 'parquet'}" in lines[2]
    assert [str(topic) for topic in contents(place).topics] == ["trade CF:BTCUSDT"]
    assert len(list(place.glob("parquet/channel=trade/date=*/*.parquet"))) == 1


def test_a_full_disk_ends_a_recording_with_exit_code_1(
    tmp_path, quick, capsys, monkeypatch
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qos_async.recordings.block_file.os.write", full)
    words = "record", "--sim", "--speed", "50", "CF:BTCUSDT", "--seconds", "20"
    assert main([*words, "-o", str(tmp_path / "r")]) == exits.FAILED
    assert "stopped: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("convert", "nowhere", "-o", "out"), 1, "qos: nowhere does not exist"),
        (("replay", "nowhere"), 1, "qos: nowhere does not exist"),
        (("replay", "nowhere", "--speed", "0"), 2, "'0' is not a speed above 0"),
        (("replay", "nowhere", "--speed", "1e400"), 2, "'1e400' is not a speed"),
        (("replay", "nowhere", "--speed", "nan"), 2, "'nan' is not a speed above 0"),
        (
            ("record", "US:AAPL", "-o", "/dev/null"),
            1,
            "/dev/null is a file: expected a",
        ),
        (("record", "US:AAPL"), 2, "name where to record to: -o PLACE; or --fleet"),
        (("record", "trades", "-o", "r"), 2, "name at least one symbol"),
        (
            ("record", "US:AAPL", "-o", "r", "--on-broker-loss", "close"),
            2,
            "on_broker_loss",
        ),
        (
            ("record", "US:AAPL", "-o", "nats://h/S", "--on-conflict", "fight"),
            2,
            "on_conflict must be",
        ),
        (
            ("record", "US:AAPL", "-o", "nats://h/S", "--to", "parquet"),
            2,
            "--to parquet is for directories",
        ),
    ],
)
def test_mistakes_are_reported(words, code, message, capsys, nowhere):
    assert main(list(words)) == code
    assert message in capsys.readouterr().err
    assert list(nowhere.iterdir()) == []


def test_without_pyarrow_parquet_fails_before_recording(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    words = "record", "--sim", "US:AAPL", "-o", str(tmp_path / "r"), "--to", "parquet"
    assert main(list(words)) == exits.FAILED
    assert "pip install 'qos-async[cli]'" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_convert_reports_damage(tmp_path, capsys):
    write(tmp_path / "r", recorded(trades(1, 1)) + b'{"at')
    assert main(["convert", str(tmp_path / "r"), "-o", str(tmp_path / "out")]) == 0
    assert "damaged: qos-1.jsonl.zst: ends in the middle" in capsys.readouterr().err


def test_convert_reports_entries_of_a_newer_version(tmp_path, capsys):
    write(tmp_path / "r", recorded(event(1, "recovered")))
    assert main(["convert", str(tmp_path / "r"), "-o", str(tmp_path / "out")]) == 0
    assert "skipped 1 entry that a newer qos-async wrote" in capsys.readouterr().err


@pytest.mark.fault("F20")
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "the path is empty"),
        (
            "~nobody-of-this-name/x",
            "begins with ~nobody-of-this-name, which is no known",
        ),
        ("a\0b", "has a NUL character"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("replay", None),
        ("convert", None, "-o", "out"),
        ("convert", "in", "-o", None),
        ("record", "--sim", "CF:BTCUSDT", "-o", None),
        ("history", "--sim", "CF:BTCUSDT", "--from", "1d", "-o", None),
    ],
)
def test_a_path_that_cannot_be_one_is_a_usage_error(command, path, words, capsys):
    assert main([path if word is None else word for word in command]) == 2
    assert words in capsys.readouterr().err


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path / "r", recorded(trades(1, 1)))
    assert main(["convert", "~/r", "--output=~/out"]) == 0
    assert list(tmp_path.glob("out/channel=trade/*/*.parquet"))


@pytest.mark.fault("F34")
def test_a_stream_of_a_replay_ends_with_it_and_without_an_outage(tmp_path, monkeypatch):
    write(tmp_path, recorded(trades(1, 1), trades(2, 2), end=3))
    process = start("replay", str(tmp_path), "--speed", "100")
    lines = [process.stdout.readline().strip() for _ in range(3)]
    more = dict(line.removeprefix("export ").split("=", 1) for line in lines)
    reader = start("stream", "US:AAPL", **more)
    ran, served = finish(reader), finish(process)
    assert (ran.code, served.code) == (0, 0)
    assert "outages: none; gaps: none" in ran.err
    assert len(ran.out.splitlines()) == 2
    assert "link closed: the recording has ended" in ran.err


async def test_replay_serves_a_recording_until_its_end(tmp_path):
    """The lines on stdout are for a shell; Ctrl-C ends it with exit code 0, too."""
    write(tmp_path, recorded(trades(1, 1), event(2, "dropped", count=1), end=2))
    process = start("replay", str(tmp_path), "--speed", "100")
    variables = dict(
        process.stdout.readline().removeprefix("export ").strip().split("=", 1)
        for _ in range(3)
    )
    async with Client(
        variables["QOS_API_KEY"],
        http_url=variables["QOS_HTTP_URL"],
        stream_url=variables["QOS_STREAM_URL"],
    ) as client:
        async for tick in client.watch_trades("US:AAPL"):
            assert tick.price == 1
            break
    process.send_signal(signal.SIGINT)
    ran = finish(process)
    assert ran.code == 0
    assert "recorded from 2023-11-14T22:13:20.000Z on" in ran.err
    assert "2 s of trade US:AAPL; starts at the first subscription" in ran.err


def test_ctrl_c_leaves_a_complete_file(tmp_path):
    process = start("record", "--sim", "CF:BTCUSDT", "-o", str(tmp_path))
    wait_for(process, "Ctrl-C ends it")
    process.send_signal(signal.SIGINT)
    ran = finish(process)
    assert ran.code == 0
    assert contents(tmp_path).faults == ()


# Rejections


def test_a_rejected_symbol_does_not_end_a_recording(
    live, qos, rejected_symbol, tmp_path
):
    """It is reported once; so is, at the end, a symbol without ticks."""
    place = tmp_path / "r"
    words = (
        "trades",
        "depth",
        rejected_symbol,
        "US:NOSUCH",
        "CF:BTCUSDT",
        "--seconds",
        "0.5",
    )
    ran = qos("record", *words, "-o", place)
    assert ran.code == 0
    lines = ran.err.splitlines()
    assert lines[0].endswith("Z US:TSLA rejected: No permission: US:TSLA")
    assert lines[1] == f"4 topics to {place}; Ctrl-C ends it"
    assert lines[2].endswith("Z no ticks of US:NOSUCH")
    assert {topic.symbol for topic in contents(place).topics} == {
        "CF:BTCUSDT",
        "US:NOSUCH",
    }


def test_the_rejection_of_the_only_symbol_ends_a_recording(
    qos, rejected_symbol, tmp_path
):
    ran = qos("record", rejected_symbol, "-o", tmp_path / "r")
    assert ran.code == 1
    assert ran.err.splitlines()[0] == "qos: T US:TSLA: No permission: US:TSLA"


def test_a_missing_acknowledgement_is_reported_and_retried(
    live, qos, tmp_path, monkeypatch
):
    """The recording starts meanwhile."""
    timing = Timing(request_timeout=0.2, close_timeout=0.5)
    monkeypatch.setattr("qos_async.cli.record.recording.timing", lambda: timing)
    live.sim.drop_replies("T", 2)  # The first of all is sent again.
    ran = qos("record", "CF:BTCUSDT", "-o", tmp_path / "r", "--seconds", "0.3")
    assert ran.code == 0
    lines = ran.err.splitlines()
    assert lines[0].endswith(
        "Z no reply to the subscription of trade CF:BTCUSDT; retrying"
    )
    assert lines[1].startswith("1 topic to ")


@pytest.mark.parametrize("words", [("stream",), ("record", "-o", "r")])
def test_the_first_frame_subscribes(words, live, qos, tmp_path, monkeypatch):
    """A heartbeat before it would delay it for a second."""
    monkeypatch.chdir(tmp_path)
    before = len(live.sim.frames)
    ran = qos(*words, "CF:BTCUSDT", "--seconds", "0.3")
    assert ran.code == 0, ran.err
    assert live.sim.frames[before].type == "T"


def test_a_recorder_that_ends_sends_no_frame(live, qos, tmp_path):
    """It would delay those of its successor."""
    before = len(live.sim.frames)
    qos("record", "CF:BTCUSDT", "-o", tmp_path / "r", "--seconds", "2.5")
    assert {frame.type for frame in live.sim.frames[before:]} == {"T"}


def test_the_time_is_over_although_nothing_was_acknowledged(live, qos, tmp_path):
    live.sim.drop_replies("T")
    ran = qos("record", "CF:BTCUSDT", "-o", tmp_path / "r", "--seconds", "0.3")
    assert ran.code == 0
    assert ran.err.count("the server has not acknowledged all subscriptions") == 1
    assert "no reply" not in ran.err
