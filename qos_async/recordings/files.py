"""The files of a recording: where they are, what they are called, who may read them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from qos_async.errors import QosError

__all__ = ["SUFFIX", "RecordingError", "create_file", "files_in", "make_directory"]

SUFFIX = ".jsonl.zst"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRIES = 1000


class RecordingError(QosError):
    """A recording cannot be read or made; the message says what to do."""


def make_directory(directory: Path) -> None:
    """Make a directory that nobody else may look into, and those above it.

    Raises:
        RecordingError: If that is not possible, or files cannot be made there.
    """
    try:
        for parent in [*reversed(directory.parents), directory]:
            if not parent.exists():
                parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise RecordingError(
            f"cannot make the directory {directory}: {exc.strerror}"
        ) from exc
    if not directory.is_dir():
        raise RecordingError(
            f"{directory} is a file: give the directory that recordings go to"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise RecordingError(
            f"nothing can be written into {directory}: change its permissions, or give "
            "another directory"
        )


def create_file(directory: Path, at: int) -> tuple[Path, int]:
    """Make a new file that begins at a time, in ns; give it and its descriptor.

    Names sort in the order of time, and are good on every file system.

    Raises:
        OSError: If it cannot be made.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    for later in range(_TRIES):
        path = directory / _name(at // 1000 + later)
        try:
            return path, os.open(path, flags, 0o600)
        except FileExistsError:
            continue
    raise FileExistsError(f"{directory} has a file for each of the next moments")


def _name(microsecond: int) -> str:
    began = _EPOCH + timedelta(microseconds=microsecond)
    return f"qos-{began:%Y%m%dT%H%M%S}.{began.microsecond:06}Z{SUFFIX}"


def files_in(path: str | os.PathLike[str]) -> list[Path]:
    """Find the files of a recording, oldest first.

    Args:
        path: One file, or a directory of them.

    Raises:
        RecordingError: If there is none.
    """
    place = Path(path)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise RecordingError(
            f"there is no {place}: give a recording's directory, or one of its files"
        )
    found = sorted(one for one in place.glob(f"*{SUFFIX}") if one.is_file())
    if not found:
        raise RecordingError(
            f"{place} holds no recording: its files would be called *{SUFFIX}"
        )
    return found
