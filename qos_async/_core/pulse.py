"""What the conversation tells of itself: waits, round trips, and the server's clock."""

from __future__ import annotations

import math

__all__ = ["ConversationStats", "ServerClockEstimate", "WaitStats"]

_DRIFT = 1e-4
"""Seconds a second by which two clocks may part; bad quartz is three times better."""


class WaitStats:
    """How long commands waited, from when they could have been sent until they were.

    Attributes:
        count: How many were sent.
        total: What they waited together, in seconds.
        last: What the newest one waited, in seconds.
        longest: What any of them waited at most, in seconds.
    """

    __slots__ = ("count", "last", "max", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = self.last = self.max = 0.0

    def add(self, seconds: float) -> None:
        """Record that a command was sent, which had waited so long."""
        self.count += 1
        self.total += seconds
        self.last = seconds
        self.max = max(self.max, seconds)


class ServerClockEstimate:
    """Compares the server's clock with ours, though it tells whole seconds only.

    An answer that says 17, to a question put at ``a`` and answered at ``b`` by our
    clock, was written between ``a`` and ``b``, when the server's clock stood between
    17 and 18: so it is ahead of ours by more than ``17 - b`` and less than ``18 - a``.
    Each answer leaves less room; what it leaves grows again with the clocks' drift.
    Answers that leave none mean that a clock was set: then the newest one counts alone.
    """

    __slots__ = ("_at", "_high", "_low")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Know nothing: our own clock was set, or stood still."""
        self._low, self._high, self._at = -math.inf, math.inf, 0.0

    def update(self, second: int, asked_at: float, now: float) -> None:
        """Take in that an answer, heard ``now``, told ``second``."""
        drift = (now - self._at) * _DRIFT
        low, high = second - now, second + 1 - asked_at
        self._low = max(low, self._low - drift)
        self._high = min(high, self._high + drift)
        if self._low > self._high:
            self._low, self._high = low, high
        self._at = now

    @property
    def offset(self) -> tuple[float, float] | None:
        """How far it is ahead of our time, and how wrong that may be, in seconds."""
        if math.isinf(self._low):
            return None
        return (self._low + self._high) / 2, (self._high - self._low) / 2


class ConversationStats:
    """What is measured of one client's conversation.

    Attributes:
        waits: How long commands waited for the pace; heartbeats are none.
        clock: The server's clock, against the time that the core is given.
        round_trip: Seconds from the last answered heartbeat to its answer.
    """

    __slots__ = ("clock", "round_trip", "waits")

    def __init__(self) -> None:
        self.waits = WaitStats()
        self.clock = ServerClockEstimate()
        self.round_trip: float | None = None
