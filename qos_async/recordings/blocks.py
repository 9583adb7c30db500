"""Container of recordings: a head, and blocks with checksums.

All numbers are little-endian. Head and block headers are skippable frames of zstandard,
so that a file is also one that the ``zstd`` program decompresses. A file is:

- a head of 52 bytes: magic ``0x184D2A50``, 44, ``qosrecrd``, the format, the run of the
  recorder, the number of the file, the lines and bytes that were written so far, and a
  CRC-32 of all that. It is written again after each block: so a file that was cut, even
  between two blocks, differs from one whose recorder was killed;
- blocks: a header of 40 bytes (magic ``0x184D2A51``, 32, ``qosb``, the owner, the number
  of the first line, the lines, the size and CRC-32 of the body, and a CRC-32 of the
  header) and a body: one zstandard frame, with a checksum, of whole lines.

The owner is a CRC-32 of run and number: a block of another file is noticed. The line
numbers show blocks that are missing, repeated, or not in order; blocks are read in the
order of their lines, wherever they are.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple
from zlib import crc32

from qos_async.recordings.format import VERSION, Zstd

__all__ = [
    "HEAD_MAGIC",
    "BlockReader",
    "Damage",
    "FileId",
    "Head",
    "Lines",
    "compressor",
    "damaged_head",
    "decode_head",
    "encode_block",
    "encode_head",
    "find",
    "read_head",
]

_HEAD = struct.Struct("<II8sI8sIQQ")
_BLOCK = struct.Struct("<II4sIQIII")
_CRC = struct.Struct("<I")
_HEAD_SIZE = _HEAD.size + _CRC.size
_BLOCK_SIZE = _BLOCK.size + _CRC.size
_SIGNATURE = b"qosrecrd"
HEAD_MAGIC = b"\x50\x2a\x4d\x18"
"""The first bytes of each file since format 2."""
_SYNC = struct.pack("<II4s", 0x184D2A51, _BLOCK_SIZE - 8, b"qosb")
_WINDOW = 1 << 20


class FileId(NamedTuple):
    """The identity of a file: the run of the recorder, and the number of the file."""

    run: bytes
    number: int

    @property
    def owner(self) -> int:
        """What its blocks carry of it."""
        return crc32(struct.pack("<8sI", *self))


class Head(NamedTuple):
    """The head of a file.

    Attributes:
        version: The format.
        file: The identity of the file.
        lines: The lines that were written before the head.
        size: The size of the file at that time.
    """

    version: int
    file: FileId
    lines: int
    size: int


class Damage(NamedTuple):
    """A part of a file that is left out; ``reason`` is for people."""

    reason: str


def compressor(library: Zstd, level: int) -> Any:
    """Return a compressor whose frames have checksums."""
    name = library.CompressionParameter
    options = {name.compression_level: level, name.checksum_flag: 1}
    return library.ZstdCompressor(options=options)


def encode_head(file: FileId, *, lines: int = 0, size: int = _HEAD_SIZE) -> bytes:
    """Return a head, of the same length for all arguments."""
    head = _HEAD.pack(
        0x184D2A50, _HEAD_SIZE - 8, _SIGNATURE, VERSION, *file, lines, size
    )
    return head + _CRC.pack(crc32(head))


def decode_head(raw: bytes) -> Head | None:
    """Return the head that bytes begin with, or None if it is damaged or missing."""
    head, crc = raw[: _HEAD.size], raw[_HEAD.size : _HEAD_SIZE]
    if crc != _CRC.pack(crc32(head)) or head[8:16] != _SIGNATURE:
        return None
    _, _, _, version, run, number, lines, size = _HEAD.unpack(head)
    return Head(version, FileId(run, number), lines, size)


def damaged_head(file: IO[bytes]) -> bool:
    """Return whether a file without a valid head has blocks nevertheless."""
    return find(file, _SYNC, 0) is not None


def encode_block(file: FileId, first: int, text: bytes, packer: Any) -> bytes:
    """Return a block of whole lines; ``first`` is the number of the first, from 0."""
    body = packer.compress(text, packer.FLUSH_FRAME)
    lines = text.count(b"\n")
    header = _BLOCK.pack(
        *(0x184D2A51, _BLOCK_SIZE - 8, b"qosb", file.owner),
        *(first, lines, len(body), crc32(body)),
    )
    return b"".join((header, _CRC.pack(crc32(header)), body))


class Lines(NamedTuple):
    """Whole lines of a file, and the number of the first, from 0."""

    first: int
    text: bytes


class _Header(NamedTuple):
    """The header of a block, and its places in the file."""

    place: int
    owner: int
    first: int
    lines: int
    size: int
    checksum: int

    @property
    def body(self) -> int:
        return self.place + _BLOCK_SIZE

    @property
    def end(self) -> int:
        return self.body + self.size


def read_head(file: IO[bytes]) -> Head | None:
    """Return the head of a file; None if it is damaged, missing, or of another file.

    It is of another file if most of the blocks are, and some that it counts are missing.
    """
    file.seek(0)
    head = decode_head(file.read(_HEAD_SIZE))
    if head is None or head.size == os.fstat(file.fileno()).st_size:
        return head
    lines = _lines_by_owner(_headers(file))
    own = lines[head.file.owner]
    return None if own < min(head.lines, max(lines.values(), default=0)) else head


def _sorted_blocks(file: IO[bytes], library: Zstd) -> Iterator[Lines | Damage]:
    """Yield each block in the order of lines; ``Damage`` where one is lost.

    Blocks that are whole are read, also if they are not in their place. The beginning of
    a block behind the size in the head is no damage: it is being written.
    """
    head, headers = read_head(file), _headers(file)
    owner = head.file.owner if head else None
    if owner is None and headers:
        [(owner, _)] = _lines_by_owner(headers).most_common(1)
    place, expected, left_out = _HEAD_SIZE, 0, list[_Header]()
    for block in sorted(headers, key=_by_line):
        if block.owner != owner or block.first < expected:
            left_out.append(block)
            continue
        text = _read_body(file, block, library)
        if text is None:
            continue
        if block.first > expected or block.place != place:
            yield _lost(place, block.place, block.first - expected)
        yield Lines(block.first, text)
        place, expected = block.end, block.first + block.lines
    if left_out:
        entries = sum(block.lines for block in left_out)
        where = f"{min(left_out).place} to {max(left_out).end}"
        yield Damage(f"{entries} entries at bytes {where} are out of place")
        place = max(place, max(left_out).end)
    yield from _check_end(file, head, place, expected)


def _by_line(block: _Header) -> tuple[int, int]:
    return block.first, block.place


def _lines_by_owner(headers: Iterable[_Header]) -> Counter[int]:
    lines = Counter[int]()
    for block in headers:
        lines[block.owner] += block.lines
    return lines


def _headers(file: IO[bytes]) -> list[_Header]:
    """Return the intact headers of a file, whether or not the bodies are intact."""
    found: list[_Header] = []
    place: int | None = _HEAD_SIZE
    since = _HEAD_SIZE
    while place is not None:
        header = _read_header(file, place)
        if header is not None:
            found.append(header)
            # Its body may be shorter than it says: the next is then searched behind it.
            place, since = header.end, header.place
        else:
            place = find(file, _SYNC, since + 1)
            since = place or since
    return found


class BlockReader:
    """Reads the blocks of a file, also while it is being written.

    Of a file that does not grow, blocks are sorted. Of one that does, they are read in
    their places, and after damage reading goes on with the next block that is whole. The
    beginning of a block behind the size in the head is no damage: it is being written.

    Attributes:
        offset: Where the next block begins.
    """

    def __init__(self, file: IO[bytes], library: Zstd) -> None:
        self._file = file
        self._library = library
        self.offset, self._expected = _HEAD_SIZE, 0
        self._owner: int | None = None
        self._damaged_at: int | None = None
        self._ready: list[Lines | Damage] = []
        self._has_ended = False
        self._sorted: Iterator[Lines | Damage] | None = None

    def read(self, *, grows: bool = False) -> Lines | Damage | None:
        """Return the next lines, or damage; None at the end.

        Args:
            grows: Whether more is to be expected behind the last block that is whole.
        """
        if not grows and self.offset == _HEAD_SIZE and self._damaged_at is None:
            self._sorted = self._sorted or _sorted_blocks(self._file, self._library)
        if self._sorted is not None:
            return next(self._sorted, None)
        while not self._ready and not self._has_ended:
            # The head is written after the blocks that it counts, and so is read before.
            self._file.seek(0)
            head = decode_head(self._file.read(_HEAD_SIZE))
            if head is not None and self._owner is None:
                self._owner = head.file.owner
            block = _read_header(self._file, self.offset)
            text = block and _read_body(self._file, block, self._library)
            if block is not None and text is not None:
                self._take(block, text)
            elif grows and (head is None or self.offset >= head.size):
                return None
            else:
                self._skip_damage(head, grows=grows)
        return self._ready.pop(0) if self._ready else None

    def _take(self, block: _Header, text: bytes) -> None:
        place, expected = self.offset, self._expected
        self._owner = block.owner if self._owner is None else self._owner
        if block.owner != self._owner or block.first < expected:
            why = f"the {block.lines} entries at byte {place} are out of place"
            self._ready.append(Damage(why))
        else:
            if self._damaged_at is not None or block.first > expected:
                lost = block.first - expected
                self._ready.append(_lost(self._damaged_at, place, lost))
            self._ready.append(Lines(block.first, text))
            self._expected = block.first + block.lines
        self._damaged_at, self.offset = None, block.end

    def _skip_damage(self, head: Head | None, *, grows: bool) -> None:
        if self._damaged_at is None:
            self._damaged_at = self.offset
        found = find(self._file, _SYNC, self.offset + 1)
        if found is not None:
            self.offset = found
        elif grows:  # All of it is damaged, and the next block is behind it.
            assert head is not None, "else it is not known to be damaged"
            self.offset = head.size
        else:
            self._has_ended = True
            self._ready += _check_end(
                self._file, head, self._damaged_at, self._expected
            )


def _check_end(
    file: IO[bytes], head: Head | None, place: int, expected: int
) -> Iterator[Damage]:
    end = os.fstat(file.fileno()).st_size
    file.seek(place)
    rest = file.read(len(_SYNC))
    if head is not None and head.lines > expected:
        yield _lost(place, max(end, head.size), head.lines - expected)
    elif rest and not (head is not None and place >= head.size and _begins_block(rest)):
        yield Damage(f"bytes {place} to {end}, the last, are damaged and left out")


def _begins_block(rest: bytes) -> bool:
    return _SYNC.startswith(rest)


def _lost(since: int | None, until: int, entries: int) -> Damage:
    if not entries:
        return Damage(f"what is before byte {until} is damaged, or not in its place")
    plural = "entry" if entries == 1 else "entries"
    known = since is not None and since < until
    where = f"at bytes {since} to {until}" if known else f"before byte {until}"
    return Damage(f"{entries} {plural} {where} damaged or missing, and left out")


def _read_header(file: IO[bytes], place: int) -> _Header | None:
    """Return the header at a place, or None if it is missing or damaged."""
    file.seek(place)
    header = file.read(_BLOCK_SIZE)
    fields, crc = header[: _BLOCK.size], header[_BLOCK.size :]
    if not header.startswith(_SYNC) or crc != _CRC.pack(crc32(fields)):
        return None
    return _Header(place, *_BLOCK.unpack(fields)[3:])


def _read_body(file: IO[bytes], block: _Header, library: Zstd) -> bytes | None:
    """Return the text of a block, or None if it is damaged."""
    file.seek(block.body)
    body = file.read(block.size)
    if len(body) != block.size or crc32(body) != block.checksum:
        return None
    try:
        text: bytes = library.ZstdDecompressor().decompress(body)
    except library.ZstdError:
        return None
    return text


def find(file: IO[bytes], wanted: bytes, place: int) -> int | None:
    """Return the next place in a file, from ``place`` on, at which some bytes stand."""
    while True:
        file.seek(place)
        window = file.read(_WINDOW)
        found = window.find(wanted)
        if found >= 0:
            return place + found
        if len(window) < _WINDOW:
            return None
        place += _WINDOW - len(wanted)
