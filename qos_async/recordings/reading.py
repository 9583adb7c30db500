"""Reading of recordings, line by line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

from msgspec.structs import force_setattr

from qos_async.recordings.blocks import (
    HEAD_MAGIC,
    BlockReader,
    Damage,
    Lines,
    damaged_head,
    decode_head,
    read_head,
)
from qos_async.recordings.files import RecordingError, files_in, time_in_name
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

__all__ = [
    "FileReader",
    "OrderedFile",
    "SteadyClock",
    "damage_entry",
    "in_order",
    "read",
    "read_files",
]

_HEAD_ROOM = 128


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
    clock = SteadyClock()
    for file, fault in in_order(files, library):
        if fault:
            damage = damage_entry(clock.at, file, fault)
            clock.set_elapsed(damage)
            yield damage
            continue
        try:
            with closing(FileReader(file, library, frames=frames)) as reader:
                while (entries := reader.read()) is not None:
                    for entry in entries:
                        clock.set_elapsed(entry)
                        yield entry
        except NewerFormatError:
            raise
        except RecordingError as exc:
            if alone:
                raise
            damage = damage_entry(clock.at, file, str(exc))
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
        with closing(FileReader(file, library, frames=False)) as reader:
            for _ in range(2):  # The first may be damage.
                for entry in reader.read() or ():
                    if entry.kind != "damaged":
                        return (
                            _Identity(entry.run, entry.number, 0, size)
                            if entry.run
                            else None
                        )
    except (OSError, RecordingError, ValueError):
        pass  # Reading it as a whole reports that.
    return None


class SteadyClock:
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


class FileReader:
    """Reads the entries of one file, also while it is being written.

    Args:
        file: The file.
        library: Decompresses it.
        frames: False for only the last of each run of frames.
    """

    def __init__(self, file: Path, library: Zstd, *, frames: bool = True) -> None:
        self._file = file
        self._library = library
        self._frames = frames
        self._opened: IO[bytes] | None = None
        self._parts: BlockReader | _OldReader | None = None
        self._ready: list[Lines | Damage] = []
        self._origin = ""
        self._at = self._position = self._shift = self._index = 0
        self._rest = self._skipped = b""
        self._intact = True

    @property
    def offset(self) -> int:
        """The bytes that were read."""
        return self._parts.offset if isinstance(self._parts, BlockReader) else 0

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()

    def read(self, *, grows: bool = False) -> list[Entry] | None:
        """Return the next entries; None at the end.

        Args:
            grows: Whether more is to be expected, so that the end is no damage.

        Raises:
            RecordingError: If the file cannot be read, or is not a recording.
            NewerFormatError: If it is of a newer format.
        """
        try:
            part = self._next_part(grows=grows)
        except OSError as exc:
            why = f"cannot read {self._file}: {exc.strerror}"
            raise RecordingError(why) from exc
        if part is not None:
            return [*self._entries(part)]
        entries: list[Entry] = []
        if not grows:
            entries += self._take_skipped()
            if self._rest:
                self._rest = b""
                entries.append(self._damage("ends in the middle of a line"))
        return entries or None

    def _next_part(self, *, grows: bool) -> Lines | Damage | None:
        if self._parts is None:
            self._open(grows=grows)
        if self._ready:
            return self._ready.pop()
        return None if self._parts is None else self._parts.read(grows=grows)

    def _open(self, *, grows: bool) -> None:
        if self._opened is None:
            # A buffer would not show what is written to the file meanwhile.
            self._opened = self._file.open("rb", buffering=0)
        opened = self._opened
        opened.seek(0)
        raw = opened.read(_HEAD_ROOM)
        head = decode_head(raw)
        if head is not None:
            check_version(head.version)
            head = head if grows else read_head(opened)
        if head is not None:
            pass
        elif MAGIC.startswith(raw[: len(MAGIC)]) and (raw or not grows):
            self._parts = _OldReader(opened, self._library)
            return
        elif grows:
            return  # Its head is being written.
        elif damaged_head(opened):
            self._ready.append(Damage("its first bytes, the head, are damaged"))
        else:
            _raise_foreign(self._file, raw)
        if head is not None:
            name = time_in_name(self._file.name)
            self._origin = _origin(name, head.file.run.hex(), head.file.number)
        self._parts = BlockReader(opened, self._library)

    def _entries(self, part: Lines | Damage) -> Iterator[Entry]:
        if isinstance(part, Damage):
            self._rest, self._intact = b"", False
            yield from self._take_skipped()
            yield self._damage(part.reason)
            return
        *whole, rest = (self._rest + part.text).split(b"\n")
        self._rest = rest
        for self._position, line in enumerate(whole, part.first):
            if not self._frames and self._at and is_frame_line(line):
                self._skipped = line
                continue
            yield from self._take_skipped()
            entry = self._entry(line)
            if entry.kind == "placed":
                self._origin, self._index = entry.origin, entry.index
                self._shift = entry.position - self._position - 1
            else:
                yield entry

    def _take_skipped(self) -> Iterator[Entry]:
        if self._skipped:
            line, self._skipped = self._skipped, b""
            yield self._entry(line)

    def _entry(self, line: bytes) -> Entry:
        """Return the entry of a line; ``_at`` is 0 for the first of a file."""
        intact = not self._at and self._intact
        try:
            entry = decode_line(line, self._origin, self._position + self._shift)
        except NewerFormatError:
            raise
        except ValueError as exc:
            if intact:
                why = f"{self._file} is not a recording: {exc}"
                raise RecordingError(why) from None
            return self._damage(f"an entry is left out: {exc}")
        if intact and entry.kind != "started":
            raise RecordingError(
                f"{self._file} is not a recording: it does not start with a header"
            )
        if self._index and entry.kind != "placed":
            force_setattr(entry, "index", self._index)
            self._index = 0
        if entry.kind == "started":
            self._origin = _origin(entry.begins, entry.run, entry.number)
            force_setattr(entry, "origin", self._origin)
        self._at = entry.at
        return entry

    def _damage(self, why: str) -> Entry:
        return damage_entry(self._at, self._file, why)


def _origin(begins: int, run: str, number: int) -> str:
    """Return the first part of the places in a file; see ``Tick.place``.

    Files of one directory begin at different microseconds, in their order.
    """
    return f"{begins // 1000:016d}.{run}.{number}"


class _OldReader:
    """Reads a file of format 1, whose parts are not counted."""

    def __init__(self, file: IO[bytes], library: Zstd) -> None:
        self._texts = read_old_texts(file, library)
        self._lines = 0

    def read(self, *, grows: bool) -> Lines | Damage | None:
        """Return the next lines, or damage; None at the end."""
        text = next(self._texts, None)
        if text is None or isinstance(text, Damage):
            return text
        first, self._lines = self._lines, self._lines + text.count(b"\n")
        return Lines(first, text)


def damage_entry(at: int, file: Path, why: str) -> Entry:
    """Return the entry that stands for a part of a file that is left out."""
    return Entry(at=at, kind="damaged", reason=f"{file.name}: {why}")


def _raise_foreign(file: Path, raw: bytes) -> NoReturn:
    if HEAD_MAGIC.startswith(raw[: len(HEAD_MAGIC)]):
        raise RecordingError(f"{file} is damaged: nothing in it can be read")
    raise RecordingError(
        f"{file} is not a recording: it is not compressed with zstandard"
    )
