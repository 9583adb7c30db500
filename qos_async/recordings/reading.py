"""Reading of recordings, line by line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from qos_async.recordings.files import RecordingError, files_in
from qos_async.recordings.format import MAGIC, Entry, Zstd, decode_line, load_zstd
from qos_async.topics import Topic

__all__ = ["Contents", "contents", "read"]

_CHUNK = 1 << 16
_FRAME = b',"frame":'
# Where it stands in a line: behind {"at": and the 19 digits that nanoseconds have
# until the year 2286.
_FRAME_AT = slice(25, 25 + len(_FRAME))


def read(path: str | os.PathLike[str]) -> Iterator[Entry]:
    """Read the entries of a recording, in order.

    The rest of a damaged file, such as a crash leaves, is skipped: an entry
    ``"damaged"`` has the place and the reason.

    Args:
        path: A recording's directory, or one of its files.

    Yields:
        Frames and events; see ``Entry``.

    Raises:
        RecordingError: If there is no recording, or a file is not a recording.
        MissingZstdError: If no zstandard library is installed.

    Example:
        >>> for entry in read("recordings"):
        ...     if entry.kind == "lost":
        ...         print(entry.at, entry.reason)
    """
    library = load_zstd()
    for file in files_in(path):
        yield from _read_file(file, library)


def _read_file(file: Path, library: Zstd, *, frames: bool = True) -> Iterator[Entry]:
    """Read one file; without ``frames``, only the last of each run of frames."""
    reader = _LineReader(file, library)
    at, skipped = 0, b""
    for line in reader:
        if not frames and at and line[_FRAME_AT] == _FRAME:
            skipped = line
            continue
        try:
            entry = decode_line(line)
        except ValueError as exc:
            if not at:
                raise RecordingError(f"{file} is not a recording: {exc}") from None
            reader.error = str(exc)
            break
        if not at and entry.kind != "started":
            raise RecordingError(
                f"{file} is not a recording: it does not start with a header"
            )
        at, skipped = entry.at, b""
        yield entry
    if skipped:
        yield decode_line(skipped)
    if reader.error:
        yield _damage_entry(at, file, reader.error)


def _damage_entry(at: int, file: Path, why: str) -> Entry:
    return Entry(at=at, kind="damaged", reason=f"{file.name}: {why}")


class _LineReader:
    """Reads the complete lines of one file.

    Attributes:
        error: After the last line: why the file is unreadable from there, or empty.
    """

    def __init__(self, file: Path, library: Zstd) -> None:
        self.error = ""
        self._file = file
        self._library = library

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        for text in self._texts():
            *whole, rest = (rest + text).split(b"\n")
            yield from whole
        if rest and not self.error:
            self.error = "ends in the middle of a line"

    def _texts(self) -> Iterator[bytes]:
        """Decompress one zstandard frame after another, as far as each is intact."""
        frame, inside = self._library.ZstdDecompressor(), False
        with self._file.open("rb") as file:
            self._check(file.read(len(MAGIC)))
            file.seek(0)
            while data := file.read(_CHUNK):
                while data:
                    try:
                        yield frame.decompress(data)
                    except self._library.ZstdError as exc:
                        self.error = f"damaged before byte {file.tell()} ({exc})"
                        return
                    data, inside = frame.unused_data, not frame.eof
                    if frame.eof:
                        frame = self._library.ZstdDecompressor()
            if inside or not file.tell():
                self.error = f"ends in the middle, at byte {file.tell()}"

    def _check(self, head: bytes) -> None:
        if not MAGIC.startswith(head):
            raise RecordingError(
                f"{self._file} is not a recording: it is not compressed with zstandard"
            )


class Contents(Struct, frozen=True, kw_only=True):
    """Summary of a recording.

    Attributes:
        topics: All topics that were ever subscribed.
        begins_at: The start, in nanoseconds since the epoch.
        ends_at: The end, in the same unit.
        faults: A message for each damaged file.
    """

    topics: frozenset[Topic]
    begins_at: int
    ends_at: int
    faults: tuple[str, ...]


def contents(path: str | os.PathLike[str]) -> Contents:
    """Return the summary of a recording; reads about 100 MB of files a second.

    Raises:
        RecordingError: If there is no recording, it is empty, or several recorders wrote it at
            the same time.
        MissingZstdError: If no zstandard library is installed.
    """
    library = load_zstd()
    topics: set[Topic] = set()
    faults: list[str] = []
    spans: list[tuple[str, int, int]] = []
    for file in files_in(path):
        run, first, last = "", 0, 0
        for entry in _read_file(file, library, frames=False):
            if entry.kind == "damaged":
                faults.append(entry.reason)
            topics.update(entry.topics)
            run, first, last = run or entry.run, first or entry.at, entry.at or last
        if first:
            _check_order(file, spans, (run, first, last))
            spans.append((run, first, last))
    if not spans:
        raise RecordingError(f"{path} is empty: nothing was recorded in it")
    return Contents(
        topics=frozenset(topics),
        begins_at=spans[0][1],
        ends_at=max(last for _, _, last in spans),
        faults=tuple(faults),
    )


def _check_order(
    file: Path, earlier: list[tuple[str, int, int]], span: tuple[str, int, int]
) -> None:
    run, first, _ = span
    if any(run != other and first < last for other, _, last in earlier):
        raise RecordingError(
            f"{file.parent} has two recordings of the same time ({file.name} is of "
            "another recorder than the file before it): put each into its own directory"
        )
