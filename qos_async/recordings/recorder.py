"""The recorder's end in the event loop: it takes, and never waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from qos_async._validation import check_number, check_whole
from qos_async.recordings import lines
from qos_async.recordings.files import RecordingError, prepare
from qos_async.recordings.lines import Event
from qos_async.recordings.writer import Arrival, Happening, Writer
from qos_async.recordings.zstd import zstd
from qos_async.topics import Topic

__all__ = ["Recorder", "RecorderStats"]

_MOST_WAITING = 64 * 1024 * 1024
_HURRY = 256 * 1024
_PATIENCE = 10.0
_LONGEST = 1_000_000.0
"""Seconds that a thread can wait for on every system."""
_LONGEST_FILE = 1_000_000_000.0


class RecorderStats(Struct, frozen=True, kw_only=True):
    """What became of the frames that came.

    Attributes:
        frames: Frames that are in the files.
        dropped: Frames that are not, because the disk was slower than the market, or
            the recording had stopped.
        waiting: Bytes of frames that wait to be written.
        bytes_written: Bytes of files, compressed.
        files: How many were made.
    """

    frames: int = 0
    dropped: int = 0
    waiting: int = 0
    bytes_written: int = 0
    files: int = 0


class Recorder:
    """Writes down what a client receives, for ``replay`` and ``convert``.

    Give it to one client: ``Client(recorder=Recorder("recordings"))``. Every inbound
    frame goes into the files with the time at which it came, and so do the openings and
    losses of the link, and what was subscribed. The key never does.

    The files are JSON lines, compressed with zstandard, of mode 0600. A file that is
    there already is never written to. A process that is killed loses what came after
    the last flush, no more. A thread of its own compresses and writes: the stream never
    waits for the disk. If that cannot keep up, frames are dropped from the recording,
    counted in ``stats``, and the file says where. If it is full, or otherwise fails,
    the recording stops, and the stream goes on: see ``error`` and ``on_error``.

    Leaving the client flushes, syncs and closes it.

    Args:
        directory: Where files go; it is made, for this user alone, if it is missing.
        rotate: Seconds after which a new file begins, on whole multiples of that since
            the epoch: 3600 is each hour, UTC. None: never.
        max_bytes: Compressed bytes after which a new file begins; None: no limit.
        flush: Seconds between two writes, at most.
        level: How hard to compress, 1 to 19; above 3 gains little and costs much.
        on_error: Called with the error, in the event loop, if the recording stops.

    Raises:
        RecordingError: If the directory cannot be written to.
        MissingZstdError: If what compresses is not installed: the message says what is.
        ValueError: For numbers that cannot be.

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
        check_number(
            "rotate", rotate, above_zero=True, most=_LONGEST_FILE, optional=True
        )
        check_number("max_bytes", max_bytes, above_zero=True, optional=True)
        check_number("flush", flush, above_zero=True, most=_LONGEST)
        check_whole("level", level, most=19)  # The levels of zstandard.
        self.directory = Path(directory)
        library = zstd()
        prepare(self.directory)
        self._on_error = on_error
        self._loop: asyncio.AbstractEventLoop | None = None
        self._attached = self._closed = False
        self._put = self._rung_at = 0
        self._dropped = self._untold = self._untold_since = 0
        self._writer = Writer(
            self.directory,
            library,
            rotate=rotate,
            max_bytes=max_bytes,
            flush=float(flush),
            level=level,
            on_error=self._failed,
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
        """The files that were made, oldest first."""
        return tuple(self._writer.paths)

    @property
    def error(self) -> RecordingError | None:
        """What stopped the recording; None if nothing did."""
        return self._writer.error

    async def flush(self) -> None:
        """Write all that came until now, and wait until that is done.

        Raises:
            RecordingError: If the recording has stopped.
        """
        if self._writer.is_alive():
            await asyncio.to_thread(self._writer.flush)
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        """Write and sync all that came, and close the file; the client does this.

        It may be called again. After ten seconds in which a disk did not take what is
        there to be written, it is left alone.
        """
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Do as ``aclose`` does, without an event loop."""
        if not self._closed:
            self._closed = True
            if self._loop is not None:
                self._tell_of_drops()
                self._event("closed")
        self._writer.close(_PATIENCE)

    # What the client calls. Nothing here waits.

    def attach(self, redact: Callable[[str], str]) -> None:
        """Become the recorder of a client, which knows what must be hidden.

        Raises:
            ValueError: If it has been another's, or is closed; or if to hide such a key
                would take words and numbers out of the files.
        """
        if self._attached or self._closed:
            raise ValueError("a recorder records one client, once: make another one")
        if redact(lines.WORDS) != lines.WORDS:
            raise ValueError(
                "the API key is too short or too common a word to be hidden in a "
                "recording: record with another key"
            )
        self._attached = True
        self._writer.redact = redact

    def opened(self) -> None:
        """Note that the link was opened."""
        self._loop = asyncio.get_running_loop()
        self._event("opened")

    def lost(self, reason: str) -> None:
        """Note that the link was lost."""
        self._event("lost", reason=reason)

    def subscribed(self, topics: Iterable[Topic]) -> None:
        """Note what the server agreed to."""
        self._event("subscribed", topics=_names(topics))

    def unsubscribed(self, topics: Collection[Topic]) -> None:
        """Note what nobody wants any more."""
        if topics:
            self._event("unsubscribed", topics=_names(topics))

    def frames(self, frames: Sequence[bytes], size: int, *, plain: bool) -> None:
        """Take what came together, now; the sequence must not change any more.

        With ``plain`` they are surely JSON, and need not be looked at.
        """
        waiting = self._put - self._writer.taken + size
        if waiting > _MOST_WAITING or self._writer.has_ended:
            self._drop(len(frames))
            return
        if self._untold:
            self._tell_of_drops()
        self._writer.put(Arrival(time.time_ns(), frames, size, plain))
        self._put += size
        if self._put - self._rung_at > _HURRY:
            self._rung_at = self._put
            self._writer.ring()

    def _drop(self, count: int) -> None:
        self._dropped += count
        self._untold_since = self._untold_since or time.time_ns()
        self._untold += count

    def _tell_of_drops(self) -> None:
        if self._untold:
            self._event("dropped", at=self._untold_since, count=self._untold)
            self._untold = self._untold_since = 0

    def _event(self, kind: Event, *, at: int = 0, **more: Any) -> None:
        self._writer.put(Happening(at or time.time_ns(), kind, more))

    def _failed(self, error: RecordingError) -> None:
        # Called in the writer's thread, once.
        if self._on_error is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # The loop is closed by now.
                self._loop.call_soon_threadsafe(self._on_error, error)


def _names(topics: Iterable[Topic]) -> list[str]:
    return sorted(map(str, topics))
