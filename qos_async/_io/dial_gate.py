"""Gate before the dial: what an observer of a stream may add to hold links back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from qos_async.topics import Topic

__all__ = ["DialGate", "InheritedOutage", "LinkControl", "OlderPush"]


class OlderPush(NamedTuple):
    """A push that another client received; ``at`` in ns since the epoch, 0 if fetched."""

    frame: bytes
    at: int


class InheritedOutage(NamedTuple):
    """The outage of a topic of another client with the same key, which has ended.

    Attributes:
        topic: The topic.
        since: When that client received something last, in nanoseconds since the epoch.
        reason: Why the outage began.
        tail: The last pushes that it delivered, oldest first.
        held: Those that it held back behind them, in recovery.
    """

    topic: Topic
    since: int
    reason: str
    tail: Sequence[OlderPush] = ()
    held: Sequence[OlderPush] = ()


class LinkControl(Protocol):
    """What a gate may do with the link."""

    def hold(self, reason: str) -> None:
        """Report that no link is opened for now, and why: the state ``standby``."""
        ...

    def revoke(self, reason: str) -> None:
        """Close the link at once, if there is one; the gate is asked before the next."""
        ...

    def inherit(self, outages: Iterable[InheritedOutage]) -> None:
        """Recover, on the next link, what was missed since another client had one.

        Outages of earlier links of this client are over: what it received before them is
        older than what the other one did.
        """
        ...


@runtime_checkable
class DialGate(Protocol):
    """Permits links, one by one; a ``FrameObserver`` that has these methods is one."""

    async def before_dial(self, link: LinkControl) -> None:
        """Return when a link may be opened. It is called before each attempt.

        Args:
            link: To be used until the client is closed.
        """
        ...

    def may_keep(self) -> str:
        """Return why a link that was dialled has to be closed; empty if it may stay."""
        ...

    def conflict_wait(self) -> float | None:
        """Return the seconds to wait when another client uses the plan's connection.

        None ends the client with a ``LimitError``, as without a gate.
        """
        ...
