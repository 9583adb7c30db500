"""Paths as users give them, and text as their editors write it."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import cast

__all__ = [
    "check_readable",
    "is_special",
    "state_directory",
    "user_path",
    "user_text",
]


def user_path(name: str, value: object) -> Path:
    """Return a path given by a user; a leading ``~`` is the home directory.

    Args:
        name: The argument, for the message.
        value: Text, bytes or any ``os.PathLike``. A directory that is named ``~`` is
            ``./~``.

    Raises:
        ValueError: If it is no path, is empty, has a NUL, or names a home directory that
            does not exist.
    """
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise ValueError(  # noqa: TRY004 - as for every wrong argument
            f"{name} must be a path, such as 'data', not {value!r}"
        )
    text = os.fsdecode(cast("str", value))
    if not text:
        raise ValueError(f"{name} is empty: name a file or directory; here is '.'")
    if "\0" in text:
        raise ValueError(
            f"{name} has a NUL character, which no path can have: {text!r}"
        )
    # ``Path.expanduser`` would take ``./~`` for the home directory.
    expanded = os.path.expanduser(text)  # noqa: PTH111 - see above
    if text.startswith("~") and expanded == text:
        head = Path(text).parts[0]
        raise ValueError(
            f"{name} {text!r} begins with {head}, which is no known home directory: give "
            f"the whole path, or ./{head} for a directory of that name"
        )
    return Path(expanded)


def is_special(path: Path) -> bool:
    """Whether it is a pipe, a socket or a device: reading one may last for ever.

    Raises:
        OSError: If there is nothing at this path.
    """
    mode = path.stat().st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_readable(path: Path) -> None:
    """Check that reading a file would end.

    Raises:
        ValueError: If it is a pipe, a socket or a device.
        OSError: If there is nothing at this path.
    """
    if is_special(path):
        raise ValueError(
            "not a regular file: a pipe, a socket or a device cannot be read again"
        )


def user_text(content: bytes) -> str:
    """Return the text of a file, without the byte order marks that editors of Windows add.

    Raises:
        UnicodeDecodeError: If it is not UTF-8. UTF-16 without a mark has null characters.
    """
    if b"\0" in content:
        raise UnicodeDecodeError("utf-8", content, 0, 1, "null character")
    return content.decode().lstrip("\ufeff")


def state_directory() -> Path:
    """Return the directory in which the programs of this user keep their state.

    ``$XDG_STATE_HOME/qos-async``, ``~/.local/state/qos-async`` without that; on Windows
    in ``%LOCALAPPDATA%``.
    """
    name = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_STATE_HOME"
    found = Path(os.environ.get(name, ""))
    # The XDG specification says to ignore relative paths.
    base = found if found.is_absolute() else Path.home() / ".local" / "state"
    return base / "qos-async"
