"""Signals that end commands: each closes what is open, and a second one does no harm."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from qos_async import recordings
from qos_async.cli import main
from qos_async.cli.client import run_async
from qos_async.cli.commands import COMMANDS
from qos_async.recordings import contents
from tests.support.cli_process import command, environment, finish, start, wait_for
from tests.support.recording_files import event, recorded, trades, write

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP"
    ),
]
SIGNALS = [signal.SIGTERM, signal.SIGHUP]


@pytest.mark.fault("F28")
@pytest.mark.parametrize("second", [None, *SIGNALS, signal.SIGINT])
@pytest.mark.parametrize("first", [signal.SIGINT, *SIGNALS])
def test_a_recording_is_complete_after_any_two_signals(first, second, tmp_path):
    process = start("record", "--sim", "CF:BTCUSDT", "-o", str(tmp_path))
    wait_for(process, "Ctrl-C ends it")
    process.send_signal(first)
    if second is not None:
        time.sleep(0.02)
        process.send_signal(second)
    ran = finish(process)
    # Ctrl-C has a handler of asyncio's.
    late = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}
    assert ran.code in ({0} if second is None else {0, late[second]})
    if signal.SIGINT not in (first, second):
        assert ran.code == 0
    assert contents(tmp_path).faults == ()
    assert re.search(r"\d frames? in ", ran.err.splitlines()[-1])


@pytest.mark.fault("F28")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_stream_ends_with_its_summary(number):
    process = start("stream", "--sim", "CF:BTCUSDT")
    process.stdout.readline()
    process.send_signal(number)
    ran = finish(process)
    assert ran.code == 0
    assert "gaps: none" in ran.err.splitlines()[-1]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_demo_ends_with_its_summary(number):
    process = start("demo", "--seconds", "30")
    process.stdout.readline()
    process.send_signal(number)
    ran = finish(process)
    assert ran.code == 143
    assert "0 breaches of the protocol" in ran.out


@pytest.mark.parametrize("number", SIGNALS)
def test_servers_end_cleanly(number, tmp_path):
    write(tmp_path, recorded(trades(1, 1), event(2, "dropped", count=1), end=2))
    for words in (("sim",), ("replay", str(tmp_path))):
        process = start(*words)
        process.stdout.readline()
        process.send_signal(number)
        assert finish(process).code == 0


@pytest.mark.fault("F28")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), *((number, 143) for number in SIGNALS)]
)
def test_a_signal_between_the_run_and_the_exit_has_its_exit_code(number, code):
    program = f"""
import signal
from qos_async import cli

def ignore_signals(ignore=cli.ignore_signals):
    signal.raise_signal({int(number)})
    ignore()

cli.ignore_signals = ignore_signals
cli.main = lambda: 0
cli.program()
"""
    ran = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert ran.returncode == code


@pytest.mark.fault("F28")
@pytest.mark.parametrize("number", [signal.SIGINT, *SIGNALS])
def test_a_signal_after_the_run_does_not_change_its_exit_code(number):
    program = f"""
import atexit, signal
from qos_async import cli

atexit.register(signal.raise_signal, {int(number)})
cli.main = lambda: 0
cli.program()
"""
    ran = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert ran.returncode == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_waits_for_nothing_ends_with_143(number, monkeypatch, capsys):
    """Such as one that writes a file: no event loop runs, and nothing is left half."""
    closed = []

    def run(options):
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)  # The second one does no harm.
            closed.append(True)

    changed = COMMANDS["snapshot"]._replace(run=run)
    monkeypatch.setitem(COMMANDS, "snapshot", changed)
    assert main(["snapshot", "US:AAPL"]) == 143
    assert closed
    assert signal.getsignal(number) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_conversion_ends_at_once(number, code, tmp_path, monkeypatch):
    """Although it waits for nothing."""

    def convert(*words, **options):
        signal.raise_signal(number)
        raise AssertionError

    monkeypatch.setattr(recordings, "convert", convert)
    assert main(["convert", str(tmp_path), "-o", str(tmp_path / "out")]) == code


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_does_not_disturb_the_end_of_a_run(number):
    closed = []

    async def play():
        try:
            signal.raise_signal(number)
            await asyncio.sleep(60)
        finally:
            signal.raise_signal(number)
            await asyncio.sleep(0.01)
            closed.append(True)

    assert run_async(play) == 143
    assert closed
    assert signal.getsignal(number) is signal.SIG_DFL


def test_an_ignored_signal_stays_ignored():
    """As ``nohup`` starts a command."""
    typed = shlex.join(command("stream", "--sim", "CF:BTCUSDT", "--seconds", "3"))
    process = subprocess.Popen(
        ["sh", "-c", f"trap '' HUP; exec {typed}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    ran = finish(process)
    assert ran.code == 0
    assert re.search(r"ran (2\.[5-9]|3\.\d) s", ran.err)


@pytest.mark.slow
def test_the_screen_ends_when_its_terminal_is_closed():
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command("watch", "--sim", "CF:BTCUSDT"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(LINES="24", COLUMNS="80", TERM="xterm-256color"),
        start_new_session=True,
    )
    os.close(slave)
    shown = b""
    while b"quotes" not in shown:
        shown += os.read(master, 65536)
    process.send_signal(signal.SIGHUP)
    os.close(master)
    assert process.wait(15) is not None
