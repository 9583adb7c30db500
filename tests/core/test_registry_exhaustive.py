"""Every state that the registry and a faulty server can reach, up to a bound.

A tiny alphabet (two channels, two symbols, one of which the server rejects), every
interleaving: change of mind, rejected batches applied in part, lost and late answers,
cuts. From each state the network falls quiet, and the server must end up with exactly
what is wanted, minus what it refused. A subscriber that waits for the decision on its topic
gets it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

import pytest

from qos_async._core.registry import Change, Registry
from qos_async.topics import Topic

GOOD, BAD = "US:A", "US:BAD"
TOPICS = [
    Topic(channel, code) for channel in ("trade", "depth") for code in (GOOD, BAD)
]
REJECTED = frozenset(topic for topic in TOPICS if topic.symbol == BAD)
BOUND = 9_000


class World:
    """A registry, a server, and the wire between them."""

    __slots__ = (
        "in_flight",
        "late",
        "outcome",
        "registry",
        "rejects_held",
        "rejects_unheld",
        "server",
        "waiting",
    )

    def __init__(
        self, *, rejects_unheld: bool = False, rejects_held: bool = False
    ) -> None:
        self.registry = Registry()
        self.server: frozenset[Topic] = frozenset()
        self.in_flight: Change | None = None  # On the way to the server.
        # The same, after the reply timed out at the client.
        self.late: tuple[Change, ...] = ()
        self.outcome: bool | None = None  # The reply on the way to the client.
        # Topics whose subscriber waits for the server's decision.
        self.waiting: frozenset[Topic] = frozenset()
        # It rejects removals of unheld topics.
        self.rejects_unheld = rejects_unheld
        # It rejects additions of held topics, and batches as a whole.
        self.rejects_held = rejects_held

    def copy(self) -> World:
        copy = World(rejects_unheld=self.rejects_unheld, rejects_held=self.rejects_held)
        old, new = self.registry, copy.registry
        new._wanted = Counter(old._wanted)
        new._held = set(old._held)
        new._unknown = set(old._unknown)
        new._unacked_adds = set(old._unacked_adds)
        new._to_readd = set(old._to_readd)
        new._in_flight = old._in_flight
        new.dirty = dict(old.dirty)
        new._split_batches = deque(old._split_batches)
        new._half_in_flight = old._half_in_flight
        copy.server, copy.in_flight, copy.late = self.server, self.in_flight, self.late
        copy.outcome, copy.waiting = self.outcome, self.waiting
        return copy

    def key(self) -> object:
        r = self.registry
        flight = r._in_flight
        return (
            frozenset(r._wanted.items()),
            frozenset(r._held),
            frozenset(r._unknown),
            frozenset(r._unacked_adds),
            frozenset(r._to_readd),
            flight and (flight.add, flight.topics),
            tuple(r.dirty),
            tuple(r._split_batches),
            r._half_in_flight,
            self.server,
            self.in_flight is not None,
            tuple((c.add, c.topics) for c in self.late),
            self.outcome,
            self.waiting,
        )

    # Steps

    def send(self) -> bool:
        change = self.registry.next_change()
        if change is None:
            return False
        assert change.topics <= self.registry.dirty.keys(), "it repeats itself"
        self.registry.sent(change)
        self.in_flight = change
        return True

    def serve(self, change: Change, *, half: bool) -> bool:
        if change.add:
            if self.rejects_held and change.topics & self.server:
                return False
            refused = bool(change.topics & REJECTED)
            taken = change.topics - REJECTED
            half = half and not self.rejects_held
            self.server |= taken if half or not refused else frozenset()
            return not refused
        if self.rejects_unheld and not change.topics <= self.server:
            return False
        self.server -= change.topics
        return True

    def receive_reply(self) -> None:
        change, outcome = self.registry._in_flight, self.outcome
        assert change is not None
        self.outcome = None
        if outcome:
            self.registry.confirm(change)
            self.waiting -= change.topics if change.add else frozenset()
        elif self.registry.reject(change):
            self.waiting -= change.topics

    def toggle(self, topic: Topic) -> str:
        if self.registry.wants(topic):
            self.registry.release([topic])
            self.waiting -= {topic}
            return f"release {topic}"
        self.registry.want([topic])
        if not self.registry.holds(topic):
            self.waiting |= {topic}
        return f"want {topic}"

    def refuse(self) -> None:
        change, self.in_flight = self.in_flight, None
        assert change is not None
        self.registry.postpone(change)
        self.waiting -= self.registry.kept(change)

    def steps(self) -> Iterator[tuple[str, World]]:
        for topic in TOPICS:
            new = self.copy()
            yield new.toggle(topic), new
        if self.registry._in_flight is None:
            new = self.copy()
            if new.send():
                yield "send", new
        yield from self._server_steps()
        yield from self._client_steps()

    def _server_steps(self) -> Iterator[tuple[str, World]]:
        for half in (False, True):
            if self.late:
                new = self.copy()
                new.late = self.late[1:]
                new.serve(self.late[0], half=half)
                yield "server applies a timed-out change", new
            elif self.in_flight is not None:
                new = self.copy()
                new.in_flight = None
                new.outcome = new.serve(self.in_flight, half=half)
                yield f"server reads (half: {half})", new
        if self.in_flight is not None:
            new = self.copy()
            new.refuse()
            yield "server refuses it for the pace", new

    def _client_steps(self) -> Iterator[tuple[str, World]]:
        if self.outcome is not None:
            new = self.copy()
            new.receive_reply()
            yield "client receives the reply", new
        if self.registry._in_flight is not None and len(self.late) < 1:
            new = self.copy()
            flight = new.registry._in_flight
            assert flight is not None
            new.registry.ack_timed_out(flight)
            new.registry.expire(flight)
            if new.in_flight is not None:
                new.late, new.in_flight = (*new.late, new.in_flight), None
            new.outcome = None
            yield "reply timed out", new
        if self.registry._held or self.registry._in_flight or self.late:
            new = self.copy()
            new.registry.link_down()
            new.in_flight = new.outcome = None
            new.late, new.server = (), frozenset()
            yield "link lost", new

    # Convergence

    def mismatch(self) -> str:
        """Run without faults until settled; return the remaining differences."""
        if forgotten := self.waiting - self.registry.dirty.keys():
            return f"nothing will be sent for {forgotten}, and its subscriber waits"
        end = self.copy()
        wanted = {topic for topic in TOPICS if self.registry.wants(topic)}
        for _ in range(40):
            for change in end.late:
                end.serve(change, half=False)
            end.late = ()
            if end.in_flight is not None:
                change, end.in_flight = end.in_flight, None
                end.outcome = end.serve(change, half=False)
            if end.outcome is not None:
                end.receive_reply()
            if not end.send():
                break
        else:
            return "it does not converge"
        if end.server != wanted - REJECTED:
            return f"the server has {end.server}, wanted is {wanted - REJECTED}"
        if end.registry.held != end.server:
            return f"the server has {end.server}, known is {end.registry.held}"
        if end.waiting:
            return f"the subscribers of {end.waiting} wait for ever"
        return "" if end.registry.settled else "it is not settled"


def explore(start: World, bound: int) -> int:
    seen = {start.key()}
    queue: deque[tuple[World, tuple[str, ...]]] = deque([(start, ())])
    while queue and len(seen) < bound:
        world, path = queue.popleft()
        for name, new in world.steps():
            if (key := new.key()) in seen:
                continue
            seen.add(key)
            story = (*path, name)
            mismatch = new.mismatch()
            assert not mismatch, f"{mismatch}, after: {' | '.join(story)}"
            queue.append((new, story))
    return len(seen)


@pytest.mark.fault("P3", "P4", "P8", "U8", "I1", "U9")
def test_every_state_converges_to_the_wanted_topics_without_faults():
    assert explore(World(), BOUND) >= BOUND


@pytest.mark.fault("P8", "I1")
@pytest.mark.parametrize("bound", [BOUND // 3])
def test_convergence_holds_if_removing_an_unheld_topic_is_rejected(
    bound: int,
):
    explore(World(rejects_unheld=True), bound)


@pytest.mark.fault("P3", "P8", "I1")
@pytest.mark.parametrize("rejects_unheld", [False, True])
def test_convergence_holds_if_adding_a_held_topic_is_rejected(
    rejects_unheld: bool,  # noqa: FBT001
):
    explore(World(rejects_unheld=rejects_unheld, rejects_held=True), BOUND // 3)
