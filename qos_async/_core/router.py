"""Router: the subscribers of each topic, found by one look-up a tick."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec.structs import force_setattr

from qos_async.enums import Channel
from qos_async.models import CHANNELS, Kline
from qos_async.symbols import canonical
from qos_async.topics import Topic

__all__ = ["Route", "Router", "TopicActivity"]

S = TypeVar("S", bound=Hashable)

_TYPES = {channel: kind for kind, channel in CHANNELS.items()}
# More than twice what the server remembers (50 trades, section 5.7): the last that it may
# return again after an outage. Of the other channels the last tick is enough.
_TAILS = {Channel.TRADE: 128}


class Route(Generic[S]):
    """The subscribers of one topic.

    Attributes:
        subscribers: A tuple that is replaced on change: subscribers may leave while a
            tick is delivered.
        tail: The last ticks that were delivered; recovery compares them with what the
            server returns.
        ticks: How many ticks arrived. The dispatcher counts them here, or for a whole
            burst in ``Router.counts``.
    """

    __slots__ = ("subscribers", "tail", "ticks")

    def __init__(self, tail: int = 0) -> None:
        self.subscribers: tuple[S, ...] = ()
        self.tail: deque[Any] = deque(maxlen=tail)
        self.ticks = 0


class TopicActivity(NamedTuple):
    """How many ticks of a topic arrived, and when the last one did (ns; or 0)."""

    ticks: int
    received_at: int


class Router(Generic[S]):
    """Maps topics to their subscribers.

    The dispatcher reads the tables directly: a method call costs each tick 15 ns or more.

    Attributes:
        by_symbol: The routes by kind and symbol; those of klines by symbol and interval.
        tail_append: By the same keys, the bound ``append`` of the tail of each route.
        shared_subscribers: By kind, the subscribers of its topics if all have the same;
            not for klines, and not once ticks are counted by topic.
        counts: By kind, ticks of closed routes and of bursts that were counted as a whole.
    """

    def __init__(self) -> None:
        self.by_symbol: dict[type[Any], dict[Hashable, Route[S]]] = {
            kind: {} for kind in _TYPES.values()
        }
        self.tail_append: dict[type[Any], dict[Hashable, Callable[[Any], None]]] = {
            kind: {} for kind in _TYPES.values()
        }
        self.shared_subscribers: dict[type[Any], tuple[S, ...]] = {}
        # How many topics have the same subscribers.
        self._subscriber_sets: dict[type[Any], Counter[tuple[S, ...]]] = {
            kind: Counter() for kind in CHANNELS
        }
        self._counts_topics = False
        self._unrouted: dict[type[Any], Route[S]] = {kind: Route() for kind in CHANNELS}
        self.counts = dict.fromkeys(CHANNELS, 0)

    def activity(self, topic: Topic) -> TopicActivity:
        """Return the activity of a topic, counted since the first call of this method."""
        self._counts_topics = True
        self.shared_subscribers.clear()
        route = self.of(topic)
        return TopicActivity(
            route.ticks, route.tail[-1].received_at if route.tail else 0
        )

    def find(self, tick: Any) -> Route[S]:
        """Return the route of a tick, without subscribers if its topic has none."""
        kind: Any = tick.__class__
        key = tick.symbol if kind is not Kline else (tick.symbol, tick.interval)
        found = self.by_symbol[kind].get(key)
        return self._find_canonical(tick) if found is None else found

    def of(self, topic: Topic) -> Route[S]:
        """Return the route of a topic, without subscribers if it has none."""
        found = self._table(topic).get(_key(topic))
        return self._unrouted[_TYPES[topic.channel]] if found is None else found

    def subscribers(self) -> dict[S, None]:
        """Return every subscriber once, in the order of subscription."""
        return dict.fromkeys(
            subscriber
            for sets in self._subscriber_sets.values()
            for subscribers in sets
            for subscriber in subscribers
        )

    def ticks(self) -> dict[str, int]:
        """Return how many ticks arrived on each channel, by its name."""
        return {
            channel.value: self.counts[kind]
            + self._unrouted[kind].ticks
            + sum(route.ticks for route in self.by_symbol[kind].values())
            for kind, channel in CHANNELS.items()
        }

    def unrouted(self) -> int:
        """Return how many ticks arrived for topics without subscribers."""
        return sum(route.ticks for route in self._unrouted.values())

    def add(self, topic: Topic, subscriber: S) -> None:
        """Add a subscriber to a topic."""
        table, key = self._table(topic), _key(topic)
        route = table.get(key)
        if route is None:
            route = table[key] = Route(_TAILS.get(topic.channel, 1))
            self.tail_append[_TYPES[topic.channel]][key] = route.tail.append
        self._set_subscribers(topic, route, (*route.subscribers, subscriber))

    def remove(self, topic: Topic, subscriber: S) -> None:
        """Remove a subscriber from a topic."""
        table, key = self._table(topic), _key(topic)
        route = table.get(key)
        if route is None:
            return
        others = tuple(other for other in route.subscribers if other is not subscriber)
        self._set_subscribers(topic, route, others)
        if not others:
            del table[key], self.tail_append[_TYPES[topic.channel]][key]
            self.counts[_TYPES[topic.channel]] += route.ticks

    def _set_subscribers(
        self, topic: Topic, route: Route[S], subscribers: tuple[S, ...]
    ) -> None:
        kind = _TYPES[topic.channel]
        sharing = self._subscriber_sets[kind]
        if route.subscribers:
            sharing[route.subscribers] -= 1
            if not sharing[route.subscribers]:
                del sharing[route.subscribers]
        if subscribers:
            sharing[subscribers] += 1
        route.subscribers = subscribers
        if len(sharing) == 1 and kind is not Kline and not self._counts_topics:
            [self.shared_subscribers[kind]] = sharing
        else:
            self.shared_subscribers.pop(kind, None)

    def _table(self, topic: Topic) -> dict[Hashable, Route[S]]:
        return self.by_symbol[_TYPES[topic.channel]]

    def _find_canonical(self, tick: Any) -> Route[S]:
        # The server was seen to reply with HK:700 to HK:00700. A push that has the zeros
        # nevertheless is normalised here, off the fast path.
        try:
            symbol = canonical(tick.symbol)
        except ValueError:
            symbol = tick.symbol
        if symbol == tick.symbol:
            return self._unrouted[tick.__class__]
        force_setattr(tick, "symbol", symbol)
        return self.find(tick)


def _key(topic: Topic) -> Hashable:
    if topic.channel is Channel.KLINE:
        return (topic.symbol, topic.interval)
    return topic.symbol
