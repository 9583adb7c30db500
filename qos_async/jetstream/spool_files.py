"""Files of a spool: the messages of a recorder that the broker may not have yet.

They are containers of recordings (``recordings.blocks``), so that damage is noticed and
costs a block. Files are named by the first message in them. Their lines are::

    v <form>                the form of these lines; without it 1
    e <start> <epoch>       messages from <start> on have this epoch; 0: not known yet
    a <number>              the stream has all messages up to this one
    m <number> <previous> <at> <up> <subject> <payload>

Each file begins with the form, the epochs and the last ``a``. A process writes files of its own, and
numbers its messages on from those of the process before. The line feeds of a payload are
written as the byte 30, which JSON does not have.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from qos_async.recordings.blocks import BlockReader, Damage, decode_head
from qos_async.recordings.format import NewerFormatError, Zstd

__all__ = [
    "Era",
    "SpoolState",
    "Spooled",
    "Stored",
    "create",
    "encode_era",
    "encode_form",
    "encode_spooled",
    "encode_stored",
    "first_of",
    "read_spooled",
    "read_state",
    "spool_files",
]

SUFFIX = ".spool.zst"
FORM = 1
NONE = -1
_HEAD_ROOM = 128
_LINE_FEED, _STAND_IN = b"\n", b"\x1e"
_DIGITS = 20


class Spooled(NamedTuple):
    """A message of a recorder, on its way to the broker.

    Attributes:
        number: Its number in the spool; its counter is the distance to the start of its
            era.
        previous: The number of the one before it on its subject; -1 for the first in
            its era.
        at: Nanoseconds since the epoch, by the wall clock.
        up: Nanoseconds by a clock that does not go back within an epoch.
        subject: The subject.
        payload: The payload.
    """

    number: int
    previous: int
    at: int
    up: int
    subject: str
    payload: bytes

    @property
    def size(self) -> int:
        """The bytes that it takes in memory, roughly."""
        return len(self.payload) + len(self.subject) + 400


class Stored(NamedTuple):
    """A message that is in the stream, as are all before it."""

    number: int


class Era(NamedTuple):
    """The messages from a number on, which have one epoch; 0 if it is not known yet."""

    start: int
    epoch: int = 0


class SpoolState(NamedTuple):
    """What the files of a spool say.

    Attributes:
        next_number: The number of the next message.
        eras: The eras, oldest first.
        stored: The number of the last message that is stored; -1 for none.
        faults: What is damaged.
    """

    next_number: int = 0
    eras: tuple[Era, ...] = ()
    stored: int = NONE
    faults: tuple[str, ...] = ()


def encode_form() -> bytes:
    """Return the line with which a file begins."""
    return b"v %d\n" % FORM


def encode_era(era: Era) -> bytes:
    """Return the line of an era."""
    return b"e %d %d\n" % era


def encode_stored(stored: Stored) -> bytes:
    """Return the line that says up to where messages are stored."""
    return b"a %d\n" % stored.number


def encode_spooled(message: Spooled) -> bytes:
    """Return the line of a message."""
    number, previous, at, up, subject, payload = message
    safe = payload.replace(_LINE_FEED, _STAND_IN)
    return b"m %d %d %d %d %b %b\n" % (
        *(number, previous, at, up),
        *(subject.encode(), safe),
    )


def _decode_spooled(line: bytes) -> Spooled:
    _, number, previous, at, up, subject, payload = line.split(b" ", 6)
    return Spooled(
        int(number),
        int(previous),
        int(at),
        int(up),
        subject.decode(),
        payload.replace(_STAND_IN, _LINE_FEED),
    )


def spool_files(directory: Path) -> list[Path]:
    """Return the files of a spool, oldest first.

    Raises:
        OSError: If the directory cannot be read.
    """
    return sorted(one for one in directory.iterdir() if one.name.endswith(SUFFIX))


def first_of(path: Path) -> int:
    """Return the number that the name of a file has; 0 if it has no number."""
    with suppress(ValueError):
        return int(path.name[:_DIGITS])
    return 0


def create(directory: Path, number: int) -> tuple[Path, int]:
    """Create a file for messages from a number on; return its path and descriptor.

    A process that died may have left an empty file for the same number: the times of
    creation in the names keep their order.

    Raises:
        OSError: If it cannot be created.
    """
    path = directory / f"{number:0{_DIGITS}}-{time.time_ns()}{SUFFIX}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    return path, os.open(path, flags, 0o600)


def _lines(path: Path, library: Zstd, faults: list[str]) -> Iterator[bytes]:
    with path.open("rb") as file:
        head = decode_head(file.read(_HEAD_ROOM))
        reader = BlockReader(file, library)
        written = 0
        while (found := reader.read()) is not None:
            if isinstance(found, Damage):
                faults.append(f"{path.name}: {found.reason}")
                continue
            written = found.first + found.text.count(b"\n")
            yield from found.text.splitlines()
        end = os.fstat(file.fileno()).st_size
        if head is not None and end > head.size and written <= head.lines:
            faults.append(f"{path.name}: {end - head.size} bytes were not written")


def read_spooled(
    files: Sequence[Path], number: int, library: Zstd, faults: list[str]
) -> Iterator[Spooled]:
    """Yield the messages from a number on, as far as files have them.

    Raises:
        OSError: If a file cannot be read.
    """
    begins = [first_of(path) for path in files]
    for path, until in zip(files, [*begins, None][1:], strict=True):
        if until is not None and until <= number:
            continue
        for line in _lines(path, library, faults):
            if line.startswith(b"m "):
                message = _decode_spooled(line)
                if message.number >= number:
                    yield message


def read_state(files: Sequence[Path], library: Zstd) -> SpoolState:
    """Return the state in which the last process left a spool.

    Raises:
        OSError: If a file cannot be read.
        NewerFormatError: If a newer version wrote one.
    """
    faults: list[str] = []
    for path in reversed(files):
        found = _state_of(path, library, faults)
        if found is not None:
            return found._replace(faults=tuple(faults))
    return SpoolState(faults=tuple(faults))


def _state_of(path: Path, library: Zstd, faults: list[str]) -> SpoolState | None:
    """Return the state at the end of a file; None if it is unreadable."""
    eras: dict[int, Era] = {}
    last = stored = NONE
    for line in _lines(path, library, faults):
        kind, first, *others = line.split(b" ", 3)
        if kind == b"m":
            last = max(last, int(first))
        elif kind == b"e":
            eras[int(first)] = Era(int(first), int(others[0]))
        elif kind == b"a":
            stored = int(first)
        elif kind == b"v" and int(first) > FORM:
            raise NewerFormatError(
                f"the spool in {path.parent} has form {int(first)}, written by a newer "
                f"qos-async, and this one reads forms up to {FORM}: pip install --upgrade "
                "qos-async, or use another directory"
            )
    if not eras and last == NONE:
        return None
    following = max(last + 1, first_of(path))
    return SpoolState(following, tuple(eras.values()), stored)
