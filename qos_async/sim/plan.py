"""The plan, enforced: pace, requests a minute, heartbeats. Time is an argument."""

from __future__ import annotations

import math
from collections import deque

from qos_async.config import Limits

__all__ = ["UsageMeter"]

_SLACK = 0.001  # Clocks tick; a millisecond is nobody's fault.


class UsageMeter:
    """What one key has used up, over all its links and requests."""

    def __init__(self, plan: Limits) -> None:
        self._plan = plan
        self._frame_at = -math.inf
        self._requests: deque[float] = deque()

    def count_frame(self, now: float) -> float | None:
        """Count a frame in; give the gap in seconds if it came too soon, else None."""
        gap, self._frame_at = now - self._frame_at, now
        return gap if gap < self._plan.command_interval - _SLACK else None

    def allow_request(self, now: float) -> bool:
        """Count an HTTP request in, unless the period's allowance is used up.

        Refused requests do not count.
        """
        while self._requests and self._requests[0] <= now - self._plan.http_period:
            self._requests.popleft()
        if len(self._requests) >= self._plan.http_requests:
            return False
        self._requests.append(now)
        return True
