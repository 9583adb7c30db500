"""When the next frame may leave."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["Pacer", "Quota"]


class Pacer:
    """Keep two frames at least ``interval`` apart where it counts: at the server.

    Spacing the sends is not enough. A delayed frame lands next to its successor, and
    the server sees both within the interval. So the wait starts at the *answer*: it
    left the server after the frame had arrived, so a frame that leaves ``interval``
    after it can only arrive later still. The pacer outlives links, as the rule does.

    Args:
        interval: Seconds between two frames.
        patience: Seconds after which a missing answer no longer holds up the rest.
    """

    __slots__ = ("_interval", "_overdue", "_patience", "_waiting", "free_at")

    def __init__(self, interval: float, patience: float) -> None:
        self._interval = interval
        self._patience = max(interval, patience)
        self._waiting = False
        self._overdue = 0
        self.free_at = 0.0

    def is_free(self, now: float) -> bool:
        """Tell whether a frame may leave at ``now``."""
        return now >= self.free_at

    def sent(self, now: float) -> None:
        """Record that a frame left at ``now``; its answer will set the pace."""
        self._waiting = True
        self.free_at = now + self._patience

    def replied(self, now: float) -> None:
        """Record that the newest frame was answered at ``now``."""
        if self._waiting:
            self._waiting = False
            self.free_at = now + self._interval

    def expired(self) -> None:
        """Record that the newest frame's answer is no longer waited for."""
        self._waiting = False
        self._overdue += 1

    def late_reply(self, now: float) -> None:
        """Record an answer that may belong to a frame whose patience had run out.

        If so that frame has reached the server only now.
        """
        if self._overdue:
            self._overdue -= 1
            self.free_at = max(self.free_at, now + self._interval)

    def link_down(self, now: float) -> None:
        """Record that no answer can come any more."""
        self._overdue = 0
        self.replied(now)


class Quota:
    """A fixed number of slots, of which each request takes one.

    A slot is taken before a request leaves and comes back ``period`` seconds after
    the *answer* to that request was received. So the server never sees more than
    ``requests`` of them in any ``period``, whatever the network does to them:

        Of ``requests + 1`` requests, two used the same slot. The later one left
        ``period`` after the answer to the earlier one was received here, so later
        than ``period`` after the server had seen the earlier one; and the server
        sees the later one only after it left.

    Counting from when a request *leaves* has no such proof: one that is held up on
    its way arrives next to the one that follows it. A request that got no answer
    counts from when its connection was given up.

    Time is an argument, in seconds of any clock that does not go back.
    """

    def __init__(self, *, requests: int, period: float) -> None:
        self._period = period
        self._free = requests
        self._cooling_down: deque[float] = deque()

    def ready_at(self, now: float) -> float:
        """Say when a slot can be taken: ``now``, later, or ``inf`` if all are in use.

        ``inf`` ends with the next call to ``rest`` or ``give_back``.
        """
        while self._cooling_down and self._cooling_down[0] <= now:
            self._cooling_down.popleft()
            self._free += 1
        if self._free:
            return now
        return self._cooling_down[0] if self._cooling_down else math.inf

    def acquire(self, now: float) -> None:
        """Use a slot; ``ready_at(now)`` must have said ``now``."""
        assert self.ready_at(now) <= now, "no slot is free"
        self._free -= 1

    def release_after_period(self, now: float) -> None:
        """Return a slot whose request was answered, or given up, at ``now``."""
        self._cooling_down.append(now + self._period)

    def cancel(self) -> None:
        """Return a slot whose request never left."""
        self._free += 1
