"""Processes of a fleet under test, which are started again and again."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.cli_process import ROOT, environment

__all__ = ["CLEAN", "PATIENCE", "Program"]

PATIENCE = 120.0
"""Seconds after which a wait has failed: more than anything takes on a slow machine."""

CLEAN = frozenset({0, -signal.SIGTERM, 128 + signal.SIGTERM, 3})
"""Exit codes after SIGTERM: one that has just been started has nothing to end yet, and a
follower without a broker cannot store its place."""


class Program:
    """A process that is started again and again, with its output in one file.

    Attributes:
        name: Its name.
        process: It, until it is ended; None before the first start.
        codes: The exit codes of those that ended by themselves.
    """

    def __init__(self, name: str, directory: Path, *words: str, **variables: str):
        self.name, self.words, self.variables = name, words, variables
        self.output = directory / f"{name}.err"
        self.process: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self.codes: list[int] = []
        self._run_at = 0

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.runs:
            return
        with self.output.open("ab") as output:
            self._run_at = output.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fleet_programs", *self.words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env=environment(PYTHONUNBUFFERED="1", **self.variables),
            )
        self._started.append(self.process)

    @property
    def runs(self) -> bool:
        """Whether it has been started, and has not ended."""
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.process is not None and self.runs:
            self.process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        process = self.process
        if process is None:
            return 0
        self.send(signal.SIGCONT)
        self.send(number)
        self.process = None  # It has not ended by itself.
        async with asyncio.timeout(PATIENCE):
            return await asyncio.to_thread(process.wait)

    def kill(self) -> None:
        """End all processes that were started."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()

    def text(self) -> str:
        """Return the output of all runs."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def text_of_run(self) -> str:
        """Return the output since the last start."""
        output = self.output.read_bytes() if self.output.exists() else b""
        return output[self._run_at :].decode(errors="replace")
