"""Thread of a spool: it writes files, and deletes those that are not needed any more."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from qos_async.jetstream.spool_files import (
    NONE,
    Era,
    Spooled,
    Stored,
    create,
    encode_era,
    encode_form,
    encode_spooled,
    encode_stored,
    first_of,
    spool_files,
)
from qos_async.recordings.block_file import BlockFile
from qos_async.recordings.blocks import FileId, compressor
from qos_async.recordings.files import RecordingError
from qos_async.recordings.format import Zstd

__all__ = ["SpoolWriter"]

_FLUSH = 0.1
_RETRY = 1.0
_CHUNK_SIZE = 256 * 1024
_WAKE_THRESHOLD = 1024 * 1024
_FILE_SIZE = 16_000_000
_FILE_SECONDS = 60.0
_LEVEL = 1

Item: TypeAlias = Spooled | Era | Stored


class _Finished(NamedTuple):
    """A file that is complete: its last message, when that was, and its size."""

    path: Path
    last: int
    at: float
    size: int


class SpoolWriter:
    """Writes the messages of a spool, in order, and tries again where it cannot.

    Event loop and thread share a deque and plain numbers, each of which only one of the
    two writes. A write that fails loses nothing: what is to be written waits in memory,
    and the caller looks at ``waiting``.

    Args:
        directory: The directory, which no other process writes to.
        library: Compresses.
        next_number: The number of the first message.
        limit: Bytes that all files may have.
        keep: Seconds for which stored messages are kept, if there is room.

    Attributes:
        on_error: Called in the thread when writing begins to fail.
        error: Why nothing can be written now, or None.
        written: The number of the last message that is in a file.
        size: The bytes of all files.
    """

    def __init__(
        self,
        directory: Path,
        library: Zstd,
        *,
        next_number: int,
        limit: int,
        keep: float,
    ) -> None:
        self.on_error: Callable[[RecordingError], object] = bool
        self.error: RecordingError | None = None
        self.written = next_number - 1
        self._put = self._taken = 0
        self._stored = NONE
        self._items: deque[Item] = deque()
        self._wake = threading.Event()
        self._ending = False
        self._files = _Files(directory, library, next_number, limit, keep)
        self._chunk: list[Spooled | Era | Stored] = []
        self._thread = threading.Thread(
            target=self._run, name="qos_async.spool", daemon=True
        )

    @property
    def waiting(self) -> int:
        """Bytes of messages that are in no file yet."""
        return self._put - self._taken

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return self._files.size

    # Called in the event loop.

    def put(self, item: Item) -> None:
        """Queue what is to be written; never waits."""
        self._items.append(item)
        if isinstance(item, Stored):
            self._stored = item.number
        elif isinstance(item, Spooled):
            self._put += item.size
            if self.waiting > _WAKE_THRESHOLD:
                self._wake.set()
        if not self._thread.ident:
            self._thread.start()

    def close(self, timeout: float) -> None:
        """Write all that is queued, once more if that fails, and end."""
        self._ending = True
        self._wake.set()
        if self._thread.ident:
            self._thread.join(timeout)

    # Called in the thread.

    def _run(self) -> None:
        while not self._ending:
            self._wake.wait(_FLUSH if self.error is None else _RETRY)
            self._wake.clear()
            self._write_all()
        self._write_all()
        with contextlib.suppress(OSError):
            self._files.close()

    def _write_all(self) -> None:
        try:
            self._files.trim(self._stored)
            while self._chunk or self._items:
                self._fill_chunk()
                self._files.write(self._chunk)
                self._count_written()
        except OSError as exc:
            self._fail(exc)
        else:
            self.error = None

    def _fill_chunk(self) -> None:
        size = 0
        while self._items and size < _CHUNK_SIZE and len(self._chunk) < _CHUNK_SIZE:
            item = self._items.popleft()
            self._chunk.append(item)
            if isinstance(item, Spooled):
                size += len(item.payload)

    def _count_written(self) -> None:
        chunk, self._chunk = self._chunk, []
        messages = [item for item in chunk if isinstance(item, Spooled)]
        if messages:
            self.written = messages[-1].number
            self._taken += sum(message.size for message in messages)

    def _fail(self, exc: OSError) -> None:
        if self.error is None:
            why = exc.strerror or str(exc)
            self.error = RecordingError(
                f"cannot write to the spool in {self._files.directory}: {why}; messages "
                "wait in memory, and are dropped when that is full"
            )
            self.on_error(self.error)


class _Files:
    """The file being written, and those before it.

    Attributes:
        directory: Their directory.
        size: The bytes of all.
    """

    def __init__(
        self,
        directory: Path,
        library: Zstd,
        next_number: int,
        limit: int,
        keep: float,
    ) -> None:
        self.directory = directory
        self._packer: Any = compressor(library, _LEVEL)
        self._run = secrets.token_bytes(8)
        self._limit, self._keep = limit, keep
        self._finished = _existing(directory, next_number)
        self._closed_size = sum(one.size for one in self._finished)
        self._file: BlockFile | None = None
        self._path = directory
        self._opened_at = 0.0
        self._count = 0
        self._last = next_number - 1
        self._eras: dict[int, Era] = {}
        self._stored = Stored(NONE)

    @property
    def size(self) -> int:
        return self._closed_size + (self._file.size if self._file else 0)

    def write(self, items: list[Spooled | Era | Stored]) -> None:
        """Write items as one block.

        Raises:
            OSError: If that fails, or all files together are at their limit.
        """
        if self.size >= self._limit:
            raise OSError(f"it has {self.size} bytes, as many as it may have")
        if self._is_complete():
            self.close()
        text = b"".join(map(_encode, items))
        file = self._file or self._open()
        file.write(text if file.size else self._first_lines() + text)
        for item in items:
            if isinstance(item, Spooled):
                self._last = item.number
            else:
                self.track(item)

    def track(self, item: Era | Stored) -> None:
        """Keep what the next file begins with."""
        if isinstance(item, Era):
            self._eras[item.start] = item
            return
        self._stored = item
        starts = sorted(self._eras)
        for start, following in pairwise(starts):
            if following <= item.number + 1:
                del self._eras[start]

    def trim(self, stored: int) -> None:
        """Delete the oldest files if they are stored and old, or there is no room."""
        now = time.time()
        while self._finished:
            oldest = self._finished[0]
            fresh = 0 <= now - oldest.at < self._keep
            if oldest.last > stored or (fresh and self.size < self._limit):
                return
            with contextlib.suppress(FileNotFoundError):
                oldest.path.unlink()
            self._finished.popleft()
            self._closed_size -= oldest.size

    def close(self) -> None:
        """Sync and close the file."""
        if self._file is not None:
            file, self._file = self._file, None
            done = _Finished(self._path, self._last, time.time(), file.size)
            self._finished.append(done)
            self._closed_size += file.size
            file.close()

    def _is_complete(self) -> bool:
        old = time.monotonic() - self._opened_at > _FILE_SECONDS
        return self._file is not None and (old or self._file.size > _FILE_SIZE)

    def _open(self) -> BlockFile:
        self._path, descriptor = create(self.directory, self._last + 1)
        identity = FileId(self._run, self._count)
        self._file = BlockFile(descriptor, identity, self._packer)
        self._count += 1
        self._opened_at = time.monotonic()
        return self._file

    def _first_lines(self) -> bytes:
        lines = [encode_form(), *map(encode_era, self._eras.values())]
        if self._stored.number != NONE:
            lines.append(encode_stored(self._stored))
        return b"".join(lines)


def _encode(item: Spooled | Era | Stored) -> bytes:
    if isinstance(item, Spooled):
        return encode_spooled(item)
    return encode_era(item) if isinstance(item, Era) else encode_stored(item)


def _existing(directory: Path, next_number: int) -> deque[_Finished]:
    found = deque[_Finished]()
    for path in reversed(spool_files(directory)):
        stat = path.stat()
        last = next_number - 1
        found.appendleft(_Finished(path, last, stat.st_mtime, stat.st_size))
        next_number = first_of(path)
    return found
