"""What is under way between two sockets in memory, and when it arrives.

What arrives is an event of the selector, not a timer: after the loop has stood still,
bytes that came meanwhile are read before timers that ran out meanwhile, as on a socket.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

from qos_async.testing.virtual.clock import VirtualSelector

__all__ = ["Conditions", "Wires"]


class Wires(VirtualSelector):
    """A clock that stops where bytes arrive.

    Attributes:
        random: What latencies and slices are drawn from.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self._under_way: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._trace = hashlib.sha256()

    @property
    def trace(self) -> str:
        """What has happened so far, as a hash: the same seed gives the same."""
        return self._trace.hexdigest()

    def note(self, *what: object) -> None:
        """Let something count in ``trace``, with the time."""
        self._trace.update(repr((round(self.now, 6), *what)).encode())

    def deliver(self, at: float, arrive: Callable[[], None]) -> None:
        """Call when ``at`` has come, before the timers of the same moment."""
        heapq.heappush(self._under_way, (at, next(self._number), arrive))

    def select(self, timeout: float | None = None) -> list[Any]:
        """Let ``timeout`` pass, or less if something arrives before; give that."""
        if not self._under_way:
            return super().select(timeout)
        at = self._under_way[0][0]
        if timeout is not None and at > self.now + timeout:
            return super().select(timeout)
        self.now = max(self.now, at)
        arrived: list[Callable[[], None]] = []
        while self._under_way and self._under_way[0][0] <= self.now:
            arrived.append(heapq.heappop(self._under_way)[2])
        return arrived


class Conditions:
    """How bytes travel.

    Attributes:
        latency: The range of seconds that bytes are under way, one way.
        slice: Let them arrive in pieces of 1 to this many bytes; 0: as written.
        merge: Let them arrive at multiples of this many seconds only, glued together.
        wires: What they travel on.
    """

    def __init__(self, wires: Wires) -> None:
        self.wires = wires
        self.latency = (0.01, 0.03)
        self.slice = 0
        self.merge = 0.0

    def delay(self) -> float:
        """Draw how long something is under way."""
        return self.wires.random.uniform(*self.latency)
