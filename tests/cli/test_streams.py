"""Tests of ``qos_async.cli.streams``: only data on stdout, whatever stderr is."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.cli_process import command, environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/dev/full").exists(), reason="needs a POSIX shell and /dev/full"
    ),
]
MISSING = ("snapshot", "US:AAPL,NOSUCH", "--sim", "--json")
PRINTING = {
    "snapshot": ("snapshot", "US:AAPL", "--sim"),
    "json": MISSING,
    "csv": ("products", "US", "--sim", "--csv"),
    "chart": ("chart", "US:AAPL", "--sim"),
    "stream": ("stream", "CF:BTCUSDT", "--sim", "--seconds", "3", "--json"),
    "demo": ("demo", "--plain", "--seconds", "1"),
    "demo-json": ("demo", "--json", "--seconds", "1"),
    "doctor": ("doctor", "--sim"),
    "sim": ("sim",),
    "help": ("--help",),
    "version": ("--version",),
}
"""Commands that print, or begin to."""


def shell(words, redirections, *, code=None, within=30, unbuffered=""):
    """Run a command in a shell with redirections; return exit code, stdout, stderr."""
    typed = shlex.join(command(*words, code=code))
    done = subprocess.run(
        ["bash", "-c", f"{typed} {redirections}"],
        capture_output=True,
        text=True,
        env=environment(XDG_CONFIG_HOME="/nonexistent", PYTHONUNBUFFERED=unbuffered),
        timeout=within,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.fault("F11")
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2> >(exec 0<&-)"])
def test_stdout_has_only_data_whatever_stderr_is(stderr):
    code, out, _ = shell(MISSING, f"{stderr} 0<&-")
    assert code == 0
    assert [json.loads(line)["symbol"] for line in out.splitlines()] == ["US:AAPL"]


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("dmeo",), 2),
        (("snapshot", "AAPL"), 2),
        (("snapshot", "US:AAPL"), 3),
        (("snapshot", "US:NOSUCH", "--sim"), 1),
        (("snapshot", "US:AAPL", "--sim", "--key", "x"), 2),
        ((), 2),
    ],
)
def test_a_failure_keeps_its_exit_code_whatever_stderr_is(words, code, stderr):
    assert shell(words, stderr)[:2] == (code, "")


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize("name", ["stream", "demo-json"])
def test_live_commands_print_only_data_whatever_stderr_is(name, stderr):
    code, out, _ = shell(PRINTING[name], stderr)
    assert code == 0
    assert all("symbol" in json.loads(line) for line in out.splitlines())


@pytest.mark.fault("F11")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("name", PRINTING)
def test_a_full_disk_behind_stdout_is_one_sentence(name, unbuffered):
    code, _, err = shell(PRINTING[name], ">/dev/full", unbuffered=unbuffered)
    assert code == 1
    assert "qos: No space left on device" in err.splitlines()


@pytest.mark.parametrize("name", PRINTING)
def test_a_closed_pipe_behind_stdout_is_not_a_failure(name):
    code, _, _ = shell(PRINTING[name], "> >(exec 0<&-); exit $?")
    assert code == 0


@pytest.mark.parametrize("name", ["snapshot", "csv", "chart", "stream", "demo", "help"])
def test_a_closed_stdout_is_not_a_failure(name):
    """As under pythonw."""
    code, out, err = shell(PRINTING[name], ">&-")
    assert (code, out) == (0, "")
    assert "Errno" not in err


CLOSINGS = [
    " ".join(some)
    for count in (1, 2, 3)
    for some in itertools.combinations(("0<&-", ">&-", "2>&-"), count)
]
SHOW = """
import os, sys
from unittest import mock
from qos_async.cli import main
from qos_async.sim import Simulator
entered = Simulator.__aenter__
async def enter(self):
    found = await entered(self)
    names = [os.readlink(f"/proc/self/fd/{n}") for n in range(3)]
    with open(os.environ["SHOWN"], "w") as file:
        file.write(" ".join(names))
    return found
with mock.patch.object(Simulator, "__aenter__", enter):
    sys.exit(main())
"""


@pytest.mark.fault("F11")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs procfs")
@pytest.mark.parametrize("closed", CLOSINGS)
def test_no_socket_or_file_takes_the_place_of_a_closed_stream(
    closed, tmp_path, monkeypatch
):
    shown = tmp_path / "shown"
    monkeypatch.setenv("SHOWN", str(shown))
    code, _, _ = shell(MISSING, closed, code=SHOW)
    assert code == 0
    names = shown.read_text().split()
    for number, name in enumerate(names):
        if ("0<&-", ">&-", "2>&-")[number] in closed.split():
            assert name == os.devnull
        assert "socket" not in name
