"""Summaries of recordings."""

from __future__ import annotations

import os

from msgspec import Struct

from qos_async._core.wire import known_topic
from qos_async.recordings.files import RecordingError, files_in
from qos_async.recordings.format import Entry, load_zstd
from qos_async.recordings.last_values import push_header
from qos_async.recordings.reading import read, read_files
from qos_async.topics import Topic, WireTopic

__all__ = ["Contents", "contents"]


class Contents(Struct, frozen=True, kw_only=True):
    """Summary of a recording.

    Attributes:
        topics: All topics that were ever subscribed; of a damaged recording also those of
            its frames.
        begins_at: The start, in nanoseconds since the epoch.
        ends_at: The end, in the same unit; not before the start, wherever the clock was
            set.
        faults: A message for each damaged part, with its file and place.
        elapsed: The length in nanoseconds, by a clock that is never set; ``ends_at`` less
            ``begins_at`` is another number where the wall clock was set.
        unknown: The number of entries of kinds that this version does not know.
    """

    topics: frozenset[Topic]
    begins_at: int
    ends_at: int
    faults: tuple[str, ...]
    elapsed: int = 0
    unknown: int = 0


def contents(path: str | os.PathLike[str]) -> Contents:
    """Return the summary of a recording; reads about 100 MB of files a second.

    Raises:
        RecordingError: If there is no recording, it is empty, or several recorders wrote it at
            the same time.
        MissingZstdError: If no zstandard library is installed.
        ValueError: For a path that cannot be one.
    """
    topics: set[Topic] = set()
    faults: list[str] = []
    begins_at = ends_at = elapsed = unknown = 0
    runs = _Runs()
    library, files = load_zstd(), files_in(path)
    for entry in read_files(files, library, alone=len(files) == 1, frames=False):
        if entry.kind == "damaged":
            faults.append(entry.reason)
            continue
        runs.add(entry)
        unknown += entry.kind == "unknown"
        if entry.kind != "rejected":
            topics.update(entry.topics)
        begins_at = begins_at or entry.at
        ends_at, elapsed = max(ends_at, entry.at), entry.elapsed
    if not begins_at:
        faulty = f": {faults[0]}" if faults else ""
        raise RecordingError(f"{path} is empty: nothing was recorded in it{faulty}")
    return Contents(
        topics=frozenset(topics | _pushed_topics(path) if faults else topics),
        begins_at=begins_at,
        ends_at=max(ends_at, begins_at + elapsed),
        faults=tuple(faults),
        elapsed=elapsed,
        unknown=unknown,
    )


class _Runs:
    """Checks that no two recorders wrote at the same time."""

    def __init__(self) -> None:
        self._run = ""
        self._last: dict[str, int] = {}
        self._locked: set[str] = set()

    def add(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
            RecordingError: If it is of a time for which there is another recording. A
                recorder with a lock was alone: the clock was set back between the two.
        """
        if entry.kind == "started":
            self._run = entry.run
            if entry.locked:
                self._locked.add(entry.run)
            for other, last in self._last.items():
                alone = {other, entry.run} <= self._locked
                if other != entry.run and entry.at < last and not alone:
                    raise RecordingError(
                        "the directory has two recordings of the same time: put each "
                        "into its own directory"
                    )
        self._last[self._run] = max(self._last.get(self._run, 0), entry.at)


def _pushed_topics(path: str | os.PathLike[str]) -> set[Topic]:
    """Return the topics of all frames: their subscriptions may be what is damaged."""
    pushed: set[WireTopic] = set()
    for entry in read(path):
        header = push_header(entry.frame) if entry.kind == "frame" else None
        if header is not None and header.tp:
            pushed.add(header.topic)
    return set(filter(None, map(known_topic, pushed)))
