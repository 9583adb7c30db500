"""Standard output that never blocks the event loop: the reader of a pipe may be slow."""

from __future__ import annotations

import asyncio
import os
import select
import stat
import sys
from collections.abc import Callable
from io import UnsupportedOperation

import anyio

__all__ = ["AsyncStdout"]

_CHUNK = 4096
"""What a pipe takes that select reports as writable (POSIX: PIPE_BUF)."""
_MAX_PENDING = 1000
_FLUSH_TIMEOUT = 0.3


class AsyncStdout:
    """Writes lines in batches; ``run``, in a task of its own, does the writing.

    ``write`` waits while too many lines are pending. So memory stays bounded here, and the
    client's buffers count what they drop.

    Attributes:
        failed: Whether writing is no longer possible.
    """

    def __init__(self) -> None:
        self.failed = False
        self._pending: list[str] = []
        self._unwritten = b""
        self._wake = asyncio.Event()
        self._written = asyncio.Event()
        self._descriptor = _descriptor()
        sys.stdout.flush()

    async def write(self, lines: str) -> None:
        """Queue lines, each with its end; waits while too many are pending."""
        self._pending.append(lines)
        self._wake.set()
        if len(self._pending) >= _MAX_PENDING:
            await self.drain()

    async def drain(self) -> None:
        """Wait until everything that was queued has been written."""
        while self._pending or self._unwritten:
            self._written.clear()
            await self._written.wait()

    async def run(self) -> None:
        """Write queued lines, for ever.

        Raises:
            BrokenPipeError: When the reader closes the pipe, even if nothing is pending.
            OSError: When the disk is full, for example.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_for_close())
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._write_pending()

    async def finish(self) -> None:
        """Write what is left, within a short timeout; also in a cancelled task."""
        with anyio.move_on_after(_FLUSH_TIMEOUT, shield=True):
            await self._write_pending()

    async def _write_pending(self) -> None:
        lines, self._pending = self._pending, []
        self._unwritten += "".join(lines).encode()
        if self._descriptor is None:
            print(self._unwritten.decode(), end="", flush=True)
            self._unwritten = b""
        else:
            await self._write_to(self._descriptor)
        self._written.set()

    async def _write_to(self, descriptor: int) -> None:
        try:
            while self._unwritten:
                if not select.select([], [descriptor], [], 0)[1]:
                    loop = asyncio.get_running_loop()
                    await _ready(descriptor, loop.add_writer, loop.remove_writer)
                written = os.write(descriptor, self._unwritten[:_CHUNK])
                self._unwritten = self._unwritten[written:]
        except OSError:
            self.failed = True
            raise

    async def _watch_for_close(self) -> None:
        descriptor = self._descriptor
        if descriptor is None or not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return
        # The writing end of a pipe becomes readable only when the other end is closed.
        loop = asyncio.get_running_loop()
        await _ready(descriptor, loop.add_reader, loop.remove_reader)
        self.failed = True
        raise BrokenPipeError


def _descriptor() -> int | None:
    """Return the file descriptor; None where stdout has none, and on Windows."""
    if os.name != "posix":
        return None
    try:
        return sys.stdout.fileno()
    except UnsupportedOperation:
        return None


async def _ready(
    descriptor: int,
    watch: Callable[[int, Callable[[], None]], object],
    unwatch: Callable[[int], object],
) -> None:
    """Wait until the event loop reports a descriptor as ready."""
    ready = asyncio.Event()
    watch(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        unwatch(descriptor)
