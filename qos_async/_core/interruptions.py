"""What was live when it stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from qos_async._core.gaps import Outage, Outages
from qos_async._core.registry import Change, Registry
from qos_async._core.topics import Topic

__all__ = ["OutageTracker"]

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
        live = frozenset(filter(among, self._registry.held | self._ticking_unacked))
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
