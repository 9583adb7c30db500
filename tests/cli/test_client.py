"""Tests of ``qos_async.cli.client``: how a run ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from qos_async import (
    AuthenticationError,
    LimitError,
    RejectedError,
    TransportError,
)
from qos_async.cli import main
from qos_async.cli.client import open_client, run_async
from qos_async.cli.commands import COMMANDS
from qos_async.cli.options import Options, UsageError
from qos_async.cli.settings import SettingsError
from tests.support.cli_process import command, environment


def replace_run(monkeypatch, run):
    command = COMMANDS["snapshot"]._replace(run=run)
    monkeypatch.setitem(COMMANDS, "snapshot", command)


def ending(error):
    async def play():
        raise error

    return run_async(play)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TransportError("failed"), 1),
        (RejectedError("failed"), 1),
        (UsageError("failed"), 2),
        (SettingsError("failed"), 2),
        (AuthenticationError("failed"), 3),
    ],
)
def test_an_expected_error_becomes_a_message_and_an_exit_code(error, code, capsys):
    """Also from within a group of tasks."""
    assert ending(error) == code
    assert ending(ExceptionGroup("", [ExceptionGroup("", [error])])) == code
    assert capsys.readouterr().err == "qos: failed\n" * 2


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (LimitError("the plan allows 10 symbols"), "--symbols-limit N"),
        (LimitError("Exceeded 10 products.", operation="T"), "--symbols-limit N"),
        (LimitError("Exceeded 10 symbols.", operation="/kline"), "--symbols-limit N"),
        (LimitError("Too fast.", operation="/kline"), "--requests-limit N"),
        (LimitError("Too fast.", operation="T"), None),
        (
            LimitError("another client seems to use this plan's only connection"),
            None,
        ),
    ],
)
def test_the_hint_on_a_limit_names_the_option_for_it(error, advice, home, capsys):
    """Also from within a group of tasks."""

    async def play():
        options = Options(sim=True)
        async with open_client(options), asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())

    async def fail():
        raise error

    assert run_async(play) == 1
    text = capsys.readouterr().err
    assert (advice in text) if advice else (text == f"qos: {error}\n")


def test_an_unexpected_error_is_raised():
    with pytest.raises(ZeroDivisionError):
        ending(ExceptionGroup("", [ZeroDivisionError()]))


@pytest.mark.parametrize("given", [None, 0, 1])
def test_the_returned_value_is_the_exit_code(given):
    async def play():
        return given

    assert run_async(play) == (given or 0)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_cancels_the_run_and_sets_the_exit_code(number, code):
    """So that open resources are closed."""
    closed = []

    async def play():
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    assert run_async(play) == code
    assert closed


def test_ctrl_c_during_imports_exits_with_130(monkeypatch):
    def interrupt(options):
        raise KeyboardInterrupt

    replace_run(monkeypatch, interrupt)
    assert main(["snapshot", "US:AAPL"]) == 130


# Presses Ctrl-C at the import of a module, in a program that starts as users start it.
INTERRUPTED = """
import os, runpy, signal, sys
class Presser:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Presser())
if os.environ["AS"] == "module":
    runpy.run_module("qos_async", run_name="__main__", alter_sys=True)
from qos_async.cli import program
program()
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGINT of a process")
@pytest.mark.fault("F28")
@pytest.mark.parametrize("way", ["module", "script"])
@pytest.mark.parametrize(
    "module",
    [
        "argparse",
        "qos_async.cli.command_line",
        "qos_async.symbols",
        "qos_async.cli.commands",
        "msgspec",
        "asyncio",
        "aiohttp",
    ],
)
def test_ctrl_c_at_any_import_of_the_program_exits_with_130(module, way):
    done = subprocess.run(
        command("snapshot", "US:AAPL", "--sim", code=INTERRUPTED),
        capture_output=True,
        text=True,
        env=environment(AT=module, AS=way),
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (BrokenPipeError(), 0, ""),
        (OSError(28, "No space left on device"), 1, "qos: No space left on device\n"),
    ],
)
def test_a_closed_pipe_is_a_success_and_a_full_disk_a_failure(
    error, code, says, monkeypatch, capfd
):
    program = sys.modules["qos_async.cli.command_line"]
    monkeypatch.setattr(program, "discard_output", lambda stream: None)
    replace_run(monkeypatch, lambda options: ending(error))
    assert main(["snapshot", "US:AAPL"]) == code
    assert capfd.readouterr().err == says
