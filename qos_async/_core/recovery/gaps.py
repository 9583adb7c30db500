"""What a reader is told about ticks that it does not get."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from qos_async._core.registry import Change, Registry
from qos_async.topics import Topic

__all__ = ["Dropped", "Gap", "GapStatus", "Outage", "OutageTracker", "Outages"]

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


_MAX_REJECTIONS = 4
"""How often a topic that was live may be refused before it is given up."""


class OutageTracker:
    """Knows which topics were live, so that an end of their ticks is an outage.

    A topic is live from the server's yes on, or from its first tick, whichever is first.

    Attributes:
        outages: The topics that were live and are not, or are not made good yet.
    """

    def __init__(self, registry: Registry) -> None:
        self.outages = Outages()
        self._registry = registry
        self._ticking_unacked: set[Topic] = set()
        self._rejections: Counter[Topic] = Counter()

    def note_early_tick(self, topic: Topic) -> None:
        """Record that a topic ticks while the server and we may not agree on it."""
        if topic in self._registry.dirty:
            self._ticking_unacked.add(topic)

    def link_down(self, outage: Outage) -> None:
        """Open an outage of all that was live and is still wanted."""
        self._begin(self._registry.held | self._ticking_unacked, outage)
        self._ticking_unacked.clear()

    def removed_while_wanted(self, removal: Change, outage: Outage) -> None:
        """Open an outage of topics that are wanted again since they were given up.

        Their ticks came on while the removal was on its way, and now they stop.
        """
        ticking = self._ticking_unacked.intersection(removal.topics)
        self._ticking_unacked -= ticking
        self._begin(ticking, outage)

    def suspended(self, seconds: float) -> None:
        """Record that all outages are that much older than the clock says."""
        for topic, outage in self.outages.open.items():
            self.outages.open[topic] = outage.shifted_back(seconds)

    def mark_suspect(
        self, outage: Outage, *, among: Callable[[Topic], bool]
    ) -> frozenset[Topic]:
        """Open an outage of what is live and may have missed something nonetheless.

        Returns:
            The topics: they are live on.
        """
        registry = self._registry
        # A topic whose removal is in flight may be gone at the server already.
        held = filter(registry.holds, registry.held)
        ticking = registry.wanted & self._ticking_unacked.union(held)
        live = frozenset(filter(among, ticking))
        self._begin(live, outage)
        return live

    def confirmed(self, topics: Iterable[Topic]) -> None:
        """Record the server's yes."""
        for topic in topics:
            self._rejections.pop(topic, None)

    def should_retry_rejection(self, change: Change) -> bool:
        """Whether to ask again for a topic that was refused, because it was live.

        After an outage a server may say no for a passing reason.
        """
        was_live = change.add and change.any_topic in self.outages.open
        if not was_live or len(change.topics) > 1:
            return False
        self._rejections[change.any_topic] += 1
        return self._rejections[change.any_topic] < _MAX_REJECTIONS

    def remove(self, topics: Iterable[Topic]) -> None:
        """Forget topics that nobody watches any more."""
        for topic in topics:
            self.outages.end(topic)
            self._rejections.pop(topic, None)
            self._ticking_unacked.discard(topic)

    def _begin(self, topics: AbstractSet[Topic], outage: Outage) -> None:
        self.outages.begin(topics & self._registry.wanted, outage)
