"""Directories as logs of entries: read once, or followed while they grow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import chain, islice
from pathlib import Path

from msgspec.structs import replace

from qos_async._clock import epoch_ns
from qos_async._io.transport import EndOfStream
from qos_async.recordings.contents import contents
from qos_async.recordings.files import RecordingError
from qos_async.recordings.format import Entry
from qos_async.recordings.reading import read
from qos_async.recordings.source import Opening, ReadWhole, Resume

__all__ = ["DirectorySource"]

_AT_ONCE = 2000  # Entries: reading them takes a few milliseconds.


class DirectorySource(ReadWhole):
    """An ``EntrySource`` of the files that are there, to the last entry.

    Args:
        path: A recording's directory, or one of its files.
        start: Where to begin, a time or a place; None for the first entry.
    """

    def __init__(self, path: Path, start: str | datetime | None = None) -> None:
        self._path, self._start = path, start
        self._entries: Iterator[Entry] = iter(())
        self._has_ended = False

    async def open(self) -> Opening:
        """Open the recording; see ``EntrySource``."""
        found = await asyncio.to_thread(contents, self._path)
        self._entries = read(self._path)
        opening = Opening(
            topics=found.topics,
            begins_at=found.begins_at,
            ends_at=found.ends_at,
            elapsed=found.elapsed if self._start is None else None,
            faults=found.faults,
            unknown=found.unknown,
        )
        if self._start is None:
            return opening
        if isinstance(self._start, datetime):
            at = epoch_ns(self._start)
            before = self._before(lambda entry: entry.at >= at)
            begins_at = max(found.begins_at, at)
            return replace(opening, before=before, begins_at=begins_at)
        resume = Resume(place=self._start)
        return replace(opening, before=self._before_place(self._start), resume=resume)

    def _before_place(self, place: str) -> Iterator[Entry]:
        origin, position, _ = place.rsplit(".", 2)

        def is_start(entry: Entry) -> bool:
            return entry.origin == origin and entry.position >= int(position)

        yield from self._before(is_start)
        first = next(self._entries, None)
        if first is None or first.origin != origin:
            raise RecordingError(
                f"the place {place} is not in {self._path}: its file was deleted, or it is "
                "of another recording"
            )
        self._entries = chain([first], self._entries)

    def _before(self, is_start: Callable[[Entry], bool]) -> Iterator[Entry]:
        """Yield the entries before the start; ``read`` returns those from there on."""
        for entry in self._entries:
            if is_start(entry):
                self._entries = chain([entry], self._entries)
                return
            yield entry

    async def read(self) -> Sequence[Entry]:
        """Return the next entries, without waiting; see ``EntrySource``."""
        entries = list(islice(self._entries, _AT_ONCE))
        if not entries:
            self._has_ended = True
            raise EndOfStream("the recording has ended")
        return entries

    @property
    def live(self) -> bool:
        """Whether all entries have been returned."""
        return self._has_ended

    @property
    def current(self) -> bool:
        """Whether all entries have been returned."""
        return self._has_ended

    async def aclose(self) -> None:
        """Close the file that is open."""
        self._entries = iter(())
