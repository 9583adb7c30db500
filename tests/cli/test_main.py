"""Tests of ``qos_async.cli.command_line``: help, usage errors and the table of commands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time

import pytest

from qos_async import __version__, config
from qos_async.cli import main, options
from qos_async.cli.command_line import parse
from qos_async.cli.commands import COMMANDS
from tests.support.cli_process import command, environment


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
        (["snapshot"], "arguments are required: SYMBOL"),
        (["snapshot", "AAPL"], "malformed symbol 'AAPL': the market is missing"),
        (["snapshot", "US:AAPL", "--json", "--csv"], "not allowed with"),
        (["snapshot", "US:AAPL", "--symbols-limit", "0"], "a whole number from 1 to"),
        (["products", "US:AAPL"], "'US:AAPL' is not a market: try US or HK"),
        (["trades", "US:AAPL", "--count", "51"], "a whole number from 1 to 50"),
        (["klines", "US:AAPL", "--count", "x"], "a whole number from 1 to 1000"),
        (["klines", "US:AAPL", "--interval", "3m"], "take one of 1m 5m 15m 30m 1h"),
        (["klines", "US:AAPL", "-i", "60m"], "1M 1y; did you mean 1h?"),
        (["stream", "candles", "US:AAPL"], "klines; did you mean klines?"),
        (["stream", "OHLCV", "US:AAPL"], "klines; did you mean klines?"),
        (["stream", "quotes", "US:AAPL"], "klines; did you mean snapshots?"),
        (["stream", "orderbook", "US:AAPL"], "klines; did you mean depth?"),
        (["stream", "trdes", "US:AAPL"], "klines; did you mean trades?"),
        (
            ["chart", "US:AAPL", "US:TSLA"],
            "qos chart: error: unrecognized arguments: U",
        ),
        (["chart", "US:AAPL", "--json"], "unrecognized arguments: --json\n"),
        (["snapshot", "US:AAPL,HK:700"], "did you mean US:AAPL HK:700?"),
        ([], "usage: qos"),
    ],
)
def test_usage_errors_exit_with_2(words, says, capsys):
    """The message is on stderr, and nothing starts."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert out == ""


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)])
def test_every_command_has_help_with_examples(words, capsys):
    """Each example begins with the program's name."""
    assert main([*words, "--help"]) == 0
    out = capsys.readouterr().out
    assert "examples:\n  qos " in out
    assert COMMANDS[words[0]].about in out if words else True


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_in_help_parse(name):
    """Without the part after a pipe or a redirection."""
    examples = re.findall(r"^  qos (.*)$", COMMANDS[name].about, re.MULTILINE)
    words = [shlex.split(re.split(r" [|>]| \d>", one)[0]) for one in examples]
    assert name in [parse(typed).command for typed in words]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_command(name, capsys):
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"{name} {COMMANDS[name].brief}" in text


def test_version_is_printed(capsys):
    """On stdout, with exit code 0."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qos {__version__}\n"


def test_counts_are_limited_like_those_of_the_client():
    assert options.TRADES_MAX == config.TRADES_MAX
    assert options.KLINES_MAX == config.KLINES_MAX


def test_help_imports_nothing_slow():
    """So help appears at once."""
    heavy = {"aiohttp", "asyncio", "msgspec", "rich", "textual", "polars", "plotly"}
    code = (
        "import sys; from qos_async.cli import main;"
        f"[main([name, '--help']) for name in {list(COMMANDS)}];"
        f"print({heavy} & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    ).stdout
    assert out.endswith("\nset()\n")


def test_python_m_runs_the_same_program():
    """``python -m qos_async --help`` names ``qos``, within a second."""
    started_at = time.monotonic()
    done = subprocess.run(
        command("--help"), capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.startswith("usage: qos ")
    assert time.monotonic() - started_at < 1
