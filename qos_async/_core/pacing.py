"""When the next frame may leave."""

from __future__ import annotations

__all__ = ["Pacer"]


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
