"""Files of recordings: their directory, names and permissions."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from qos_async._paths import user_path
from qos_async.errors import QosError

__all__ = [
    "SUFFIX",
    "RecordingError",
    "create_file",
    "files_in",
    "make_directory",
    "newest_time",
    "time_in_name",
]

SUFFIX = ".jsonl.zst"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRIES = 1000
_NAME = f"qos-%Y%m%dT%H%M%S.%fZ{SUFFIX}"


class RecordingError(QosError):
    """A recording cannot be read or written; the message has the remedy."""


def make_directory(directory: Path) -> None:
    """Make a directory, and those above it, that only this user may read.

    Raises:
        RecordingError: If that fails, or no files can be made in it.
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
            f"{directory} is a file: expected a directory for recordings"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise RecordingError(
            f"{directory} is not writable: change its permissions, or use another "
            "directory"
        )


def create_file(directory: Path, at: int) -> tuple[Path, int]:
    """Create a file that starts at a time, in ns; return its path and descriptor.

    Names sort in the order of time, and are valid on every file system.

    Raises:
        OSError: If it cannot be created.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    for later in range(_TRIES):
        path = directory / _name(at // 1000 + later)
        try:
            return path, os.open(path, flags, 0o600)
        except FileExistsError:
            continue
    raise FileExistsError(f"{directory} has a file for each of the next {_TRIES} µs")


def newest_time(directory: Path) -> int:
    """Return the time, in ns, in the last name of a directory's files; 0 without any.

    The names of a new recorder's files begin after it, wherever its clock stands.
    """
    names = sorted(one.name for one in directory.glob(f"qos-*Z{SUFFIX}"))
    return next((time for name in reversed(names) if (time := time_in_name(name))), 0)


def time_in_name(name: str) -> int:
    """Return the time in the name of a file, in ns; 0 if it has none."""
    with suppress(ValueError):
        started = datetime.strptime(name, _NAME).replace(tzinfo=UTC)
        return (started - _EPOCH) // timedelta(microseconds=1) * 1000
    return 0


def _name(microsecond: int) -> str:
    started = _EPOCH + timedelta(microseconds=microsecond)
    return f"qos-{started:%Y%m%dT%H%M%S}.{started.microsecond:06}Z{SUFFIX}"


def files_in(path: str | os.PathLike[str]) -> list[Path]:
    """Return the files of a recording, oldest first.

    Args:
        path: One file, or a directory of them; ``~`` is the home directory.

    Raises:
        RecordingError: If there is no recording, or the directory cannot be read.
        ValueError: For a path that cannot be one.
    """
    place = user_path("path", path)
    try:
        if place.is_file():
            return [place]
        if not place.is_dir():
            raise RecordingError(
                f"{place} does not exist: expected a recording's directory or file"
            )
        # Unlike ``glob``, ``iterdir`` raises where the directory may not be read.
        # macOS writes ``._NAME`` beside a file that is copied to another file system.
        names = (
            one
            for one in place.iterdir()
            if one.name.endswith(SUFFIX) and not one.name.startswith(".")
        )
        found = sorted(one for one in names if one.is_file())
    except OSError as exc:
        raise RecordingError(f"cannot read {place}: {exc.strerror}") from exc
    if not found:
        raise RecordingError(f"{place} has no recordings: no file is named *{SUFFIX}")
    return found
