"""Frames as fast as the socket takes them, for benchmarks."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle, islice

from qos_async.sim.link import ServerConnection

__all__ = ["blast", "text_frame"]

_BATCH = 512  # Frames in one write; about 64 KiB of trades.
_TEXT = 0x81
_SHORT, _MEDIUM = 125, 0xFFFF


def text_frame(payload: bytes) -> bytes:
    """Wrap a payload into one unmasked, uncompressed websocket text frame."""
    length = len(payload)
    if length <= _SHORT:
        return struct.pack("!BB", _TEXT, length) + payload
    if length <= _MEDIUM:
        return struct.pack("!BBH", _TEXT, 126, length) + payload
    return struct.pack("!BBQ", _TEXT, 127, length) + payload


async def blast(
    links: Sequence[ServerConnection], frames: Iterable[bytes], total: int
) -> int:
    """Write ``total`` frames to each link, over and over; give how many were written."""
    ready = [text_frame(frame) for frame in frames]
    if not ready:
        raise ValueError("nothing to blast")
    return sum(await asyncio.gather(*(_shoot(one, ready, total) for one in links)))


async def _shoot(link: ServerConnection, ready: Sequence[bytes], total: int) -> int:
    written = 0
    with suppress(ConnectionError):
        for count, chunk in _chunks(ready, total):
            await link.write(chunk)
            written += count
            await asyncio.sleep(0)  # A write that finds room does not suspend.
    return written


def _chunks(ready: Sequence[bytes], total: int) -> Iterator[tuple[int, bytes]]:
    """Join frames into writes; whole rounds are joined once and used again."""
    per_round = max(1, _BATCH // len(ready)) * len(ready)
    if len(ready) <= _BATCH:
        whole = b"".join(islice(cycle(ready), per_round))
        for _ in range(total // per_round):
            yield per_round, whole
        total %= per_round
    supply = cycle(ready)
    while total > 0:
        count = min(_BATCH, total)
        yield count, b"".join(islice(supply, count))
        total -= count
