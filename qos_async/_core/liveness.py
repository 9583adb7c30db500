"""When to speak, and when to stop believing in the link."""

from __future__ import annotations

__all__ = ["Liveness"]


class Liveness:
    """Two deadlines: our next heartbeat, and the server's last chance.

    Attributes:
        heard_at: When the last frame of any kind arrived; the reader sets it.
        beat_at: When the next heartbeat is due.
    """

    __slots__ = ("_every", "_patience", "beat_at", "heard_at")

    def __init__(self, *, every: float, patience: float, now: float) -> None:
        self._every = every
        self._patience = patience
        self.heard_at = now
        self.beat_at = now + every

    @property
    def dead_at(self) -> float:
        """When silence will have lasted too long."""
        return self.heard_at + self._patience

    def beat(self, now: float) -> None:
        """Record that a heartbeat left at ``now``."""
        self.beat_at = now + self._every
