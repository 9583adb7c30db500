"""Spool of a recorder: what was sent for some minutes, and what is still to be sent.

Messages have numbers, from one process to the next. Those of one *era* have the same
epoch, and an era may begin before its epoch is known: the broker may be away. The newest
are in memory; with a directory they are in files, too, and leave memory when they are
stored by the broker, or when it is full. Nothing here waits for the disk but ``read``.

Bounds: 64 MB of memory, 2 GB of files. What was stored by the broker goes after five
minutes, or earlier if there is no room; what was not is never deleted. Where there is no
room for a message, ``append`` refuses it, and the caller records a gap.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from qos_async._io.notifier import Notifier
from qos_async._locks import Lock, LockedError
from qos_async.jetstream.spool_files import (
    NONE,
    Era,
    Spooled,
    SpoolState,
    Stored,
    read_spooled,
    read_state,
    spool_files,
)
from qos_async.jetstream.spool_writer import SpoolWriter
from qos_async.recordings.files import RecordingError, make_directory
from qos_async.recordings.format import NewerFormatError, Zstd, load_zstd

__all__ = ["Spool"]

MEMORY = 64_000_000
DISK = 2_000_000_000
KEEP = 300.0
_CLOSE_TIMEOUT = 10.0
_SAMPLE_INTERVAL = 1.0


class Spool:
    """The messages of a recorder, in order; for one event loop.

    Args:
        directory: Its files; None keeps everything in memory only.
        memory: Bytes that may be in memory.
        disk: Bytes that may be in files.
        keep: Seconds for which stored messages are kept.

    Attributes:
        eras: The eras of which messages may be read.
        next_number: The number of the next message.
        stored: The number of the last message that is stored, as are all before it.
        lost: Messages that were in the spool and cannot be read.
        faults: What was damaged in the files of earlier processes.

    Raises:
        RecordingError: If the directory cannot be used.
        MissingZstdError: If no zstandard library is installed.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        memory: int = MEMORY,
        disk: int = DISK,
        keep: float = KEEP,
    ) -> None:
        self._limit, self._keep = memory, keep
        self._files = None if directory is None else _Directory(directory)
        state = SpoolState() if self._files is None else self._files.state
        self.eras = list(state.eras)
        self.next_number = state.next_number
        self.stored = max(state.stored, _before(state.eras))
        self.faults = state.faults
        self.lost = 0
        self._memory = _Memory(state.next_number)
        self._previous: dict[str, int] = {}
        self._samples: deque[tuple[float, int]] = deque(maxlen=1000)
        self._grown = Notifier()
        self._writer = (
            None
            if self._files is None
            else self._files.writer(state.next_number, disk, keep)
        )
        if self._writer is not None and self._files is not None:
            for era in state.eras:
                self._writer.put(era)
            self._writer.put(Stored(self.stored))

    # State

    @property
    def pending(self) -> int:
        """The number of messages that are not stored yet."""
        return self.next_number - 1 - self.stored

    @property
    def pending_since(self) -> int:
        """When the oldest of these was received, in ns since the epoch; 0 for none.

        Of those that are in files only, the oldest one in memory counts.
        """
        number = max(self.stored + 1, self._memory.first)
        return next((one.at for one in self._memory.take(number, 1)), 0)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return 0 if self._writer is None else self._writer.size

    @property
    def waiting(self) -> int:
        """Bytes of messages that are in no file; without files, of all in memory."""
        return self._memory.size if self._writer is None else self._writer.waiting

    @property
    def error(self) -> RecordingError | None:
        """Why nothing can be written to files now, or None."""
        return None if self._writer is None else self._writer.error

    def on_error(self, callback: Callable[[RecordingError], object]) -> None:
        """Have ``callback`` called, in a thread, whenever writing begins to fail."""
        if self._writer is not None:
            self._writer.on_error = callback

    def era_of(self, number: int) -> Era:
        """Return the era of a message."""
        return next(era for era in reversed(self.eras) if era.start <= number)

    # Changes

    def begin_era(self, epoch: int = 0) -> None:
        """Begin an era with the next message."""
        self._previous.clear()
        if self.eras and self.eras[-1].start == self.next_number:
            self.eras.pop()  # It has no message.
        self._put_era(Era(self.next_number, epoch))

    def set_epoch(self, start: int, epoch: int) -> None:
        """Set the epoch of the era that begins with a number."""
        self.eras = [era for era in self.eras if era.start != start]
        self._put_era(Era(start, epoch))

    def _put_era(self, era: Era) -> None:
        self.eras = sorted([*self.eras, era])
        if self._writer is not None:
            self._writer.put(era)

    def append(self, subject: str, payload: bytes, at: int, up: int) -> bool:
        """Add a message; return False if there is no room for it."""
        memory, number = self._memory, self.next_number
        if memory.size > self._limit and not self._make_room():
            return False
        previous = self._previous.get(subject, NONE)
        message = Spooled(number, previous, at, up, subject, payload)
        self._previous[subject] = number
        self.next_number = number + 1
        memory.append(message)
        if self._writer is not None:
            self._writer.put(message)
        self._grown.notify_all()
        return True

    def _make_room(self) -> bool:
        """Let memory forget what is in files or, without any, stored."""
        writer = self._writer
        if writer is not None and writer.waiting > self._limit:
            return False
        self._memory.forget(
            self.stored if writer is None else writer.written, self._limit // 2
        )
        return self._memory.size <= self._limit

    def mark_stored(self, number: int) -> None:
        """Note that all messages up to a number are stored."""
        if number <= self.stored:
            return
        self.stored = number
        now = time.monotonic()
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_INTERVAL:
            self._samples.append((now, number))
        if self._writer is not None:
            self._writer.put(Stored(number))
            self._memory.forget(min(number, self._writer.written), 0)
        else:
            self._forget_old(now)

    def _forget_old(self, now: float) -> None:
        while len(self._samples) > 1 and now - self._samples[0][0] > self._keep:
            _, oldest = self._samples.popleft()
            self._memory.forget(oldest, 0)

    def rewind(self, number: int) -> None:
        """Have what follows a message sent again: the broker has lost it."""
        while self._samples and self._samples[-1][1] > number:
            self._samples.pop()
        self.stored = min(self.stored, number)

    def skip(self, number: int) -> int:
        """Leave out messages before a number; return how many were not stored."""
        count = max(number - 1 - self.stored, 0)
        self.stored = max(self.stored, number - 1)
        return count

    def stored_numbers(self, era: Era) -> list[int]:
        """Return some messages of an era that are stored, newest first."""
        older = [number for _, number in reversed(self._samples)]
        numbers = dict.fromkeys([self.stored, *older])
        return [number for number in numbers if number >= era.start]

    def end_of(self, era: Era) -> int | None:
        """Return the number of the first message of the next era, if there is one."""
        return min(
            (one.start for one in self.eras if one.start > era.start), default=None
        )

    # Reading

    async def read(self, number: int, most: int = 1000) -> list[Spooled]:
        """Wait for the message with a number; return it, and some that follow it.

        The first has a higher number if files are damaged or gone. A wait may be
        cancelled.
        """
        while True:
            while number >= self.next_number:
                await self._grown.wait()
            end = self.next_number
            if found := await self._take(number, most):
                self.lost += found[-1].number + 1 - number - len(found)
                return found
            self.lost += end - number
            number = end

    async def find(self, number: int) -> Spooled | None:
        """Return the message with a number; None if it is not in the spool any more."""
        found = await self._take(number, 1)
        return found[0] if found and found[0].number == number else None

    async def _take(self, number: int, most: int) -> list[Spooled]:
        """Return the first messages from a number on; empty if all are before it."""
        if number < self._memory.first and self._files is not None:
            found = await self._files.read(number, most)
            # What is in no file was not written, and so is in memory.
            if found and found[0].number < self._memory.first:
                return found
        return self._memory.take(max(number, self._memory.first), most)

    # End

    def close(self) -> None:
        """Write everything to files, sync and close them; waits for the disk."""
        if self._writer is not None:
            self._writer.close(_CLOSE_TIMEOUT)
        if self._files is not None:
            self._files.release()


def _before(eras: tuple[Era, ...]) -> int:
    return eras[0].start - 1 if eras else NONE


class _Memory:
    """Consecutive messages; the first ones are removed.

    Attributes:
        first: The number of the first message, or of the one to come.
        size: The bytes of all.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self.size = 0
        self._messages: list[Spooled] = []
        self._start = 0

    def append(self, message: Spooled) -> None:
        self._messages.append(message)
        self.size += message.size

    def take(self, number: int, most: int) -> list[Spooled]:
        begin = self._start + number - self.first
        return self._messages[begin : begin + most]

    def forget(self, last: int, size: int) -> None:
        """Remove messages up to ``last``, as long as more than ``size`` bytes stay."""
        messages, start = self._messages, self._start
        while start < len(messages) and self.size > size:
            message = messages[start]
            if message.number > last:
                break
            self.size -= message.size
            start += 1
        self.first += start - self._start
        self._start = start
        if 2 * start > len(messages):
            del messages[:start]
            self._start = 0


class _Directory:
    """The directory of a spool.

    Attributes:
        state: The state in which the last process left it.
    """

    def __init__(self, directory: Path) -> None:
        self._library: Zstd = load_zstd()
        self._directory = directory
        make_directory(directory)
        try:
            self._lock = Lock(directory)
        except LockedError:
            raise RecordingError(
                f"another recorder uses the spool in {directory}: stop it, or use a "
                "directory of its own for each recorder"
            ) from None
        try:
            self.state = read_state(spool_files(directory), self._library)
        except NewerFormatError:
            self._lock.release()
            raise
        except OSError as exc:
            self._lock.release()
            raise RecordingError(
                f"cannot read the spool in {directory}: {exc.strerror}"
            ) from exc
        self._next = NONE
        self._messages: Iterator[Spooled] = iter(())
        # A read that was cancelled goes on in its thread.
        self._reading = threading.Lock()

    def writer(self, next_number: int, limit: int, keep: float) -> SpoolWriter:
        """Return the writer of new files."""
        return SpoolWriter(
            self._directory,
            self._library,
            next_number=next_number,
            limit=limit,
            keep=keep,
        )

    def release(self) -> None:
        self._lock.release()

    async def read(self, number: int, most: int) -> list[Spooled]:
        """Return messages from a number on, in a thread; empty if files have none."""
        return await asyncio.to_thread(self._read, number, most)

    def _read(self, number: int, most: int) -> list[Spooled]:
        with self._reading, suppress(OSError):
            if found := self._continue(number, most):
                return found
            files = spool_files(self._directory)
            self._messages = read_spooled(files, number, self._library, [])
            self._next = number
            return self._continue(number, most)
        return []

    def _continue(self, number: int, most: int) -> list[Spooled]:
        """Return what follows in files that are read already."""
        if self._next != number:
            return []
        found = list(islice(self._messages, most))
        if found:
            self._next = found[-1].number + 1
        return found
