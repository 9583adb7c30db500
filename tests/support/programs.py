"""Running what users will copy: whole programs, and lines out of the middle of one."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import CodeType
from typing import Any

import qos_async
from tests.support.markdown import ROOT

__all__ = ["Screen", "finish", "run_fragment", "start"]

PATIENCE = 20.0
COMPLAINTS = (
    "Unclosed",
    "never awaited",
    "never retrieved",
    "was destroyed",
    "Warning",
)


class Enough(BaseException):
    """The block has shown what it was to show."""


class Screen:
    """A ``print`` that ends whoever prints, as soon as ``until`` is content."""

    def __init__(self, until: Callable[[list[str]], bool]) -> None:
        self.lines: list[str] = []
        self._until = until

    def print(self, *words: object) -> None:
        self.lines.append(" ".join(map(str, words)))
        if self._until(self.lines):
            raise Enough


async def run_fragment(code: str, name: str, screen: Screen, **names: Any) -> None:
    """Run lines that stand in the middle of a coroutine."""
    compiled = compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    scope = {"asyncio": asyncio, "Client": qos_async.Client, "print": screen.print}
    try:
        async with asyncio.timeout(PATIENCE):
            await _evaluate(compiled, {**scope, **names})
    except Enough:
        pass


async def _evaluate(code: CodeType, names: dict[str, Any]) -> None:
    result = eval(code, names)
    if asyncio.iscoroutine(result):
        await result


@asynccontextmanager
async def start(
    *words: str | Path, env: Mapping[str, str], cwd: Path | None = None
) -> AsyncGenerator[Process]:
    """Run this Python on ``words`` where nothing may leak and no warning may pass."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error"),  # Not "-X dev": on a busy machine asyncio then complains.
        *map(str, words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        cwd=cwd or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **env},
    )
    try:
        async with asyncio.timeout(PATIENCE):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def finish(process: Process, number: signal.Signals | None = None) -> str:
    """Wait for the end, which a signal may bring about; see that it left no mess."""
    if number is not None:
        process.send_signal(number)
    out, err = await process.communicate()
    said = err.decode()
    assert not [word for word in COMPLAINTS if word in said], said
    if process.returncode:
        assert process.returncode == -signal.SIGINT, said
        assert said.rstrip().endswith("KeyboardInterrupt"), said
    else:
        assert not said
    return out.decode()
