"""Runners for code that users copy: whole programs, and fragments of a coroutine."""

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

TIMEOUT = 20.0
WARNINGS = (
    "Unclosed",
    "never awaited",
    "never retrieved",
    "was destroyed",
    "Warning",
)


class Enough(BaseException):
    """Raised by ``Screen`` to end a fragment that has printed enough."""


class Screen:
    """A ``print`` that raises ``Enough`` once ``until`` returns True."""

    def __init__(self, until: Callable[[list[str]], bool]) -> None:
        self.lines: list[str] = []
        self._until = until

    def print(self, *words: object) -> None:
        self.lines.append(" ".join(map(str, words)))
        if self._until(self.lines):
            raise Enough


async def run_fragment(code: str, name: str, screen: Screen, **names: Any) -> None:
    """Run lines from the inside of a coroutine."""
    compiled = compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    scope = {"asyncio": asyncio, "Client": qos_async.Client, "print": screen.print}
    try:
        async with asyncio.timeout(TIMEOUT):
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
    """Run this Python on ``words``, with warnings as errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error"),  # Not "-X dev": asyncio then warns on a busy machine.
        *map(str, words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        cwd=cwd or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **env},
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def finish(process: Process, number: signal.Signals | None = None) -> str:
    """Wait for the process, after a signal if given; check that it left nothing open."""
    if number is not None:
        process.send_signal(number)
    out, err = await process.communicate()
    errors = err.decode()
    assert not [word for word in WARNINGS if word in errors], errors
    if process.returncode:
        assert process.returncode == -signal.SIGINT, errors
        assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    else:
        assert not errors
    return out.decode()
