"""Locks on files and directories, which end with the process that holds them."""

from __future__ import annotations

import errno
import os
import sys
import weakref
from pathlib import Path

__all__ = ["Lock", "LockedError"]

_LOCKED = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
_FAR = 1 << 30  # Where no file has anything: a lock on Windows forbids reading there.
_held: weakref.WeakSet[Lock] = weakref.WeakSet()


class LockedError(Exception):
    """Another program, or another object of this one, has the lock."""


class Lock:
    """A lock that is taken by creating it, and ends with ``release`` or the process.

    Args:
        path: An existing directory. On Windows, which cannot lock one, a file
            ``.qos-lock`` in it is locked.

    Attributes:
        is_held: Whether it is held: not where the file system has no locks, or the
            directory cannot be read.

    Raises:
        LockedError: If it is taken.
    """

    def __init__(self, path: Path) -> None:
        self.is_held = False
        try:
            file = _open(path)
        except OSError:
            return
        self._close = weakref.finalize(self, os.close, file)
        try:
            _lock(file)
        except OSError as exc:
            self._close()
            if exc.errno in _LOCKED:
                raise LockedError from None
            return
        self.is_held = True
        _held.add(self)

    def release(self) -> None:
        """Release it; does nothing if it is not held."""
        if self.is_held:
            self.is_held = False
            self._close()


def _open(path: Path) -> int:
    if sys.platform == "win32":
        return os.open(path / ".qos-lock", os.O_RDWR | os.O_CREAT, 0o600)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _lock(file: int) -> None:
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - it exists on Windows only

        os.lseek(file, _FAR, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl  # noqa: PLC0415 - it exists on POSIX only

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _close_in_child() -> None:
    """A forked child would keep the lock after the end of its parent."""
    for lock in tuple(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
