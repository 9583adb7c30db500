"""Folding the subscriptions of all clients into one set."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from qos_async.hub.places import NoPlaceError, Places
from qos_async.topics import Topic

PLACES, LINGER, RESERVED = 4, 10.0, 2
CLIENTS = {"a1": "a", "a2": "a", "b": "b", "stranger": "192.0.2.1"}
TOPICS = [
    *(Topic("trade", f"US:{name}") for name in "ABCDEF"),
    *(Topic("depth", f"US:{name}") for name in "ABC"),
]

some_topics = st.lists(st.sampled_from(TOPICS), min_size=1, max_size=4)
clients = st.sampled_from(sorted(CLIENTS))


class Histories(RuleBasedStateMachine):
    """Any order of arrivals, subscriptions, departures and time; a model beside it."""

    @initialize()
    def begin(self):
        self.places: Places[str] = Places(
            PLACES, linger=LINGER, reserved={"a": RESERVED}
        )
        self.model: dict[str, set[Topic]] = {}
        self.left: dict[Topic, float] = {}
        self.now = 0.0

    @rule(client=clients)
    def arrive(self, client):
        if client not in self.model:
            self.places.add_client(client, CLIENTS[client])
            self.model[client] = set()

    @rule(client=clients, topics=some_topics)
    def subscribe(self, client, topics):
        if client not in self.model:
            return
        before = {name: dict(found) for name, found in self.places.topics.items()}
        upstream = set(self.places.upstream)
        symbols = self._symbols(lambda _: True)
        try:
            added = self.places.subscribe(client, topics)
        except NoPlaceError:
            assert self.places.topics == before
            return
        assert set(added) == set(topics) - self.model[client]
        self.model[client].update(topics)
        after = set(self.places.upstream)
        # What lingers goes before its time only for a symbol that needs its place.
        if upstream - after:
            assert len({topic.symbol for topic in after}) == PLACES
        for topic in {*topics, *(upstream - after)}:
            self.left.pop(topic, None)
        self._check_reservation(client, {t.symbol for t in topics} - {*symbols})

    @rule(client=clients, topics=some_topics)
    def unsubscribe(self, client, topics):
        self.places.unsubscribe(client, topics, self.now)
        self._drop(client, self.model.get(client, set()) & set(topics))

    @rule(client=clients)
    def vanish(self, client):
        self.places.remove_client(client, self.now)
        self._drop(client, set(self.model.get(client, ())))
        self.model.pop(client, None)

    @rule(topic=st.sampled_from(TOPICS))
    def reject(self, topic):
        if not any(topic in topics for topics in self.model.values()):
            return
        self.places.forget(topic)
        for topics in self.model.values():
            topics.discard(topic)
        self.left.pop(topic, None)

    @rule(seconds=st.floats(0, 12))
    def wait(self, seconds):
        self.now += seconds
        self.places.expire(self.now)
        self.left = {t: at for t, at in self.left.items() if self.now - at < LINGER}

    @invariant()
    def upstream_is_the_union_of_the_clients_and_of_what_lingers(self):
        if not hasattr(self, "model"):
            return
        union = set().union(*self.model.values())
        lingering = {t for t, at in self.left.items() if self.now - at < LINGER}
        assert set(self.places.upstream) == union | lingering

    @invariant()
    def no_more_symbols_than_places(self):
        if hasattr(self, "model"):
            assert len({topic.symbol for topic in self.places.upstream}) <= PLACES

    def _symbols(self, chosen):
        return {
            topic.symbol
            for name, topics in self.model.items()
            if chosen(CLIENTS[name])
            for topic in topics
        }

    def _check_reservation(self, client, fresh):
        """Others take no new place that is kept free for an owner."""
        if CLIENTS[client] == "a" or not fresh:
            return
        used = self._symbols(lambda owner: owner == "a")
        exclusive = used - self._symbols(lambda owner: owner != "a")
        free = PLACES - len(self._symbols(lambda _: True))
        assert free >= RESERVED - len(exclusive)

    def _drop(self, client, topics):
        if client not in self.model:
            return
        self.model[client] -= topics
        still = Counter(t for found in self.model.values() for t in found)
        for topic in topics:
            if not still[topic]:
                self.left[topic] = self.now


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None
)


@pytest.fixture
def places():
    found: Places[str] = Places(2, linger=30.0)
    for name in ("a", "b"):
        found.add_client(name, name)
    return found


def test_a_topic_lingers_after_its_last_client_left(places):
    topic = TOPICS[0]
    places.subscribe("a", [topic])
    places.remove_client("a", 0.0)
    places.expire(29.9)
    assert topic in places.upstream
    places.expire(30.0)
    assert topic not in places.upstream


def test_a_topic_of_another_client_does_not_linger(places):
    places.subscribe("a", TOPICS[:1])
    places.subscribe("b", TOPICS[:1])
    places.unsubscribe("a", TOPICS[:1], 0.0)
    places.expire(1e9)
    assert TOPICS[0] in places.upstream


def test_a_lingering_topic_gives_its_place_to_a_symbol_that_needs_it(places):
    places.subscribe("a", TOPICS[:2])
    places.unsubscribe("a", TOPICS[:1], 0.0)
    places.subscribe("b", TOPICS[2:3])
    assert set(places.upstream) == {TOPICS[1], TOPICS[2]}


def test_a_refusal_names_the_limit_and_the_holders(places):
    places.subscribe("a", TOPICS[:2])
    with pytest.raises(NoPlaceError) as refused:
        places.subscribe("b", TOPICS[2:3])
    assert str(refused.value) == (
        "Exceeded the limit of 2 products (held by a: US:A, US:B)."
    )


def test_a_refusal_counts_what_is_reserved():
    places: Places[str] = Places(3, linger=0.0, reserved={"risk": 2})
    places.add_client("b", "b")
    places.subscribe("b", TOPICS[:1])
    with pytest.raises(NoPlaceError, match="2 reserved for others"):
        places.subscribe("b", TOPICS[1:2])


def test_a_symbol_on_two_channels_takes_one_place(places):
    places.subscribe("a", [Topic("trade", "US:A"), Topic("depth", "US:A")])
    places.subscribe("b", [Topic("trade", "US:B")])
    assert len(places.upstream) == 3
