"""Notices: what ``events()`` yields besides ticks."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from qos_async.topics import Topic

__all__ = ["Dropped", "Gap", "GapStatus", "Interrupted", "Notice", "Rejected"]

GapStatus = Literal["filled", "partial", "unverified", "unfilled"]
"""How certain it is that no tick is missing any more: see ``Gap``."""

_BEST_FIRST: tuple[GapStatus, ...] = ("filled", "partial", "unverified", "unfilled")


class Gap(Struct, frozen=True, kw_only=True):
    """A time in which ticks of a topic may be missing.

    Emitted once for each topic and outage, before the first tick after it.

    Attributes:
        topic: The topic that was interrupted.
        since: When something was last received (not when the loss was noticed), by a
            hub if its link was lost; aware, UTC.
        until: When the topic was live again; aware, UTC.
        reason: Why the link ended, or what else may have cost ticks: an event loop that
            was blocked, a machine that was suspended, a frame that could not be read.
        status: ``"filled"``: what was fetched agrees with everything observable on
            both sides of the gap. ``"partial"``: the server's memory does not reach
            back. ``"unverified"``: the sides disagree, or one is missing.
            ``"unfilled"``: nothing was fetched.
        recovered: How many ticks follow with ``recovered=True``: those that were fetched,
            and what was received between them on a link that did not last.
    """

    topic: Topic
    since: datetime
    until: datetime
    reason: str
    status: GapStatus = "unfilled"
    recovered: int = 0

    def merged_with(self, earlier: Gap) -> Gap:
        """Return one gap for this and an earlier one of the topic, with the worse status."""
        return replace(
            self,
            since=min(self.since, earlier.since),
            status=max(self.status, earlier.status, key=_BEST_FIRST.index),
            recovered=self.recovered + earlier.recovered,
        )


class Interrupted(Struct, frozen=True, kw_only=True):
    """A live topic has stopped: no tick of it arrives until its ``Gap``.

    Emitted when the outage is noticed, so that a program can act while it receives
    nothing. The ``Gap`` of the same topic follows when the topic is live again.

    Attributes:
        topic: The topic that is interrupted.
        since: When something was last received (not when the loss was noticed);
            aware, UTC.
        reason: Why, as in ``Gap``.
    """

    topic: Topic
    since: datetime
    reason: str


class Rejected(Struct, frozen=True):
    """The server rejected the subscription of one topic; the others go on.

    Attributes:
        topic: The topic, which is no longer part of the subscription.
        message: What the server wrote, with the key redacted.
    """

    topic: Topic
    message: str


class Dropped(Struct, frozen=True):
    """A full buffer dropped ``count`` ticks at this place.

    Attributes:
        count: At least one.
    """

    count: int


Notice: TypeAlias = Gap | Interrupted | Rejected | Dropped
