"""Whose fault it is that a deadline has passed."""

from __future__ import annotations

import math

__all__ = ["Patience"]


class Patience:
    """Gives the other side a second chance when we looked at the clock too late.

    After something blocked the event loop, deadlines have passed while the answer was
    already waiting in the socket: that says something about us, not about the server.
    So a deadline noticed more than ``LATE`` seconds late counts ``GRACE`` seconds later,
    by when the socket has been read.
    """

    __slots__ = ("_grace_until",)

    LATE = 0.5
    GRACE = 1.0

    def __init__(self) -> None:
        self._grace_until = -math.inf

    def ends_at(self, due: float) -> float:
        """Tell when a deadline at ``due`` will really have passed."""
        return max(due, self._grace_until)

    def is_over(self, due: float, now: float) -> bool:
        """Tell whether a deadline at ``due`` has passed; grant the grace if we are late."""
        if now < self.ends_at(due):
            return False
        if now - due > self.LATE and self._grace_until < due:
            self._grace_until = now + self.GRACE
            return False
        return True
