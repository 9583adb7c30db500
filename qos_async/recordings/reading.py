"""Reading of recordings, line by line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

from msgspec import Struct
from msgspec.structs import force_setattr

from qos_async._core.wire import LETTERS
from qos_async.enums import Interval
from qos_async.recordings.blocks import (
    HEAD_MAGIC,
    Damage,
    damaged_head,
    decode_head,
    read_blocks,
    read_head,
)
from qos_async.recordings.files import RecordingError, files_in
from qos_async.recordings.format import (
    MAGIC,
    NO_UP,
    Entry,
    NewerFormatError,
    Zstd,
    check_version,
    decode_line,
    is_frame_line,
    load_zstd,
)
from qos_async.recordings.old_format import read_old_texts
from qos_async.recordings.replay_timeline import push_header
from qos_async.topics import Topic, WireTopic

__all__ = ["Contents", "OrderedFile", "contents", "in_order", "read", "read_files"]

_HEAD_ROOM = 128
_CHANNELS = {letter: channel for channel, letter in LETTERS.items()}


def read(path: str | os.PathLike[str]) -> Iterator[Entry]:
    """Read the entries of a recording, in order.

    A damaged part is left out: an entry ``"damaged"`` has its place, and how much is
    lost; what follows is read. The same entry stands for a file that is not a recording,
    in a directory with others. Entries of kinds that this version does not know are
    skipped; ``contents`` counts them.

    Args:
        path: A recording's directory, or one of its files.

    Yields:
        Frames and events; see ``Entry``.

    Raises:
        RecordingError: If there is no recording, a file cannot be read, or is of a newer
            format.
        MissingZstdError: If no zstandard library is installed.

    Example:
        >>> for entry in read("recordings"):
        ...     if entry.kind == "lost":
        ...         print(entry.at, entry.reason)
    """
    library, files = load_zstd(), files_in(path)
    for entry in read_files(files, library, alone=len(files) == 1):
        if entry.kind != "unknown":
            yield entry


def read_files(
    files: Sequence[Path], library: Zstd, *, alone: bool, frames: bool = True
) -> Iterator[Entry]:
    """Read the entries of files, also ``"unknown"`` ones.

    Args:
        files: The files, by name; they are read as ``in_order`` returns them.
        library: Decompresses them.
        alone: Whether there are no others, so that one that is not a recording raises.
        frames: False for only the last of each run of frames.
    """
    clock = _SteadyClock()
    for file, fault in in_order(files, library):
        if fault:
            damage = _damage_entry(clock.at, file, fault)
            clock.set_elapsed(damage)
            yield damage
            continue
        try:
            for entry in _read_file(file, library, frames=frames):
                clock.set_elapsed(entry)
                yield entry
        except NewerFormatError:
            raise
        except RecordingError as exc:
            if alone:
                raise
            damage = _damage_entry(clock.at, file, str(exc))
            clock.set_elapsed(damage)
            yield damage


class OrderedFile(NamedTuple):
    """A file to read; or, with a fault, what is wrong with or before it."""

    file: Path
    fault: str = ""


class _Place(NamedTuple):
    """The place of a file among others; sorts before those of later and worse ones.

    A file that cannot be identified stays behind the one that its name follows. Of
    copies, that with the most lines and bytes comes first.
    """

    run: int
    number: int
    unidentified: bool
    lacks: tuple[int, int]
    name: tuple[bool, int, str]


def in_order(files: Sequence[Path], library: Zstd) -> Iterator[OrderedFile]:
    """Yield the files of each run by their numbers, wherever they were copied or renamed.

    Of files with the same number, the longest is to be read, and the others are faults.
    A missing file is a fault of the next one; the first of a run may have been deleted
    on purpose.

    Args:
        files: The files, by name.
        library: Decompresses them.
    """
    last: tuple[int, int] | None = None
    kept = ""
    for place, file in sorted(_places(files, library).items()):
        here = place.run, place.number
        if place.unidentified:
            yield OrderedFile(file)
        elif last == here:
            yield OrderedFile(file, f"repeats {kept}, and is left out")
        else:
            if last is not None and last[0] == place.run:
                yield from _missing(file, last[1] + 1, place.number - 1)
            last, kept = here, file.name
            yield OrderedFile(file)


def _places(files: Sequence[Path], library: Zstd) -> dict[_Place, Path]:
    runs: dict[str, int] = {}
    run, number = -1, 0
    places: dict[_Place, Path] = {}
    for file in files:
        found = _identify(file, library)
        lacks = 0, 0
        if found is not None:
            run, number = runs.setdefault(found.run, len(runs)), found.number
            lacks = -found.lines, -found.size
        # Copies are named "… (1)", "… - Copy" or "Copy of …".
        name = not file.name.startswith("qos-"), len(file.name), file.name
        places[_Place(run, number, found is None, lacks, name)] = file
    return places


def _missing(file: Path, first: int, final: int) -> Iterator[OrderedFile]:
    """Yield the fault that files with these numbers are missing, if there are any."""
    if first > final:
        return
    which = f"file {first} of the recording is"
    if first < final:
        which = f"files {first} to {final} of the recording are"
    yield OrderedFile(file, f"before it, {which} missing, or damaged at the start")


class _Identity(NamedTuple):
    """The run and number of a file, the lines its head has counted, and its bytes."""

    run: str
    number: int
    lines: int
    size: int


def _identify(file: Path, library: Zstd) -> _Identity | None:
    """Return the identity in a file's head, else in its first line, else None."""
    try:
        with file.open("rb") as opened:
            head = read_head(opened)
            size = os.fstat(opened.fileno()).st_size
        if head is not None:
            return _Identity(head.file.run.hex(), head.file.number, head.lines, size)
        for line in islice(_lines(file, library), 2):  # The first may be ``Damage``.
            if not isinstance(line, Damage):
                entry = decode_line(line)
                return (
                    _Identity(entry.run, entry.number, 0, size) if entry.run else None
                )
    except (OSError, RecordingError, ValueError):
        pass  # Reading it as a whole reports that.
    return None


class _SteadyClock:
    """Sets ``Entry.elapsed``, over files and recorders: it never goes back.

    Attributes:
        at: The time of the last entry.
    """

    def __init__(self) -> None:
        self.at = 0
        self._elapsed = 0
        self._up = NO_UP
        self._run = ""

    def set_elapsed(self, entry: Entry) -> None:
        """Set it to nanoseconds since the first entry."""
        if entry.kind == "started" and entry.run != self._run:
            self._run, self._up = entry.run, NO_UP
        if entry.kind != "damaged":
            up, at = entry.elapsed, entry.at
            known = NO_UP not in (up, self._up)
            step = up - self._up if known else at - (self.at or at)
            self._elapsed += max(step, 0)
            self._up, self.at = up, at
        force_setattr(entry, "elapsed", self._elapsed)


def _read_file(file: Path, library: Zstd, *, frames: bool = True) -> Iterator[Entry]:
    """Read one file; without ``frames``, only the last of each run of frames."""
    at, skipped, intact = 0, b"", True
    for line in _lines(file, library):
        if isinstance(line, Damage):
            found, intact = _damage_entry(at, file, line.reason), False
        elif not frames and at and is_frame_line(line):
            skipped = line
            continue
        else:
            found = _entry(line, file, at, intact=intact)
        if skipped:
            yield decode_line(skipped)
        at, skipped = found.at, b""
        yield found
    if skipped:
        yield decode_line(skipped)


def _entry(line: bytes, file: Path, at: int, *, intact: bool) -> Entry:
    """Return the entry of a line; ``at`` is 0 for the first of a file."""
    try:
        entry = decode_line(line)
    except NewerFormatError:
        raise
    except ValueError as exc:
        if not at and intact:
            raise RecordingError(f"{file} is not a recording: {exc}") from None
        return _damage_entry(at, file, f"an entry is left out: {exc}")
    if not at and intact and entry.kind != "started":
        raise RecordingError(
            f"{file} is not a recording: it does not start with a header"
        )
    return entry


def _damage_entry(at: int, file: Path, why: str) -> Entry:
    return Entry(at=at, kind="damaged", reason=f"{file.name}: {why}")


def _lines(file: Path, library: Zstd) -> Iterator[bytes | Damage]:
    """Yield the complete lines of a file, and ``Damage`` where something is lost."""
    rest = b""
    try:
        with file.open("rb") as opened:
            for text in _texts(file, opened, library):
                if isinstance(text, Damage):
                    rest = b""
                    yield text
                    continue
                *whole, rest = (rest + text).split(b"\n")
                yield from whole
    except OSError as exc:
        raise RecordingError(f"cannot read {file}: {exc.strerror}") from exc
    if rest:
        yield Damage("ends in the middle of a line")


def _texts(file: Path, opened: IO[bytes], library: Zstd) -> Iterator[bytes | Damage]:
    raw = opened.read(_HEAD_ROOM)
    if (head := decode_head(raw)) is not None:
        check_version(head.version)
        head = read_head(opened)
    if head is not None:
        pass
    elif MAGIC.startswith(raw[: len(MAGIC)]):
        yield from read_old_texts(opened, library)
        return
    elif damaged_head(opened):
        yield Damage("its first bytes, the head, are damaged")
    else:
        _raise_foreign(file, raw)
    yield from read_blocks(opened, head, library)


def _raise_foreign(file: Path, raw: bytes) -> NoReturn:
    if HEAD_MAGIC.startswith(raw[: len(HEAD_MAGIC)]):
        raise RecordingError(f"{file} is damaged: nothing in it can be read")
    raise RecordingError(
        f"{file} is not a recording: it is not compressed with zstandard"
    )


class Contents(Struct, frozen=True, kw_only=True):
    """Summary of a recording.

    Attributes:
        topics: All topics that were ever subscribed; of a damaged recording also those of
            its frames.
        begins_at: The start, in nanoseconds since the epoch.
        ends_at: The end, in the same unit; not before the start, wherever the clock was
            set.
        faults: A message for each damaged part, with its file and place.
        unknown: The number of entries of kinds that this version does not know.
    """

    topics: frozenset[Topic]
    begins_at: int
    ends_at: int
    faults: tuple[str, ...]
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
        if header is not None and header.tp in _CHANNELS:
            pushed.add(header.topic)
    topics: set[Topic] = set()
    for letter, symbol, kt in pushed:
        with suppress(ValueError):
            interval = None if kt is None else Interval(kt)
            topics.add(Topic(_CHANNELS[letter], symbol, interval))
    return topics
