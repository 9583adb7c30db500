"""A file of an archive: the entries of one market and trading date."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from qos_async.recordings.block_file import BlockFile
from qos_async.recordings.blocks import FileId
from qos_async.recordings.files import SUFFIX
from qos_async.recordings.format import (
    Entry,
    Event,
    encode_event,
    encode_frames,
    encode_header,
)
from qos_async.recordings.last_values import PushHeader
from qos_async.recordings.summary import GapTracker, RecordedGap
from qos_async.topics import Topic

__all__ = ["ArchivedDay", "DayFile", "DayState"]

_BLOCK_SIZE = 256 * 1024
_FIELDS = (
    *("reason", "status", "since", "until"),
    *("omitted", "left", "topic_left", "count"),
)
_CHANNELS = {"S": "snapshot", "T": "trade", "D": "depth", "K": "kline"}


class ArchivedDay(Struct, frozen=True, kw_only=True):
    """A file of an archive, as in its manifest.

    Attributes:
        path: The file, in the archive.
        market: The market.
        date: The trading date.
        sha256: Of the file.
        bytes: Its size.
        frames: The number of pushes by channel.
        symbols: Their symbols.
        begins_at: The first entry, in nanoseconds since the epoch.
        ends_at: The last one.
        gaps: The outages of topics.
    """

    path: str
    market: str
    date: str
    sha256: str
    bytes: int
    frames: dict[str, int]
    symbols: tuple[str, ...]
    begins_at: int
    ends_at: int
    gaps: tuple[RecordedGap, ...]

    @property
    def pushes(self) -> int:
        """The number of all pushes."""
        return sum(self.frames.values())


class DayState:
    """What a reader has to know before an entry.

    Attributes:
        link: Whether the link is open.
        topics: What is subscribed.
        awaited: The topics of which a ``fetched`` is to come.
    """

    def __init__(self) -> None:
        self.link = False
        self.topics: set[Topic] = set()
        self.awaited: set[Topic] = set()


class DayFile:
    """A file while it is written.

    Args:
        draft: Where it is until it is complete.
        market: The market.
        day: The trading date.
        first: The first entry; the header has its time.
        state: What holds before it.
        packer: A ``compressor``.
        previous: The time of the last entry of the file before; 0 without one.

    Attributes:
        day: As passed.
        draft: As passed.
        last_at: The time of the last entry, in nanoseconds since the epoch.
    """

    def __init__(
        self,
        draft: Path,
        market: str,
        day: date,
        *,
        first: Entry,
        state: DayState,
        packer: Any,
        previous: int = 0,
    ) -> None:
        self.last_at = first.at
        self.day, self.draft, self._market = day, draft, market
        self._begins_at = self._ends_at = first.at
        self._elapsed = first.elapsed
        # The same for each run, so that the bytes are.
        run = hashlib.sha256(f"{market} {day}".encode()).digest()[:8]
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
        self._file = BlockFile(os.open(draft, flags, 0o600), FileId(run, 0), packer)
        self._frames: Counter[str] = Counter()
        self._symbols: set[str] = set()
        self._gaps = GapTracker()
        self._text = bytearray()
        self._place: tuple[str, int] = ("", 0)
        awaited = sorted(map(str, state.awaited))
        topics = sorted(map(str, state.topics))
        self._text += encode_header(
            first.at,
            run.hex(),
            0,
            link=state.link,
            topics=topics,
            locked=True,
            gaps=True,
            awaited=awaited,
            previous=previous,
        )
        header = Entry(at=first.at, kind="started", topics=tuple(sorted(state.topics)))
        self._ended = [*self._gaps.add(header)]

    def frame(self, entry: Entry, header: PushHeader) -> None:
        """Write a push."""
        self._frames[_CHANNELS[header.topic.letter]] += 1
        self._symbols.add(header.topic.symbol)
        up = self._prepare(entry)
        self._text += encode_frames(entry.at, [entry.frame], bytes, up=up)
        self._flush(_BLOCK_SIZE)

    def event(self, kind: Event, entry: Entry) -> None:
        """Write an event."""
        self._ended += self._gaps.add(entry)
        fields: dict[str, Any] = {
            name: value for name in _FIELDS if (value := getattr(entry, name))
        }
        if entry.topics:
            fields["topics"] = list(map(str, entry.topics))
        if kind == "fetched":
            rows = entry.rows
            fields["rows"] = [Raw(r) if isinstance(r, bytes) else r for r in rows]
        up = self._prepare(entry)
        self._text += encode_event(entry.at, kind, up=up, **fields)
        self._flush(_BLOCK_SIZE)

    def _prepare(self, entry: Entry) -> int:
        """Write the place of an entry, unless it follows; return its time ``up``."""
        self.last_at = entry.at
        self._ends_at = max(self._ends_at, entry.at)
        up = max(entry.elapsed - self._elapsed, 0)
        origin, position = self._place
        here = entry.origin, entry.position
        if entry.origin and (here != (origin, position) or entry.index):
            names = {"origin": here[0], "position": here[1], "index": entry.index}
            self._text += encode_event(entry.at, "placed", up=up, **names)
            origin, position = here
        self._place = origin, position + 1
        return up

    def _flush(self, size: int) -> None:
        if len(self._text) > size:
            self._file.write(bytes(self._text))
            self._text.clear()

    def close(self) -> ArchivedDay:
        """Complete the file, still at its draft; return what it has."""
        self._flush(0)
        self._file.close()
        name = f"{self._market}/qos-{self._market}-{self.day}{SUFFIX}"
        return ArchivedDay(
            path=name,
            market=self._market,
            date=str(self.day),
            sha256=hashlib.sha256(self.draft.read_bytes()).hexdigest(),
            bytes=self._file.size,
            frames=dict(sorted(self._frames.items())),
            symbols=tuple(sorted(self._symbols)),
            begins_at=self._begins_at,
            ends_at=self._ends_at,
            gaps=(*self._ended, *self._gaps.open_gaps()),
        )


def decode_days(raw: bytes) -> dict[str, ArchivedDay]:
    """Return the files of a manifest, by path.

    Raises:
        ValueError: If it is not one.
    """
    found = msgspec.json.decode(raw, type=Manifest)
    return {one.path: one for one in found.files}


class Manifest(Struct, kw_only=True):
    """The file ``manifest.json`` of an archive."""

    form: int = 1
    files: tuple[ArchivedDay, ...] = ()
