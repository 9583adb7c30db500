"""What the users want, what the server has, and the difference."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable

from msgspec import Struct

from qos_async._core.topics import Topic

__all__ = ["Change", "Registry"]


class Change(Struct, frozen=True):
    """One frame's worth of difference: topics of one channel and one interval."""

    add: bool
    topics: frozenset[Topic]

    @property
    def head(self) -> Topic:
        """Any of the topics; all share its channel and interval."""
        return next(iter(self.topics))


class Registry:
    """Desired state on one side, the server's state on the other.

    Nothing here is queued: a change is computed at the moment it can be sent, so a
    burst of calls folds into one frame, a subscribe that is taken back in time says
    nothing, and a reconnect needs no code of its own. It is the same difference,
    taken against an empty server.

    What the server has is known (``held``), or open after an answer that never came
    or a refused batch, which may have been applied in part (``unsure``). What is open
    is said again until it is known.

    One change is in flight at most.
    """

    def __init__(self) -> None:
        self._wanted: Counter[Topic] = Counter()
        self._held: set[Topic] = set()
        self._unsure: set[Topic] = set()
        self._in_flight: Change | None = None
        # Insertion-ordered set of topics on which the two sides may differ.
        self._dirty: dict[Topic, None] = {}
        # Halves of refused batches, tried on their own to find who is guilty.
        self._suspects: deque[frozenset[Topic]] = deque()

    @property
    def settled(self) -> bool:
        """Whether the server holds exactly what the users want."""
        return not self._dirty and self._in_flight is None

    @property
    def has_work(self) -> bool:
        """Whether a change could be sent now."""
        return self._in_flight is None and bool(self._dirty)

    @property
    def held(self) -> frozenset[Topic]:
        """The topics that the server surely has."""
        return frozenset(self._held - self._unsure)

    def holds(self, topic: Topic) -> bool:
        """Whether the server surely has ``topic``."""
        return topic in self._held and topic not in self._unsure

    def wants(self, topic: Topic) -> bool:
        """Whether anybody wants ``topic``."""
        return topic in self._wanted

    def want(self, topics: Iterable[Topic]) -> None:
        """Ask for topics; asking twice needs releasing twice."""
        for topic in topics:
            self._wanted[topic] += 1
            self._mark(topic)

    def release(self, topics: Iterable[Topic]) -> None:
        """Withdraw one earlier ask per topic."""
        for topic in topics:
            if self._wanted[topic] > 1:
                self._wanted[topic] -= 1
            else:
                del self._wanted[topic]
            self._mark(topic)

    def next_change(self) -> Change | None:
        """Compute the next frame: removals first, since they free the plan's slots."""
        if self._in_flight is not None:
            return None
        suspected = {topic for half in self._suspects for topic in half}
        topics = self._group(lambda t: t not in self._wanted)
        if not topics:
            topics = self._group(lambda t: t in self._wanted and t not in suspected)
        while not topics and self._suspects:
            topics = frozenset(
                t
                for t in self._suspects.popleft()
                if t in self._wanted and t in self._dirty
            )
        if not topics:
            return None
        return Change(next(iter(topics)) in self._wanted, topics)

    def sent(self, change: Change) -> None:
        """Record that the change left."""
        self._in_flight = change

    def confirm(self, change: Change) -> None:
        """Record that the server applied the change."""
        self._land(change)
        (self._held.update if change.add else self._held.difference_update)(
            change.topics
        )
        self._unsure -= change.topics
        self._mark_all(change)

    def refuse(self, change: Change) -> bool:
        """Record that the server refused the change.

        Returns:
            Whether that is final: a single topic is then no longer wanted. A larger
            batch is retried in halves instead.
        """
        self._land(change)
        if change.add and len(change.topics) > 1:
            self._unsure |= change.topics
            ordered = sorted(change.topics)
            middle = len(ordered) // 2
            self._suspects.appendleft(frozenset(ordered[middle:]))
            self._suspects.appendleft(frozenset(ordered[:middle]))
            self._mark_all(change)
            return False
        # Refusing to unsubscribe means that it was not subscribed.
        self._held -= change.topics
        self._unsure -= change.topics
        if change.add:
            for topic in change.topics:
                del self._wanted[topic]
        self._mark_all(change)
        return change.add

    def expire(self, change: Change) -> None:
        """Record that nobody answered: the server may or may not have heard."""
        self._land(change)
        self._unsure |= change.topics
        self._mark_all(change)

    def forget(self) -> None:
        """Record that the link is gone, and all that the server held with it."""
        self._held.clear()
        self._unsure.clear()
        self._suspects.clear()
        self._in_flight = None
        self._dirty = dict.fromkeys(self._wanted)

    def _group(self, chosen: Callable[[Topic], bool]) -> frozenset[Topic]:
        ready = [topic for topic in self._dirty if chosen(topic)]
        return frozenset(
            topic
            for topic in ready
            if (topic.channel, topic.interval) == (ready[0].channel, ready[0].interval)
        )

    def _land(self, change: Change) -> None:
        assert self._in_flight is change, "an answer to a change that is not in flight"
        self._in_flight = None

    def _mark_all(self, change: Change) -> None:
        for topic in change.topics:
            self._mark(topic)

    def _mark(self, topic: Topic) -> None:
        agreed = (topic in self._wanted) is (topic in self._held)
        if agreed and topic not in self._unsure:
            self._dirty.pop(topic, None)
        else:
            self._dirty[topic] = None
