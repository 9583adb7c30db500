"""The life of the link, as a table of moves."""

from __future__ import annotations

from enum import Enum, auto

from qos_async.config import Timing
from qos_async.enums import LinkState

__all__ = [
    "MOVES",
    "Backoff",
    "Contention",
    "Link",
    "LinkEvent",
    "PolicyViolationGuard",
]


class LinkEvent(Enum):
    """What can happen to the link."""

    DIAL = auto()
    OPENED = auto()
    LOST = auto()
    STOP = auto()


_S, _E = LinkState, LinkEvent
MOVES = {
    (_S.IDLE, _E.DIAL): _S.CONNECTING,
    (_S.CONNECTING, _E.OPENED): _S.OPEN,
    (_S.CONNECTING, _E.LOST): _S.BACKOFF,
    (_S.OPEN, _E.LOST): _S.BACKOFF,
    (_S.BACKOFF, _E.DIAL): _S.CONNECTING,
} | {(state, _E.STOP): _S.CLOSED for state in _S}


class Link:
    """The only thing that may say whether we are connected.

    ``OPEN`` means that the server has said something sensible on this link: an
    accepted handshake alone proves nothing (a refused key may come after it).
    """

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = LinkState.IDLE

    def fire(self, event: LinkEvent) -> LinkState:
        """Move, or fail loudly: an unlisted move is a bug in this library."""
        try:
            self.state = MOVES[self.state, event]
        except KeyError:
            raise AssertionError(
                f"{event.name} is impossible in {self.state.name}"
            ) from None
        return self.state


_POLICY = 1008
_TRY_LATER = 1013
_PRIVATE_CODES = range(3000, 5000)
"""Close codes that a service may give any meaning it likes."""


class Backoff:
    """Counts failed attempts; each doubles the bound below which a wait is drawn.

    A link that lived shorter than ``timing.stable_after`` is a failed attempt too, or
    a server that accepts and closes would be dialled in a tight loop. A server that
    gives as its reason that it is busy, a breach of its rules, or something nobody
    knows is dialled more slowly from the first time on.
    """

    __slots__ = ("_timing", "attempt")

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self.attempt = 0

    def next_wait(
        self, uptime: float, close_code: int | None = None
    ) -> tuple[float, float]:
        """Count an attempt.

        Args:
            uptime: Seconds that its link lived.
            close_code: The server's close code; None if it did not close the link itself.

        Returns:
            The bounds of the wait, in seconds; jitter draws between them.
        """
        if uptime >= self._timing.stable_after:
            self.attempt = 0
        self.attempt += 1
        doubled = self._timing.backoff_initial * 2.0 ** min(self.attempt - 1, 63)
        # Half of the largest wait at most, or there would be no room for jitter.
        least = min(_shortest_wait(close_code), self._timing.backoff_max / 2.0)
        return least, min(max(doubled, 2.0 * least), self._timing.backoff_max)


class PolicyViolationGuard:
    """Notices that the server means it: one link after another closed with 1008.

    That code says that we broke a rule. To try a third time to get away with it would
    help nobody.
    """

    __slots__ = ("_streak", "_timing")

    MAX_IN_A_ROW = 3

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._streak = 0

    def link_ended(self, uptime: float, close_code: int | None) -> bool:
        """Record how a link ended, as ``Contention.link_ended`` does.

        Returns:
            Whether it is time to give up.
        """
        if uptime >= self._timing.stable_after:
            self._streak = 0
        self._streak = self._streak + 1 if close_code == _POLICY else 0
        return self._streak >= self.MAX_IN_A_ROW


class Contention:
    """Notices that somebody else uses this plan's only connection.

    Where a plan allows one connection, the service may close the older link for the
    newer one. Two clients would then close each other's links for ever. Links that the
    server closes politely and soon, one after another, look exactly like that.
    """

    __slots__ = ("_streak",)

    MAX_IN_A_ROW = 5
    SHORT_LIVED = 30.0
    # Going away, no code at all, internal error, restart, try again later, bad gateway:
    # the server's own troubles.
    SERVER_FAULT_CODES = frozenset(
        [1001, 1002, 1003, *range(1005, 1008), 1009, *range(1011, 1016)]
    )

    def __init__(self) -> None:
        self._streak = 0

    def link_ended(self, uptime: float, close_code: int | None) -> bool:
        """Record how a link ended.

        Args:
            uptime: Seconds since the handshake.
            close_code: The server's close code; None if it did not close the link itself.

        Returns:
            Whether it is time to give up.
        """
        kicked = (
            uptime < self.SHORT_LIVED
            and close_code is not None
            and close_code not in self.SERVER_FAULT_CODES
        )
        self._streak = self._streak + 1 if kicked else 0
        return self._streak >= self.MAX_IN_A_ROW


def _shortest_wait(code: int | None) -> float:
    if code == _POLICY or code in _PRIVATE_CODES:
        return 30.0
    return 10.0 if code == _TRY_LATER else 0.0
