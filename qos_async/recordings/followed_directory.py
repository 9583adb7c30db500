"""Directories that another process writes, read while they grow."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from qos_async._clock import epoch_ns
from qos_async.recordings.durable import FileDurable
from qos_async.recordings.files import SUFFIX, RecordingError
from qos_async.recordings.format import Entry, NewerFormatError, Zstd, load_zstd
from qos_async.recordings.reading import (
    FileReader,
    SteadyClock,
    damage_entry,
    in_order,
)
from qos_async.recordings.source import Opening, ReadWhole, Resume, Start

__all__ = ["FollowedDirectory"]

_log = logging.getLogger("qos_async.follow")

_POLL_INTERVAL = 0.05
# The time of a directory changes with each file in it, but in steps of the system's clock:
# for so long after a change, the names are read each time.
_STEP = 2_000_000_000


class FollowedDirectory(ReadWhole):
    """An ``EntrySource`` of a directory, across its files, runs and restarts.

    It waits for a directory that does not exist, and for its first file, as ``tail -F``
    does. A file is read to its end when there is a later one.

    Args:
        path: The directory, or one file of a recording.
        start: Where to begin.
        strict: Whether damage and missing files are errors.
        durable: Has the start, if it was followed under that name before.
    """

    def __init__(
        self,
        path: Path,
        start: Start,
        *,
        strict: bool = False,
        durable: FileDurable | None = None,
    ) -> None:
        self._path = path
        self._start = start
        self._durable = durable
        self._strict = strict
        self._library: Zstd
        self._files = _FileList(path)
        self._reader: FileReader | None = None
        self._last = ("", -1)
        self._current = path
        self._clock = SteadyClock()
        self._pending: list[Entry] = []
        self._end = path, 0
        self._is_live = False

    # EntrySource

    async def open(self) -> Opening:
        """Find the start; see ``EntrySource``."""
        return await asyncio.to_thread(self._open)

    async def read(self) -> Sequence[Entry]:
        """Return the next entries, or wait for some; see ``EntrySource``."""
        while not (entries := self._read()):
            self._is_live = True
            await asyncio.sleep(_POLL_INTERVAL)
        self._is_live = self._is_live or self._is_past_end()
        return entries

    @property
    def live(self) -> bool:
        """Whether all that was there when it was opened has been returned."""
        return self._is_live

    @property
    def current(self) -> bool:
        """True: a directory is always read to its end."""
        return True

    async def aclose(self) -> None:
        """Close the file that is open."""
        if self._reader is not None:
            self._reader.close()

    # Where to begin

    def _open(self) -> Opening:
        self._library = load_zstd()
        ordered = in_order(self._files.new(), self._library)
        files = [one.file for one in ordered if not one.fault]
        resume = Resume()
        if self._durable is not None and (kept := self._durable.open()):
            self._start, resume = None, kept
        elif isinstance(self._start, str) and self._start != "first":
            resume = Resume(place=self._start)
        if not files:
            self._is_live = True
            if isinstance(self._start, str) and resume.place:
                raise self._lost_place(resume.place)
            _log.warning("%s has no recordings yet: waiting for them", self._path)
            return Opening()
        self._end = files[-1], files[-1].stat().st_size
        first, is_start = self._find(files, resume)
        self._files.queue(files[self._with_awaited(files, first) :])
        before = () if is_start is None else self._before(is_start)
        return Opening(before=before, resume=resume)

    def _find(
        self, files: list[Path], resume: Resume
    ) -> tuple[int, Callable[[Entry], bool] | None]:
        """Return the number of the file to begin with, and whether an entry is the start.

        None for the second: the first entry is.
        """
        if resume.place:
            return self._find_place(files, resume)
        if self._start == "first":
            return 0, None
        if isinstance(self._start, datetime):
            return self._find_time(files, self._start)
        return len(files) - 1, lambda _: False

    def _find_place(
        self, files: list[Path], resume: Resume
    ) -> tuple[int, Callable[[Entry], bool] | None]:
        origin, position, _ = resume.place.rsplit(".", 2)
        for number, file in enumerate(files):
            found = self._first_entry(file)
            if found is not None and found.origin == origin:
                # At its beginning, outages of the file before may have ended.
                before = int(not int(position) and number > 0)
                return (
                    number - before,
                    lambda entry: (
                        entry.origin != origin or entry.position >= int(position)
                    ),
                )
        if isinstance(self._start, str) or self._strict:
            raise self._lost_place(resume.place)
        firsts = [self._first_entry(file) for file in files]
        later = [n for n, one in enumerate(firsts) if one and one.origin > origin]
        if not later:
            return len(files) - 1, lambda _: False
        # Its gap needs a link that was open before it.
        for kind in ("opened", "missing"):
            entry = Entry(at=resume.at, kind=kind)
            self._clock.set_elapsed(entry)
            self._pending.append(entry)
        return later[0], None

    def _lost_place(self, place: str) -> RecordingError:
        return RecordingError(
            f"the place {place} is not in {self._path}: its file was deleted, or it is of "
            'another recording; start="first" begins with the oldest entry that is kept'
        )

    def _find_time(
        self, files: list[Path], start: datetime
    ) -> tuple[int, Callable[[Entry], bool] | None]:
        at = epoch_ns(start)
        for number in range(len(files) - 1, -1, -1):
            found = self._first_entry(files[number])
            if found is not None and found.at <= at:
                return number, lambda entry: entry.at >= at
        found = self._first_entry(files[0])
        if found is not None and found.number:
            begins = datetime.fromtimestamp(found.at / 1e9, UTC)
            raise RecordingError(
                f"the recording in {self._path} is kept from {begins:%Y-%m-%d %H:%M:%S} "
                f"UTC on, and not from {start}: files were deleted; "
                'start="first" begins with the oldest entry that is kept'
            )
        return 0, None

    def _with_awaited(self, files: list[Path], number: int) -> int:
        """Return the number of the file in which all outages began that go on in one."""
        while number:
            found = self._first_entry(files[number])
            if found is None or not found.awaited:
                break
            number -= 1
        return number

    def _first_entry(self, file: Path) -> Entry | None:
        try:
            with closing(FileReader(file, self._library, frames=False)) as reader:
                entries = reader.read(grows=True) or ()
        except (RecordingError, ValueError):
            return None
        return next((one for one in entries if one.kind == "started"), None)

    def _before(self, is_start: Callable[[Entry], bool]) -> Iterator[Entry]:
        """Yield the entries before the start; keep those from there on for ``read``."""
        while entries := self._read():
            for number, entry in enumerate(entries):
                if is_start(entry):
                    self._pending = [*entries[number:]]
                    self._is_live = False
                    return
                yield entry
        self._is_live = True

    def _is_past_end(self) -> bool:
        file, size = self._end
        if self._current != file:
            return self._current.name > file.name
        return self._reader is not None and self._reader.offset >= size

    # Reading

    def _read(self) -> list[Entry]:
        """Return the next entries, of one block at most; none if there are no new ones."""
        if self._pending:
            pending, self._pending = self._pending, []
            return pending
        while self._reader is not None or self._files.has_later():
            if self._reader is None:
                self._open_next()
                continue
            if not (entries := self._read_file(grows=True)):
                if not self._files.has_later():
                    return []
                # What was written before a later file was begun is there now.
                entries = self._read_file(grows=True) or self._finish_file()
            if entries:
                return self._checked(entries)
        return []

    def _checked(self, entries: list[Entry]) -> list[Entry]:
        """Return entries with their times, and one for files that are missing before."""
        found: list[Entry] = []
        for entry in entries:
            if entry.kind == "started":
                found += self._missing_before(entry)
            found.append(entry)
        for entry in found:
            self._clock.set_elapsed(entry)
            if self._strict and entry.kind in ("damaged", "missing"):
                raise RecordingError(
                    f"{self._path} is not whole: {entry.reason}; strict=False goes on "
                    "with a Gap"
                )
        return found

    def _missing_before(self, started: Entry) -> list[Entry]:
        run, number = self._last
        self._last = started.run, started.number
        count = started.number - (number + 1 if started.run == run else 0)
        if not run or count <= 0:
            return []
        return [self._missing(f"{count} before {self._current.name} are missing")]

    def _read_file(self, *, grows: bool) -> list[Entry]:
        assert self._reader is not None, "the caller has checked that"
        try:
            return self._reader.read(grows=grows) or []
        except NewerFormatError:
            raise
        except RecordingError as exc:
            self._close_file()
            if not self._current.exists():
                return [self._missing(f"{self._current.name} was deleted")]
            return [damage_entry(self._clock.at, self._current, str(exc))]

    def _finish_file(self) -> list[Entry]:
        entries = self._read_file(grows=False)
        if not entries:
            self._close_file()
        return entries

    def _close_file(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _open_next(self) -> None:
        """Open the next file, unless it is a copy of one before."""
        file = self._files.take()
        found = self._first_entry(file)
        run, number = self._last
        if found is None or found.run != run or found.number > number:
            self._reader, self._current = FileReader(file, self._library), file

    def _missing(self, reason: str) -> Entry:
        return Entry(at=self._clock.at, kind="missing", reason=f"files: {reason}")


class _FileList:
    """The files of a directory that are still to be read, in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: set[str] = set()
        self._waiting: list[Path] = []
        self._changed_at = -1

    def new(self) -> list[Path]:
        """Return the files that were not returned before, by name.

        Raises:
            RecordingError: If the directory cannot be read.
        """
        names, before = self._names(), None
        # A file that is created meanwhile may be returned without the one before it.
        while names != before:
            names, before = self._names(), names
        found = sorted(names - self._seen)
        self._seen.update(found)
        folder = self._path.parent if self._path.is_file() else self._path
        return [folder / name for name in found]

    def _names(self) -> set[str]:
        if self._path.is_file():
            return {self._path.name}
        try:
            return {
                one.name for one in self._path.iterdir() if one.name.endswith(SUFFIX)
            }
        except FileNotFoundError:
            return set()
        except OSError as exc:
            raise RecordingError(f"cannot read {self._path}: {exc.strerror}") from exc

    def queue(self, files: Sequence[Path]) -> None:
        """Set the files to read."""
        self._waiting += files

    def has_later(self) -> bool:
        """Whether there is a file to read after the present one."""
        if not self._waiting:
            self._look()
        return bool(self._waiting)

    def take(self) -> Path:
        """Return the next file."""
        return self._waiting.pop(0)

    def _look(self) -> None:
        try:
            changed_at = self._path.stat().st_mtime_ns
        except OSError:
            return  # It does not exist yet.
        recent = time.time_ns() - changed_at < _STEP
        if changed_at != self._changed_at or recent:
            self._changed_at = changed_at
            self._waiting += self.new()
