"""``qos record`` to a stream, as a process that a test ends."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from typing import Self

from qos_async.sim import Simulator
from tests.support.cli_process import start

__all__ = ["RecordProcess"]


class RecordProcess:
    """A recorder of a simulator; it is killed at the end of the block.

    Args:
        sim: The service.
        words: Channels, symbols and options.
    """

    def __init__(self, sim: Simulator, *words: str) -> None:
        self._process: subprocess.Popen[str] = start(
            "record",
            *words,
            QOS_API_KEY=sim.key,
            QOS_HTTP_URL=sim.http_url,
            QOS_STREAM_URL=sim.stream_url,
        )

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end(signal.SIGKILL)

    async def line(self, words: str) -> str:
        """Read stderr up to the line with some words."""
        assert self._process.stderr is not None
        seen: list[str] = []
        while True:
            async with asyncio.timeout(60):
                text = await asyncio.to_thread(self._process.stderr.readline)
            seen.append(text)
            assert text, f"{words!r} was never written: {seen}"
            if words in text:
                return text

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def end(self, number: signal.Signals) -> None:
        """Send a signal, also to a stopped process, and wait for its end."""
        if self._process.poll() is None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            await asyncio.to_thread(self._process.communicate, timeout=40)
