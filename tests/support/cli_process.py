"""Runs ``qos`` as its users do: as a process, on a pipe or on a terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT_RICH = (
    "import sys; sys.modules['rich'] = None; sys.modules['rich.console'] = None\n"
    "from qos_async.cli import main; sys.exit(main())"
)


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self):
        return self.out.splitlines()


def command(*words, code=None):
    start = ("-c", code) if code else ("-m", "qos_async")
    return [sys.executable, "-X", "dev", *start, *words]


def environment(**extra):
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("QOS_") and name not in ("NO_COLOR", "FORCE_COLOR")
    }
    return {**kept, "PYTHONPATH": str(ROOT), **extra}


def start(*words, stdout=subprocess.PIPE, process_group=None, **variables):
    return subprocess.Popen(
        command(*words),
        process_group=process_group,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )


def finish(process, *, within=15):
    out, err = process.communicate(timeout=within)
    return checked(Ran(process.returncode, out or "", err))


def wait_for(process, words):
    """Read its stderr up to the line with ``words``; asyncio may say more before."""
    if not any(words in line for line in process.stderr):
        raise AssertionError(f"{words!r} was never written")


def run(*words):
    return finish(start(*words))


def run_on_terminal(*words, code=None, size=(24, 80), stderr=False, keys=b"", **extra):
    """Return what a terminal of that many lines and columns was sent.

    Skips the test on Windows. Stderr is a pipe, unless ``stderr`` puts it on the terminal, too: textual needs that.
    ``keys`` are typed when the screen of ``qos watch`` is there.
    """
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
    master, slave = pty.openpty()
    sized = {"LINES": str(size[0]), "COLUMNS": str(size[1]), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command(*words, code=code),
        stdin=slave,
        stdout=slave,
        stderr=slave if stderr else subprocess.PIPE,
        env=environment(**sized, **extra),
    )
    os.close(slave)
    out = b""
    with contextlib.suppress(
        OSError
    ):  # How Linux reports that the other end is closed.
        while piece := os.read(master, 65536):
            out += piece
            if keys and b"quotes" in out:
                os.write(master, keys)
                keys = b""
    os.close(master)
    _, err = process.communicate(timeout=15)
    return checked(Ran(process.returncode, out.decode(), (err or b"").decode()))


def checked(ran):
    """Nothing is left behind, and nothing unforeseen is shown."""
    for word in ("Traceback", "ResourceWarning", "Unclosed", "never awaited"):
        assert word not in ran.out + ran.err, ran.err
    return ran
