"""Command ``qos watch``: on a terminal and without one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from qos_async import Client, Interval, LimitError
from qos_async.cli import main
from qos_async.cli.watch import command
from qos_async.cli.watch.app import WatchApp
from qos_async.cli.watch.model import Model
from tests.support.cli_process import command as qos
from tests.support.cli_process import environment


class Terminal:
    """The part of a terminal that the command uses."""

    text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def run(monkeypatch, *words):
    """Run on a fake terminal; return the exit code and the output."""
    shown = Terminal()
    with monkeypatch.context() as patch:
        for name in ("stdin", "stdout", "stderr"):
            patch.setattr(sys, name, shown)
        return main(["watch", *words]), shown.text


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("QOS_API_KEY", raising=False)


def test_on_a_pipe_the_message_names_qos_stream(capsys):
    assert main(["watch", "--sim"]) == 2
    out, err = capsys.readouterr()
    assert err == (
        "qos watch: this needs a terminal for input and output; for pipes and files "
        "there is qos stream\n"
    )
    assert not out


@pytest.mark.parametrize("name", ["dumb", "unknown", ""])
def test_a_dumb_terminal_is_an_error(name, monkeypatch):
    monkeypatch.setenv("TERM", name)
    code, shown = run(monkeypatch, "--sim")
    assert code == 2
    assert "TERM is dumb" in shown


def test_without_textual_the_message_has_the_command_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "textual", None)
    code, shown = run(monkeypatch, "--sim")
    assert code == 1
    assert "pip install 'qos-async[cli]'" in shown


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--sim", "AAPL"], 2, "malformed symbol 'AAPL'"),
        (["--seed", "1"], 2, "add --sim"),
        (["US:AAPL"], 3, "there is no API key"),
    ],
)
def test_usage_errors_are_messages(words, code, says, monkeypatch):
    ended, shown = run(monkeypatch, *words)
    assert ended == code
    assert says in shown


@pytest.mark.parametrize(
    ("failure", "code", "says"),
    [
        (ExceptionGroup("x", [LimitError("too many symbols")]), 1, "--symbols-limit"),
        (None, 1, ""),
    ],
)
def test_the_error_that_ended_the_screen_sets_the_exit_code(
    failure, code, says, monkeypatch
):
    async def run_async(app):
        app.failure, app._return_code = failure, 0 if failure else 1

    monkeypatch.setattr(WatchApp, "run_async", run_async)
    ended, shown = run(monkeypatch, "--sim")
    assert ended == code
    assert says in shown


async def test_quitting_by_key_is_success(monkeypatch):
    async def run_async(app):
        app._return_code = 0

    monkeypatch.setattr(WatchApp, "run_async", run_async)
    async with Client("key") as client:
        app = command.make_app(client, Model(["US:A"], Interval.DAY))
        assert await command.run_app(app) == 0


def test_the_configuration_has_what_the_screen_begins_with(monkeypatch, tmp_path):
    apps = []

    async def run_async(app):
        apps.append(app)
        app._return_code = 0

    folder = tmp_path / "qos-async"
    folder.mkdir()
    (folder / "config.toml").write_text(
        '[watch]\nsymbols = ["US:TSLA"]\nsort = "volume"\n'
        'alerts = ["US:TSLA 250"]\ntheme = "light"\n'
    )
    monkeypatch.setattr(WatchApp, "run_async", run_async)
    assert run(monkeypatch, "--sim")[0] == 0
    [app] = apps
    model = app._model
    assert model.symbols == ("US:TSLA",)
    assert model.rows.sort == "volume"
    assert [str(alert) for alert in model.alerts.waiting] == ["US:TSLA 250"]
    assert app._light


def watch_in_a_terminal() -> tuple[subprocess.Popen[bytes], int]:
    """Start ``qos watch``; return the process, and the other end of its terminal."""
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        qos("watch", "--sim", "CF:BTCUSDT"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(LINES="24", COLUMNS="80", TERM="xterm-256color"),
    )
    os.close(slave)
    return process, master


def test_sigint_restores_the_terminal():
    process, master = watch_in_a_terminal()
    shown, requested = b"", False
    with contextlib.suppress(OSError):  # On Linux, when the other end is closed.
        while piece := os.read(master, 65536):
            shown += piece
            if b"quotes" in shown and not requested:
                process.send_signal(signal.SIGINT)
                requested = True
    os.close(master)
    assert process.wait(15) == 130
    assert b"Traceback" not in shown
    assert shown.rindex(b"\x1b[?1049l") > shown.rindex(
        b"\x1b[?1049h"
    )  # Alternate screen.
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")  # Cursor.


@pytest.mark.fault("F81")
def test_it_ends_when_its_terminal_is_closed_without_a_signal():
    """As where ``nohup`` or a shell ignores SIGHUP."""
    process, master = watch_in_a_terminal()
    shown = b""
    while b"quotes" not in shown:
        shown += os.read(master, 65536)
    os.close(master)
    try:
        assert process.wait(15) == 143
    finally:
        process.kill()
