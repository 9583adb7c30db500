"""What a recording has: gaps, sizes and damage, for ``qos info``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from msgspec import Struct

from qos_async.recordings.contents import contents
from qos_async.recordings.files import files_in
from qos_async.recordings.format import Entry, load_zstd
from qos_async.recordings.reading import read_files

__all__ = [
    "DirectorySummary",
    "GapTracker",
    "RecordedGap",
    "directory_summary",
    "gaps_of",
]


class RecordedGap(Struct, frozen=True, kw_only=True):
    """An outage of a topic.

    Attributes:
        topic: The topic.
        since: Its beginning, in nanoseconds since the epoch.
        until: Its end; 0 for one that has not ended.
        reason: Why.
        status: As of ``Gap``.
        recovered: The ticks that were fetched.
    """

    topic: str
    since: int
    until: int
    reason: str
    status: str
    recovered: int = 0


class DirectorySummary(Struct, frozen=True, kw_only=True):
    """A recording in a directory.

    Attributes:
        topics: All that were ever subscribed, by name.
        begins_at: The first entry, in nanoseconds since the epoch.
        ends_at: The last entry.
        files: The number of files.
        bytes: Their size.
        frames: The frames in them.
        dropped: The frames that were not recorded, as the disk was too slow.
        is_closed: Whether the recorder has ended regularly.
        gaps: The outages of topics.
        faults: A message for each damaged part.
        unknown: The number of entries of kinds that this version does not know.
    """

    topics: tuple[str, ...]
    begins_at: int
    ends_at: int
    files: int
    bytes: int
    frames: int
    dropped: int
    is_closed: bool
    gaps: tuple[RecordedGap, ...]
    faults: tuple[str, ...]
    unknown: int


def directory_summary(path: str | os.PathLike[str]) -> DirectorySummary:
    """Return what a recording in a directory has; reads all of its files, twice.

    Raises:
        RecordingError: If there is no recording, or it is empty.
    """
    found = contents(path)
    files, library = files_in(path), load_zstd()
    counts = _Counts()
    entries = read_files(files, library, alone=len(files) == 1)
    gaps = tuple(gaps_of(counts.of(entries)))
    return DirectorySummary(
        topics=tuple(sorted(map(str, found.topics))),
        begins_at=found.begins_at,
        ends_at=found.ends_at,
        files=len(files),
        bytes=sum(file.stat().st_size for file in files),
        frames=counts.frames,
        dropped=counts.dropped,
        is_closed=counts.last == "closed",
        gaps=gaps,
        faults=found.faults,
        unknown=found.unknown,
    )


class _Counts:
    """Counts frames and drops while entries are read."""

    def __init__(self) -> None:
        self.frames = self.dropped = 0
        self.last = ""

    def of(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the entries, counted."""
        for entry in entries:
            self.last = entry.kind
            if entry.kind == "frame":
                self.frames += 1
            else:
                self.dropped += entry.count
            yield entry


def gaps_of(entries: Iterable[Entry]) -> Iterator[RecordedGap]:
    """Yield the outages of entries, by their end; those that have not ended at last."""
    tracker = GapTracker()
    for entry in entries:
        yield from tracker.add(entry)
    yield from tracker.open_gaps()


class GapTracker:
    """Tracks the topics that are subscribed, and their outages."""

    def __init__(self) -> None:
        self._topics: set[str] = set()
        self._open: dict[str, Entry] = {}
        # Those of a recorder that has ended: the next one begins without them.
        self._cut: dict[str, Entry] = {}
        self._closed: set[str] = set()
        self._run: tuple[str, int] | None = None
        self._last_at = 0

    def add(self, entry: Entry) -> Iterator[RecordedGap]:
        """Yield the outages that an entry ends."""
        names = tuple(map(str, entry.topics))
        match entry.kind:
            case "started":
                self._on_started(entry)
                self._topics = set(names)
                yield from self._resumed(names, entry)
            case "subscribed":
                self._topics.update(names)
                yield from self._resumed(names, entry)
            case "lost" | "suspect":
                for name in names or self._topics:
                    self._open.setdefault(name, entry)
            case "fetched":
                for name in names:
                    self._open.pop(name, None)
                    yield _gap(name, entry)
            case "unsubscribed" | "rejected":
                self._topics.difference_update(names)
                for name in names:
                    self._open.pop(name, None)
            case _:
                pass
        if entry.kind in ("lost", "closed"):
            self._closed = self._topics if entry.kind == "closed" else set()
            self._topics = set()
        self._last_at = entry.at

    def _on_started(self, entry: Entry) -> None:
        run, self._run = self._run, (entry.run, entry.number)
        if run is None or (run[0], run[1] + 1) == self._run:
            return
        if entry.previous and entry.previous == self._last_at:
            return  # Files of an archive have no numbers.
        how = "closed" if self._closed else "interrupted"
        end = Entry(at=self._last_at, kind="lost", reason=f"the recording was {how}")
        self._cut |= dict.fromkeys(self._topics | self._closed, end) | self._open
        self._open.clear()
        self._closed = set()

    def _resumed(self, names: Iterable[str], entry: Entry) -> Iterator[RecordedGap]:
        for name in names:
            if (began := self._cut.pop(name, None)) is not None:
                yield RecordedGap(
                    topic=name,
                    since=began.since or began.at,
                    until=entry.at,
                    reason=began.reason,
                    status="unfilled",
                )

    def open_gaps(self) -> Iterator[RecordedGap]:
        """Yield the outages that have not ended."""
        for name, entry in sorted((self._cut | self._open).items()):
            yield RecordedGap(
                topic=name,
                since=entry.since or entry.at,
                until=0,
                reason=entry.reason,
                status="open",
            )


def _gap(name: str, entry: Entry) -> RecordedGap:
    return RecordedGap(
        topic=name,
        since=entry.since,
        until=entry.until,
        reason=entry.reason,
        status=entry.status,
        recovered=sum(isinstance(row, bytes) for row in entry.rows),
    )
