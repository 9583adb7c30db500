"""Which subscriptions a push goes to."""

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
# Twice what the server remembers: the last of what it may tell again.
_TAILS = {Channel.TRADE: 128}


class Route(Generic[S]):
    """Where the pushes of one topic go.

    Attributes:
        subscribers: Who watches it. A tuple, replaced on change: a push may be handed
            round while readers leave.
        tail: The last pushes that were delivered, by which an outage is bridged.
        ticks: How many pushes came; whoever looks the route up counts, and
            ``Routes.count`` counts on top of it.
    """

    __slots__ = ("subscribers", "tail", "ticks")

    def __init__(self, tail: int = 0) -> None:
        self.subscribers: tuple[S, ...] = ()
        self.tail: deque[Any] = deque(maxlen=tail)
        self.ticks = 0


class TopicActivity(NamedTuple):
    """What came of a topic: how many ticks, and when the last one (ns; or 0)."""

    ticks: int
    received_at: int


class Router(Generic[S]):
    """From topics to those who watch them, by one look-up a push.

    Attributes:
        by_symbol: The routes by kind and symbol; those of klines by symbol and interval.
        tail_append: As ``tables``: what puts a push at the end of the tail of its route.
        shared_subscribers: Who watches all topics of a kind, if these are the same for each; not
            for klines, and not once ticks are counted by topic.
    """

    def __init__(self) -> None:
        self.by_symbol: dict[type[Any], dict[Hashable, Route[S]]] = {
            kind: {} for kind in _TYPES.values()
        }
        self.tail_append: dict[type[Any], dict[Hashable, Callable[[Any], None]]] = {
            kind: {} for kind in _TYPES.values()
        }
        self.shared_subscribers: dict[type[Any], tuple[S, ...]] = {}
        # How many topics have the same watchers.
        self._subscriber_sets: dict[type[Any], Counter[tuple[S, ...]]] = {
            kind: Counter() for kind in CHANNELS
        }
        self._counts_topics = False
        self._unrouted: dict[type[Any], Route[S]] = {kind: Route() for kind in CHANNELS}
        # The ticks of routes that are closed, and of all that were counted together.
        self.counts = dict.fromkeys(CHANNELS, 0)

    def activity(self, topic: Topic) -> TopicActivity:
        """Tell what came of a topic; counted since this was asked for the first time."""
        self._counts_topics = True
        self.shared_subscribers.clear()
        route = self.of(topic)
        return TopicActivity(
            route.ticks, route.tail[-1].received_at if route.tail else 0
        )

    def find(self, push: Any) -> Route[S]:
        """Tell where ``push`` goes; a route without watchers if nowhere."""
        kind: Any = push.__class__
        key = push.symbol if kind is not Kline else (push.symbol, push.interval)
        found = self.by_symbol[kind].get(key)
        return self._find_canonical(push) if found is None else found

    def of(self, topic: Topic) -> Route[S]:
        """Tell where the pushes of ``topic`` go."""
        found = self._table(topic).get(_key(topic))
        return self._unrouted[_TYPES[topic.channel]] if found is None else found

    def ticks(self) -> dict[str, int]:
        """Count the pushes that came on each channel, by its name."""
        return {
            channel.value: self.counts[kind]
            + self._unrouted[kind].ticks
            + sum(route.ticks for route in self.by_symbol[kind].values())
            for kind, channel in CHANNELS.items()
        }

    def unrouted(self) -> int:
        """Count the pushes that came for topics that nobody watched."""
        return sum(route.ticks for route in self._unrouted.values())

    def add(self, topic: Topic, subscriber: S) -> None:
        """Let ``watcher`` have the pushes of ``topic``."""
        table, key = self._table(topic), _key(topic)
        route = table.get(key)
        if route is None:
            route = table[key] = Route(_TAILS.get(topic.channel, 1))
            self.tail_append[_TYPES[topic.channel]][key] = route.tail.append
        self._set_subscribers(topic, route, (*route.subscribers, subscriber))

    def remove(self, topic: Topic, subscriber: S) -> None:
        """Take ``topic`` away from ``watcher``."""
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

    def _find_canonical(self, push: Any) -> Route[S]:
        # The server answers HK:00700 with HK:700; should a push not, mend it here.
        try:
            symbol = canonical(push.symbol)
        except ValueError:
            symbol = push.symbol
        if symbol == push.symbol:
            return self._unrouted[push.__class__]
        force_setattr(push, "symbol", symbol)
        return self.find(push)


def _key(topic: Topic) -> Hashable:
    if topic.channel is Channel.KLINE:
        return (topic.symbol, topic.interval)
    return topic.symbol
