"""Recorder of a client's inbound frames: the side in the event loop, never waiting."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from qos_async._event_loop import running_loop
from qos_async._io import clocks
from qos_async._locks import Lock, LockedError
from qos_async._paths import user_path
from qos_async._validation import check_number, check_whole
from qos_async.recordings.files import RecordingError, make_directory
from qos_async.recordings.format import FORMAT_WORDS, Event, load_zstd
from qos_async.recordings.writer import FrameBatch, RecordedEvent, Writer
from qos_async.topics import Topic

__all__ = ["Recorder", "RecorderStats"]

_MAX_WAITING = 64 * 1024 * 1024
_WAKE_THRESHOLD = 256 * 1024
_CLOSE_TIMEOUT = 10.0
# Every system lets a thread wait that many seconds.
_MAX_FLUSH = 1_000_000.0
_MAX_ROTATE = 1_000_000_000.0


class RecorderStats(Struct, frozen=True, kw_only=True):
    """Counters of a recorder.

    Attributes:
        frames: Frames that are in the files.
        dropped: Frames that are not, because the disk was too slow or the recording
            had stopped.
        waiting: Bytes of frames that are not written yet.
        bytes_written: Compressed bytes of all files.
        files: The number of files.
    """

    frames: int = 0
    dropped: int = 0
    waiting: int = 0
    bytes_written: int = 0
    files: int = 0


class Recorder:
    """Records the inbound frames of a client, for ``replay`` and ``convert``.

    It is attached to one client: ``Client(recorder=Recorder("recordings"))``. Every
    inbound frame is written with its time of receipt, and so are the openings and losses
    of the link, and the topics that are subscribed and unsubscribed. The API key is
    redacted.

    The files are JSON lines, compressed with zstandard, of mode 0600. Existing files are
    never written to. A process that is killed loses at most the frames received after
    the last flush. A separate thread compresses and writes: the stream never waits for
    the disk. If the disk is too slow, frames are dropped from the recording, counted in
    ``stats`` and marked in the file. If the disk is full or fails, the recording stops
    and the stream goes on: see ``error`` and ``on_error``.

    Leaving the client flushes, syncs and closes the recording.

    Its client has the directory to itself: another recorder is refused while that is
    open, in this process and in others.

    Args:
        directory: The directory of the files; created with mode 0700 if missing. ``~``
            is the home directory.
        rotate: Seconds after which a new file is started, at whole multiples since the
            epoch: 3600 is every full hour, UTC. None: never.
        max_bytes: Compressed bytes after which a new file is started; None: no limit.
        flush: The most seconds between two writes.
        level: Compression level of zstandard, 1 to 19; above 3 gains little and costs
            much.
        on_error: Called with the error, in the event loop, if the recording stops.

    Raises:
        RecordingError: If the directory cannot be written to, or another recorder writes
            to it, in this process or another.
        MissingZstdError: If no zstandard library is installed.
        ValueError: For a number out of range, or a path that cannot be one.

    Example:
        >>> async with Client(recorder=Recorder("recordings")) as client:
        ...     async for trade in client.watch_trades("CF:BTCUSDT"):
        ...         print(trade)
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        rotate: float | None = 3600.0,
        max_bytes: int | None = None,
        flush: float = 1.0,
        level: int = 3,
        on_error: Callable[[RecordingError], object] | None = None,
    ) -> None:
        rotate = check_number(
            "rotate", rotate, above_zero=True, most=_MAX_ROTATE, optional=True
        )
        size = check_number("max_bytes", max_bytes, above_zero=True, optional=True)
        flush = check_number("flush", flush, above_zero=True, most=_MAX_FLUSH)
        level = check_whole("level", level, most=19)  # The levels of zstandard.
        self.directory = user_path("directory", directory)
        library = load_zstd()
        make_directory(self.directory)
        # A recorder whose client cannot be made holds no lock: it is taken by ``attach``.
        _lock(self.directory).release()
        self._lock: Lock | None = None
        self._on_error = on_error
        self._loop: asyncio.AbstractEventLoop | None = None
        self._attached = self._closed = False
        self._put = self._woken_at = 0
        self._began = clocks.steady_ns()
        self._dropped = self._unreported = 0
        self._unreported_since = (0, 0)
        self._writer = Writer(
            self.directory,
            library,
            rotate=rotate,
            max_bytes=None if size is None else math.ceil(size),
            flush=float(flush),
            level=level,
        )

    def __repr__(self) -> str:
        return f"<Recorder {str(self.directory)!r} {self.stats.frames} frames>"

    @property
    def stats(self) -> RecorderStats:
        """Counters up to now."""
        writer = self._writer
        return RecorderStats(
            frames=writer.frames,
            dropped=self._dropped + writer.lost,
            waiting=max(self._put - writer.taken, 0),
            bytes_written=writer.bytes_written,
            files=len(writer.paths),
        )

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths of the files, oldest first."""
        return tuple(self._writer.paths)

    @property
    def error(self) -> RecordingError | None:
        """The error that stopped the recording, or None."""
        return self._writer.error

    async def flush(self) -> None:
        """Write everything received so far; returns when it is written.

        Raises:
            RecordingError: If the recording has stopped.
        """
        running_loop()
        if self._writer.is_alive():
            await asyncio.to_thread(self._writer.flush)
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        """Write and sync everything received, and close the file; the client does this.

        It may be called again. It gives up after ten seconds if the disk does not
        respond.
        """
        running_loop()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Close as ``aclose`` does, without an event loop."""
        if not self._closed:
            self._closed = True
            if self._loop is not None:
                self._record_drops()
                self._event("closed")
        self._writer.close(_CLOSE_TIMEOUT)
        if self._lock is not None:
            self._lock.release()

    # The FrameObserver of the stream: nothing below here waits.

    def attach(self, redact: Callable[[str], str]) -> None:
        """Attach this recorder to a client.

        Args:
            redact: Returns a text without the API key.

        Raises:
            RecordingError: If another recorder writes to the directory.
            ValueError: If it was attached before, or is closed; or if the key is part of
                a word or number of the file format, which could not be read back.
        """
        if self._attached or self._closed:
            raise ValueError(
                "a Recorder can only be attached to one client, once: create a new one"
            )
        if redact(FORMAT_WORDS) != FORMAT_WORDS:
            raise ValueError(
                "the API key is too short or too common a word to be redacted in a "
                "recording: use another key"
            )
        self._lock = _lock(self.directory)
        self._attached = True
        self._writer.attach(redact, locked=self._lock.is_held)

    def opened(self) -> None:
        """Record that the link was opened."""
        self._loop = asyncio.get_running_loop()
        # Not before: one that is dropped unused is freed, with its lock, at once.
        self._writer.on_error = self._on_writer_error
        self._event("opened")

    def lost(self, reason: str) -> None:
        """Record that the link was lost."""
        self._event("lost", reason=reason)

    def subscribed(self, topics: Iterable[Topic]) -> None:
        """Record that the server accepted topics."""
        self._event("subscribed", topics=_names(topics))

    def unsubscribed(self, topics: Collection[Topic]) -> None:
        """Record that topics were unsubscribed."""
        if topics:
            self._event("unsubscribed", topics=_names(topics))

    def frames(self, frames: Sequence[bytes], size: int, *, plain: bool) -> None:
        """Record frames that were received together; the sequence must not change.

        With ``plain`` all are known to be JSON, and are not checked.
        """
        waiting = self._put - self._writer.taken + size
        if waiting > _MAX_WAITING or self._writer.has_ended:
            self._drop(len(frames))
            return
        if self._unreported:
            self._record_drops()
        self._writer.put(FrameBatch(*self._now(), frames, size, plain))
        self._put += size
        if self._put - self._woken_at > _WAKE_THRESHOLD:
            self._woken_at = self._put
            self._writer.wake()

    def _drop(self, count: int) -> None:
        self._dropped += count
        if not self._unreported:
            self._unreported_since = self._now()
        self._unreported += count

    def _record_drops(self) -> None:
        if self._unreported:
            count, self._unreported = self._unreported, 0
            self._writer.put(
                RecordedEvent(*self._unreported_since, "dropped", {"count": count})
            )

    def _event(self, kind: Event, **more: Any) -> None:
        self._writer.put(RecordedEvent(*self._now(), kind, more))

    def _now(self) -> tuple[int, int]:
        """Return the wall clock, and nanoseconds by one that does not go back."""
        return time.time_ns(), clocks.steady_ns() - self._began

    def _on_writer_error(self, error: RecordingError) -> None:
        # Called in the writer's thread, once.
        if self._on_error is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # The loop is closed.
                self._loop.call_soon_threadsafe(self._on_error, error)


def _lock(directory: Path) -> Lock:
    try:
        return Lock(directory)
    except LockedError:
        raise RecordingError(
            f"another recorder writes to {directory}: stop it, or use a directory of "
            "its own for each recorder"
        ) from None


def _names(topics: Iterable[Topic]) -> list[str]:
    return sorted(map(str, topics))
