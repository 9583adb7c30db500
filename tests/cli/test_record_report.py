"""The live line of ``qos record`` on a terminal."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from types import SimpleNamespace
from typing import Any

import pytest

from qos_async import LinkState
from qos_async.cli.display import Display
from qos_async.cli.record.report import RecordReport
from qos_async.recordings.recorder import RecorderStats
from tests.support.cli_process import run_on_terminal

STATS = RecorderStats(frames=1234, bytes_written=56_780_000, stored=1200, pending=3)
RECORDER: Any = SimpleNamespace(stats=STATS)


class TerminalStream(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    return TerminalStream()


async def shown(report, terminal, act=lambda: None, state=LinkState.OPEN):
    """Return the line that the terminal shows, and what is left of it at the end."""
    with redirect_stderr(terminal):
        running = report.run(RECORDER, lambda: state)
        running.send(None)
        act()
        line = terminal.getvalue().rsplit("\x1b[K", 1)[1].rstrip("\r")
        running.close()
    return line, terminal.getvalue().rsplit("\x1b[K", 1)[1].rstrip("\r")


async def test_the_line_has_frames_megabytes_gaps_and_the_time(terminal):
    report = RecordReport(Display())
    report.gaps = 2
    line, left = await shown(report, terminal)
    assert line == "0:00:00  1,234 frames  56.78 MB  2 gaps  link open"
    assert left == ""


async def test_the_line_has_a_lost_link_in_the_words_of_its_messages(terminal):
    line, _ = await shown(RecordReport(Display()), terminal, state=LinkState.BACKOFF)
    assert line.endswith("  link lost")


async def test_the_line_of_a_stream_has_its_messages(terminal):
    line, _ = await shown(RecordReport(Display(), of_stream=True), terminal)
    assert "1,200 stored, 3 pending" in line


async def test_a_message_is_above_the_line(terminal):
    report = RecordReport(Display())
    line, _ = await shown(report, terminal, lambda: report.plain("one topic"))
    assert line.startswith("0:00:00  1,234 frames")
    assert "\x1b[K\rone topic\n" in terminal.getvalue()


@pytest.mark.parametrize("columns", ["20", "40"])
async def test_the_line_fits_the_terminal(columns, terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    line, _ = await shown(RecordReport(Display()), terminal)
    assert len(line) == int(columns) - 1


async def test_elsewhere_there_is_no_line():
    with redirect_stderr(io.StringIO()) as log:
        await RecordReport(Display()).run(RECORDER, lambda: LinkState.OPEN)
    assert log.getvalue() == ""


def test_a_recording_on_a_terminal_ends_without_the_line(tmp_path):
    words = "record", "--sim", "CF:BTCUSDT", "-o", str(tmp_path), "--seconds", "2"
    out = run_on_terminal(*words, stderr=True).out
    assert "  0 gaps  link open" in out
    assert " frames in 0.00 MB, 1 file" in out.rsplit("\x1b[K", 1)[1]
