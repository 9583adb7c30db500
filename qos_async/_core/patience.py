"""Whose fault it is that a deadline has passed."""

from __future__ import annotations

import math

__all__ = ["GracefulDeadline"]


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
