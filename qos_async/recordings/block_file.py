"""A file of blocks while it is written: a write that fails leaves it as it was."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from qos_async.recordings.blocks import FileId, encode_block, encode_head

__all__ = ["BlockFile"]


class BlockFile:
    """A new file, to which whole blocks are written.

    Args:
        descriptor: Of the file, which is empty.
        identity: The identity of the file.
        packer: A ``compressor``; shared, since creating one takes as long as compressing
            64 kB.

    Attributes:
        size: The bytes written.
    """

    def __init__(self, descriptor: int, identity: FileId, packer: Any) -> None:
        self.size = 0
        self._file = descriptor
        self._identity = identity
        self._packer = packer
        self._lines = 0

    def write(self, text: bytes) -> int:
        """Write one block of whole lines; return its size in bytes.

        Raises:
            OSError: If it could not be written as a whole; the file is cut back then.
        """
        packed = encode_block(self._identity, self._lines, text, self._packer)
        if not self.size:
            packed = encode_head(self._identity) + packed
        done, rest = 0, memoryview(packed)
        try:
            while done < len(packed):
                done += os.write(self._file, rest[done:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size)
                os.lseek(self._file, self.size, os.SEEK_SET)
            raise
        self._lines += text.count(b"\n")
        self.size += done
        self._update_head()
        return done

    def _update_head(self) -> None:
        # It follows the block: a process that is killed in between leaves one more block
        # than the head has counted, and never one less.
        head = encode_head(self._identity, lines=self._lines, size=self.size)
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, head)
        os.lseek(self._file, 0, os.SEEK_END)

    def close(self) -> None:
        """Sync and close the file."""
        try:
            os.fsync(self._file)
        finally:
            os.close(self._file)
