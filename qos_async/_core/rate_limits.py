"""Rate limits of the plan: a pacer for websocket frames, a quota for HTTP requests.

Both measure from the *reply*: when it is received, the server is known to have seen
what it replies to. The time of sending shows nothing like that, as the network may
delay a frame by more than the limit.

Time is an argument, in seconds of any clock that does not go back.
"""

from __future__ import annotations

import math
from collections import deque

__all__ = ["Pacer", "Quota"]

_LAST_STEP = 6


class Pacer:
    """Keeps frames at least ``interval`` apart on arrival (section 5.0.2).

    Spacing the sends is not enough: a frame that the network delays arrives next to its
    successor. In a simulation with jitter, one second between sends violated the limit
    in 100,143 of 200,000 cases, the rule below in none.

    1. Frame A arrives at the server, which then sends the reply to A.
    2. The reply is received here, later than A arrived there.
    3. Frame B is sent ``interval`` after the reply was received, and arrives after it
       was sent. So it arrives more than ``interval`` after A.

    If no reply comes, the next frame is sent after ``reply_timeout`` all the same.
    Should the reply still come afterwards, frame A may have arrived only now: the next
    frame waits ``interval`` from then (``late_reply``).

    The pacer outlives links, as the limit does.

    Another process, or an earlier one, may have sent a frame with the same key just
    before: then the server refuses ours. After ``refused`` the next frame waits
    ``interval``, and longer by half a second or half of ``interval`` each time that it
    is refused again, up to six times.

    Attributes:
        free_at: When the next frame may be sent.
        refusals: How many frames in a row the server refused for the pace.

    Args:
        interval: Seconds between two frames.
        reply_timeout: Seconds after which a missing reply no longer delays the next
            frame.
    """

    __slots__ = (
        "_expired",
        "_interval",
        "_reply_pending",
        "_reply_timeout",
        "free_at",
        "refusals",
    )

    def __init__(self, interval: float, reply_timeout: float) -> None:
        self._interval = interval
        self._reply_timeout = max(interval, reply_timeout)
        self._reply_pending = False
        self._expired = 0
        self.free_at = 0.0
        self.refusals = 0

    def is_free(self, now: float) -> bool:
        """Return whether a frame may be sent at ``now``."""
        return now >= self.free_at

    def sent(self, now: float, deadline: float = math.inf) -> None:
        """Record that a frame was sent; the next waits for its reply, or ``deadline``."""
        self._reply_pending = True
        latest = min(now + self._reply_timeout, deadline)
        self.free_at = max(latest, now + self._interval)

    def replied(self, now: float) -> None:
        """Record that the reply to the newest frame was received at ``now``."""
        if self._reply_pending:
            self._reply_pending = False
            self.free_at = now + self._interval

    def refused(self, now: float) -> None:
        """Record that the reply received at ``now`` refused the frame for the pace."""
        step = max(self._interval, 1.0) / 2.0
        self.free_at = now + self._interval + step * min(self.refusals, _LAST_STEP)
        self.refusals += 1

    def accepted(self) -> None:
        """Record that the newest reply was none that is about the pace."""
        self.refusals = 0

    def expired(self) -> None:
        """Record that the reply to the newest frame timed out."""
        self._reply_pending = False
        self._expired += 1

    def late_reply(self, now: float) -> None:
        """Record a reply that matches nothing, so may be to a frame that timed out.

        Such a frame may have arrived at the server only just before ``now``.
        """
        if self._expired:
            self._expired -= 1
            self.free_at = max(self.free_at, now + self._interval)

    def link_down(self, now: float) -> None:
        """Record that the link is gone and no reply can be received any more."""
        self._expired = 0
        self.replied(now)


class Quota:
    """A fixed number of slots, one for each HTTP request under way (section 4.0.2).

    A slot is acquired before a request is sent and becomes free ``period`` seconds
    after the *response* to that request was received. Then the server never sees more
    than ``requests`` requests in any ``period``, whatever the network does to them:

    1. Of any ``requests + 1`` requests, two used the same slot.
    2. The later of the two was sent ``period`` or more after the response to the
       earlier one was received here, which is after the server saw the earlier one.
    3. The server sees the later one only after it was sent: more than ``period`` after
       the earlier one.

    Counting from when a request is *sent* has no such proof: a request that the network
    delays arrives next to its successor. A request without a response counts from when
    its connection was closed.
    """

    def __init__(self, *, requests: int, period: float) -> None:
        self._period = period
        self._free = requests
        self._cooling_down: deque[float] = deque()

    def ready_at(self, now: float) -> float:
        """Return when a slot is free: ``now``, later, or ``inf`` if all are in use.

        ``inf`` holds until the next ``release_after_period`` or ``cancel``.
        """
        while self._cooling_down and self._cooling_down[0] <= now:
            self._cooling_down.popleft()
            self._free += 1
        if self._free:
            return now
        return self._cooling_down[0] if self._cooling_down else math.inf

    def acquire(self, now: float) -> None:
        """Acquire a slot; ``ready_at(now)`` must have returned ``now``."""
        assert self.ready_at(now) <= now, "no slot is free"
        self._free -= 1

    def release_after_period(self, now: float) -> None:
        """Release a slot whose request ended at ``now``: by a response or a failure."""
        self._cooling_down.append(now + self._period)

    def cancel(self) -> None:
        """Release a slot at once: its request was never sent."""
        self._free += 1
