"""What may be typed, and what is said about mistakes."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from qos_async import __version__
from qos_async.cli import main
from tests.cli.running import command, environment


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["demo", "--seconds", "0"], "above 0: try --seconds 15"),
        (["demo", "--seconds", "-3"], "above 0: try --seconds 15"),
        (["demo", "--seconds", "nan"], "above 0: try --seconds 15"),
        (["demo", "--seconds", "inf"], "above 0: try --seconds 15"),
        (["demo", "--seconds", "soon"], "'soon' is not a number of seconds"),
        (["demo", "--speed", "0"], "above 0 and up to 100"),
        (["demo", "--speed", "101"], "above 0 and up to 100"),
        (["demo", "--seed", "-1"], "a whole number from 0"),
        (["demo", "--seed", "x"], "such as --seed 7"),
        (["demo", "--json", "--plain"], "not allowed with"),
        (["demo", "--sec", "3"], "unrecognized arguments"),
        (["sim", "--port", "65536"], "a port from 0 to 65535: try --port 8765"),
        (["sim", "--port", "-1"], "a port from 0 to 65535"),
        (["sim", "--port", "http"], "'http' is not a port"),
        (["dmeo"], "invalid choice: 'dmeo'"),
        ([], "usage: qos"),
    ],
)
def test_mistakes_are_told_with_exit_code_2(words, says, capsys):
    """On stderr, and nothing starts."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert out == ""


@pytest.mark.parametrize("words", [[], ["demo"], ["sim"]])
def test_every_command_has_help_with_an_example(words, capsys):
    """Which begins with the program's name."""
    assert main([*words, "--help"]) == 0
    out = capsys.readouterr().out
    assert "examples:\n  qos " in out


def test_the_version_is_told(capsys):
    """On stdout, with exit code 0."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qos {__version__}\n"


def test_help_imports_nothing_heavy():
    """So that it comes at once."""
    code = (
        "import sys; from qos_async.cli import main; main(['demo', '--help']);"
        "print({'aiohttp', 'asyncio', 'msgspec', 'rich'} & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    ).stdout
    assert out.endswith("\nset()\n")


def test_python_m_is_the_same_program():
    """``python -m qos_async --help`` speaks of ``qos``, within a second."""
    started_at = time.monotonic()
    done = subprocess.run(
        command("--help"), capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.startswith("usage: qos ")
    assert time.monotonic() - started_at < 1
