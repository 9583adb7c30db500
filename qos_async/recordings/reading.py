"""Recordings, read line by line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from qos_async.recordings.files import RecordingError, files_in
from qos_async.recordings.lines import Entry, parse
from qos_async.recordings.zstd import MAGIC, Zstd, zstd
from qos_async.topics import Topic

__all__ = ["Contents", "contents", "read"]

_CHUNK = 1 << 16
_FRAME = b',"frame":'
_FRAME_AT = slice(25, 25 + len(_FRAME))  # Behind the nanoseconds of this century.


def read(path: str | os.PathLike[str]) -> Iterator[Entry]:
    """Read all that was recorded, in order.

    What a crash left half written is passed over: an entry ``"damaged"`` says at which
    place, and why.

    Args:
        path: A recording's directory, or one of its files.

    Yields:
        What was recorded; see ``Entry``.

    Raises:
        RecordingError: If there is none, or what is there is something else.
        MissingZstdError: If what uncompresses it is not installed.

    Example:
        >>> for entry in read("recordings"):
        ...     if entry.kind == "lost":
        ...         print(entry.at, entry.reason)
    """
    library = zstd()
    for file in files_in(path):
        yield from _read_file(file, library)


def _read_file(file: Path, library: Zstd, *, frames: bool = True) -> Iterator[Entry]:
    """Read one file; without ``frames``, the last of these stands for all."""
    reader = _Lines(file, library)
    at, passed = 0, b""
    for line in reader:
        if not frames and at and line[_FRAME_AT] == _FRAME:
            passed = line
            continue
        try:
            entry = parse(line)
        except ValueError as exc:
            if not at:
                raise RecordingError(f"{file} is no recording: {exc}") from None
            reader.fault = str(exc)
            break
        if not at and entry.kind != "begun":
            raise RecordingError(f"{file} is no recording: it does not begin like one")
        at, passed = entry.at, b""
        yield entry
    if passed:
        yield parse(passed)
    if reader.fault:
        yield _damaged(at, file, reader.fault)


def _damaged(at: int, file: Path, why: str) -> Entry:
    return Entry(at=at, kind="damaged", reason=f"{file.name}: {why}")


class _Lines:
    """The whole lines of one file.

    Attributes:
        fault: After the last of them: why there were no more; empty if all is well.
    """

    def __init__(self, file: Path, library: Zstd) -> None:
        self.fault = ""
        self._file = file
        self._library = library

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        for text in self._texts():
            *whole, rest = (rest + text).split(b"\n")
            yield from whole
        if rest and not self.fault:
            self.fault = "it ends in the middle of a line"

    def _texts(self) -> Iterator[bytes]:
        """Uncompress one frame after another, each as far as it goes."""
        frame, inside = self._library.ZstdDecompressor(), False
        with self._file.open("rb") as file:
            self._check(file.read(len(MAGIC)))
            file.seek(0)
            while data := file.read(_CHUNK):
                while data:
                    try:
                        yield frame.decompress(data)
                    except self._library.ZstdError as exc:
                        self.fault = f"it is damaged before byte {file.tell()} ({exc})"
                        return
                    data, inside = frame.unused_data, not frame.eof
                    if frame.eof:
                        frame = self._library.ZstdDecompressor()
            if inside or not file.tell():
                self.fault = f"it ends in the middle, at byte {file.tell()}"

    def _check(self, head: bytes) -> None:
        if not MAGIC.startswith(head):
            raise RecordingError(
                f"{self._file} is no recording: it is not compressed with zstandard"
            )


class Contents(Struct, frozen=True, kw_only=True):
    """What a recording has, without its frames.

    Attributes:
        topics: What was ever subscribed.
        begins_at: When it begins, in nanoseconds since the epoch.
        ends_at: When it ends.
        faults: What cannot be read, in words.
    """

    topics: frozenset[Topic]
    begins_at: int
    ends_at: int
    faults: tuple[str, ...]


def contents(path: str | os.PathLike[str]) -> Contents:
    """Look through a recording, at about a hundred megabytes of files a second.

    Raises:
        RecordingError: If there is none, or it is empty, or several recorders wrote it
            at one time.
        MissingZstdError: If what uncompresses it is not installed.
    """
    library = zstd()
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
        raise RecordingError(f"{path} is empty: nothing was recorded there")
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
            f"{file.parent} holds two recordings of one time ({file.name} is of another "
            "than the file before it): give each a directory of its own"
        )
