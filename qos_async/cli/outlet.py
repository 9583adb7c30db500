"""Standard output for a stream: a reader of the pipe may be slow, or go."""

from __future__ import annotations

import asyncio
import os
import select
import stat
import sys
from collections.abc import Callable
from io import UnsupportedOperation

import anyio

__all__ = ["Outlet"]

_AT_ONCE = 4096
"""What fits into a pipe that select calls writable (POSIX: PIPE_BUF)."""
_PENDING = 1000
_LAST_WORDS = 0.3


class Outlet:
    """Writes lines, many at a time, and never stops the event loop.

    A task that runs ``write_out`` does the writing. Who has more to say than is taken
    waits in ``put``, so that nothing grows: not here, and in the client's buffers they
    are counted and told.

    Attributes:
        failed: Whether nothing can be written any more.
    """

    def __init__(self) -> None:
        self.failed = False
        self._pending: list[str] = []
        self._left = b""
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._descriptor = _descriptor()
        if sys.stdout is not None:
            sys.stdout.flush()

    async def put(self, lines: str) -> None:
        """Take lines, each with its end; waits while too many are waiting."""
        self._pending.append(lines)
        self._more.set()
        if len(self._pending) >= _PENDING:
            await self.written()

    async def written(self) -> None:
        """Wait until everything that was put has been written."""
        while self._pending or self._left:
            self._room.clear()
            await self._room.wait()

    async def write_out(self) -> None:
        """Write whatever is put, for ever.

        Raises:
            BrokenPipeError: When the reader has gone, be there something to write or
                not.
            OSError: When the disk is full, say.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._notice_the_end())
            while True:
                await self._more.wait()
                self._more.clear()
                await self._write_pending()

    async def finish(self) -> None:
        """Write what is left, if it is taken at once; also in a cancelled task."""
        with anyio.move_on_after(_LAST_WORDS, shield=True):
            await self._write_pending()

    async def _write_pending(self) -> None:
        lines, self._pending = self._pending, []
        self._left += "".join(lines).encode()
        if self._descriptor is None:
            print(self._left.decode(), end="", flush=True)
            self._left = b""
        else:
            await self._write(self._descriptor)
        self._room.set()

    async def _write(self, descriptor: int) -> None:
        try:
            while self._left:
                if not select.select([], [descriptor], [], 0)[1]:
                    loop = asyncio.get_running_loop()
                    await _ready(descriptor, loop.add_writer, loop.remove_writer)
                written = os.write(descriptor, self._left[:_AT_ONCE])
                self._left = self._left[written:]
        except OSError:
            self.failed = True
            raise

    async def _notice_the_end(self) -> None:
        descriptor = self._descriptor
        if descriptor is None or not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return
        # Nothing comes out of this end of a pipe but the news that the other is closed.
        loop = asyncio.get_running_loop()
        await _ready(descriptor, loop.add_reader, loop.remove_reader)
        self.failed = True
        raise BrokenPipeError


def _descriptor() -> int | None:
    """Give what to write to as the system knows it; None for what Python made up."""
    if sys.stdout is None or os.name != "posix":
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
    ready = asyncio.Event()
    watch(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        unwatch(descriptor)
