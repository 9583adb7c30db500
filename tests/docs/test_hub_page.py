"""Commands, code, tokens and numbers of examples/hub.md match the package."""

from __future__ import annotations

import ast
import shlex

import pytest

from qos_async import Client, Limits
from qos_async.cli.command_line import parse
from qos_async.hub import (
    Hub,
    answers,
    clients,
    commands,
    connections,
    guard,
    http,
    link,
    relay,
    server,
)
from qos_async.hub.tokens import TokenFile
from tests.support.markdown import Block, blocks, prose
from tests.support.programs import Screen, run_fragment

PAGE = "examples/hub.md"
COMMANDS = [
    line
    for block in blocks(PAGE, "console")
    for line in block.text.splitlines()
    if line.startswith("$ ")
]
[NOTEBOOK, SDK] = blocks(PAGE, "python")
[TOKENS] = blocks(PAGE, "toml")


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_is_spelled_correctly(line: str):
    _, program, *words = shlex.split(line)
    assert program == "qos"
    assert parse(words).command == "hub"


def test_the_tokens_of_the_page_are_valid(tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(TOKENS.text)
    assert TokenFile(path, places=10).tokens.reserved == {"bot-1": 4}


async def test_the_cell_of_the_notebook_runs_on_a_hub(environment):
    upstream = Client(
        environment["QOS_API_KEY"],
        http_url=environment["QOS_HTTP_URL"],
        stream_url=environment["QOS_STREAM_URL"],
    )
    async with Hub(upstream) as hub:
        text = NOTEBOOK.text.replace("http://127.0.0.1:8765/hub", hub.http_url)
        text = text.replace("ws://127.0.0.1:8765/hub/ws", hub.stream_url)
        screen = Screen(lambda _: False)
        await run_fragment(text, NOTEBOOK.place, screen)
    assert len(screen.lines) == 2


@pytest.mark.parametrize("block", [NOTEBOOK, SDK], ids=lambda block: block.place)
def test_the_code_of_the_page_is_python(block: Block):
    compile(block.text, PAGE, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize(
    "sentence",
    [
        f"| symbols upstream | {Limits().symbols}, the plan's",
        f"| connections upstream | {Limits().connections} for the key",
        f"{clients._CLIENTS_MAX}, and {guard._HANDSHAKES_MAX} handshakes a second",
        f"{connections._SILENT_MAX} that have sent no request",
        f"{connections._IDLE_MAX} between two requests",
        f"is not complete after {connections._HEAD_TIMEOUT:g} s",
        f"or its body {http._BODY_TIMEOUT:g} s later",
        f"{link._COMMANDS_MAX} commands or {link._RECEIVED_MAX // 1024} KiB of them",
        f"at most {server._BODY_MAX // 1024} KiB",
        f"at most {link._FRAME_MAX // 1024} KiB, and",
        f"at most {answers._KLINE_REQUESTS_MAX} `kline_reqs`",
        f"{commands._PENDING_MAX:,} without a reply",
        f"{commands._GARBAGE_MAX} frames that are no JSON objects",
        f"more than {link._FRAMES_BEHIND_MAX:,} frames or",
        f"or {link._BYTES_BEHIND_MAX // 1024**2} MiB behind",
        f"or lasts more than {relay._OUTAGE_HIDDEN:g} s",
    ],
)
def test_a_limit_on_the_page_is_that_of_the_code(sentence: str):
    assert sentence in prose(PAGE)


def test_every_language_of_a_block_is_known():
    shown = {block.language for block in blocks(PAGE)}
    assert shown == {"console", "sh", "python", "toml", "ini"}
