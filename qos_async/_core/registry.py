"""What the users want, what the server has, and the difference."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from msgspec import Struct

from qos_async.enums import Channel
from qos_async.topics import Topic

__all__ = ["Change", "Registry"]


class Change(Struct, frozen=True):
    """One frame's worth of difference: topics of one channel and one interval."""

    add: bool
    topics: frozenset[Topic]

    @property
    def any_topic(self) -> Topic:
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
    is said again until it is known. A server may refuse to add what it has already: then
    it must be taken away first.

    One change is in flight at most.

    Attributes:
        symbols: How many wanted topics each symbol has.
        dirty: The topics on which the two sides may differ, oldest first. Always the
            same object, so that it may be looked at for each tick.
    """

    def __init__(self) -> None:
        self._wanted: Counter[Topic] = Counter()
        self.symbols: Counter[str] = Counter()
        self._held: set[Topic] = set()
        self._unknown: set[Topic] = set()
        # Additions that nobody answered: refused now, they may be there already. Those
        # are removed though they are wanted, and then added anew.
        self._unacked_adds: set[Topic] = set()
        self._to_readd: set[Topic] = set()
        self._in_flight: Change | None = None
        self.dirty: dict[Topic, None] = {}
        # Halves of refused batches, tried on their own to find who is guilty.
        self._split_batches: deque[Change] = deque()

    @property
    def settled(self) -> bool:
        """Whether the server holds exactly what the users want."""
        return not self.dirty and self._in_flight is None

    @property
    def has_work(self) -> bool:
        """Whether a change could be sent now."""
        return self._in_flight is None and bool(self.dirty)

    @property
    def held(self) -> frozenset[Topic]:
        """The topics that the server surely has."""
        return frozenset(self._held - self._unknown)

    def holds(self, topic: Topic) -> bool:
        """Whether the server surely has ``topic``, and is not being told otherwise."""
        known = topic in self._held and topic not in self._unknown
        return known and not self._is_leaving(topic)

    @property
    def wanted(self) -> frozenset[Topic]:
        """The topics that anybody wants."""
        return frozenset(self._wanted)

    def wants(self, topic: Topic) -> bool:
        """Whether anybody wants ``topic``."""
        return topic in self._wanted

    def want(self, topics: Iterable[Topic]) -> None:
        """Ask for topics; asking twice needs releasing twice."""
        for topic in topics:
            if topic not in self._wanted:
                self.symbols[topic.symbol] += 1
            self._wanted[topic] += 1
            self._mark(topic)

    def release(self, topics: Iterable[Topic]) -> None:
        """Withdraw one earlier ask per topic."""
        for topic in topics:
            if self._wanted[topic] > 1:
                self._wanted[topic] -= 1
            else:
                self._unwant(topic)
            self._mark(topic)

    def next_change(self) -> Change | None:
        """Compute the next frame: removals first, since they free the plan's slots."""
        if self._in_flight is not None:
            return None
        for add, topics in self._differences().items():
            if topics:
                return Change(add, _same_frame(topics))
        while self._split_batches:
            half = self._split_batches.popleft()
            if rest := self._ready(half.topics, add=half.add):
                return Change(half.add, frozenset(rest))
        return None

    def sent(self, change: Change) -> None:
        """Record that the change left."""
        self._in_flight = change

    def confirm(self, change: Change) -> None:
        """Record that the server applied the change."""
        self._clear_in_flight(change)
        (self._held.update if change.add else self._held.difference_update)(
            change.topics
        )
        self._unknown -= change.topics
        self._forget_doubts(change)
        self._mark_all(change)

    def reject(self, change: Change) -> bool:
        """Record that the server refused the change.

        Returns:
            Whether a topic is now no longer wanted, because it was refused alone. A
            larger batch is said again in halves instead.
        """
        self._clear_in_flight(change)
        final = len(change.topics) == 1
        if final and change.add and change.topics <= self._unacked_adds:
            final = False
            self._to_readd |= change.topics
        elif final:
            # Refusing to unsubscribe a topic means that it was not subscribed.
            self._held -= change.topics
            self._unknown -= change.topics
            self._forget_doubts(change)
            if change.add:
                for topic in change.topics:
                    self._unwant(topic)
        else:
            self._unknown |= change.topics
            ordered = sorted(change.topics)
            middle = len(ordered) // 2
            for half in (ordered[middle:], ordered[:middle]):
                self._split_batches.appendleft(Change(change.add, frozenset(half)))
        self._mark_all(change)
        return final and change.add

    def unanswered(self, change: Change) -> None:
        """Record that nobody answers: what is to be added may be there when it expires."""
        if change.add:
            self._unacked_adds |= change.topics

    def expire(self, change: Change) -> None:
        """Record that the change may or may not have been applied."""
        self._clear_in_flight(change)
        self._unknown |= change.topics
        self._mark_all(change)

    def link_down(self) -> None:
        """Record that the link is gone, and all that the server held with it."""
        self._held.clear()
        self._unknown.clear()
        self._unacked_adds.clear()
        self._to_readd.clear()
        self._split_batches.clear()
        self._in_flight = None
        self.dirty.clear()
        # Trades first: of them the server remembers least.
        trades: list[Topic] = []
        others: list[Topic] = []
        for topic in self._wanted:
            (trades if topic.channel is Channel.TRADE else others).append(topic)
        self.dirty.update(dict.fromkeys((*trades, *others)))

    def _ready(self, topics: Iterable[Topic], *, add: bool) -> list[Topic]:
        return [t for t in topics if t in self.dirty and self._should_hold(t) is add]

    def _should_hold(self, topic: Topic) -> bool:
        return topic in self._wanted and topic not in self._to_readd

    def _forget_doubts(self, change: Change) -> None:
        self._unacked_adds -= change.topics
        self._to_readd -= change.topics

    def _differences(self) -> dict[bool, list[Topic]]:
        """Tell what is to be removed, and then what added, but for the suspects."""
        split = {(half.add, t) for half in self._split_batches for t in half.topics}
        ready: dict[bool, list[Topic]] = {False: [], True: []}
        for topic in self.dirty:
            add = self._should_hold(topic)
            if not split or (add, topic) not in split:
                ready[add].append(topic)
        return ready

    def _clear_in_flight(self, change: Change) -> None:
        assert self._in_flight is change, "an answer to a change that is not in flight"
        self._in_flight = None

    def _mark_all(self, change: Change) -> None:
        for topic in change.topics:
            self._mark(topic)

    def _unwant(self, topic: Topic) -> None:
        if self._wanted.pop(topic, 0):
            self.symbols[topic.symbol] -= 1
            if not self.symbols[topic.symbol]:
                del self.symbols[topic.symbol]

    def _is_leaving(self, topic: Topic) -> bool:
        change = self._in_flight
        return change is not None and not change.add and topic in change.topics

    def _mark(self, topic: Topic) -> None:
        agreed = (topic in self._wanted) is self.holds(topic)
        if agreed and topic not in self._unknown:
            self.dirty.pop(topic, None)
        else:
            self.dirty[topic] = None


def _same_frame(topics: list[Topic]) -> frozenset[Topic]:
    """Give those that one frame can name together with the first."""
    channel, interval = topics[0].channel, topics[0].interval
    return frozenset(
        topic
        for topic in topics
        if topic.channel is channel and topic.interval == interval
    )
