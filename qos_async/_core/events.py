"""What the core reports to the shell."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Raw, Struct

from qos_async._core.recovery.cases import RecoveryResult
from qos_async.errors import QosError
from qos_async.models import AnyTick, N
from qos_async.topics import Topic

__all__ = [
    "AckTimedOut",
    "Confirmed",
    "Event",
    "Failed",
    "KeyRejected",
    "LinkTimedOut",
    "Outcome",
    "Recovered",
    "Replied",
    "Resumed",
    "ServerError",
    "SubscriptionRejected",
    "Unreadable",
    "split_confirmed",
]

MAX_TOPICS_PER_EVENT = (
    1000  # Topics that become live take some 5 ms, in which nothing else happens.
)


class Replied(Struct, frozen=True):
    """A request was answered with yes."""

    reqid: int
    data: Raw


class Failed(Struct, frozen=True):
    """A request will not be answered, or was answered with no."""

    reqid: int
    error: QosError


class Confirmed(Struct, frozen=True):
    """The server took these subscriptions, at ``second`` by its own clock."""

    topics: frozenset[Topic]
    second: int | None = None


def split_confirmed(confirmed: Confirmed) -> list[Confirmed]:
    """Divide a yes to many topics: to each of them something has to be done."""
    if len(confirmed.topics) <= MAX_TOPICS_PER_EVENT:
        return [confirmed]
    topics = tuple(confirmed.topics)
    return [
        Confirmed(
            frozenset(topics[start : start + MAX_TOPICS_PER_EVENT]), confirmed.second
        )
        for start in range(0, len(topics), MAX_TOPICS_PER_EVENT)
    ]


class SubscriptionRejected(Struct, frozen=True):
    """The server refused these subscriptions for good."""

    topics: frozenset[Topic]
    message: str


class AckTimedOut(Struct, frozen=True):
    """Nobody answered these subscriptions in time; they will be asked for again."""

    topics: frozenset[Topic]


class Resumed(Struct, frozen=True):
    """These topics are live, after a time in which they may have missed something."""

    topics: frozenset[Topic]


class KeyRejected(Struct, frozen=True):
    """The server refused the key."""

    error: QosError


class Recovered(Struct, frozen=True):
    """What topics missed in an outage is decided."""

    results: tuple[RecoveryResult, ...]


class Unreadable(Struct, frozen=True):
    """A frame came that nobody can read; it is counted and skipped."""

    reason: str


class ServerError(Struct, frozen=True):
    """The server complained, and not about anything that we asked."""

    message: str


class LinkTimedOut(Struct, frozen=True):
    """The link still looks open but must be given up."""

    reason: str


Outcome: TypeAlias = (
    Replied
    | Failed
    | Confirmed
    | SubscriptionRejected
    | AckTimedOut
    | Resumed
    | KeyRejected
    | Recovered
    | Unreadable
    | ServerError
    | LinkTimedOut
)

# A push is its own event: wrapping it would cost as much as decoding a trade.
Event: TypeAlias = AnyTick[N] | Outcome
