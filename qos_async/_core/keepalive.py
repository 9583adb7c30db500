"""When to speak, and when to stop believing in the link."""

from __future__ import annotations

import math

__all__ = [
    "ConversationStats",
    "GracefulDeadline",
    "Liveness",
    "ServerClockEstimate",
    "WaitStats",
]


class Liveness:
    """Two deadlines: our next heartbeat, and the server's last chance.

    Attributes:
        last_received_at: When the last frame of any kind arrived; the reader sets it.
        heartbeat_at: When the next heartbeat is due.
    """

    __slots__ = ("_interval", "_timeout", "heartbeat_at", "last_received_at")

    def __init__(self, *, interval: float, timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self.last_received_at = now
        self.heartbeat_at = now + interval

    @property
    def timeout_at(self) -> float:
        """When silence will have lasted too long."""
        return self.last_received_at + self._timeout

    def heartbeat_sent(self, now: float) -> None:
        """Record that a heartbeat left at ``now``."""
        self.heartbeat_at = now + self._interval


class GracefulDeadline:
    """Gives the other side a second chance when we looked at the clock too late.

    After something blocked the event loop, deadlines have passed while the answer was
    already waiting in the socket: that says something about us, not about the server.
    So a deadline noticed more than ``LATE`` seconds late counts ``GRACE`` seconds later,
    by when the socket has been read.
    """

    __slots__ = ("_grace_until",)

    LATE_WAKE = 0.5
    GRACE = 1.0

    def __init__(self) -> None:
        self._grace_until = -math.inf

    def expires_at(self, deadline: float) -> float:
        """Tell when a deadline at ``due`` will really have passed."""
        return max(deadline, self._grace_until)

    def expired(self, deadline: float, now: float) -> bool:
        """Tell whether a deadline at ``due`` has passed; grant the grace if we are late."""
        if now < self.expires_at(deadline):
            return False
        if now - deadline > self.LATE_WAKE and self._grace_until < deadline:
            self._grace_until = now + self.GRACE
            return False
        return True


_DRIFT = 1e-4
"""Seconds a second by which two clocks may part; bad quartz is three times better."""


class WaitStats:
    """How long commands waited, from when they could have been sent until they were.

    Attributes:
        count: How many were sent.
        total: What they waited together, in seconds.
        last: What the newest one waited, in seconds.
        max: What any of them waited at most, in seconds.
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
