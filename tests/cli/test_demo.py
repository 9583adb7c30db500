"""``qos demo``, as a process."""

from __future__ import annotations

import json
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from qos_async.cli.script import SYMBOLS
from tests.support.cli_process import WITHOUT_RICH, finish, run, run_on_terminal, start

CHANNELS = ("snapshot", "trade", "depth", "kline")


SHORT = ("--seconds", "6", "--speed", "6")


@pytest.fixture(scope="module")
def runs():
    """One on a pipe, one with --json, one on a terminal: all at the same time."""
    with ThreadPoolExecutor() as threads:
        plain = threads.submit(run, "demo", *SHORT)
        json_lines = threads.submit(run, "demo", "--json", *SHORT)
        shown = threads.submit(run_on_terminal, "demo", *SHORT)
        return plain.result(), json_lines.result(), shown.result()


@pytest.fixture(scope="module")
def plain(runs):
    return runs[0]


@pytest.fixture(scope="module")
def json_lines(runs):
    return runs[1]


@pytest.fixture(scope="module")
def shown(runs):
    return runs[2]


def test_it_stops_by_itself_and_well(plain):
    """Exit code 0, and nothing on stderr but what -X dev may say of slow steps."""
    assert plain.code == 0


def test_a_pipe_gets_a_line_a_tick(plain):
    """ISO time, channel, symbol: every channel and every symbol came."""
    rows = [line.split() for line in plain.lines if line.startswith("20")]
    ticks = [row for row in rows if row[1] in CHANNELS]
    assert {row[1] for row in ticks} == set(CHANNELS)
    assert {row[2] for row in ticks} == set(SYMBOLS)
    times = [datetime.fromisoformat(row[0]) for row in rows]
    assert all(moment.tzinfo for moment in times)
    assert plain.out.isascii()


def test_the_link_is_seen_to_break_and_to_heal(plain):
    """Moves of the link and gaps are lines, in the order of the story."""
    story = [
        " ".join(line.split()[1:3]).rstrip(",:")
        for line in plain.lines
        if re.match(r"\S+Z (link|demo|gap) ", line)
    ]
    assert story[:6] == [
        "link connecting",
        "link open",
        "demo cutting",
        "link lost",
        "link connecting",
        "link open",
    ]
    assert set(story[6:]) == {f"gap {channel}" for channel in CHANNELS}


def test_the_summary_adds_up(plain):
    """Its numbers are those of the lines above it."""
    summary = dict(
        re.findall(r"^(\w+) +(.+)$", plain.out.rpartition("\n\n")[2], re.MULTILINE)
    )
    for channel in CHANNELS:
        lines = [line for line in plain.lines if re.match(rf"\S+Z {channel} ", line)]
        assert summary[channel] == f"{len(lines)} ticks"
    assert summary["outages"] == "1"
    assert summary["gaps"].startswith("40 ")
    # Four channels twice, and a question each for trades and klines at least; where the
    # answers lag, on a busy machine, trades are asked for again, once a second for five.
    frames, _, breaches = summary["sent"].partition(" frames, ")
    assert 10 <= int(frames) <= 17
    assert breaches == "0 breaches of the protocol"
    assert "all live again after" in plain.out


def test_json_is_an_object_a_tick(json_lines):
    """Only ticks on stdout, under the names of our fields; the rest on stderr."""
    ran = json_lines
    ticks = [json.loads(line) for line in ran.lines]
    assert {tick["channel"] for tick in ticks} == set(CHANNELS)
    trade = next(tick for tick in ticks if tick["channel"] == "trade")
    assert isinstance(trade["price"], str)
    assert trade["side"] in ("buy", "sell")
    events = [json.loads(line) for line in ran.err.splitlines() if line[:1] == "{"]
    assert len([e for e in events if e["event"] == "gap"]) == 40
    summary = events[-1]
    assert summary["event"] == "summary"
    assert sum(summary["ticks"].values()) == len(ticks)
    assert summary["outages"][0]["all_live_after"] > 0
    assert summary["breaches"] == []
    assert ran.code == 0


def test_a_terminal_gets_a_live_table(shown):
    """Drawn several times, in colour, with every symbol, and no line a tick."""
    assert shown.code == 0
    assert shown.out.count("Last trade") > 4
    assert all(symbol in shown.out for symbol in SYMBOLS)
    assert "\x1b[32m" in shown.out
    assert not re.search(r"Z trade ", shown.out)
    assert "40 of 40 topics live" in shown.out
    assert "lost" in shown.out
    assert "all live again after" in shown.out


def test_the_table_is_drawn_at_a_pace_people_can_read(shown):
    """Six times a second, whatever the ticks do."""
    assert shown.out.count("Last trade") < 2 * 6 * 6


def test_no_line_is_wider_than_the_terminal():
    """A tiny one shows fewer columns and fewer symbols, and says so."""
    ran = run_on_terminal("demo", "--seconds", "0.8", size=(10, 40), NO_COLOR="1")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ran.out)
    assert max(len(line) for line in re.split(r"[\r\n]+", text)) <= 40
    assert "CM:XAUUSD" not in text
    assert not re.search(r"\x1b\[3[0-9]m", ran.out), "NO_COLOR means no colour"


def test_without_rich_a_terminal_gets_lines():
    """And the sentence that says what to install."""
    ran = run_on_terminal("demo", "--speed", "9", "--seconds", "1", code=WITHOUT_RICH)
    assert ran.code == 0
    assert "Z trade " in ran.out
    assert "pip install 'qos-async[cli]'" in ran.err


def test_plain_is_plain_on_a_terminal_too():
    """--plain asks for it, TERM=dumb needs it."""
    ran = run_on_terminal("demo", "--plain", "--seconds", "0.4")
    assert "\x1b" not in ran.out
    assert "\nran " in ran.out


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_it_within_a_second_with_the_summary(number, code):
    """Ctrl-C, or kill."""
    process = start("demo", "--seconds", "30")
    for _ in range(3):
        process.stdout.readline()
    sent_at = time.monotonic()
    process.send_signal(number)
    ran = finish(process)
    assert time.monotonic() - sent_at < 1
    assert ran.code == code
    assert "0 breaches of the protocol" in ran.lines[-1]


def test_a_closed_pipe_ends_it_in_silence():
    """``qos demo | head -3`` is no failure."""
    process = start("demo", "--seconds", "30")
    for _ in range(3):
        process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    ran = finish(process)
    assert ran.code == 0
    for word in ("qos:", "Exception ignored", "BrokenPipe"):
        assert word not in ran.err


def test_a_full_disk_is_told():
    """Exit code 1 and a sentence."""
    with Path("/dev/full").open("w") as full:
        ran = finish(start("demo", "--seconds", "5", stdout=full))
    assert ran.code == 1
    assert "qos: No space left on device" in ran.err
