"""Conversion of recordings to Parquet, as duckdb, polars and pandas read it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest

from qos_async import RecordingError
from qos_async.recordings import convert, parquet
from tests.support.memory_transport import kline, snapshot, trade
from tests.support.recording_files import fetched, frame, recorded, trades, write

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

DAY = 86_400
dataset: Any = import_module("pyarrow.dataset")


@pytest.fixture
def place(tmp_path):
    topics = "trade US:AAPL", "snapshot US:AAPL", "kline US:AAPL 1m"
    ack = {"type": "T", "msg": "OK", "reqid": 1}
    junk = b'{"tp":"T","c":"US:AAPL"}'
    first = frame(1, trade("1.10"), ack, snapshot(2), kline(60), junk)
    write(tmp_path / "in", recorded(first, trades(DAY, "2.20"), topics=topics, end=DAY))
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_each_library_reads_the_files_in_one_line(place, out):
    made = convert(place, out)
    assert made.rows == {"trade": 2, "snapshot": 1, "kline": 1}
    assert made.unreadable == 1
    assert made.faults == ()
    assert sorted(str(file.relative_to(out)) for file in made.files) == [
        "channel=kline/date=2023-11-14/qos-1.parquet",
        "channel=snapshot/date=2023-11-14/qos-1.parquet",
        "channel=trade/date=2023-11-14/qos-1.parquet",
        "channel=trade/date=2023-11-15/qos-1.parquet",
    ]
    assert pl.read_parquet(f"{out}/channel=trade/**/*.parquet")["price"].to_list() == [
        1.1,
        2.2,
    ]
    assert pd.read_parquet(f"{out}/channel=trade")["price"].tolist() == [1.1, 2.2]
    pytest.importorskip("duckdb")
    # In a process of its own: at its end duckdb prints pages about its bindings.
    query = (
        f"select channel, count(*) from read_parquet('{out}/**/*.parquet', "
        "hive_partitioning=true, union_by_name=true) group by all order by all"
    )
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import duckdb; print(duckdb.sql({query!r}).fetchall())",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert found == "[('kline', 1), ('snapshot', 1), ('trade', 2)]\n"


def test_decimals_keep_every_digit_and_a_second_conversion_replaces_the_first(
    place, out
):
    convert(place, out)
    convert(place, out, numbers=Decimal)
    table = pl.read_parquet(f"{out}/channel=trade/date=2023-11-14/*.parquet")
    [row] = table.to_dicts()
    assert row["price"] == Decimal("1.10")
    assert row["received_at"].isoformat() == "2023-11-14T22:13:21+00:00"


def test_a_failed_conversion_leaves_no_partial_file(place, out, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("qos_async.recordings.parquet._PartitionFile.write", fail)
    with pytest.raises(KeyboardInterrupt):
        convert(place, out)
    assert [file for file in out.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("what", ["ParquetWriter.close", "ParquetWriter.write_table"])
def test_a_full_disk_leaves_no_partial_file(place, out, monkeypatch, what):
    """Nor does the error of one file keep another from being closed."""

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"pyarrow.parquet.{what}", fail)
    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.__del__", lambda _: None)
    with pytest.raises(RecordingError, match=r"cannot write to .*: No space left on"):
        convert(place, out)
    assert [file for file in out.rglob("*") if file.is_file()] == []


def test_a_file_that_cannot_be_started_is_removed(place, out, monkeypatch):
    def fail(writer, where, *_, **__):
        where.write(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.__init__", fail)
    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.__del__", lambda _: None)
    with pytest.raises(RecordingError, match="No space left on device"):
        convert(place, out)
    assert [file for file in out.rglob("*") if file.is_file()] == []


def test_ctrl_c_is_not_hidden_by_a_full_disk(place, out, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.close", fail)
    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.__del__", lambda _: None)
    monkeypatch.setattr("qos_async.recordings.parquet._PartitionFile.write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert(place, out)


def test_damaged_files_are_reported(place, out):
    file = write(place, recorded(trades(1, 1)), trades(2, 2, 3))
    file.write_bytes(file.read_bytes()[:-3])
    made = convert(place, out)
    assert made.rows == {"trade": 1}
    [fault] = made.faults
    assert re.fullmatch(
        r"qos-1.jsonl.zst: 2 entries at bytes \d+ to \d+ damaged or missing, .*", fault
    )


def test_invalid_arguments_raise(place, tmp_path):
    with pytest.raises(ValueError, match="numbers must be one of float, Decimal, str"):
        convert(place, tmp_path, numbers=int)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RecordingError, match="file is a file: expected a directory"):
        convert(place, file)
    with pytest.raises(
        RecordingError, match=r"cannot write to .*below: Not a directory"
    ):
        convert(place, file / "below")


KILLED = """
import os, signal, sys, time
from qos_async.recordings import convert, parquet
write = parquet._PartitionFile.write
def then_stop(file, table):
    write(file, table)
    {stop}
parquet._PartitionFile.write = then_stop
convert(*sys.argv[1:])
"""


def start(place, out, stop):
    code = KILLED.format(stop=stop)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(place), str(out)], stdout=subprocess.PIPE
    )


def rows(out):
    """Return the rows that each way to read a directory finds."""
    return {
        len(pd.read_parquet(out / "channel=trade")),
        pl.scan_parquet(out / "channel=trade").collect().height,
        pl.scan_parquet(f"{out}/channel=trade/**/*.parquet").collect().height,
        dataset.dataset(out / "channel=trade", format="parquet").count_rows(),
        dataset.dataset(out, format="parquet", partitioning="hive").count_rows() - 2,
    }


@pytest.mark.fault("F6")
def test_a_killed_conversion_leaves_nothing_that_a_reader_finds(place, out):
    convert(place, out)
    text = recorded(trades(1, 3), topics=["trade US:AAPL"])
    write(place, text.replace(b'"file":0', b'"file":1'), name="qos-0")
    killed = start(place, out, "os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.wait() == -signal.SIGKILL
    killed.stdout.close()
    assert list(out.parent.glob(".out.unfinished/*.part"))
    assert rows(out) == {2}
    convert(place, out)
    assert rows(out) == {3}
    assert list(out.parent.glob(".*")) == []


@pytest.mark.fault("F6", "F66")
def test_a_first_conversion_that_is_killed_leaves_no_partition_without_a_file(
    place, out
):
    killed = start(place, out, "os.kill(os.getpid(), signal.SIGKILL)")
    killed.communicate()
    assert list(out.parent.glob(".out.unfinished/*.part"))
    assert list(out.iterdir()) == []


@pytest.mark.fault("F6", "F29")
def test_the_output_can_be_read_during_a_conversion_and_no_other_writes_to_it(
    place, out
):
    convert(place, out)
    running = start(place, out, "print('there', flush=True); time.sleep(60)")
    running.stdout.readline()
    assert rows(out) == {2}
    with pytest.raises(
        RecordingError, match=r"another conversion writes to .*out: wait"
    ):
        convert(place, out)
    running.kill()
    running.wait()
    running.stdout.close()
    assert convert(place, out).rows["trade"] == 2


@pytest.mark.fault("F31")
@pytest.mark.parametrize("numbers", [float, Decimal])
def test_what_is_held_in_memory_is_bounded_by_bytes(
    tmp_path, out, monkeypatch, numbers
):
    """Books have many times the bytes of a trade: 60,000 took 455 MiB."""
    levels = [{"p": f"{100 + n / 100:.2f}", "v": "7"} for n in range(20)]
    book = {"tp": "D", "c": "US:AAPL", "b": levels, "a": levels, "ts": 5}
    texts = [frame(n / 100, *[book] * 100) for n in range(40)]
    write(tmp_path / "in", recorded(*texts, topics=["depth US:AAPL"]))
    sizes = []
    real = parquet._PartitionFile.write

    def measure(file, table):
        sizes.append(len(table))
        real(file, table)

    monkeypatch.setattr(parquet._PartitionFile, "write", measure)
    assert convert(tmp_path / "in", out, numbers=numbers).rows == {"depth": 4000}
    assert max(sizes) * len(str(book)) < 1_000_000


def test_a_conversion_where_nothing_can_be_beside_the_output_works(
    place, out, monkeypatch
):
    real = os.access
    monkeypatch.setattr(
        "os.access", lambda where, how: where != out.parent and real(where, how)
    )
    assert convert(place, out).rows["trade"] == 2
    assert [one.name for one in out.iterdir() if one.name.startswith(".")] == []


def test_without_pyarrow_the_error_has_the_command_to_install_it(
    place, out, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'qos-async\[arrow\]'"):
        convert(place, out)


def test_what_was_fetched_after_an_outage_has_rows_of_its_own(tmp_path, out):
    rows = [trade(n, ts=n) for n in (3, 4)]
    # The last one of those was pushed after all: live it was left out.
    pushed = frame(9, trade(4, ts=4), trade(5, ts=5))
    write(tmp_path / "in", recorded(trades(1, 1), fetched(8, *rows), pushed))
    made = convert(tmp_path / "in", out)
    assert made.rows == {"trade": 4}
    assert made.unknown == 0
    found = pl.read_parquet(f"{out}/channel=trade/**/*.parquet")
    assert found["price"].to_list() == [1, 3, 4, 5]
    assert found["recovered"].to_list() == [False, True, True, False]
    assert found["received_at"].is_null().to_list() == [False, True, True, False]


def test_a_recording_with_a_gap_is_converted_to_what_the_consumer_got(tmp_path, out):
    rows = [trade("2.50", ts=3)]
    write(tmp_path / "in", recorded(trades(1, 1), fetched(8, *rows)))
    convert(tmp_path / "in", out, numbers=str)
    found = pl.read_parquet(f"{out}/channel=trade/**/*.parquet")
    assert found["price"].to_list() == ["1", "2.50"]
