"""Log of a recorder: what a client receives, as messages in its spool."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from qos_async._io import clocks
from qos_async.jetstream.messages import MAX_PAYLOAD
from qos_async.jetstream.packing import Packer, payloads
from qos_async.jetstream.spool import Spool
from qos_async.jetstream.subjects import link_subject
from qos_async.recordings.format import (
    Event,
    encode_event,
    encode_frames,
    encode_header,
)
from qos_async.recordings.writer import OutageLog
from qos_async.topics import Topic

__all__ = ["SpoolLog"]


class SpoolLog:
    """What a client receives, as messages in a spool.

    Attributes:
        spool: The spool.
        redact: Returns a text without the API key.
        link: Whether the link is open.
        frames: Frames that were taken into the spool.
        dropped: Frames that were not.
        last_at: When the last push of each subject was received, in ns since the epoch.
        has_era: Whether an era has begun that another process has not ended.
    """

    def __init__(
        self, stream: str, name: str, spool: Spool, outages: OutageLog
    ) -> None:
        self.spool = spool
        self.redact: Callable[[str], str] = str
        self.link = self.has_era = False
        self.frames = self.dropped = 0
        self.last_at: dict[str, int] = {}
        self._outages = outages
        self._newest: Sequence[bytes] = ()
        self._packer = Packer(stream)
        self._subject = link_subject(stream, name)
        self._began = clocks.steady_ns()
        self._is_stale = False
        self._unreported: int | None = None

    def begin(self, epoch: int = 0) -> None:
        """Begin an era with a ``started``; epoch 0 for one to be claimed later."""
        self.spool.begin_era(epoch)
        self.has_era = True
        if not self._put_started():
            self._is_stale = True
            self._drop(0)

    def _put_started(self) -> bool:
        """Add the state of the link; of another run than before, since there is a gap."""
        at, up = self._now()
        header = encode_header(
            at,
            secrets.token_hex(8),
            0,
            link=self.link,
            topics=sorted(self._outages.topics),
            up=up,
            locked=True,
            gaps=True,
            awaited=sorted(self._outages.awaited),
        )
        return self._put(header, at, up)

    def end(self) -> None:
        """Have the next link begin an era."""
        self.has_era = False

    def finish(self) -> None:
        """Add what belongs to the end, if anything was recorded; no event comes after it."""
        self.add_event("closed", {})
        self.has_era = False

    def add_event(self, kind: Event, fields: dict[str, Any]) -> None:
        """Add an event; where there is no room, the state is added when there is.

        Outside of an era it is left out, as that of topics that change while a standby
        waits: what is in the spool then is of an earlier process, and the ``started`` of
        the next era has the state.
        """
        if not self.has_era:
            return
        self._report_drops()
        at, up = self._now()
        if not self._put(encode_event(at, kind, up=up, **fields), at, up):
            self._is_stale = True
            self._drop(0)

    def add_frames(self, frames: Sequence[bytes]) -> None:
        """Add frames that were received together."""
        at, up = self._now()
        if not self._report_drops():
            self._drop(len(frames))
            return
        self._newest = frames
        by_subject, others = self._packer.pack(frames)
        append, redact = self._append, self.redact
        self.last_at.update(dict.fromkeys(by_subject, at))
        for subject, pushes in by_subject.items():
            for payload, count in payloads(pushes, redact):
                if append(subject, payload, at, up):
                    self.frames += count
                else:
                    self._drop(count)
        for frame in others:
            line = encode_frames(at, [frame], self._redact, up=up)
            if self._put(line, at, up):
                self.frames += 1
            else:
                self._drop(1)

    def left_of(self, topic: Topic, left: int) -> int:
        """Return how many of the last frames received together are of a topic."""
        pushes, _ = self._packer.pack(self._newest[-left:])
        return len(pushes.get(self._packer.subject(topic), ()))

    def _redact(self, frame: bytes) -> bytes:
        text = frame.decode("utf-8", "surrogateescape")
        return self.redact(text).encode("utf-8", "surrogateescape")

    def _put(self, line: bytes, at: int, up: int) -> bool:
        payload = self._redact(line.removesuffix(b"\n"))
        return self._append(self._subject, payload, at, up)

    def _append(self, subject: str, payload: bytes, at: int, up: int) -> bool:
        """Add a message; return False if there is no room for it, or it is too large."""
        size = len(payload)
        return size <= MAX_PAYLOAD and self.spool.append(subject, payload, at, up)

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._unreported = (self._unreported or 0) + count

    def _report_drops(self) -> bool:
        """Add an event for what was dropped; return whether there was room for it."""
        if self._unreported is not None:
            # At its end: the gap is from the last message before it to this entry.
            at, up = self._now()
            line = encode_event(at, "dropped", up=up, count=self._unreported)
            if not self._put(line, at, up):
                return False
            self._unreported = None
        if self._is_stale:
            self._is_stale = not self._put_started()
        return not self._is_stale

    def _now(self) -> tuple[int, int]:
        """Return the wall clock, and nanoseconds by one that does not go back."""
        return time.time_ns(), clocks.steady_ns() - self._began
