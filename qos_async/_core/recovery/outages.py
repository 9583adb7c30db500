"""Outages: which live topics have stopped, since when and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from msgspec import Struct
from msgspec.structs import replace

from qos_async._core.registry import Change, Registry
from qos_async.topics import Topic

__all__ = ["Outage", "OutageTracker"]

_MAX_REJECTIONS = 4
"""How often the resubscription of a topic that was live may be rejected."""


class Outage(Struct, frozen=True):
    """When something was last received, in the caller's time, and why it ended."""

    since: float
    reason: str

    def shifted_back(self, seconds: float) -> Outage:
        """Return the same outage with an earlier beginning."""
        return replace(self, since=self.since - seconds)


class OutageTracker:
    """Tracks which topics were live, so that the end of their ticks is an outage.

    A topic is live from its acknowledgement or its first tick on, whichever is first.

    Attributes:
        open: The outages by topic, from the loss until recovery has ended. The object
            never changes: the dispatcher tests it once a burst.
    """

    def __init__(self, registry: Registry) -> None:
        self.open: dict[Topic, Outage] = {}
        self._registry = registry
        self._ticking_unacked: set[Topic] = set()
        self._rejections: Counter[Topic] = Counter()

    def note_early_tick(self, topic: Topic) -> None:
        """Record that a topic ticks while its subscription is not acknowledged."""
        if topic in self._registry.dirty:
            self._ticking_unacked.add(topic)

    def link_down(self, outage: Outage) -> frozenset[Topic]:
        """Open an outage of all topics that were live and are still wanted.

        Returns:
            The topics.
        """
        live = self._registry.held | self._ticking_unacked
        self._ticking_unacked.clear()
        return self._begin(live, outage)

    def inherit(self, topic: Topic, outage: Outage) -> None:
        """Open the outage of a topic that another client received before."""
        self.open[topic] = outage

    def removed_while_wanted(self, removal: Change, outage: Outage) -> None:
        """Open an outage of removed topics that are wanted again and ticked meanwhile.

        Their ticks went on until the server applied the removal; now they stop.
        """
        ticking = self._ticking_unacked.intersection(removal.topics)
        self._ticking_unacked -= ticking
        self._begin(ticking, outage)

    def suspended(self, seconds: float) -> None:
        """Shift all outages back by a suspend, which the loop's clock does not count."""
        for topic, outage in self.open.items():
            self.open[topic] = outage.shifted_back(seconds)

    def mark_suspect(
        self, outage: Outage, *, among: Callable[[Topic], bool]
    ) -> frozenset[Topic]:
        """Open an outage of live topics that may have missed data on a working link.

        Returns:
            The topics. They are still live.
        """
        registry = self._registry
        # A topic whose removal is in flight may be gone at the server already.
        held = filter(registry.holds, registry.held)
        live = self._ticking_unacked.union(held)
        return self._begin(frozenset(filter(among, live)), outage)

    def confirmed(self, topics: Iterable[Topic]) -> None:
        """Record that the server acknowledged the subscription of topics."""
        if self._rejections:
            for topic in topics:
                self._rejections.pop(topic, None)

    def should_retry_rejection(self, change: Change, *, whole: bool = False) -> bool:
        """Whether to repeat the rejected subscription of one topic, as it was live.

        After an outage a server may reject for a passing reason. With ``whole``, a
        batch is repeated, too, if one of its topics was live.
        """
        live = self.open.keys() & change.topics
        if not change.add or not live or (len(change.topics) > 1 and not whole):
            return False
        self._rejections.update(live)
        topic = max(live, key=self._rejections.__getitem__)
        return self._rejections[topic] < _MAX_REJECTIONS

    def end(self, topic: Topic) -> Outage | None:
        """Close and return the outage of a topic; None if it has none."""
        return self.open.pop(topic, None)

    def remove(self, topics: Iterable[Topic]) -> None:
        """Forget topics that no subscription has any more."""
        for topic in topics:
            self.open.pop(topic, None)
            self._rejections.pop(topic, None)
            self._ticking_unacked.discard(topic)

    def _begin(self, topics: AbstractSet[Topic], outage: Outage) -> frozenset[Topic]:
        """Open an outage of the wanted ones; one that is open keeps its beginning."""
        wanted = self._registry.wanted.intersection(topics)
        # Set and dict operations as a whole: for 10,000 topics many times faster than a
        # loop, as no hash is computed again.
        opened = dict.fromkeys(wanted, outage)
        opened.update(self.open)
        self.open.update(opened)
        return wanted
