"""Tests of ``qos_async.cli.history.command``, against a simulator in a thread."""

from __future__ import annotations

import copy
import csv
import importlib
import json
import signal
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from qos_async import Client, Interval
from qos_async._io import history as pages
from qos_async.cli.history import output
from qos_async.cli.history.paging import IGNORED, START, page_back
from qos_async.cli.history.partial import PartialDownload, Request, part_path
from qos_async.cli.history.progress import Progress
from qos_async.cli.history.report import explain_empty, summarize
from qos_async.cli.options import Options
from qos_async.cli.settings import server_label
from qos_async.sim import Simulator, Variants
from qos_async.sim.requests import RequestHandler
from tests.cli.conftest import FAST
from tests.support.history_pages import REQUEST, Recorded, bars

pq: Any = importlib.import_module("pyarrow.parquet")  # It has no types.
HOUR = timedelta(hours=1)


def range_of(hours, *, until=HOUR):
    """Return options for whole minutes of the past."""
    end = datetime.now(UTC).replace(second=0, microsecond=0) - until
    return [
        *("--from", (end - hours * HOUR).isoformat()),
        *("--to", end.isoformat()),
    ]


def report(ran):
    return ran.err.rstrip("\n")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "bars.csv"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def download(live, qos, out, monkeypatch):
    """Fetch 150 minutes, which are two small pages; the same ones in each run."""
    monkeypatch.setattr(pages, "KLINES_MAX", 100)
    times = range_of(2.5)

    def run(*words, into=out, symbol="CF:BTCUSDT"):
        return qos(*("history", symbol, "--interval", "1m", *times, "-o", into, *words))

    return run


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_format_has_each_bar_once_ascending_and_exact(download, live, tmp_path):
    files = {name: tmp_path / name for name in ("b.csv", "b.jsonl", "b.parquet")}
    for path in files.values():
        words = ["--numbers", "decimal"] if path.suffix == ".parquet" else []
        ran = download(*words, into=path)
        assert (ran.code, ran.out) == (0, "")
        assert report(ran).endswith("\nno holes")
        assert f"{path}: 150 bars of CF:BTCUSDT, 1m, from " in ran.err
    table = rows(files["b.csv"])
    found = [json.loads(line) for line in files["b.jsonl"].read_text().splitlines()]
    assert [{**row, "timestamp": str(row["timestamp"])} for row in found] == table
    times = [row["timestamp"] for row in found]
    assert {after - before for before, after in pairwise(times)} == {60}
    sent = live.ask(
        lambda: live.sim.market.klines("CF:BTCUSDT", Interval.MIN_1, 1000, live.sim.now)
    )
    exact = {
        row["ts"]: (row["o"], row["h"], row["l"], row["cl"], row["v"]) for row in sent
    }
    prices = ("open", "high", "low", "close", "volume")
    assert all(
        tuple(row[one] for one in prices) == exact[row["timestamp"]] for row in found
    )
    frame = pq.read_table(files["b.parquet"])
    assert frame.column_names == ["symbol", "time", "interval", *prices]
    assert [at.timestamp() for at in frame["time"].to_pylist()] == times
    assert frame["close"].to_pylist() == [Decimal(row["close"]) for row in found]
    about = frame.schema.metadata
    assert (about[b"qos.symbol"], about[b"qos.interval"]) == (b"CF:BTCUSDT", b"1m")
    assert about[b"qos.source"].decode() == live.sim.http_url
    assert not [*tmp_path.glob("*.part"), *tmp_path.glob("*.tmp")]


@pytest.mark.fault("F32")
@pytest.mark.parametrize("name", ["B.CSV", "b.Jsonl", "B.PARQUET"])
def test_the_suffix_may_be_written_in_capitals(name, download, tmp_path):
    path = tmp_path / name
    assert download(into=path).code == 0
    if name == "B.PARQUET":
        assert pq.read_table(path).num_rows == 150
    else:
        first = path.read_text().splitlines()[0]
        assert first.startswith('{"symbol"' if name == "b.Jsonl" else "symbol,")


@pytest.mark.fault("F32")
@pytest.mark.parametrize(
    "words", [("--from", "-1d"), ("--from=-1d", "--to", "now"), ("--from", "yesterday")]
)
def test_times_may_be_written_in_any_usual_form(words, qos, tmp_path):
    out = tmp_path / "out.csv"
    ran = qos("history", "--sim", "CF:BTCUSDT", "--interval", "4h", *words, "-o", out)
    assert ran.code == 0, ran.err


def test_the_unfinished_bar_is_left_out(live, qos, out):
    assert (
        qos("history", "CF:BTCUSDT", "--interval", "1h", "--from", "5h", "-o", out).code
        == 0
    )
    last = int(rows(out)[-1]["timestamp"])
    assert last + 3600 <= datetime.now(UTC).timestamp() < last + 7201


def after_first_page(monkeypatch, act):
    real = Progress.page

    def page(self):
        real(self)
        act()

    monkeypatch.setattr(Progress, "page", page)


def test_the_next_run_resumes_after_a_failure(download, live, out, monkeypatch):
    with monkeypatch.context() as patch:
        after_first_page(patch, lambda: live.sim.reject("No permission", "/history"))
        ran = download()
    assert ran.code == 1
    why, kept = ran.err.splitlines()
    assert why == "qos: /history CF:BTCUSDT: No permission"
    part = part_path(out)
    assert kept.startswith("qos: stopped: 100 bars back to 20")
    assert kept.endswith(f"kept in {part}; the same command resumes there")
    assert not out.exists()
    with part.open("ab") as file:
        file.write(b'{"bars":[[17')  # As a crash leaves it.
    asked = len(live.sim.requests)
    ran = download()
    assert ran.code == 0
    assert ran.err.startswith(f"qos: resuming {part}: 100 bars back to 20")
    assert len(live.sim.requests) - asked == 1
    found = [int(row["timestamp"]) for row in rows(out)]
    assert len(found) == 150
    assert {after - before for before, after in pairwise(found)} == {60}
    assert not part.exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_stops_the_download_and_keeps_its_pages(
    number, code, download, out, monkeypatch
):
    with monkeypatch.context() as patch:
        after_first_page(patch, lambda: signal.raise_signal(number))
        ran = download()
    assert ran.code == code
    assert "qos: stopped: 100 bars back to" in ran.err
    assert download().code == 0
    assert len(rows(out)) == 150


def test_ctrl_c_during_writing_keeps_the_pages(download, live, out, monkeypatch):
    """An existing file stays as it was, and no page is fetched again."""

    def stop(*_):
        raise KeyboardInterrupt

    out.write_text("before")
    with monkeypatch.context() as patch:
        patch.setattr(output, "csv_lines", stop)
        ran = download("--force")
    assert ran.code == 130
    assert "qos: stopped: 150 bars back to" in ran.err
    assert out.read_text() == "before"
    assert not [*out.parent.glob("*.tmp")]
    asked = len(live.sim.requests)
    assert download("--force").code == 0
    assert (len(rows(out)), len(live.sim.requests)) == (150, asked)


def test_a_full_disk_is_reported_and_the_next_run_resumes(download, out):
    """While pages are appended, and while the output is written."""
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    errors = []
    for most in (8_000, 11_500):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, old[1]))
        try:
            ran = download()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert ran.code == 1
        errors.append([line for line in ran.err.splitlines() if "cannot" in line])
        assert "the same command resumes there" in ran.err.splitlines()[-1]
    assert errors == [
        [f"qos: cannot write {part_path(out)}: File too large"],
        [f"qos: cannot write {out}: File too large"],
    ]
    assert not out.exists()
    assert download().code == 0
    assert len(rows(out)) == 150


def test_an_existing_file_is_replaced_only_with_force(download, out):
    out.write_text("mine")
    link = out.with_name("link")
    link.hardlink_to(out)
    ran = download()
    assert (ran.code, report(ran)) == (
        1,
        f"qos: {out} already exists: --update extends it, --force replaces it",
    )
    assert out.read_text() == "mine"
    assert download("--force").code == 0
    assert len(rows(out)) == 150
    assert link.read_text() == "mine", "it was replaced as a whole, not written into"


def test_a_leftover_of_another_download_is_reported(download, live, out, monkeypatch):
    with monkeypatch.context() as patch:
        after_first_page(patch, lambda: live.sim.reject("No permission", "/history"))
        assert download().code == 1
    ran = download(symbol="CF:ETHUSDT")
    assert ran.code == 1
    assert "is an unfinished download of CF:BTCUSDT 1m from 20" in ran.err
    assert download("--force", symbol="CF:ETHUSDT").code == 0
    assert {row["symbol"] for row in rows(out)} == {"CF:ETHUSDT"}


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["-o", "b.txt"], 2, "'b.txt' should end in .parquet, .csv or .jsonl"),
        (["-o", "b"], 2, "should end in .parquet, .csv or .jsonl"),
        (["--from", "soon"], 2, "try a day such as 2025-01-31"),
        (["--from", "2199-01-31T09:30"], 2, "2199-01-31T09:30 is in the future"),
        (["--from", "2999-01-01"], 2, "'2999-01-01' is out of range"),
        (["--from", "2200-01-01"], 2, "--from 2200-01-01 is in the future"),
        (["--to", "2020-01-01"], 2, "--from 2d is not before --to 2020-01-01"),
        (["--interval", "3m"], 2, "take one of 1m 5m 15m"),
        (
            ["--numbers", "decimal"],
            2,
            "--numbers is about Parquet: in .csv they are exact",
        ),
        (["--numbers", "exact"], 2, "invalid choice"),
        (["-o", "/"], 2, "should end in"),
        (["-o", "none/b.csv"], 1, "there is no directory none: create it first"),
        (["-o", "folder.csv"], 1, "folder.csv is a directory: name a file in it"),
        (["-o", "/proc/b.csv"], 1, "cannot write /proc/.b.csv.part: "),
        (["--http-url", "http://192.0.2.1"], 2, "would send the API key unencrypted"),
    ],
)
def test_invalid_arguments_fail_before_any_request(words, code, says, live, qos):
    here = Path.cwd()
    (here / "folder.csv").mkdir()
    asked = len(live.sim.requests)
    ran = qos(
        "history",
        "CF:BTCUSDT",
        "--interval",
        "1m",
        "--from",
        "2d",
        "-o",
        "b.csv",
        *words,
    )
    assert ran.code == code
    assert says in ran.err
    assert len(live.sim.requests) == asked
    assert not [*here.glob("b*")]


def test_without_a_key_no_file_is_left_behind(qos, out):
    ran = qos("history", "US:AAPL", "--interval", "1d", "--from", "9w", "-o", out)
    assert ran.code == 3
    assert "there is no API key: set QOS_API_KEY" in ran.err
    assert not [*out.parent.glob("bars*")]


@pytest.mark.parametrize(
    ("symbol", "says"),
    [
        ("CF:NOPE", "the server knows no symbol CF:NOPE: qos products CF lists"),
        ("CF:BTCUSDT", "the server has no bars of CF:BTCUSDT, 1m, between 2020-01-01T"),
    ],
)
def test_an_empty_download_is_a_failure_with_a_reason(symbol, says, live, qos, out):
    day = ["--from", "2020-01-01", "--to", "2020-01-01"]
    ran = qos("history", symbol, "--interval", "1m", *day, "-o", out)
    assert ran.code == 1
    assert says in ran.err
    assert not [*out.parent.glob("bars*")]


def test_without_pyarrow_the_message_has_the_command_to_install_it(
    live, qos, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    out = tmp_path / "bars.parquet"
    ran = qos("history", "US:AAPL", "--interval", "1d", "--from", "9w", "-o", out)
    assert ran.code == 1
    assert "pip install 'qos-async[cli]'" in ran.err
    assert not [*tmp_path.glob("bars*")]


def test_holes_and_the_missing_beginning_are_listed(live, qos, out, monkeypatch):
    """Of a complete download."""
    request = replace(
        REQUEST,
        source=live.sim.http_url,
        asked=("2025-01-31T00:00Z", "2025-01-31T01:40Z"),
    )
    with PartialDownload(part_path(out), request) as part:
        for page in (range(60, 70), range(20, 58, 2), [10]):
            part.add(bars(*page))
        part.finish("oldest")
    words = ["--from", request.asked[0], "--to", request.asked[1], "-o", out]
    command = ["history", "CF:BTCUSDT", "--interval", "1m", *words]
    copy = part_path(out).read_bytes()
    ran = qos(*command)
    assert ran.code == 0
    assert report(ran).splitlines()[1:] == [
        "the server has nothing older than 2025-01-31 00:10",
        "no bars although the market was open (60 bars would fit):",
        "  between 2025-01-31 00:11 and 2025-01-31 00:20: 9 bars",
        *(
            f"  between 2025-01-31 00:{n} and 2025-01-31 00:{n + 1}: 1 bar"
            for n in range(23, 57, 2)
        ),
        "  between 2025-01-31 00:57 and 2025-01-31 01:00: 3 bars",
        "  between 2025-01-31 01:10 and 2025-01-31 01:40: 30 bars",
        "  and 1 shorter one: --all-holes lists all",
    ]
    out.unlink()
    part_path(out).write_bytes(copy)
    assert (
        "between 2025-01-31 00:21 and 2025-01-31 00:22: 1 bar"
        in qos(*command, "--all-holes").err
    )


@pytest.mark.parametrize(("why", "code"), [(START, 0), (IGNORED, 1)])
def test_a_complete_download_needs_no_server(why, code, qos, out):
    """Nor a key. Pages that the server did not send are still a failure."""
    request = replace(REQUEST, source="https://api.qos.hk")
    with PartialDownload(part_path(out), request) as part:
        part.add(bars(98, 99))
        part.finish(why)
    since = ["--from", "2025-01-31"]
    ran = qos("history", "CF:BTCUSDT", "--interval", "1m", *since, "-o", out)
    assert ran.code == code
    assert f"{out}: 2 bars of CF:BTCUSDT, 1m, from 2025-01-31 01:38" in ran.err
    assert ("bars older than 2025-01-31 01:38 cannot be reached" in ran.err) == code
    assert len(rows(out)) == 2
    assert not part_path(out).exists()


def test_the_label_of_a_server_has_no_secrets(home):
    asked = Options()
    assert server_label(asked) == "https://api.qos.hk"
    asked.http_url = "https://me:secret@example.com:8443/qos/"
    assert server_label(asked) == "https://example.com:8443/qos"
    asked.sim = True
    assert server_label(asked) == "simulator, seed 1"
    asked.seed = 0
    assert server_label(asked) == "simulator, seed 0"


async def test_a_server_that_ignores_the_end_is_reported(tmp_path):
    """Its newest bars are written, if they are in the range."""
    async with Simulator(plan=FAST, variants=Variants(history_ignores_end=True)) as sim:
        now = int(sim.now)
        for back, found in ((86_400 * 10, True), (86_400, False)):
            request = Request(
                symbol="CF:BTCUSDT",
                interval="1m",
                adjusted=False,
                source="here",
                asked=("", None),
                start=now - 86_400 * 11,
                end=now - 86_400 * 10 + back,
            )
            async with Client(
                sim.key, http_url=sim.http_url, limits=FAST, numbers=str
            ) as client:
                with PartialDownload(tmp_path / f"{back}.part", request) as part:
                    await page_back(client, part, Recorded())
                    assert (part.ended, part.count > 0) == (IGNORED, found)
                    if found:
                        lines = summarize(part, part.path, all_holes=False)
                        assert "the server ignored the requested end" in lines[1]
                    else:
                        assert "the server ignores the requested end" in explain_empty(
                            part, known=True
                        )


def test_uncertain_holes_are_marked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    day = 86_400
    request = Request(
        symbol="HK:700",
        interval="1d",
        adjusted=False,
        source="here",
        asked=("", None),
        start=REQUEST.start - 8 * 3600,
        end=REQUEST.start - 8 * 3600 + 7 * day,
    )
    with PartialDownload(tmp_path / "b.csv.part", request) as part:
        for days in (6, 5, 0):
            [bar] = bars(days * 1440 - 8 * 60)
            part.add([bar])
        part.finish(START)
        lines = summarize(part, part.path, all_holes=False)
    when = "on days on which the market is open"
    assert lines[1:] == [
        f"no bars {when}, unless there was a holiday (2 bars would fit):",
        "  between 2025-02-01 and 2025-02-05: 2 bars",
        "  pip install 'qos-async[calendars]' distinguishes holidays from holes",
    ]
    assert "2025-01-31 to 2025-02-06, " in lines[0]


def summary_of_days(tmp_path, symbol, *days, asked):
    """Return the report on daily bars of 2025-02-01 and later, by number."""
    request = Request(
        symbol=symbol,
        interval="1d",
        adjusted=False,
        source="here",
        asked=("", None),
        start=REQUEST.start - asked * 86_400,
        end=REQUEST.start + 9 * 86_400,
    )
    with PartialDownload(tmp_path / f"{asked}.csv.part", request) as part:
        for number in sorted(days, reverse=True):
            [bar] = bars(number * 1440)
            part.add([bar])
        part.finish("oldest")
        return summarize(part, part.path, all_holes=False)


def test_a_missing_beginning_that_a_holiday_explains_is_no_certain_end(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    for asked, doubt in ((2, ", unless there was a holiday"), (40, "")):
        lines = summary_of_days(tmp_path, "US:AAPL", 0, 3, asked=asked)
        assert lines[1] == f"the server has nothing older than 2025-01-30{doubt}"


def test_a_market_without_a_calendar_gets_no_advice_to_install_one(tmp_path):
    pytest.importorskip("exchange_calendars")
    lines = summary_of_days(tmp_path, "FX:EURUSD", 0, 6, asked=0)
    assert "unless there was a holiday" in lines[1]
    assert not [one for one in lines if "pip install" in one]


def test_an_index_is_not_checked_for_holes(tmp_path):
    request = replace(REQUEST, symbol="IX:HSI")
    with PartialDownload(tmp_path / "b.csv.part", request) as part:
        part.add(bars(20, 40))
        part.finish(START)
        lines = summarize(part, part.path, all_holes=False)
    assert lines[1] == "the server has nothing older than 2025-01-31 00:20"
    assert lines[2].startswith("not checked for holes: the hours of market 'IX'")


@pytest.mark.parametrize(
    ("numbers", "volume"),
    [(None, [2.5, None]), ("float", [2.5, None]), ("text", ["2.50", None])],
)
def test_parquet_has_the_requested_number_type(numbers, volume, tmp_path):
    """Pages are joined into a row group."""
    path = tmp_path / "bars.parquet"
    [first, second] = bars(1, 2)
    found = [[replace(first, volume="2.50")], [second]]
    output.write(path, found, REQUEST, numbers)
    assert pq.read_table(path)["volume"].to_pylist() == volume
    assert pq.read_metadata(path).num_row_groups == 1


def test_a_number_that_does_not_fit_parquet_is_reported(qos, tmp_path):
    out = tmp_path / "bars.parquet"
    request = replace(REQUEST, source="https://api.qos.hk")
    with PartialDownload(part_path(out), request) as part:
        [bar] = bars(99)
        part.add([replace(bar, high="1" * 30)])
        part.finish(START)
    since = ["--from", "2025-01-31", "--numbers", "decimal"]
    ran = qos("history", "CF:BTCUSDT", "--interval", "1m", *since, "-o", out)
    assert ran.code == 1
    assert f"cannot write {out}: " in ran.err
    assert "try --numbers text" in ran.err
    assert "stopped: 1 bar back to" in ran.err, "the page is kept"


@pytest.mark.fault("F22")
def test_bars_that_cannot_be_read_are_holes_and_reported(
    download, monkeypatch, tmp_path
):
    handle = RequestHandler.handle

    def spoil(*args):
        found = copy.deepcopy(handle(*args))
        for bar in found[0]["k"]:
            bar["cl"] = "NaN" if bar["ts"] % 3000 == 0 else bar["cl"]
            bar["v"] = "-" if bar["ts"] % 3000 == 60 else bar["v"]
        return found

    monkeypatch.setattr(RequestHandler, "handle", spoil)
    into = tmp_path / "bars.parquet"
    ran = download(into=into)
    assert ran.code == 0
    assert "cannot read the field cl ('NaN'); the row is left out" in ran.err
    assert "cannot read the field v ('-'); the field is left out" in ran.err
    assert "no bars although the market was open (3 bars would fit)" in ran.err
    assert pq.read_table(into)["volume"].null_count == 3
