"""Places: the subscriptions of all clients, folded into the set that goes upstream.

A plan has a number of places: distinct symbols on one connection (section 5.0.2). The
rules, each of which ``tests/hub/test_places.py`` holds against random histories:

1. Upstream is the union of what the clients have, and of what lingers.
2. A topic lingers for some seconds after its last client left it, since each change costs
   a frame upstream. It gives up its place at once where another symbol needs it.
3. Never more symbols than places.
4. Places that are reserved for a token are not available to others. What is upstream in
   any case, others may have, too: it then keeps its place when its first owner leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from qos_async.topics import Topic

__all__ = ["NoPlaceError", "Places"]

C = TypeVar("C", bound=Hashable)


class NoPlaceError(Exception):
    """The plan has no place for some symbols; the message is for the client."""


class Places(Generic[C]):
    """What each client has subscribed, and what is to be subscribed upstream.

    Nothing here reads a clock: ``now`` is in seconds of the caller's.

    Args:
        symbols: The places of the plan.
        linger: Seconds for which a topic stays after its last client left it.
        reserved: The number of places that each owner has for itself.

    Attributes:
        topics: The topics of each client.
    """

    def __init__(
        self, symbols: int, *, linger: float, reserved: Mapping[str, int] | None = None
    ) -> None:
        self.topics: dict[C, dict[Topic, None]] = {}
        self.reserved: Mapping[str, int] = reserved or {}
        self._places = symbols
        self._linger = linger
        self._owners: dict[C, str] = {}
        self._clients: Counter[Topic] = Counter()
        self._lingering: dict[Topic, float] = {}

    def add_client(self, client: C, owner: str) -> None:
        """Add a client without topics; ``owner`` is the name of its token."""
        self.topics[client] = {}
        self._owners[client] = owner

    def remove_client(self, client: C, now: float) -> None:
        """Remove a client and all its topics; one that is unknown is ignored."""
        self.unsubscribe(client, list(self.topics.get(client, ())), now)
        self.topics.pop(client, None)
        self._owners.pop(client, None)

    def subscribe(self, client: C, topics: Iterable[Topic]) -> list[Topic]:
        """Add topics to a client; return those that it did not have.

        Raises:
            NoPlaceError: If their symbols do not all fit. Then nothing has changed.
        """
        own = self.topics[client]
        added = [topic for topic in dict.fromkeys(topics) if topic not in own]
        self._make_room(self._owners[client], {topic.symbol for topic in added})
        for topic in added:
            own[topic] = None
            self._clients[topic] += 1
            self._lingering.pop(topic, None)
        return added

    def unsubscribe(self, client: C, topics: Iterable[Topic], now: float) -> None:
        """Remove topics from a client; those of no other client begin to linger."""
        own = self.topics.get(client, {})
        for topic in topics:
            if topic not in own:
                continue
            del own[topic]
            self._clients[topic] -= 1
            if not self._clients[topic]:
                del self._clients[topic]
                self._lingering[topic] = now + self._linger

    def forget(self, topic: Topic) -> None:
        """Remove a topic from all clients, without linger: the service rejected it."""
        self._lingering.pop(topic, None)
        self._clients.pop(topic, None)
        for topics in self.topics.values():
            topics.pop(topic, None)

    def expire(self, now: float) -> None:
        """Remove the topics that have lingered for long enough."""
        for topic in [one for one, at in self._lingering.items() if at <= now]:
            del self._lingering[topic]

    @property
    def upstream(self) -> Collection[Topic]:
        """The topics to be subscribed upstream."""
        return self._clients.keys() | self._lingering.keys()

    def holders(self) -> dict[str, list[str]]:
        """Return the symbols that each owner has subscribed, both in order of name."""
        found: dict[str, set[str]] = {}
        for client, topics in self.topics.items():
            symbols = found.setdefault(self._owners[client], set())
            symbols.update(topic.symbol for topic in topics)
        return {owner: sorted(found[owner]) for owner in sorted(found) if found[owner]}

    def _make_room(self, owner: str, symbols: set[str]) -> None:
        """Make sure that the symbols fit; end the linger of others where it is needed."""
        held = {topic.symbol for topic in self._clients}
        available = self._places - (kept_free := self._kept_free(owner, symbols))
        needed = held | symbols
        if symbols - held and len(needed) > available:
            raise NoPlaceError(self._refusal(kept_free))
        excess = (
            len(needed | {topic.symbol for topic in self._lingering}) - self._places
        )
        for topic in sorted(self._lingering, key=self._lingering.__getitem__):
            if excess <= 0:
                return
            if topic.symbol not in needed:
                excess -= not self._end_linger(topic)

    def _kept_free(self, owner: str, symbols: set[str]) -> int:
        """Return how many places stay free for others if an owner takes these symbols.

        A place counts as used by an owner only if no other has its symbol: else it would
        not be free again when that owner leaves it.
        """
        held = {name: {*found} for name, found in self.holders().items()}
        held[owner] = held.get(owner, set()) | symbols
        free = 0
        for name, count in self.reserved.items():
            if name != owner:
                others = (found for other, found in held.items() if other != name)
                own = held.get(name, set()).difference(*others)
                free += max(0, count - len(own))
        return free

    def _end_linger(self, topic: Topic) -> bool:
        """End the linger of a topic; return whether its symbol lingers still."""
        del self._lingering[topic]
        return any(other.symbol == topic.symbol for other in self._lingering)

    def _refusal(self, kept_free: int) -> str:
        holders = "; ".join(
            f"{name}: {', '.join(symbols)}" for name, symbols in self.holders().items()
        )
        parts = [f"held by {holders}"] if holders else []
        if kept_free:
            parts.append(f"{kept_free} reserved for others")
        return f"Exceeded the limit of {self._places} products ({'; '.join(parts)})."
