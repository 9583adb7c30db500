"""Code blocks of README.md and of the cookbook run and print what the pages say."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import signal
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from qos_async import Client, Limits, Timing
from qos_async.cli.command_line import parse
from qos_async.cli.settings import read_file
from qos_async.sim import Simulator
from tests.support.markdown import ROOT, Block, blocks
from tests.support.programs import Screen, finish, run_fragment, start

README, COOKBOOK = PAGES = ("README.md", "examples/README.md")
PYTHON = [block for page in PAGES for block in blocks(page, "python")]
COMMANDS = [
    line for block in blocks(language="console") for line in block.text.splitlines()
]
FRAGMENTS = [block for block in PYTHON if block.how not in ("script", "pytest")]

# What a block has printed when it has shown everything, by a phrase of its code.
PRINTED = {
    "trades fetched": ["is not live: ", "no trade", "trades fetched"],
    "cancel_orders": ["orders cancelled: ", "trade at ", "ing"],
    "(next attempt": ["backoff: "],
    "without {": ["without trade CF:ETHUSDT: ", "CF:BTCUSDT "],
}


def only(how: str) -> Block:
    [block] = [block for block in PYTHON if block.how == how]
    return block


def test_every_block_is_of_a_kind_that_is_tested():
    assert {block.language for block in blocks(README)} == {
        "ascii",  # The picture of a fleet.
        "console",
        "python",
        "sh",
        "text",
    }
    assert {block.language for block in blocks(COOKBOOK)} == {"python", "text", "toml"}
    assert {block.how for block in PYTHON} == {
        "",
        "script",
        "pytest",
        "cut",
        "connect and cut",
        "reject",
    }


def shape(line: str) -> str:
    """Return a line with one number, one side and one of the two symbols throughout."""
    line = line.replace("sell", "buy").replace("ETHUSDT", "BTCUSDT")
    return re.sub(r"\d+(\.\d+)?", "0", line)


async def test_the_twelve_lines_print_what_is_shown_until_ctrl_c(
    environment, tmp_path: Path
):
    program = tmp_path / "twelve.py"
    program.write_text(only("script").text)
    async with start(program, env=environment) as process:
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode() for _ in range(20)]
        await finish(process, signal.SIGINT)
    assert float(lines[0]) > 0
    assert all("CF:" in line for line in lines[1:])
    [shown] = [block.text for block in blocks(README, "text")]
    assert {shape(line) for line in shown.splitlines()} == {
        shape(line.rstrip("\n")) for line in lines
    }


def test_the_twelve_lines_are_twelve():
    lines = only("script").text.splitlines()
    assert len([line for line in lines if line.strip()]) <= 12


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_spelled_correctly(line: str):
    """Its effect is tested in tests/cli."""
    prompt, program, *words = shlex.split(line)
    assert (prompt, program) == ("$", "qos")
    assert parse(words).command == words[0]


def test_the_configuration_file_is_read(tmp_path: Path):
    [block] = blocks(COOKBOOK, "toml")
    path = tmp_path / "config.toml"
    path.write_text(block.text)
    path.chmod(0o600)
    settings = read_file(path)
    assert settings.limits.symbols == 100
    assert not settings.warnings


@pytest.mark.parametrize("block", FRAGMENTS, ids=lambda block: block.place)
async def test_a_fragment_runs_and_prints(
    block: Block,
    simulator: Simulator,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    monkeypatch.chdir(tmp_path)  # Some write files.
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    screen = Screen(printed_enough(block))
    limits = Limits(command_interval=0.0, http_requests=1000)
    timing = Timing(backoff_initial=0.05)
    if block.how == "reject":
        simulator.reject_symbols("CF:ETHUSDT")
    async with Client(limits=limits, timing=timing) as client:
        faults = asyncio.create_task(inject_faults(block, client, simulator))
        try:
            await run_fragment(block.text, block.place, screen, client=client)
        finally:
            faults.cancel()
            await asyncio.gather(faults, return_exceptions=True)
    assert screen.lines or "print(" not in block.text
    assert not simulator.violations


def printed_enough(block: Block) -> Callable[[list[str]], bool]:
    for phrase, texts in PRINTED.items():
        if phrase in block.text:
            return lambda lines: all(
                any(text in line for line in lines) for text in texts
            )
    wanted = max(3, block.text.count("print("))
    return lambda lines: len(lines) >= wanted


async def inject_faults(block: Block, client: Client, simulator: Simulator) -> None:
    if "connect" in block.how:
        await asyncio.sleep(0)
        await client.connect()
    if "cut" in block.how:
        await simulator.until(lambda: simulator.links)
        await asyncio.sleep(0.3)
        simulator.cut()


async def test_the_pytest_plugin_works_as_shown_here_and_in_the_examples(
    tmp_path: Path,
):
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
