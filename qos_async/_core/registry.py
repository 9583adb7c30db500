"""Registry of subscriptions: what is wanted, what the server holds, the next change.

This is desired-state reconciliation. Subscribers edit the wanted set at any time; the
registry computes one command from the difference, and the reply to that command updates
what is known of the server. ``tests/core/test_registry_exhaustive.py`` explores every
state of it against faulty servers.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from msgspec import Struct

from qos_async.enums import Channel
from qos_async.topics import Topic

__all__ = ["Change", "Registry"]


class Change(Struct, frozen=True):
    """One subscribe or unsubscribe command: topics of one channel and one interval.

    Attributes:
        add: Whether it subscribes; else it unsubscribes.
        topics: The topics; at least one.
    """

    add: bool
    topics: frozenset[Topic]

    @property
    def any_topic(self) -> Topic:
        """One of the topics; all share its channel and interval."""
        return next(iter(self.topics))


class Registry:
    """The wanted topics, the topics that the server holds, and their difference.

    Changes are not queued: a change is computed at the moment it can be sent. Hence

    * a burst of calls becomes one command,
    * a subscription that is withdrawn before it was sent costs no command,
    * a reconnect needs no code of its own: it is the same difference, computed against
      a server that holds nothing.

    At most one change is in flight. The knowledge about a topic has three values:

    1. *held*: the server confirmed an addition.
    2. *not held*: it confirmed a removal, or the link is new.
    3. *unknown*: a reply timed out, or a batch was rejected, which the document does
       not call atomic: the server may have applied a part of it.

    An unknown topic stays in ``dirty``, so its command is repeated until a reply
    settles it. Two replies need more than that; the comments in ``__init__`` explain
    them:

    * A rejected batch does not name the rejected topic: it is split
      (``_split_batches``).
    * A rejected addition may be of a topic that the server already holds, if an earlier
      addition of it timed out (``_unacked_adds``, ``_to_readd``).

    Attributes:
        symbols: The number of wanted topics of each symbol.
        dirty: The topics on which the two sides may differ, oldest first. Always the
            same object, as the dispatcher looks at it for each batch of ticks.
    """

    def __init__(self) -> None:
        # The number of subscribers. Sets are built from a plain dict, as no hash has to be
        # computed again, in half the time that a Counter takes.
        self._wanted: dict[Topic, int] = {}
        self.symbols: Counter[str] = Counter()
        self._held: set[Topic] = set()
        self._unknown: set[Topic] = set()
        # Doubtful additions. The document does not specify the reply to a topic that is
        # subscribed twice; it may be a rejection. So if an addition times out and is
        # repeated, a rejection has two possible reasons: the topic is not allowed, or
        # the first command was applied and only its reply was lost. To find out which:
        #
        # 1. An addition whose reply times out goes into ``_unacked_adds``.
        # 2. If the repeated addition is rejected, the topic goes into ``_to_readd``,
        #    and counts as "should not be held" although it is wanted: the next command
        #    is a removal.
        # 3. Any reply to the removal settles that the server does not hold the topic.
        #    It leaves both sets and is added once more. If that is rejected, the
        #    rejection is real.
        self._unacked_adds: set[Topic] = set()
        self._to_readd: set[Topic] = set()
        self._in_flight: Change | None = None
        self.dirty: dict[Topic, None] = {}
        # Halves of rejected batches, each to be sent on its own. The reply does not
        # name the topic that caused the rejection, so batches are bisected until it
        # stands alone; all others are then subscribed. ``_differences`` leaves the
        # halves out, or the next change would join them into the same batch again.
        self._split_batches: deque[Change] = deque()
        self._half_in_flight = False

    @property
    def settled(self) -> bool:
        """Whether the server is known to hold exactly the wanted topics."""
        return not self.dirty and self._in_flight is None

    @property
    def has_work(self) -> bool:
        """Whether a change could be sent now."""
        return self._in_flight is None and bool(self.dirty)

    @property
    def held(self) -> frozenset[Topic]:
        """The topics that the server is known to hold."""
        return frozenset(self._held).difference(self._unknown)

    def holds(self, topic: Topic) -> bool:
        """Return whether ``topic`` is known to be held, with no removal in flight."""
        known = topic in self._held and topic not in self._unknown
        return known and not self._is_being_removed(topic)

    @property
    def wanted(self) -> frozenset[Topic]:
        """The topics with at least one subscriber."""
        return frozenset(self._wanted)

    def wants(self, topic: Topic) -> bool:
        """Return whether ``topic`` has a subscriber."""
        return topic in self._wanted

    def want(self, topics: Iterable[Topic]) -> None:
        """Add one subscriber to each topic; ``release`` removes one."""
        for topic in topics:
            if topic not in self._wanted:
                self.symbols[topic.symbol] += 1
            self._wanted[topic] = self._wanted.get(topic, 0) + 1
            self._mark(topic)

    def release(self, topics: Iterable[Topic]) -> None:
        """Remove one subscriber from each topic; the last one makes it unwanted."""
        for topic in topics:
            if self._wanted.get(topic, 0) > 1:
                self._wanted[topic] -= 1
            else:
                self._discard_wanted(topic)
            self._mark(topic)

    def next_change(self) -> Change | None:
        """Return the next change; None if nothing differs or one is in flight.

        Removals come before additions, as they free the plan's products (section
        5.0.2).
        """
        if self._in_flight is not None:
            return None
        self._half_in_flight = False
        for add, topics in self._differences().items():
            if topics:
                return Change(add, _same_frame(topics))
        while self._split_batches:
            # Topics of a half may have been unsubscribed meanwhile: they are left out.
            half = self._split_batches.popleft()
            if rest := self._ready(half.topics, add=half.add):
                self._half_in_flight = True
                return Change(half.add, frozenset(rest))
        return None

    def sent(self, change: Change) -> None:
        """Record that the change was sent."""
        self._in_flight = change

    def confirm(self, change: Change) -> None:
        """Record that the server applied the change."""
        self._clear_in_flight(change)
        (self._held.update if change.add else self._held.difference_update)(
            change.topics
        )
        self._unknown -= change.topics
        self._forget_doubts(change)
        # As ``_mark`` of each: nothing is in flight, and no topic of it is unknown.
        wanted, dirty = self._wanted, self.dirty
        for topic in change.topics:
            if (topic in wanted) is change.add:
                dirty.pop(topic, None)
            else:
                dirty[topic] = None

    def reject(self, change: Change) -> bool:
        """Record that the server rejected the change.

        Returns:
            Whether a topic is no longer wanted, because its addition was rejected
            alone. A larger batch is repeated in halves instead.
        """
        self._clear_in_flight(change)
        final = len(change.topics) == 1
        if final and change.add and change.topics <= self._unacked_adds:
            final = False  # It may be held already: remove it, then add it anew.
            self._to_readd |= change.topics
        elif final:
            # A rejected removal means that the topic was not subscribed.
            self._held -= change.topics
            self._unknown -= change.topics
            self._forget_doubts(change)
            if change.add:
                for topic in change.topics:
                    self._discard_wanted(topic)
        else:
            self._unknown |= change.topics  # A part of it may have been applied.
            ordered = sorted(change.topics)
            middle = len(ordered) // 2
            for half in (ordered[middle:], ordered[:middle]):
                self._split_batches.appendleft(Change(change.add, frozenset(half)))
        self._mark_all(change)
        return final and change.add

    def give_up(self, change: Change) -> bool:
        """Record that the server refused the change for good, whatever its topics are.

        Topics to add are no longer wanted: those that the server may hold all the same
        are removed. A removal counts as done, or it would delay additions for ever;
        topics that are wanted again stay as they were.

        Returns:
            Whether topics are no longer wanted, as ``reject`` does.
        """
        self._clear_in_flight(change)
        self._forget_doubts(change)
        if change.add:
            for topic in change.topics:
                self._discard_wanted(topic)
        else:
            unwanted = change.topics.difference(self._wanted)
            self._held -= unwanted
            self._unknown -= unwanted
        self._mark_all(change)
        return change.add

    def postpone(self, change: Change) -> None:
        """Record that the server did not look at the change: it was sent too soon.

        So nothing new is known of its topics. What is wanted by then is sent later; the
        half of a rejected batch stays on its own.
        """
        self._clear_in_flight(change)
        if self._half_in_flight:
            self._split_batches.appendleft(change)
        self._mark_all(change)

    def kept(self, change: Change) -> frozenset[Topic]:
        """Return the topics of a refused removal that are wanted again and still held.

        Nothing is sent for them any more, so no acknowledgement of them will follow.
        """
        return frozenset(filter(self.holds, change.topics.intersection(self._wanted)))

    def ack_timed_out(self, change: Change) -> None:
        """Record that the reply timed out: an addition may be held already."""
        if change.add:
            self._unacked_adds |= change.topics

    def expire(self, change: Change) -> None:
        """Record that it is unknown whether the change was applied; it is repeated."""
        self._clear_in_flight(change)
        self._unknown |= change.topics
        self._mark_all(change)

    def link_down(self) -> None:
        """Record that the link is gone, and with it all that the server held."""
        self._held.clear()
        self._unknown.clear()
        self._unacked_adds.clear()
        self._to_readd.clear()
        self._split_batches.clear()
        self._in_flight = None
        self.dirty.clear()
        self.dirty.update(dict.fromkeys(self._wanted))

    def link_up(self) -> None:
        """Record a fresh link: the server holds nothing.

        Trades are subscribed first: the server returns no more than the last 50 of them
        (section 5.7), so each second without them may be one that cannot be recovered.
        """
        self.link_down()
        trades = [topic for topic in self._wanted if topic.channel is Channel.TRADE]
        self.dirty.clear()
        self.dirty.update(dict.fromkeys(trades))
        self.dirty.update(dict.fromkeys(self._wanted))

    def _ready(self, topics: Iterable[Topic], *, add: bool) -> list[Topic]:
        return [t for t in topics if t in self.dirty and self._should_hold(t) is add]

    def _should_hold(self, topic: Topic) -> bool:
        return topic in self._wanted and topic not in self._to_readd

    def _forget_doubts(self, change: Change) -> None:
        self._unacked_adds -= change.topics
        self._to_readd -= change.topics

    def _differences(self) -> dict[bool, list[Topic]]:
        """Return ``{False: topics to remove, True: topics to add}``, without halves."""
        if not self._split_batches and not self._to_readd:  # In half the time.
            wanted = self._wanted
            unwanted = [topic for topic in self.dirty if topic not in wanted]
            if not unwanted:
                return {False: [], True: [*self.dirty]}
        split = {(half.add, t) for half in self._split_batches for t in half.topics}
        ready: dict[bool, list[Topic]] = {False: [], True: []}
        for topic in self.dirty:
            add = self._should_hold(topic)
            if not split or (add, topic) not in split:
                ready[add].append(topic)
        return ready

    def _clear_in_flight(self, change: Change) -> None:
        assert self._in_flight is change, "a reply to a change that is not in flight"
        self._in_flight = None

    def _mark_all(self, change: Change) -> None:
        for topic in change.topics:
            self._mark(topic)

    def _discard_wanted(self, topic: Topic) -> None:
        if self._wanted.pop(topic, 0):
            self.symbols[topic.symbol] -= 1
            if not self.symbols[topic.symbol]:
                del self.symbols[topic.symbol]

    def _is_being_removed(self, topic: Topic) -> bool:
        change = self._in_flight
        return change is not None and not change.add and topic in change.topics

    def _mark(self, topic: Topic) -> None:
        agrees = (topic in self._wanted) is self.holds(topic)
        if agrees and topic not in self._unknown:
            self.dirty.pop(topic, None)
        else:
            self.dirty[topic] = None


def _same_frame(topics: list[Topic]) -> frozenset[Topic]:
    """Return the topics that one command can name together with the first one."""
    channel, interval = topics[0].channel, topics[0].interval
    return frozenset(
        [
            topic
            for topic in topics
            if topic.channel is channel and topic.interval is interval
        ]
    )
