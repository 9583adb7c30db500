"""What a reader is told about ticks that it does not get."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from qos_async._core.topics import Topic

__all__ = ["Dropped", "Gap", "GapStatus", "Outage", "Outages"]

GapStatus = Literal["filled", "partial", "unverified", "unfilled"]
"""How sure it is that nothing is missing any more: see ``Gap``."""

_BEST_FIRST: tuple[GapStatus, ...] = ("filled", "partial", "unverified", "unfilled")


class Gap(Struct, frozen=True, kw_only=True):
    """A time in which ticks of a topic may be missing.

    Told once for each topic and outage, before the first tick after it.

    Attributes:
        topic: What was interrupted.
        since: When something was last received (not when the loss was noticed);
            aware, UTC.
        until: When the topic was live again; aware, UTC.
        reason: Why the link ended, or what else may have cost ticks: a loop that stood
            still, a machine that slept, a frame that nobody could read.
        status: ``"filled"``: what was fetched agrees with everything observable on
            both sides of the hole. ``"partial"``: the server's memory does not reach
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
        """Join with an earlier gap of the same topic; the worse status stands."""
        return replace(
            self,
            since=min(self.since, earlier.since),
            status=max(self.status, earlier.status, key=_BEST_FIRST.index),
            recovered=self.recovered + earlier.recovered,
        )


class Dropped(Struct, frozen=True):
    """A full buffer lost ``count`` ticks at this place.

    Attributes:
        count: At least one.
    """

    count: int


class Outage(Struct, frozen=True):
    """When something was last received, in the caller's time, and why it ended."""

    since: float
    reason: str

    def shifted_back(self, seconds: float) -> Outage:
        """Give the same outage, begun earlier."""
        return replace(self, since=self.since - seconds)


class Outages:
    """Remembers which topics were interrupted, until they are made good.

    Attributes:
        open: The outages by topic. Always the same object, so that it may be looked at
            for each tick.
    """

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open: dict[Topic, Outage] = {}

    def __bool__(self) -> bool:
        return bool(self.open)

    def begin(self, topics: AbstractSet[Topic], outage: Outage) -> None:
        """Open an outage; one that is already open keeps its beginning."""
        # Many times faster for many topics than one by one: no hash is asked for.
        opened = dict.fromkeys(topics, outage)
        opened.update(self.open)
        self.open.update(opened)

    def end(self, topic: Topic) -> Outage | None:
        """Close an outage and tell of it; None if there was none."""
        return self.open.pop(topic, None)

    def drop(self, topics: Iterable[Topic]) -> None:
        """Forget topics that nobody watches any more."""
        for topic in topics:
            self.open.pop(topic, None)
