"""Recorder of a stream: the side in the event loop of the client, never waiting."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from msgspec import structs

from qos_async._core.wire import known_topic
from qos_async._event_loop import running_loop
from qos_async._io.dial_gate import LinkControl
from qos_async._paths import user_path
from qos_async._validation import check_number
from qos_async.jetstream.gate import parse_conflict
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.session import (
    RecorderOptions,
    RecorderSession,
    check_installed,
)
from qos_async.jetstream.spool import Spool
from qos_async.jetstream.spool_log import SpoolLog
from qos_async.jetstream.subjects import check_recorder, topic_of
from qos_async.recordings.files import RecordingError, make_directory
from qos_async.recordings.format import Event, load_zstd
from qos_async.recordings.recorder import Recorder, RecorderStats
from qos_async.recordings.writer import OutageLog
from qos_async.topics import Topic

__all__ = ["StreamRecorder"]

_log = logging.getLogger("qos_async.recorder")

_CLOSE_TIMEOUT = 10.0
_SHORTEST_LEASE = 1.0
_LONGEST_LEASE = 3600.0


class StreamRecorder(Recorder):
    """The recorder of a stream."""

    def __init__(
        self,
        place: str | os.PathLike[str],
        *,
        name: str = "default",
        lease: float | None = None,
        spool: str | os.PathLike[str] | None = None,
        on_broker_loss: Literal["keep", "close"] = "keep",
        on_conflict: str = "yield",
        on_error: Callable[[RecordingError], object] | None = None,
    ) -> None:
        check_installed()
        self._options = RecorderOptions(
            place=parse_place(os.fspath(place)),
            name=check_recorder(name),
            lease=_check_lease(lease),
            on_broker_loss=_check_loss(on_broker_loss),
            conflict_wait=parse_conflict(on_conflict),
        )
        stream = self._options.place.stream
        directory = None if spool is None else user_path("spool", spool)
        # One directory may be given to recorders of other names.
        self._directory = directory and directory / f"{stream}.{name}"
        if self._directory is not None:
            load_zstd()
            make_directory(self._directory)
        self._spool = Spool()
        self._outages = OutageLog()
        self._log = SpoolLog(stream, name, self._spool, self._outages)
        self._session: RecorderSession | None = None
        self._on_error = on_error
        self._attached = self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<Recorder {self.place!r} {self.stats.frames} frames>"

    @property
    def place(self) -> str:
        """The stream, without credentials."""
        return str(self._options.place)

    @property
    def stats(self) -> RecorderStats:
        """Counters up to now."""
        log, spool, session = self._log, self._spool, self._session
        stats = RecorderStats(
            frames=log.frames,
            dropped=log.dropped,
            waiting=spool.waiting,
            bytes_written=spool.size,
            pending=spool.pending,
            lag=_seconds_since(spool.pending_since) if spool.pending_since else 0.0,
            ages=_ages(log.last_at),
        )
        if session is None:
            return stats
        sender, lease = session.sender, session.lease
        return structs.replace(
            stats,
            published=sender.published,
            stored=sender.stored,
            epoch=sender.epoch,
            lease_held=None if lease is None else lease.is_held,
            lease_renewed_at=session.renewed_at,
            lease_holder=session.other_holder,
            last_error="" if sender.error is None else str(sender.error),
        )

    @property
    def error(self) -> RecordingError | None:
        """The error that stopped the recording, or None."""
        sender = None if self._session is None else self._session.sender
        return sender.error if sender is not None and sender.failed else None

    async def flush(self) -> None:
        """Wait until everything is stored, for ten seconds at most."""
        running_loop()
        if self._session is not None:
            await self._session.drain(_CLOSE_TIMEOUT, spooled=False)
        if self.error is not None:
            raise self.error
        if self._spool.pending:
            raise RecordingError(
                f"{self._spool.pending} messages are not in the stream after "
                f"{_CLOSE_TIMEOUT:g} s: check that the broker runs; they are sent when "
                "it does"
            )

    async def aclose(self) -> None:
        """Store everything, release the lease and close."""
        running_loop()
        session = self._session
        async with contextlib.AsyncExitStack() as last:  # Also if this is cancelled.
            last.push_async_callback(asyncio.to_thread, self.close)
            if session is not None and not self._closed:
                last.push_async_callback(session.aclose)
                self._log.finish()
                spooled = self._directory is not None
                await session.drain(_CLOSE_TIMEOUT, spooled=spooled)

    def close(self) -> None:
        """Close the spool; what is not stored stays there."""
        if not self._closed:
            self._closed = True
            self._report_rest()
        self._spool.close()

    def _report_rest(self) -> None:
        count = self._spool.pending
        if count and self._directory is None:
            _log.error(
                "%d messages are not in the stream, and lost: with a spool directory the "
                "next recorder sends them",
                count,
            )
        elif count:
            _log.warning(
                "%d messages are in the spool in %s; the next recorder sends them",
                *(count, self._directory),
            )

    # The FrameObserver of the stream.

    def attach(self, redact: Callable[[str], str]) -> None:
        """Attach to a client, and open the spool."""
        super().attach(redact)
        if self._directory is not None:
            self._spool = self._log.spool = Spool(self._directory)
            for fault in self._spool.faults:
                _log.warning("damaged spool: %s", fault)
            self._spool.on_error(self._on_spool_error)
        self._log.redact = redact
        self._attached = True

    def opened(self) -> None:
        """Record that the link was opened."""
        self._log.link = True
        super().opened()

    def lost(self, reason: str) -> None:
        """Record that the link was lost."""
        self._log.link = False
        super().lost(reason)

    def frames(self, frames: Sequence[bytes], size: int, *, plain: bool) -> None:
        """Record frames that were received together."""
        self._log.add_frames(frames)

    def _event(self, kind: Event, **more: Any) -> None:
        self._log.add_event(kind, more)

    def _left(self, topic: Topic, left: int) -> dict[str, int]:
        """Return the field that counts the pushes that an event precedes.

        Those of other topics are in other messages, and do not count.
        """
        count = self._log.left_of(topic, left) if left else 0
        return {"topic_left": count} if count else {}

    # The DialGate of the stream.

    async def before_dial(self, link: LinkControl) -> None:
        """Wait for the lease, and begin an epoch with the first link under it."""
        session = self._session
        if session is None:
            self._loop = asyncio.get_running_loop()
            session = self._session = RecorderSession(
                self._options,
                self._spool,
                begin_era=self._log.begin,
                on_lost=self._log.end,
                on_error=self._report,
            )
        while True:
            await session.gate.before_dial(link)
            if self._log.has_era:
                return
            taken = await session.take_over()
            if not session.gate.reason():
                break
        link.inherit(taken.outages)
        self._outages.awaited = {str(outage.topic) for outage in taken.outages}
        self._log.begin(taken.epoch)

    def may_keep(self) -> str:
        """Return why a link that was dialled has to be closed; empty if it may stay."""
        return "" if self._session is None else self._session.gate.may_keep()

    def conflict_wait(self) -> float | None:
        """Return the seconds to wait when a stranger uses the key; None ends the client."""
        wait = self._options.conflict_wait
        what = (
            "this client ends" if wait is None else f"the next attempt is in {wait:g} s"
        )
        _log.error("another program uses the key of %s: %s", self._options.name, what)
        return wait

    # Errors

    def _on_spool_error(self, error: RecordingError) -> None:
        if self._loop is not None:  # Called in the thread of the spool.
            with contextlib.suppress(RuntimeError):  # The loop is closed.
                self._loop.call_soon_threadsafe(self._report, error)

    def _report(self, error: RecordingError) -> None:
        if self._on_error is not None:
            self._on_error(error)


def _seconds_since(at: int) -> float:
    return max(time.time_ns() - at, 0) / 1e9


def _ages(last_at: Mapping[str, int]) -> dict[str, float]:
    """Return seconds since the last push, by channel and market."""
    newest: dict[str, int] = {}
    for subject, at in last_at.items():
        feed = _feed_of(subject)
        if feed and at > newest.get(feed, 0):
            newest[feed] = at
    return {feed: _seconds_since(at) for feed, at in sorted(newest.items())}


# Statistics are read often, and have thousands of subjects.
@lru_cache(maxsize=100_000)
def _feed_of(subject: str) -> str:
    """Return channel and market of the topic of a subject; empty if it has none."""
    wanted = topic_of(subject)
    topic = None if wanted is None else known_topic(wanted)
    return "" if topic is None else f"{topic.channel} {topic.symbol.partition(':')[0]}"


def _check_lease(lease: object) -> float | None:
    seconds = check_number(
        "lease", lease, above_zero=True, most=_LONGEST_LEASE, optional=True
    )
    if seconds is not None and seconds < _SHORTEST_LEASE:
        raise ValueError(
            f"lease must be at least {_SHORTEST_LEASE:g} s, not {seconds:g}: it is renewed "
            "over the network five times in that time; 10 is a good value"
        )
    return seconds


def _check_loss(value: object) -> Literal["keep", "close"]:
    if value == "keep":
        return "keep"
    if value == "close":
        return "close"
    raise ValueError(f'on_broker_loss must be "keep" or "close", not {value!r}')
