"""Commands, code, permissions and numbers of examples/fleet.md match the package."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qos_async.cli.command_line import parse
from qos_async.cli.record.fleet import FleetFile
from qos_async.config import TRADES_MAX
from qos_async.hub.stats import HubStats, hub_metrics
from qos_async.jetstream import spool
from qos_async.jetstream.messages import ENTRY, FORM
from qos_async.recordings.recorder import RecorderStats
from qos_async.stats import Stats
from tests.jetstream.test_permissions import ARCHIVER, CREATOR, FOLLOWER, RECORDER
from tests.support.markdown import ROOT, Block, blocks, prose
from tests.support.nats_servers import binary, free_ports

PAGE = "examples/fleet.md"
PLACE = "nats://127.0.0.1:4222/QOS"

CONSOLE = [
    line.removeprefix("$ ")
    for block in blocks(PAGE, "console")
    for line in block.text.splitlines()
]
[ONE_NODE, CLUSTER] = blocks(PAGE, "conf")
[HUB, FOLLOW] = blocks(PAGE, "python")
[SQL] = blocks(PAGE, "sql")
[FLEET] = blocks(PAGE, "toml")
ALERTS = (ROOT / "examples/fleet-alerts.yml").read_text("utf-8")
DASHBOARD = json.loads((ROOT / "examples/fleet-dashboard.json").read_text("utf-8"))


@pytest.mark.parametrize("line", [line for line in CONSOLE if line.startswith("qos ")])
def test_a_command_of_the_page_is_spelled_correctly(line: str):
    words = line.removeprefix("qos ")
    assert parse(shlex.split(words)).command == words.split()[0]


@pytest.mark.parametrize("block", [HUB, FOLLOW], ids=lambda block: block.place)
def test_the_code_of_the_page_is_python(block: Block):
    compile(block.text, PAGE, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_lists_of_permissions_are_those_that_are_tested():
    shown = [json.loads(block.text) for block in blocks(PAGE, "json")]
    assert [one["permissions"] for one in (shown[0], *shown[2:])] == [
        RECORDER,
        FOLLOWER,
        ARCHIVER,
    ]
    assert shown[1] == CREATOR


def test_the_fleet_file_has_a_table_for_each_key(tmp_path: Path):
    fleet = tomllib.loads(FLEET.text)
    named = re.findall(r"--fleet fleet\.toml --name (\w+)", "\n".join(CONSOLE))
    assert list(fleet["holders"]) == named
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET.text)
    for name in named:
        holder = FleetFile(path, name).read()
        assert holder is not None
        assert holder.topics


def test_a_row_that_is_inserted_twice_is_there_once():
    create, insert, _ = SQL.text.split(";")
    database = sqlite3.connect(":memory:")
    database.execute(create)
    for _ in range(2):
        database.execute(insert, ("0.main.1.2.3", "US:AAPL", "1.5"))
    assert database.execute("SELECT count(*) FROM trades").fetchone() == (1,)
    database.close()


@pytest.mark.parametrize(
    "sentence",
    [
        f"The service remembers {TRADES_MAX} trades of a symbol",
        f"{spool.DISK / 1e9:g} GB, or {spool.MEMORY / 1e6:g} MB of memory",
        "keeps five minutes",
        f"`{ENTRY}: {FORM} <recorder> <epoch> <counter> <previous> <at> <up>`",
    ],
)
def test_a_number_of_the_page_is_that_of_the_code(sentence: str):
    assert sentence in prose(PAGE)
    assert spool.KEEP == 5 * 60


def test_the_rule_for_readers_has_ten_lines():
    [_, rule] = blocks(PAGE, "text")
    assert len(rule.text.splitlines()) == 10


def metrics() -> set[str]:
    """Return the names that the package emits."""
    hub = HubStats(
        ready=True,
        upstream="open",
        symbols=0,
        symbols_max=0,
        topics=0,
        interrupted=0,
        ticks=0,
        requests=0,
        answered={"live": 0},
        refused=0,
        loop_lag_max=0.0,
        clients=[],
    )
    text = "\n".join(
        [
            Stats().to_openmetrics(),
            RecorderStats(lease_held=True).to_openmetrics(),
            hub_metrics(hub),
        ]
    )
    families = re.findall(r"^# TYPE (qos_\w+) (\w+)", text, re.MULTILINE)
    return {f"{name}_total" if kind == "counter" else name for name, kind in families}


@pytest.mark.parametrize(
    "text",
    sorted(
        {
            *re.findall(r"expr: '(.*)'", ALERTS),
            *[panel["targets"][0]["expr"] for panel in DASHBOARD["panels"]],
            *re.findall(r"`(qos_\w+)`", prose(PAGE)),
        }
    ),
)
def test_a_metric_of_an_alert_panel_or_row_exists(text: str):
    used = set(re.findall(r"\bqos_\w+", text))
    assert used
    assert used <= metrics()


def test_each_alert_has_an_expression_and_a_sentence():
    count = ALERTS.count("- alert: ")
    assert count == ALERTS.count("expr: '") == ALERTS.count("summary: '") > 10


# On a real server


@pytest.fixture
def place(tmp_path: Path) -> Iterator[str]:
    """A place on a server with the configuration of the page."""
    [port, monitor] = free_ports(2)
    text = ONE_NODE.text.replace("4222", str(port)).replace("8222", str(monitor))
    text = text.replace("/var/lib/nats", str(tmp_path / "store"))
    configuration = tmp_path / "nats.conf"
    configuration.write_text(text.replace("100GB", "2GB"))
    process = subprocess.Popen(
        [binary(), "-c", str(configuration)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield PLACE.replace("4222", str(port))
    process.kill()
    process.wait()


def test_the_configuration_of_a_cluster_is_valid(tmp_path: Path):
    path = tmp_path / "nats.conf"
    path.write_text(CLUSTER.text.replace("/var/lib/nats", str(tmp_path)))
    subprocess.run([binary(), "-t", "-c", str(path)], check=True, capture_output=True)


async def test_the_commands_and_the_follower_of_the_page_run(
    place: str, tmp_path: Path
):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "XDG_STATE_HOME": str(tmp_path),
    }
    [plain, leased] = [line for line in CONSOLE if line.startswith("qos record trades")]
    program = tmp_path / "bot.py"
    program.write_text(_program(FOLLOW.text.replace(PLACE, place)))
    for number, line in enumerate((plain, leased)):
        spooled = line.replace("/var/lib/qos/spool", str(tmp_path / f"spool{number}"))
        words = [*shlex.split(spooled.replace(PLACE, place))[1:], "--sim"]
        recorder = await _start("-m", "qos_async", *words, env=environment)
        try:
            await _line(recorder.stderr, b"2 topics to nats://127.0.0.1")
            bot = await _start(str(program), env=environment)
            try:
                shown = await _line(bot.stdout, b".default.")
            finally:
                bot.kill()
                await bot.wait()
            assert len(shown.split()) == 2
        finally:
            recorder.terminate()
            await recorder.communicate()
        assert recorder.returncode == 0


def _program(text: str) -> str:
    """Return the code of the page as a program."""
    imports, body = text.split("\n\n", 1)
    inside = textwrap.indent(body, "    ")
    return (
        f"import asyncio\n{imports}\nasync def main():\n{inside}\nasyncio.run(main())"
    )


async def _start(*words: str, env: Any) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, *words, env=env, stdout=pipe, stderr=pipe
    )


async def _line(lines: asyncio.StreamReader | None, words: bytes) -> bytes:
    """Return the first line with some words."""
    assert lines is not None
    async with asyncio.timeout(60):
        while words not in (line := await lines.readline()):
            assert line, "the process has ended"
    return line
