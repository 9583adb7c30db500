"""Recorders of a client's inbound frames: the side in the event loop, never waiting.

``Recorder(place)`` is a ``DirectoryRecorder``, here, or a ``StreamRecorder``, which is in
``qos_async.jetstream`` and imported for a place that begins with ``nats://``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self

from msgspec import Struct

from qos_async._core.notices import Gap, Interrupted
from qos_async._core.wire import push_row
from qos_async._event_loop import running_loop
from qos_async._io import clocks
from qos_async._locks import Lock, LockedError
from qos_async._paths import user_path
from qos_async._validation import check_number, check_whole
from qos_async.metrics import recorder_metrics
from qos_async.recordings.files import RecordingError, make_directory
from qos_async.recordings.format import FORMAT_WORDS, Event, load_zstd
from qos_async.recordings.streams import is_stream, stream_recorder
from qos_async.recordings.writer import FrameBatch, OutageLog, RecordedEvent, Writer
from qos_async.topics import Topic

__all__ = ["Recorder", "RecorderStats"]

_MAX_WAITING = 64 * 1024 * 1024
_WAKE_THRESHOLD = 256 * 1024
_CLOSE_TIMEOUT = 10.0
# Every system lets a thread wait that many seconds.
_MAX_FLUSH = 1_000_000.0
_MAX_ROTATE = 1_000_000_000.0
_OF_A_DIRECTORY = ("rotate", "max_bytes", "flush", "level")
_OF_A_STREAM = ("name", "lease", "spool", "on_broker_loss", "on_conflict")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RecorderStats(Struct, frozen=True, kw_only=True):
    """Counters of a recorder.

    Attributes:
        frames: Frames that are in the files; of a stream, that were taken into its spool.
        dropped: Frames that are not, because there was no room for them: the disk was
            too slow or full, or the broker away for too long. Each run of them is marked
            in the recording.
        waiting: Bytes of frames that are not written yet.
        bytes_written: Compressed bytes of all files; of a stream, of its spool.
        files: The number of files; 0 for a stream.
        published: Messages sent to the stream.
        stored: Messages that the stream has acknowledged.
        pending: Messages that it has not.
        epoch: The number under which this recorder may write; 0 before the first.
        lease_held: Whether the lease is held; None without one.
        lease_renewed_at: When it was renewed, in seconds since the epoch; 0 for never.
        lease_holder: The other process that has it; empty if none is known.
        lag: Seconds since the oldest message was received that the stream does not have;
            0 if it has all.
        ages: Seconds since the last tick was recorded, by channel and market: of
            ``"trade CF"``; of a stream.
        last_error: Why the stream gets nothing now; empty while all is well.
    """

    frames: int = 0
    dropped: int = 0
    waiting: int = 0
    bytes_written: int = 0
    files: int = 0
    published: int = 0
    stored: int = 0
    pending: int = 0
    epoch: int = 0
    lease_held: bool | None = None
    lease_renewed_at: float = 0.0
    lease_holder: str = ""
    lag: float = 0.0
    ages: dict[str, float] = {}
    last_error: str = ""

    def to_openmetrics(self) -> str:
        """Return all of this as OpenMetrics text; names begin with ``qos_recorder_``."""
        return recorder_metrics(self)


class Recorder:
    """Records the inbound frames of a client, for ``replay``, ``follow`` and ``convert``.

    It is attached to one client: ``Client(recorder=Recorder("recordings"))``. Every
    inbound frame is written with its time of receipt, and so are the openings and losses
    of the link, the topics that are subscribed, unsubscribed and rejected, and each gap
    with what was fetched after it. The API key is redacted. Leaving the client closes the
    recording.

    **A directory.** The files are JSON lines, compressed with zstandard, of mode 0600.
    Existing files are never written to. A process that is killed loses at most the frames
    received after the last flush. A separate thread compresses and writes: the client
    never waits for the disk. If the disk is too slow, frames are dropped from the
    recording, counted in ``stats`` and marked in the file. If the disk is full or fails,
    the recording stops and the client goes on: see ``error`` and ``on_error``. Another
    recorder of the same directory is refused, in this process and in others.

    **A stream** of NATS JetStream, ``"nats://host:4222/STREAM"``; several servers are
    ``"nats://a,nats://b/STREAM"``. The stream is created if it is missing. While the
    broker is away, what is received waits in memory (64 MB) or, with ``spool``, in a
    directory (2 GB), and is sent when it is back; where there is no room left, frames are
    dropped, counted and marked. Replies of the service are not recorded, pushes are.
    Credentials come from the environment: ``QOS_NATS_USER`` and ``QOS_NATS_PASSWORD``,
    ``QOS_NATS_TOKEN`` or ``QOS_NATS_CREDS``, a file.

    Args:
        place: The directory, created with mode 0700 if missing (``~`` is the home
            directory), or the stream.
        rotate: Of a directory: seconds after which a new file is started, at whole
            multiples since the epoch: 3600 is every full hour, UTC. None: never.
        max_bytes: Of a directory: compressed bytes after which a new file is started;
            None: no limit.
        flush: Of a directory: the most seconds between two writes.
        level: Of a directory: compression level of zstandard, 1 to 19. With 3 files of
            trades and books are no smaller, and take half as long again.
        name: Of a stream: the name of this recorder in it, one for each key.
        lease: Of a stream: seconds after which a standby takes over from a recorder of
            the same name that is gone, and recovers what was missed. The client then dials only as the holder of the
            lease, and closes its link at once if another takes it: of several such
            clients one has a link. None: no lease.
        spool: Of a stream: the directory for what is not stored yet.
        on_broker_loss: Of a stream: ``"keep"`` the link while the broker is away, or
            ``"close"`` it, with a lease when that expires, else after ten seconds.
        on_conflict: Of a stream: what to do if another program uses the key, which is no
            recorder of this name: ``"yield"`` ends the client with ``LimitError``,
            ``"retake"`` dials again, ``"retake-after 15m"`` that much later.
        on_error: Called with the error, in the event loop, if the recording stops (see
            ``error``); of a stream also if it gets nothing for now, as the broker refuses
            a message, or the spool cannot be written to.

    Raises:
        RecordingError: If the directory cannot be written to, or another recorder writes
            to it, in this process or another.
        MissingZstdError: If no zstandard library is installed.
        ValueError: For a number out of range, a place that cannot be one, or an option
            of the other kind of place.

    Example:
        >>> async with Client(recorder=Recorder("recordings")) as client:
        ...     async for trade in client.watch_trades("CF:BTCUSDT"):
        ...         print(trade)
    """

    _attached: bool
    _closed: bool
    _outages: OutageLog

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Return the recorder for the kind of place; ``__init__`` has the arguments."""
        place: object = args[0] if args else options.get("place")
        streams = is_stream(place)
        _check_options(place, options, streams=streams)
        if cls is not Recorder:
            return super().__new__(cls)
        kind: Any = DirectoryRecorder
        if streams:
            kind = stream_recorder()
        made: Self = super().__new__(kind)
        return made

    def __init__(
        self,
        place: str | os.PathLike[str],
        *,
        rotate: float | None = 3600.0,
        max_bytes: int | None = None,
        flush: float = 1.0,
        level: int = 1,
        name: str = "default",
        lease: float | None = None,
        spool: str | os.PathLike[str] | None = None,
        on_broker_loss: Literal["keep", "close"] = "keep",
        on_conflict: str = "yield",
        on_error: Callable[[RecordingError], object] | None = None,
    ) -> None:
        raise TypeError("Recorder has no subclasses but its own")

    @property
    def place(self) -> str:
        """The directory, or the stream without credentials."""
        raise NotImplementedError

    @property
    def stats(self) -> RecorderStats:
        """Counters up to now."""
        raise NotImplementedError

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths of the files, oldest first; none for a stream."""
        return ()

    @property
    def error(self) -> RecordingError | None:
        """The error that stopped the recording, or None."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Write everything received so far; returns when it is written, or stored.

        Raises:
            RecordingError: If the recording has stopped.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """Write and sync everything received, and close; the client does this.

        It may be called again. It gives up after ten seconds if disk or broker do not
        respond; what is in a spool is sent by the next recorder.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close as ``aclose`` does, without an event loop.

        A stream gets nothing then: what it does not have stays in the spool.
        """
        raise NotImplementedError

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

    def opened(self) -> None:
        """Record that the link was opened."""
        self._event("opened")

    def lost(self, reason: str) -> None:
        """Record that the link was lost."""
        self._outages.lost()
        self._event("lost", reason=reason)

    def subscribed(self, topics: Iterable[Topic]) -> None:
        """Record that the server accepted topics."""
        names = _names(topics)
        self._outages.subscribed(names)
        self._event("subscribed", topics=names)

    def unsubscribed(self, topics: Collection[Topic]) -> None:
        """Record that topics were unsubscribed."""
        if topics:
            names = _names(topics)
            self._outages.unsubscribed(names)
            self._event("unsubscribed", topics=names)

    def rejected(self, topics: Iterable[Topic], message: str) -> None:
        """Record that the server rejected topics."""
        names = _names(topics)
        self._outages.unsubscribed(names)
        self._event("rejected", topics=names, reason=message)

    def suspect(self, outage: Interrupted, *, left: int) -> None:
        """Record an outage of a topic, unless it began with the loss of the link."""
        name = str(outage.topic)
        if name not in self._outages.awaited:
            self._outages.awaited.add(name)
            since = _nanoseconds(outage.since)
            more = self._left(outage.topic, left)
            self._event(
                "suspect", topics=[name], reason=outage.reason, since=since, **more
            )

    def fetched(
        self, gap: Gap, rows: Sequence[Any], omitted: Sequence[int], *, left: int
    ) -> None:
        """Record the end of an outage, and the ticks that were recovered."""
        self._outages.awaited.discard(str(gap.topic))
        more: dict[str, Any] = self._left(gap.topic, left)
        if omitted:
            more["omitted"] = omitted
        self._event(
            "fetched",
            topics=[str(gap.topic)],
            status=gap.status,
            reason=gap.reason,
            since=_nanoseconds(gap.since),
            until=_nanoseconds(gap.until),
            rows=[row if isinstance(row, int) else push_row(row) for row in rows],
            **more,
        )

    def frames(self, frames: Sequence[bytes], size: int, *, plain: bool) -> None:
        """Record frames that were received together; the sequence must not change.

        With ``plain`` all are known to be JSON, and are not checked.
        """
        raise NotImplementedError

    def _event(self, kind: Event, **more: Any) -> None:
        raise NotImplementedError

    def _left(self, topic: Topic, left: int) -> dict[str, int]:
        """Return the field that counts the frames that an event precedes."""
        return {"left": left} if left else {}


class DirectoryRecorder(Recorder):
    """The recorder of a directory."""

    def __init__(
        self,
        place: str | os.PathLike[str],
        *,
        rotate: float | None = 3600.0,
        max_bytes: int | None = None,
        flush: float = 1.0,
        level: int = 1,
        on_error: Callable[[RecordingError], object] | None = None,
    ) -> None:
        rotate = check_number(
            "rotate", rotate, above_zero=True, most=_MAX_ROTATE, optional=True
        )
        size = check_number("max_bytes", max_bytes, above_zero=True, optional=True)
        flush = check_number("flush", flush, above_zero=True, most=_MAX_FLUSH)
        level = check_whole("level", level, most=19)  # The levels of zstandard.
        self.directory = user_path("place", place)
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
        self._outages = OutageLog()
        self._dropped = self._unreported = 0
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
    def place(self) -> str:
        return str(self.directory)

    @property
    def stats(self) -> RecorderStats:
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
        return tuple(self._writer.paths)

    @property
    def error(self) -> RecordingError | None:
        return self._writer.error

    async def flush(self) -> None:
        running_loop()
        if self._writer.is_alive():
            await asyncio.to_thread(self._writer.flush)
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        running_loop()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
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
        super().attach(redact)
        self._lock = _lock(self.directory)
        self._attached = True
        self._writer.attach(redact, locked=self._lock.is_held)

    def opened(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Not before: one that is dropped unused is freed, with its lock, at once.
        self._writer.on_error = self._on_writer_error
        super().opened()

    def frames(self, frames: Sequence[bytes], size: int, *, plain: bool) -> None:
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
        self._unreported += count

    def _record_drops(self) -> None:
        if self._unreported:
            count, self._unreported = self._unreported, 0
            # At its end: the gap is from the last frame before it to this entry.
            self._writer.put(RecordedEvent(*self._now(), "dropped", {"count": count}))

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


def _check_options(place: object, options: Iterable[str], *, streams: bool) -> None:
    wrong = [
        one for one in options if one in (_OF_A_DIRECTORY if streams else _OF_A_STREAM)
    ]
    if wrong:
        here, there = "a stream", 'a directory, such as "recordings"'
        if not streams:
            here, there = "a directory", 'a stream, such as "nats://host:4222/STREAM"'
        raise ValueError(
            f"{wrong[0]} is an option of {there}, and the place is {here}: leave it out, "
            "or record to another place"
        )


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


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
