"""Container of format 1: zstandard frames without checksums, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from qos_async.recordings.blocks import Damage, find
from qos_async.recordings.format import MAGIC, Zstd

__all__ = ["read_old_texts"]

_CHUNK = 1 << 14  # It may be decompressed to a thousand times as much.


def read_old_texts(file: IO[bytes], library: Zstd) -> Iterator[bytes | Damage]:
    """Yield the text of each frame, in parts, and ``Damage`` where one is not intact.

    After damage, reading goes on with the next frame that can be decompressed.
    """
    file.seek(0)
    frame, start, whole = library.ZstdDecompressor(), 0, True
    while data := file.read(_CHUNK):
        while data:
            try:
                text = frame.decompress(data)
            except library.ZstdError as exc:
                if whole:  # The next place with the first bytes of a frame may be none.
                    yield Damage(f"damaged from byte {start} on ({exc})")
                found = find(file, MAGIC, start + 1)
                if found is None:
                    return
                start, whole, data = found, False, b""
                file.seek(start)
                frame = library.ZstdDecompressor()
                continue
            yield text
            data = frame.unused_data
            if frame.eof:
                start, whole = file.tell() - len(data), True
                frame = library.ZstdDecompressor()
    if file.tell() > start or not start:
        yield Damage(f"ends in the middle, at byte {file.tell()}")
