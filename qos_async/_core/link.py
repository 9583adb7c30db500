"""Link state machine, back-off, and two guards against a hopeless reconnect loop."""

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

_POLICY = 1008
_TRY_LATER = 1013
# RFC 6455, section 7.4.2: of libraries and frameworks, and for private use.
_PRIVATE_CODES = range(3000, 5000)


class LinkEvent(Enum):
    """Inputs of the state machine; ``HOLD`` is that of a gate before the dial."""

    HOLD = auto()
    DIAL = auto()
    OPENED = auto()
    LOST = auto()
    STOP = auto()


_S, _E = LinkState, LinkEvent
MOVES = {
    (_S.IDLE, _E.HOLD): _S.STANDBY,
    (_S.BACKOFF, _E.HOLD): _S.STANDBY,
    (_S.IDLE, _E.DIAL): _S.CONNECTING,
    (_S.STANDBY, _E.DIAL): _S.CONNECTING,
    (_S.CONNECTING, _E.OPENED): _S.OPEN,
    (_S.CONNECTING, _E.LOST): _S.BACKOFF,
    (_S.OPEN, _E.LOST): _S.BACKOFF,
    (_S.BACKOFF, _E.DIAL): _S.CONNECTING,
} | {(state, _E.STOP): _S.CLOSED for state in _S}


class Link:
    """The state of the link; the only place that decides whether it is connected.

    ``OPEN`` means that a valid frame was received on this link. An accepted handshake
    is not enough: how a bad key is rejected on the websocket is undocumented, and it
    may be by an error reply after the handshake.
    """

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = LinkState.IDLE

    def fire(self, event: LinkEvent) -> LinkState:
        """Move to the next state and return it.

        Raises:
            AssertionError: If ``MOVES`` has no such move, which is a bug in this
                library.
        """
        try:
            self.state = MOVES[self.state, event]
        except KeyError:
            raise AssertionError(
                f"{event.name} is impossible in {self.state.name}"
            ) from None
        return self.state


class Backoff:
    """Exponential back-off: each failed attempt doubles the bound of the random wait.

    A link with an uptime below ``timing.stable_after`` counts as a failed attempt too;
    otherwise a server that accepts and closes would be dialled in a tight loop.

    After some close codes the first wait is longer already: 10 s after 1013 (try again
    later), 30 s after 1008 (policy violation) and after private codes, whose meaning is
    unknown. The document lists no close codes.

    Attributes:
        attempt: Failed attempts in a row.
    """

    __slots__ = ("_timing", "attempt")

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self.attempt = 0

    def next_wait(
        self, uptime: float, close_code: int | None = None
    ) -> tuple[float, float]:
        """Count a failed attempt and return how long to wait before the next one.

        Args:
            uptime: Seconds that its link was open; 0 if it could not be opened.
            close_code: The server's close code; None if it sent no close frame.

        Returns:
            The lower and upper bound of the wait, in seconds. The caller draws a random
            wait between them ("full jitter").
        """
        if uptime >= self._timing.stable_after:
            self.attempt = 0
        self.attempt += 1
        doubled = self._timing.backoff_initial * 2.0 ** min(self.attempt - 1, 63)
        # At most half of the upper limit, to leave room for jitter.
        least = min(_shortest_wait(close_code), self._timing.backoff_max / 2.0)
        return least, min(max(doubled, 2.0 * least), self._timing.backoff_max)


class PolicyViolationGuard:
    """Detects consecutive links that the server closed with 1008, policy violation.

    The code means that this client broke a rule. The third such close in a row, without
    a link that was stable in between, ends the client with an error. Of closes for the
    pace, whatever their code, it is the sixth: they pass by waiting.
    """

    __slots__ = ("_about_pace", "_streak", "_timing")

    MAX_IN_A_ROW = 3
    MAX_FOR_PACE = 6

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._streak = 0
        self._about_pace = False

    def link_ended(
        self, uptime: float, close_code: int | None, *, about_pace: bool = False
    ) -> bool:
        """Record how a link ended, as ``Contention.link_ended`` does.

        Returns:
            Whether to give up.
        """
        if uptime >= self._timing.stable_after or about_pace is not self._about_pace:
            self._streak = 0
        self._about_pace = about_pace
        violation = about_pace or close_code == _POLICY
        self._streak = self._streak + 1 if violation else 0
        most = self.MAX_FOR_PACE if about_pace else self.MAX_IN_A_ROW
        return self._streak >= most


class Contention:
    """Detects that another client uses this plan's only connection.

    Section 5.0.2: the default plan allows one connection. If the service closes the
    older link in favour of the newer one, two clients close each other's links for
    ever. The sign of it is a streak of short-lived links, each ended by a close frame
    whose code is not that of a server fault.
    """

    __slots__ = ("_streak",)

    MAX_IN_A_ROW = 5
    SHORT_LIVED = 30.0
    # RFC 6455 and its registry: going away, protocol error, unsupported data, no code,
    # abnormal closure, invalid payload, message too big, internal error, service
    # restart, try again later, bad gateway, TLS failure. None of them is about another
    # client.
    SERVER_FAULT_CODES = frozenset(
        [1001, 1002, 1003, *range(1005, 1008), 1009, *range(1011, 1016)]
    )

    def __init__(self) -> None:
        self._streak = 0

    def link_ended(self, uptime: float, close_code: int | None) -> bool:
        """Record how a link ended.

        Args:
            uptime: Seconds since the handshake.
            close_code: The server's close code; None if it sent no close frame.

        Returns:
            Whether to give up.
        """
        evicted = (
            uptime < self.SHORT_LIVED
            and close_code is not None
            and close_code not in self.SERVER_FAULT_CODES
        )
        self._streak = self._streak + 1 if evicted else 0
        return self._streak >= self.MAX_IN_A_ROW


def _shortest_wait(code: int | None) -> float:
    if code == _POLICY or code in _PRIVATE_CODES:
        return 30.0
    return 10.0 if code == _TRY_LATER else 0.0
