"""Every code block of the README does what the page says."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from qos_async import Client, Limits, Timing
from qos_async.cli.main import parse
from qos_async.cli.settings import read_file
from qos_async.sim import Simulator
from tests.support.markdown import ROOT, Block, blocks
from tests.support.programs import Screen, finish, run_fragment, start

PYTHON = [block for block in blocks() if block.language == "python"]
COMMANDS = [
    line
    for block in blocks()
    if block.language == "console"
    for line in block.text.splitlines()
]
FRAGMENTS = [block for block in PYTHON if block.how not in ("script", "pytest")]


def named(block: Block) -> str:
    return f"line-{block.line}"


def only(how: str) -> Block:
    [block] = [block for block in PYTHON if block.how == how]
    return block


def test_nothing_is_left_untested():
    assert {block.language for block in blocks()} == {
        "console",
        "python",
        "sh",
        "text",
        "toml",
    }
    assert {block.how for block in PYTHON} == {
        "",
        "script",
        "pytest",
        "cut",
        "connect and cut",
    }


async def test_the_twelve_lines_run_until_ctrl_c(environment, tmp_path: Path):
    program = tmp_path / "twelve.py"
    program.write_text(only("script").text)
    async with start(program, env=environment) as process:
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode() for _ in range(4)]
        await finish(process, signal.SIGINT)
    assert float(lines[0]) > 0
    assert all("CF:" in line for line in lines[1:])


def test_the_twelve_lines_are_twelve():
    lines = only("script").text.splitlines()
    assert len([line for line in lines if line.strip()]) <= 12


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_typed_right(line: str):
    """What it does, tests/cli shows."""
    prompt, program, *words = shlex.split(line)
    assert (prompt, program) == ("$", "qos")
    assert parse(words).command == words[0]


def test_the_configuration_is_read(tmp_path: Path):
    [block] = [block for block in blocks() if block.language == "toml"]
    path = tmp_path / "config.toml"
    path.write_text(block.text)
    path.chmod(0o600)
    settings = read_file(path)
    assert settings.limits.symbols == 100
    assert not settings.warnings


@pytest.mark.parametrize("block", FRAGMENTS, ids=named)
async def test_fragment(
    block: Block,
    simulator: Simulator,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    monkeypatch.chdir(tmp_path)  # Some write files.
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    screen = Screen(_enough(block))
    limits = Limits(command_interval=0.0, http_requests=1000)
    timing = Timing(backoff_initial=0.05)
    async with Client(limits=limits, timing=timing) as client:
        trouble = asyncio.create_task(_trouble(block, client, simulator))
        try:
            await run_fragment(
                block.text, f"README.md:{block.line}", screen, client=client
            )
        finally:
            trouble.cancel()
            await asyncio.gather(trouble, return_exceptions=True)
    assert screen.lines or "print(" not in block.text
    assert not simulator.violations


def _enough(block: Block):
    if block.how == "cut":
        return lambda lines: (
            len(lines) > 5
            and (
                any("no trade" in one for one in lines)
                and any("trades fetched" in one for one in lines)
            )
        )
    if block.how == "connect and cut":
        return lambda lines: any(one.startswith("backoff: ") for one in lines)
    return lambda lines: len(lines) >= 3


async def _trouble(block: Block, client: Client, simulator: Simulator) -> None:
    if "connect" in block.how:
        await asyncio.sleep(0)
        await client.connect()
    if "cut" in block.how:
        await simulator.until(lambda: simulator.links)
        await asyncio.sleep(0.3)
        simulator.cut()


async def test_the_plugin_works_as_shown_here_and_in_the_examples(tmp_path: Path):
    (tmp_path / "test_shown.py").write_text(only("pytest").text)
    examples = tmp_path / "examples"
    examples.mkdir()
    for name in ("bot.py", "test_bot.py"):
        shutil.copy(ROOT / "examples" / name, examples)
    installed = entry_points(group="pytest11", name="qos_async")
    plugin = () if installed else ("-p", "qos_async.testing")
    ini = ("asyncio_default_fixture_loop_scope=function", "pythonpath=.")
    settings = (word for one in ini for word in ("-o", one))
    words = ("-m", "pytest", "-q", *settings, "-p", "no:cacheprovider", *plugin)
    async with start(*words, tmp_path, env={}, cwd=tmp_path) as process:
        assert "4 passed" in await finish(process)
