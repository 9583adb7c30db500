"""The life of the link, as a table of moves."""

from __future__ import annotations

from enum import Enum, auto

from qos_async.enums import LinkState

__all__ = ["MOVES", "Link", "LinkEvent"]


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
