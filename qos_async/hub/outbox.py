"""Outbox: the frames that a client has not been able to receive yet.

State is conflated: a snapshot, a book or a growing kline replaces the one that still
waits, in its place. The slot of a kline is its topic and the start of its bar, so a
finished bar is never replaced by the next one. Trades and replies are never replaced.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice

__all__ = ["Outbox"]


class Outbox:
    """Frames that wait, in order; those of one slot replace each other.

    Args:
        limit: The number of frames that may wait.
        size_limit: Their bytes.

    Attributes:
        conflated: How many frames were replaced by a newer one of their slot.
    """

    __slots__ = ("_count", "_frames", "_limit", "_size", "_size_limit", "conflated")

    def __init__(self, limit: int, size_limit: int) -> None:
        self.conflated = 0
        self._limit, self._size_limit = limit, size_limit
        self._size = 0
        self._frames: dict[Hashable, bytes] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes, slot: Hashable | None = None) -> bool:
        """Add a frame; return False if too many wait now.

        Args:
            frame: The frame.
            slot: The frame replaces the one that waits in the same slot. None: a slot of
                its own.
        """
        if slot is None:
            self._count += 1
            slot = self._count
        elif slot in self._frames:
            self.conflated += 1
            self._size -= len(self._frames[slot])
        self._frames[slot] = frame
        self._size += len(frame)
        return len(self._frames) <= self._limit and self._size <= self._size_limit

    def take(self, size: int) -> list[bytes]:
        """Remove and return the oldest frames, of at most ``size`` bytes but at least one."""
        count = 0
        for frame in self._frames.values():
            size -= len(frame)
            if count and size < 0:
                break
            count += 1
            self._size -= len(frame)
        slots = list(islice(self._frames, count))
        return [self._frames.pop(slot) for slot in slots]

    def clear(self) -> None:
        """Remove every frame."""
        self._frames.clear()
        self._size = 0
