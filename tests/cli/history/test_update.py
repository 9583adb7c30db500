"""Tests of ``qos history --update``, of several symbols and of several files."""

from __future__ import annotations

import csv
import fcntl
import importlib
import json
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from qos_async import Interval
from qos_async.cli.history.existing import Existing

pq: Any = importlib.import_module("pyarrow.parquet")  # It has no types.
BTC, ETH = "CF:BTCUSDT", "CF:ETHUSDT"
NOW = datetime.now(UTC).replace(second=0, microsecond=0)


def ago(**span):
    return (NOW - timedelta(**span)).isoformat()


@pytest.fixture
def history(live, qos):
    """Run ``qos history`` for minutes of the last hours."""

    def run(*words, since=3, until=None):
        times = ["--from", ago(hours=since)] if since else []
        times += ["--to", ago(hours=until)] if until else []
        return qos("history", "-i", "1m", *times, *words)

    return run


def bars(path):
    """Return the rows of a file of any format."""
    if path.suffix == ".parquet":
        table = pq.read_table(path).to_pylist()
        return [{**row, "timestamp": int(row["time"].timestamp())} for row in table]
    with path.open(newline="") as file:
        rows = csv.DictReader(file) if path.suffix == ".csv" else map(json.loads, file)
        return [{**row, "timestamp": int(row["timestamp"])} for row in rows]


def steps(path, symbol=BTC):
    """Return the distances between the bars of a symbol, in seconds."""
    times = [row["timestamp"] for row in bars(path) if row["symbol"] == symbol]
    return {after - before for before, after in pairwise(times)}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("b.csv", []),
        ("b.jsonl", []),
        ("b.parquet", []),
        ("b.parquet", ["--numbers", "decimal"]),
        ("b.parquet", ["--numbers", "text"]),
    ],
)
def test_the_same_command_extends_its_file(name, words, history, tmp_path):
    out = tmp_path / name
    command = (BTC, "--update", "-o", out, *words)
    first = history(*command, until=2)
    assert first.code == 0, first.err
    before = bars(out)
    assert len(before) == 60
    again = history(*command, until=2)
    assert (again.code, again.err.count("\n")) == (0, 1)
    assert "CF:BTCUSDT is complete up to" in again.err
    then = history(*command, until=1)
    assert then.code == 0, then.err
    assert f"{out}: 60 new bars of CF:BTCUSDT, 1m, from " in then.err
    assert then.err.endswith("\nno holes\n")
    after = bars(out)
    assert (after[:60], len(after), steps(out)) == (before, 120, {60})
    assert {one.name for one in tmp_path.iterdir()} == {name, "qos-async", "state"}


def test_without_from_an_existing_file_is_extended_up_to_the_last_finished_bar(
    history, tmp_path
):
    out = tmp_path / "b.csv"
    history(BTC, "--update", "-o", out, until=2)
    ran = history(BTC, "--update", "-o", out, since=None)
    assert ran.code == 0, ran.err
    assert steps(out) == {60}
    assert bars(out)[-1]["timestamp"] + 60 <= datetime.now(UTC).timestamp()
    assert bars(out)[-1]["timestamp"] + 60 > (NOW - timedelta(minutes=2)).timestamp()


@pytest.mark.parametrize("name", ["b.csv", "b.jsonl", "b.parquet"])
def test_days_are_extended_too(name, live, qos, tmp_path):
    out = tmp_path / name
    command = ("history", "HK:700", "-i", "1d", "--update", "-o", out)
    assert qos(*command, "--from", "2025-01-06", "--to", "2025-01-17").code == 0
    count = len(bars(out))
    ran = qos(*command, "--to", "2025-01-24")
    assert ran.code == 0, ran.err
    dates = [str(row["date"]) for row in bars(out)]
    assert (count, dates[count:]) == (10, [f"2025-01-{day}" for day in range(20, 25)])


@pytest.mark.parametrize("name", ["b.csv", "b.jsonl", "b.parquet"])
def test_an_unfinished_bar_of_the_file_is_replaced(name, history, tmp_path):
    out = tmp_path / name
    history(BTC, "--update", "-o", out, until=1)
    then = bars(out)[-1]["timestamp"] + 30  # When the last bar was unfinished.
    with Existing(out, Interval.MIN_1, then) as existing:
        assert existing.last == {BTC: then - 90}
        kept = (
            sum(table.num_rows for table in existing.tables())
            if name == "b.parquet"
            else len([*existing.lines()]) - (name == "b.csv")
        )
    assert kept == len(bars(out)) - 1


@pytest.mark.parametrize("name", ["b.csv", "b.jsonl"])
@pytest.mark.parametrize("cut", [1, 3, 40])
def test_a_last_line_that_was_cut_off_is_fetched_again(name, cut, history, tmp_path):
    out = tmp_path / name
    history(BTC, "--update", "-o", out, until=2)
    before = bars(out)
    out.write_bytes(out.read_bytes()[:-cut])
    ran = history(BTC, "--update", "-o", out, until=2)
    assert ran.code == 0, ran.err
    assert f"{out}: the last line is cut off: its bar counts as missing\n" in ran.err
    assert bars(out) == before


def test_one_file_holds_several_symbols_and_a_new_one_begins_at_from(history, tmp_path):
    out = tmp_path / "all.csv"
    assert history(BTC, "--update", "-o", out, until=2).code == 0
    ran = history("CF:BTCUSDT,ETHUSDT", "--update", "-o", out, until=1)
    assert ran.code == 0, ran.err
    for symbol in (BTC, ETH):
        rows = [row for row in bars(out) if row["symbol"] == symbol]
        assert (len(rows), steps(out, symbol)) == (120, {60})


def test_a_symbol_that_is_new_to_the_file_needs_a_beginning(history, tmp_path):
    out = tmp_path / "all.csv"
    history(BTC, "--update", "-o", out, until=2)
    ran = history(BTC, ETH, "--update", "-o", out, since=None)
    assert ran.code == 2
    assert f"{out} has no bars of CF:ETHUSDT yet: add --from" in ran.err


def test_several_symbols_are_written_into_one_parquet_file(history, tmp_path):
    out = tmp_path / "all.parquet"
    assert history(BTC, ETH, "-o", out, until=2).code == 0
    about = pq.read_table(out).schema.metadata
    assert about[b"qos.symbol"] == b"CF:BTCUSDT,CF:ETHUSDT"
    assert [row["symbol"] for row in bars(out)] == [BTC] * 60 + [ETH] * 60
    assert history(BTC, "--update", "-o", out, until=1).code == 0
    then = pq.read_table(out).schema.metadata
    assert then[b"qos.symbol"] == about[b"qos.symbol"]
    assert then[b"qos.from"] == about[b"qos.from"]
    assert then[b"qos.to"] > about[b"qos.to"]


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("bars/", "bars/{}.parquet"),
        ("bars/{symbol}.csv", "bars/{}.csv"),
        ("{symbol}-1m.jsonl", "{}-1m.jsonl"),
    ],
)
def test_each_symbol_has_a_file_of_its_own(
    pattern, name, history, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text(f"# coins\n{BTC}\n\n  {ETH} # the other\n")
    for until, count in ((2, 60), (1, 120)):
        ran = history("@list.txt", "--update", "-o", pattern, until=until)
        assert ran.code == 0, ran.err
        for symbol in (BTC, ETH):
            path = tmp_path / name.format(symbol.replace(":", "_"))
            assert len(bars(path)) == count
            assert {row["symbol"] for row in bars(path)} == {symbol}


def test_what_the_server_does_not_know_does_not_stop_the_others(history, tmp_path):
    ran = history("CF:NOPE", BTC, "-o", f"{tmp_path}/x/", until=2)
    assert ran.code == 1
    assert "the server knows no symbol CF:NOPE" in ran.err
    assert [one.name for one in (tmp_path / "x").iterdir()] == ["CF_BTCUSDT.parquet"]
    ran = history("CF:NOPE", BTC, "-o", tmp_path / "all.csv", until=2)
    assert ran.code == 1
    assert {row["symbol"] for row in bars(tmp_path / "all.csv")} == {BTC}


def test_a_failed_update_keeps_the_file_and_the_next_one_completes_it(
    history, live, tmp_path, monkeypatch
):
    out = tmp_path / "b.csv"
    history(BTC, "--update", "-o", out, until=2)
    before = out.read_bytes()
    live.sim.reject("No permission", "/history")
    assert history(BTC, "--update", "-o", out, until=1).code == 1
    assert out.read_bytes() == before
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        ran = history(BTC, "--update", "-o", out, until=1)
    assert (ran.code, out.read_bytes()) == (1, before)
    assert ran.err.endswith("; the same command resumes there\n")
    assert history(BTC, "--update", "-o", out, until=1).code == 0
    assert (len(bars(out)), steps(out)) == (120, {60})


def fail(*_):
    raise OSError(28, "No space left on device")


def test_a_gap_between_the_file_and_what_is_new_is_listed(
    history, tmp_path, monkeypatch
):
    out = tmp_path / "b.csv"
    history(BTC, "--update", "-o", out, until=2)
    monkeypatch.setattr(
        "qos_async.cli.history.paging._new",
        lambda page, part, now: [bar for bar in page if bar.timestamp % 3600 > 1800],
    )
    ran = history(BTC, "--update", "-o", out, until=1)
    assert "no bars although the market was open (" in ran.err


def test_nothing_new_is_no_failure_and_missing_bars_are_listed(
    history, tmp_path, monkeypatch
):
    out = tmp_path / "b.csv"
    history(BTC, "--update", "-o", out, until=2)
    monkeypatch.setattr("qos_async.cli.history.paging._new", lambda page, part, now: [])
    ran = history(BTC, "--update", "-o", out, until=1)
    assert ran.code == 0, ran.err
    assert f"{out}: no new bars of CF:BTCUSDT, 1m, after " in ran.err
    assert "no bars although the market was open (60 bars would fit)" in ran.err


HEAD = "symbol,timestamp,time,interval,open,high,low,close,volume\n"
ROW = "CF:BTCUSDT,1738281600,2025-01-31T00:00:00Z,{},1,1,1,1,1\n"


@pytest.mark.parametrize(
    ("name", "content", "code", "says"),
    [
        ("b.csv", HEAD + ROW.format("1h"), 2, "holds bars of 1h, not 1m: add --int"),
        ("b.csv", HEAD.replace("time,", "time,date,"), 2, "holds bars of days or long"),
        ("b.csv", HEAD.replace("open", "o"), 1, "its columns are symbol, timestamp"),
        ("b.csv", "", 1, "its columns are none, not symbol"),
        ("b.csv", HEAD + "CF:BTCUSDT,soon\n", 1, "row 1 is not a bar"),
        ("b.csv", HEAD + ROW.format("1m") + "CF:B\n", 1, "row 2 is not a bar"),
        ("b.csv", "\xff", 1, "cannot be extended"),
        (
            "b.csv",
            HEAD + ROW.format("1m").replace("BTC", "XRP"),
            2,
            "holds CF:XRPUSDT: name one of these, too",
        ),
        ("b.jsonl", "{", 1, "row 1 is not a bar"),
        ("b.jsonl", '{"a":1}\n', 1, "its columns are a, not symbol"),
        ("b.parquet", "PAR1", 1, "it is not Parquet: "),
    ],
)
def test_what_cannot_be_extended_is_explained_and_stays(  # noqa: PLR0917 - a table
    name, content, code, says, history, live, tmp_path
):
    out = tmp_path / name
    out.write_text(content, "latin-1")
    asked = len(live.sim.requests)
    ran = history(BTC, "--update", "-o", out, until=2)
    assert ran.code == code
    assert says in ran.err
    assert out.read_text("latin-1") == content
    assert len(live.sim.requests) == asked


def test_parquet_of_other_bars_is_not_extended(history, qos, tmp_path):
    out = tmp_path / "b.parquet"
    history(BTC, "-o", out, until=2)
    for words, says in (
        (["--numbers", "text"], "has its numbers as float: add --numbers float"),
        (["-i", "1h"], "holds bars of 1m, not 1h"),
        (["-i", "1d"], "holds bars of 1m, not 1d"),
    ):
        ran = history(BTC, "--update", "-o", out, *words)
        assert (ran.code, says in ran.err) == (2, True), ran.err
    pq.write_table(pq.read_table(out, columns=["symbol", "time", "interval"]), out)
    ran = history(BTC, "--update", "-o", out)
    assert "its columns are symbol, time, interval" in ran.err


def test_bars_of_a_simulator_and_of_a_service_are_not_mixed(history, qos, tmp_path):
    out = tmp_path / "b.parquet"
    history(BTC, "-o", out, until=2)
    ran = qos("history", "--sim", BTC, "-i", "1m", "--update", "-o", out)
    assert ran.code == 2
    assert "not of simulator, seed 1: name another file" in ran.err


def test_bars_of_two_runs_of_a_simulator_have_a_seam_that_is_said(history, tmp_path):
    out, words = tmp_path / "b.csv", "begins its market anew, at the same prices: "
    ran = history("--sim", BTC, "--update", "-o", out, until=2)
    assert (ran.code, words in ran.err) == (0, False)
    ran = history("--sim", BTC, "--update", "-o", out, until=1)
    assert ran.code == 0
    assert ran.err.count(f"{words}{out} has a seam where its new bars begin\n") == 1
    ran = history("--sim", BTC, "--update", "-o", out, until=1)
    assert (ran.code, words in ran.err) == (0, False)


def test_adjusted_bars_are_not_extended(history, tmp_path):
    out = tmp_path / "b.parquet"
    history(BTC, "--adjust", "-o", out, until=2)
    ran = history(BTC, "--update", "-o", out)
    assert (ran.code, "holds adjusted bars" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--update", "--force"], "--force replaces a file, and --update extends it"),
        (["--update", "--adjust"], "--update cannot extend adjusted bars, because"),
        ([], "add --from, such as --from 2024-01-01, where the file should begin"),
        (["--update"], "has no bars of CF:BTCUSDT yet: add --from"),
        (["@none.txt"], "cannot read none.txt: No such file or directory"),
        (["@empty.txt"], "empty.txt has no symbols: write one a line"),
        (["@bad.txt"], "bad.txt, line 2: "),
        (["@latin.txt"], "cannot read latin.txt: it is not text in UTF-8"),
        (["-o", "{name}.csv"], "'{name}.csv' has {name}: {symbol} is the only field"),
        (["-o", "{symbol}/b.csv"], "{symbol} belongs into the file's name"),
    ],
)
def test_invalid_arguments_say_what_to_write(
    words, says, history, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    (tmp_path / "bad.txt").write_text("CF:BTCUSDT\n!\n")
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe")
    ran = history("-o", "b.csv", BTC, *words, since=None)
    assert ran.code == 2
    assert says in ran.err
    assert not [*tmp_path.glob("*.csv"), *tmp_path.glob("*.part")]


@pytest.mark.skipif(sys.platform == "win32", reason="it has no flock")
def test_two_updates_of_a_file_do_not_run_at_the_same_time(history, tmp_path):
    out = tmp_path / "b.csv"
    history(BTC, "--update", "-o", out, until=2)
    with out.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ran = history(BTC, "--update", "-o", out, until=1)
    assert ran.code == 1
    assert "another qos history is writing" in ran.err
