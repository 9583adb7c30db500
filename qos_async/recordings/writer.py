"""Writer thread of a recorder: compresses, writes and rotates files."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from qos_async.recordings.block_file import BlockFile
from qos_async.recordings.blocks import FileId, compressor
from qos_async.recordings.files import RecordingError, create_file, newest_time
from qos_async.recordings.format import (
    Event,
    Zstd,
    encode_event,
    encode_frames,
    encode_header,
)

__all__ = ["FrameBatch", "OutageLog", "RecordedEvent", "Writer"]

_log = logging.getLogger("qos_async.recorder")

_CHUNK_SIZE = 64 * 1024
_BLOCK_SIZE = 256 * 1024
_SECOND = 1_000_000_000
_MICROSECOND = 1000


class FrameBatch(NamedTuple):
    """Frames received together: times, size in bytes, and whether all are JSON."""

    at: int
    up: int
    frames: Sequence[bytes]
    size: int
    plain: bool


class RecordedEvent(NamedTuple):
    """An event, its times, and the other fields of its line."""

    at: int
    up: int
    kind: Event
    fields: dict[str, Any]


Item: TypeAlias = FrameBatch | RecordedEvent


class OutageLog:
    """The topics that are subscribed, and those whose outage has not ended, by name.

    Attributes:
        topics: What the server has accepted on this link.
        awaited: The topics of which an entry ``fetched`` is still to come.
    """

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.awaited: set[str] = set()

    def subscribed(self, topics: Iterable[str]) -> None:
        """Record that the server accepted topics."""
        self.topics.update(topics)

    def unsubscribed(self, topics: Iterable[str]) -> None:
        """Record that topics were unsubscribed or rejected."""
        self.topics.difference_update(topics)
        self.awaited.difference_update(topics)

    def lost(self) -> None:
        """Record that the link was lost: each topic of it will have a gap."""
        self.awaited |= self.topics
        self.topics.clear()


class Writer:
    """Receives items from the event loop and writes them to files.

    The thread is started by the first item. Loop and thread share a deque and plain
    numbers, each of which only one of the two writes: no lock is needed.

    Attributes:
        on_error: Called in the thread with the error that ended the recording.
        taken: Bytes of frames that are no longer waiting.
        frames: Frames that are in the files.
        lost: Frames that were received, but could not be written.
        error: The error that ended the recording, or None.
    """

    def __init__(
        self,
        directory: Path,
        library: Zstd,
        *,
        rotate: float | None,
        max_bytes: int | None,
        flush: float,
        level: int,
    ) -> None:
        self.on_error: Callable[[RecordingError], object] = bool
        self._redact_text: Callable[[str], str] = str
        self.taken = self.frames = self.lost = 0
        self.error: RecordingError | None = None
        self._flush = flush
        self._files = _RotatingFile(
            directory,
            compressor(library, level),
            rotate=rotate,
            max_bytes=max_bytes,
        )
        self._items: deque[Item | threading.Event] = deque()
        self._wake = threading.Event()
        self._ending = False
        self._chunk = bytearray()
        self._chunk_frames = 0
        self._thread: threading.Thread | None = None

    @property
    def bytes_written(self) -> int:
        """Compressed bytes of all files."""
        return self._files.bytes_written

    @property
    def paths(self) -> list[Path]:
        """The paths of the files, oldest first."""
        return self._files.paths

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will be written."""
        return self._ending or self.error is not None

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    # Called in the event loop.

    def attach(self, redact: Callable[[str], str], *, locked: bool) -> None:
        """Prepare for the first item.

        Args:
            redact: Returns a text without the API key.
            locked: Whether no other recorder can write to the directory.
        """
        self._redact_text, self._files.locked = redact, locked

    def put(self, item: Item) -> None:
        """Queue an item; never waits."""
        self._items.append(item)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="qos_async.recorder", daemon=True
            )
            self._thread.start()

    def wake(self) -> None:
        """Wake the thread before its flush interval is over."""
        self._wake.set()

    # Called in other threads.

    def flush(self) -> None:
        """Wait until all queued items are written, or the thread has ended."""
        done = threading.Event()
        self._items.append(done)
        self.wake()
        while self.is_alive() and not done.wait(0.05):
            pass

    def close(self, timeout: float) -> None:
        """Write all queued items and end; gives up after ``timeout`` seconds."""
        self._ending = True
        self.wake()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                self._abort(
                    TimeoutError(f"the disk did not respond for {timeout:g} seconds")
                )

    # Called in the thread.

    def _run(self) -> None:
        try:
            while not self._ending:
                self._wake.wait(self._flush)
                self._wake.clear()
                self._write_all()
            self._write_all()
            self._files.close()
        except Exception as exc:  # noqa: BLE001 - the stream goes on after any error
            self._abort(exc)
            self._files.abandon()

    def _write_all(self) -> None:
        while self._items:
            item = self._items.popleft()
            if isinstance(item, threading.Event):
                self._write_chunk()
                item.set()
            else:
                self._write(item)
        self._write_chunk()

    def _write(self, item: Item) -> None:
        try:
            # Events that move frames before them are in one block with those.
            if isinstance(item, FrameBatch) and len(self._chunk) > _CHUNK_SIZE:
                self._write_chunk()
            first_line = self._open_file_for(item)
        except OSError:
            self._discard(item)  # It is not in a chunk yet.
            raise
        self._chunk += first_line + self._text(item)

    def _open_file_for(self, item: Item) -> bytes:
        """Open a file for an item if necessary; return the first line of a new one.

        An event that moves frames before it is in the file of those.
        """
        moves_frames = isinstance(item, RecordedEvent) and "left" in item.fields
        if not moves_frames and self._files.should_rotate(item.at):
            self._write_chunk()
            self._files.close()
        return b"" if self._files.is_open else self._files.open_next(item)

    def _text(self, item: Item) -> bytes:
        if isinstance(item, RecordedEvent):
            self._files.track_state(item)
            return encode_event(item.at, item.kind, up=item.up, **item.fields)
        self.taken += item.size
        self._chunk_frames += len(item.frames)
        return encode_frames(
            item.at, item.frames, self._redact, up=item.up, plain=item.plain
        )

    def _redact(self, frame: bytes) -> bytes:
        text = frame.decode("utf-8", "surrogateescape")
        shown = self._redact_text(text)
        return frame if shown is text else shown.encode("utf-8", "surrogateescape")

    def _write_chunk(self) -> None:
        if self._chunk:
            for text in _pieces(self._redact(bytes(self._chunk))):
                self._files.write(text)
            self.frames += self._chunk_frames
            self._chunk.clear()
            self._chunk_frames = 0

    def _abort(self, exc: Exception) -> None:
        why = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        error = RecordingError(
            f"the recording in {self._files.directory} stopped: {why}; the stream "
            "goes on without it"
        )
        error.__cause__ = exc
        self.error = error
        self.lost += self._chunk_frames
        with contextlib.suppress(IndexError):
            while True:
                self._discard(self._items.popleft())
        _log.error("%s", error)
        self.on_error(error)

    def _discard(self, item: Item | threading.Event) -> None:
        if isinstance(item, threading.Event):
            item.set()
        elif isinstance(item, FrameBatch):
            self.taken += item.size
            self.lost += len(item.frames)


def _pieces(text: bytes) -> Iterator[bytes]:
    """Split lines into blocks: a reader has a whole block in memory."""
    start = 0
    while start < len(text):
        end = text.find(b"\n", min(start + _BLOCK_SIZE, len(text) - 1)) + 1
        yield text[start:end]
        start = end


class _RotatingFile:
    """The file being written, and the files before it.

    Attributes:
        locked: Whether no other recorder can write to the directory.
        bytes_written: Compressed bytes of all files.
        paths: The paths of all files, oldest first.
    """

    def __init__(
        self,
        directory: Path,
        packer: Any,
        *,
        rotate: float | None,
        max_bytes: int | None,
    ) -> None:
        self.directory = directory
        self.locked = False
        self.bytes_written = 0
        self.paths: list[Path] = []
        self._packer = packer
        self._rotate_ns = None if rotate is None else max(int(rotate * _SECOND), 1)
        self._max_bytes = max_bytes
        self._run = secrets.token_bytes(8)
        self._link = False
        self._outages = OutageLog()
        self._file: BlockFile | None = None
        self._until = self._latest = 0

    @property
    def is_open(self) -> bool:
        """Whether a file is open."""
        return self._file is not None

    def should_rotate(self, at: int) -> bool:
        """Whether an item of this time belongs into a new file."""
        if self._file is None:
            return False
        late = self._rotate_ns is not None and at >= self._until
        return late or (
            self._max_bytes is not None and self._file.size >= self._max_bytes
        )

    def open_next(self, item: Item) -> bytes:
        """Open a new file for an item; return its first line.

        Raises:
            OSError: If it cannot be created.
        """
        # Names must sort in the order of the files, also if the clock was set back.
        self._latest = self._latest or newest_time(self.directory)
        self._latest = max(item.at, self._latest + _MICROSECOND)
        path, descriptor = create_file(self.directory, self._latest)
        if self._rotate_ns is not None:
            self._until = (item.at // self._rotate_ns + 1) * self._rotate_ns
        file = FileId(self._run, len(self.paths))
        self._file = BlockFile(descriptor, file, self._packer)
        self.paths.append(path)
        more: dict[str, Any] = {"gaps": True}
        if self._outages.awaited:
            more["awaited"] = sorted(self._outages.awaited)
        if self._latest != item.at:
            more["begins"] = self._latest
        return encode_header(
            item.at,
            file.run.hex(),
            file.number,
            up=item.up,
            link=self._link,
            topics=sorted(self._outages.topics),
            locked=self.locked,
            **more,
        )

    def track_state(self, what: RecordedEvent) -> None:
        """Keep the state of the link, for the first line of the next file."""
        match what.kind:
            case "opened":
                self._link = True
            case "lost":
                self._link = False
                self._outages.lost()
            case "subscribed":
                self._outages.subscribed(what.fields["topics"])
            case "unsubscribed" | "rejected":
                self._outages.unsubscribed(what.fields["topics"])
            case "suspect":
                self._outages.awaited.update(what.fields["topics"])
            case "fetched":
                self._outages.awaited.difference_update(what.fields["topics"])
            case _:
                pass

    def write(self, text: bytes) -> None:
        """Write one block.

        Raises:
            OSError: If it could not be written as a whole; the file is cut back then.
        """
        assert self._file is not None, "open_next comes before"
        self.bytes_written += self._file.write(text)

    def close(self) -> None:
        """Sync and close the file."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def abandon(self) -> None:
        """Close the file, ignoring errors."""
        with contextlib.suppress(OSError):
            self.close()
