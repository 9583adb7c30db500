"""When to speak, and when to stop believing in the link."""

from __future__ import annotations

__all__ = ["Liveness"]


class Liveness:
    """Two deadlines: our next heartbeat, and the server's last chance.

    Attributes:
        heard_at: When the last frame of any kind arrived; the reader sets it.
        beat_at: When the next heartbeat is due.
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
