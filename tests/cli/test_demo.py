"""``qos demo``: as a process on pipes and terminals, and how failures end it."""

from __future__ import annotations

import json
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from qos_async import RejectedError
from qos_async.cli import demo, demo_run, main
from qos_async.cli.scenario import SYMBOLS
from tests.support.cli_process import WITHOUT_RICH, finish, run, run_on_terminal, start

pytestmark = pytest.mark.slow

CHANNELS = ("snapshot", "trade", "depth", "kline")


SHORT = ("--seconds", "6", "--speed", "6")
SCREEN: Any = {"stderr": True, "COLORTERM": "truecolor"}


@pytest.fixture(scope="module")
def runs():
    """On a pipe, with --json and on a terminal, all at the same time."""
    with ThreadPoolExecutor() as threads:
        plain = threads.submit(run, "demo", *SHORT)
        json_lines = threads.submit(run, "demo", "--json", *SHORT)
        shown = threads.submit(run_on_terminal, "demo", *SHORT, **SCREEN)
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


def test_it_ends_by_itself_with_exit_code_0(plain):
    assert plain.code == 0


def test_a_pipe_gets_a_line_for_each_tick(plain):
    """ISO time, channel, symbol: every channel and every symbol came."""
    rows = [line.split() for line in plain.lines if line.startswith("20")]
    ticks = [row for row in rows if row[1] in CHANNELS]
    assert {row[1] for row in ticks} == set(CHANNELS)
    assert {row[2] for row in ticks} == set(SYMBOLS)
    times = [datetime.fromisoformat(row[0]) for row in rows]
    assert all(moment.tzinfo for moment in times)
    assert plain.out.isascii()


def test_the_outage_and_the_recovery_are_lines(plain):
    """States of the link and gaps, in the order of the scenario."""
    lines = [
        " ".join(line.split()[1:3]).rstrip(",:")
        for line in plain.lines
        if re.match(r"\S+Z (link|demo|gap) ", line)
    ]
    assert lines[:6] == [
        "link connecting",
        "link open",
        "demo cutting",
        "link lost",
        "link connecting",
        "link open",
    ]
    assert set(lines[6:]) == {*(f"gap {channel}" for channel in CHANNELS), "demo live"}


def test_the_summary_counts_the_lines_above_it(plain):
    summary = dict(
        re.findall(r"^(\w+) +(.+)$", plain.out.rpartition("\n\n")[2], re.MULTILINE)
    )
    for channel in CHANNELS:
        lines = [line for line in plain.lines if re.match(rf"\S+Z {channel} ", line)]
        assert summary[channel] == f"{len(lines)} ticks"
    assert summary["outages"] == "1"
    assert summary["gaps"].startswith("40 ")
    # Four channels twice, and at least a request each for trades and klines. Where
    # replies are late, on a busy machine, trades are requested again, up to five times.
    frames, _, breaches = summary["sent"].partition(" frames, ")
    assert 10 <= int(frames) <= 17
    assert breaches == "0 breaches of the protocol"
    assert "live again after" in plain.out


def test_json_is_an_object_for_each_tick(json_lines):
    """Only ticks on stdout, under the names of the record fields; the rest on stderr."""
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


def test_a_terminal_gets_the_screen_of_watch(shown):
    """Drawn several times, in colour, with every symbol, and no line a tick."""
    assert shown.code == 0
    assert shown.out.count("/s  lag") > 4
    assert all(symbol in shown.out for symbol in SYMBOLS)
    assert re.search(r"\x1b\[[0-9;]*38;2;46;189;133", shown.out), "rises are green"
    assert not re.search(r"Z trade ", shown.out)
    assert "order book" in shown.out
    assert "cutting the link" in shown.out
    assert "0 breaches of the protocol" in shown.out
    assert "s, live again after" in shown.out
    assert "qos sim -- python bot.py" in shown.out.rpartition("\x1b[?1049l")[2]
    assert "40 of 40 topics live" in shown.out
    assert "lost" in shown.out
    assert "live again after" in shown.out


def test_the_screen_is_drawn_at_a_readable_rate(shown):
    """Five times a second, at any rate of ticks."""
    assert shown.out.count("/s  lag") < 2 * 6 * 6


def test_the_terminal_is_restored_before_the_summary(shown):
    """The summary stays after the screen has gone."""
    screen, _, summary = shown.out.rpartition("\x1b[?1049l")  # Alternate screen.
    assert "\x1b[?1049h" in screen
    assert "live again after" in summary
    assert summary.rindex("\x1b[?25h") < summary.index("ran  ")  # Cursor.


def test_a_tiny_terminal_without_colour_is_enough():
    """It shows fewer columns and fewer symbols; NO_COLOR leaves shades of grey."""
    ran = run_on_terminal(
        "demo", "--seconds", "2", size=(8, 40), NO_COLOR="1", **SCREEN
    )
    screen, _, summary = ran.out.rpartition("\x1b[?1049l")
    assert "SH:600519" in screen
    assert "CM:XAUUSD" not in screen
    assert "volume" not in screen
    colours = re.findall(r"[34]8;2;(\d+);(\d+);(\d+)", screen)
    assert colours
    assert all(red == green == blue for red, green, blue in colours)
    assert "0 breaches of the protocol" in " ".join(summary.split())


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_a_key_ends_the_screen_with_the_summary(key):
    """The keys of ``qos watch``: q, or Ctrl-C."""
    ran = run_on_terminal("demo", "--seconds", "30", stderr=True, keys=key)
    assert ran.code == 0
    assert "0 breaches of the protocol" in ran.out.rpartition("\x1b[?1049l")[2]


def test_a_screen_needs_all_three_streams():
    """Textual draws on stderr: where that is a file, there are lines."""
    ran = run_on_terminal("demo", "--seconds", "0.4")
    assert "\x1b" not in ran.out
    assert "\nran " in ran.out


def test_without_rich_a_terminal_gets_lines():
    """And the message that says what to install: textual, which needs rich."""
    words = ("demo", "--speed", "9", "--seconds", "1")
    ran = run_on_terminal(*words, code=WITHOUT_RICH, stderr=True)
    assert ran.code == 0
    assert "Z trade " in ran.out
    assert "pip install 'qos-async[cli]'" in ran.out


def test_plain_gives_lines_on_a_terminal_too():
    ran = run_on_terminal("demo", "--plain", "--seconds", "0.4", stderr=True)
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
    assert "0 breaches of the protocol" in ran.out
    assert ran.lines[-1].split()[:2] == ["qos", "login"]


def test_a_closed_pipe_is_no_failure():
    """As in ``qos demo | head -3``."""
    process = start("demo", "--seconds", "30")
    for _ in range(3):
        process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    ran = finish(process)
    assert ran.code == 0
    for word in ("qos:", "Exception ignored", "BrokenPipe"):
        assert word not in ran.err


def test_a_full_disk_is_reported():
    """Exit code 1 and a sentence."""
    with Path("/dev/full").open("w") as full:
        ran = finish(start("demo", "--seconds", "5", stdout=full))
    assert ran.code == 1
    assert "qos: No space left on device" in ran.err


# Failures; the run is a fake


def run_fake(monkeypatch, act):
    async def play(scenario, stats, view):
        act(stats)

    monkeypatch.setattr(demo_run, "play", play)
    return main(["demo", "--plain"])


def test_a_violation_of_the_protocol_is_a_failure(monkeypatch, capsys):
    """The summary says which."""
    code = run_fake(monkeypatch, lambda stats: stats.violations.append("too fast"))
    assert code == 1
    assert capsys.readouterr().out.endswith(
        "1 breach of the protocol\n           too fast\n"
    )


def test_an_error_of_the_client_is_a_message(monkeypatch, capsys):
    """Not a traceback."""

    def refuse(stats):
        raise ExceptionGroup("tasks", [RejectedError("no such thing")])

    assert run_fake(monkeypatch, refuse) == 1
    assert capsys.readouterr().err == "qos: no such thing\n"


def test_an_unexpected_error_is_raised(monkeypatch):
    """It is a bug, so its traceback is needed."""

    def fail(stats):
        raise ExceptionGroup("tasks", [ZeroDivisionError()])

    with pytest.raises(ZeroDivisionError):
        run_fake(monkeypatch, fail)


def test_ctrl_c_before_the_run_ends_it_with_130(monkeypatch):
    """While modules are imported, for example."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_choose_view", interrupt)
    assert main(["demo"]) == 130
