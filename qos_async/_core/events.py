"""Events: what the protocol reports besides ticks."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Raw, Struct

from qos_async._core.recovery import Outage, RecoveryResult
from qos_async._core.rows import Unread
from qos_async.errors import QosError
from qos_async.models import AnyTick, N
from qos_async.topics import Topic

__all__ = [
    "Confirmed",
    "Event",
    "Failed",
    "KeyRejected",
    "LinkTimedOut",
    "OutageBegan",
    "Outcome",
    "Recovered",
    "Replied",
    "Resumed",
    "ServerError",
    "SubscriptionRejected",
    "SubscriptionTimedOut",
    "Unreadable",
    "split_confirmed",
]

# Activating 1,000 topics blocks the loop for about 5 ms.
MAX_TOPICS_PER_EVENT = 1000


class Replied(Struct, frozen=True):
    """A request was replied to with OK."""

    reqid: int
    data: Raw


class Failed(Struct, frozen=True):
    """A request was rejected, or will not be replied to."""

    reqid: int
    error: QosError


class Confirmed(Struct, frozen=True):
    """The server acknowledged these subscriptions, at ``second`` by its own clock."""

    topics: frozenset[Topic]
    second: int | None = None


def split_confirmed(
    topics: frozenset[Topic], second: int | None = None
) -> list[Confirmed]:
    """Return the acknowledgement of topics in parts; see MAX_TOPICS_PER_EVENT."""
    most = MAX_TOPICS_PER_EVENT
    if len(topics) <= most:
        return [Confirmed(topics, second)] if topics else []
    ordered = tuple(topics)
    return [
        Confirmed(frozenset(ordered[start : start + most]), second)
        for start in range(0, len(ordered), most)
    ]


class SubscriptionRejected(Struct, frozen=True):
    """The server rejected these subscriptions for good."""

    topics: frozenset[Topic]
    message: str


class SubscriptionTimedOut(Struct, frozen=True):
    """The server did not reply in time; the topics will be subscribed again."""

    topics: frozenset[Topic]


class OutageBegan(Struct, frozen=True):
    """These topics were live, and their link is lost."""

    topics: frozenset[Topic]
    outage: Outage


class Resumed(Struct, frozen=True):
    """These topics are live, but may have missed data on this link."""

    topics: frozenset[Topic]


class KeyRejected(Struct, frozen=True):
    """The server rejected the key."""

    error: QosError


class Recovered(Struct, frozen=True):
    """The recovery of topics has ended; ``unread`` is what its reply had of no use."""

    results: tuple[RecoveryResult, ...]
    unread: tuple[Unread, ...] = ()


class Unreadable(Struct, frozen=True):
    """A frame could not be read; it is counted and skipped."""

    reason: str


class ServerError(Struct, frozen=True):
    """The server sent an error that belongs to nothing we sent."""

    message: str


class LinkTimedOut(Struct, frozen=True):
    """The link still looks open but must be given up."""

    reason: str


Outcome: TypeAlias = (
    Replied
    | Failed
    | Confirmed
    | SubscriptionRejected
    | SubscriptionTimedOut
    | OutageBegan
    | Resumed
    | KeyRejected
    | Recovered
    | Unreadable
    | ServerError
    | LinkTimedOut
)

# A tick is its own event: wrapping it would cost as much as decoding a trade.
Event: TypeAlias = AnyTick[N] | Outcome
