"""Which subscriptions a push goes to."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from msgspec.structs import force_setattr

from qos_async._core.topics import CHANNELS, Topic
from qos_async.enums import Channel
from qos_async.models import Depth, Kline, Snapshot, Tick, Trade
from qos_async.symbols import canonical

__all__ = ["Routes"]

S = TypeVar("S")

_TYPES: dict[str, type[Tick]] = {
    Channel.SNAPSHOT: Snapshot,
    Channel.TRADE: Trade,
    Channel.DEPTH: Depth,
    Channel.KLINE: Kline,
}
assert set(_TYPES.values()) == set(CHANNELS)


class Routes(Generic[S]):
    """From topics to those who watch them, by one look-up a push."""

    def __init__(self) -> None:
        # Tuples, replaced on change: a push may be handed round while readers leave.
        self._tables: dict[type[Any], dict[Hashable, tuple[S, ...]]] = {
            kind: {} for kind in _TYPES.values()
        }

    def find(self, push: Any) -> tuple[S, ...]:
        """Tell who watches the topic of ``push``."""
        kind: Any = push.__class__
        key = push.symbol if kind is not Kline else (push.symbol, push.interval)
        found = self._tables[kind].get(key)
        return self._find_canonical(push) if found is None else found

    def watchers(self, topic: Topic) -> tuple[S, ...]:
        """Tell who watches ``topic``."""
        return self._table(topic).get(_key(topic), ())

    def add(self, topic: Topic, watcher: S) -> None:
        """Let ``watcher`` have the pushes of ``topic``."""
        table, key = self._table(topic), _key(topic)
        table[key] = (*table.get(key, ()), watcher)

    def remove(self, topic: Topic, watcher: S) -> None:
        """Take ``topic`` away from ``watcher``."""
        table, key = self._table(topic), _key(topic)
        rest = tuple(other for other in table.get(key, ()) if other is not watcher)
        if rest:
            table[key] = rest
        else:
            table.pop(key, None)

    def _table(self, topic: Topic) -> dict[Hashable, tuple[S, ...]]:
        return self._tables[_TYPES[topic.channel]]

    def _find_canonical(self, push: Any) -> tuple[S, ...]:
        # The server answers HK:00700 with HK:700; should a push not, mend it here.
        try:
            symbol = canonical(push.symbol)
        except ValueError:
            return ()
        if symbol == push.symbol:
            return ()
        force_setattr(push, "symbol", symbol)
        return self.find(push)


def _key(topic: Topic) -> Hashable:
    if topic.channel is Channel.KLINE:
        return (topic.symbol, topic.interval)
    return topic.symbol
