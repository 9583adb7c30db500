"""What is wanted, what the server has, and the difference."""

from __future__ import annotations

import pytest

from qos_async._core.registry import Change, Registry
from qos_async.topics import Topic
from tests.support.wire_frames import topics, trades

A, B, C, D = trades("US:A", "US:B", "US:C", "US:D")
(DEPTH,) = topics("depth", "US:A")
(MINUTE,) = topics("kline", "US:A", interval="1m")
(DAY,) = topics("kline", "US:A", interval="1d")


def take(registry: Registry) -> Change:
    change = registry.next_change()
    assert change
    registry.sent(change)
    return change


def holding(*held: Topic) -> Registry:
    registry = Registry()
    registry.want(held)
    for _ in range(100):
        if not registry.has_work:
            return registry
        registry.confirm(take(registry))
    raise AssertionError("it never comes to rest")


def frames(registry: Registry) -> list[tuple[bool, set[Topic]]]:
    """Let a server that agrees to everything hear all there is to say."""
    said: list[tuple[bool, set[Topic]]] = []
    while (change := registry.next_change()) is not None:
        assert len(said) < 100, "it never comes to rest"
        registry.sent(change)
        said.append((change.add, set(change.topics)))
        registry.confirm(change)
    return said


def test_a_burst_folds_into_one_change_a_channel_and_interval():
    registry = Registry()
    for topic in (A, DEPTH, B, MINUTE, DAY, C):
        registry.want([topic])
    assert frames(registry) == [
        (True, {A, B, C}),
        (True, {DEPTH}),
        (True, {MINUTE}),
        (True, {DAY}),
    ]
    assert registry.settled


@pytest.mark.fault("U9")
def test_what_is_taken_back_in_time_says_nothing():
    registry = Registry()
    registry.want([A, B])
    registry.release([A, B])
    assert not registry.has_work
    assert registry.next_change() is None
    assert registry.settled


@pytest.mark.fault("U5")
def test_two_watchers_cost_one_subscription_and_the_last_to_leave_ends_it():
    registry = Registry()
    registry.want([A])
    registry.want([A])
    assert frames(registry) == [(True, {A})]
    registry.release([A])
    assert registry.wants(A)
    assert frames(registry) == []
    registry.release([A])
    assert not registry.wants(A)
    assert frames(registry) == [(False, {A})]


def test_releasing_what_nobody_wants_says_nothing():
    registry = Registry()
    registry.release([A])
    assert frames(registry) == []
    registry.want([A])
    assert frames(registry) == [(True, {A})]


@pytest.mark.fault("P9")
def test_removals_go_before_additions():
    registry = holding(A, DEPTH)
    registry.want([B])
    registry.release([A, DEPTH])
    adds = [add for add, _ in frames(registry)]
    assert adds == [False, False, True]


def test_one_change_is_in_flight_at_most():
    registry = Registry()
    registry.want([A])
    change = take(registry)
    registry.want([DEPTH])
    assert registry.next_change() is None
    assert not registry.has_work
    registry.confirm(change)
    assert frames(registry) == [(True, {DEPTH})]


def test_a_change_of_mind_in_flight_is_settled_after_the_answer():
    registry = Registry()
    registry.want([A])
    change = take(registry)
    registry.release([A])
    registry.confirm(change)
    assert frames(registry) == [(False, {A})]
    registry = holding(A)
    registry.release([A])
    change = take(registry)
    registry.want([A])
    registry.confirm(change)
    assert frames(registry) == [(True, {A})]


def test_what_is_held_is_what_the_server_agreed_to():
    registry = Registry()
    registry.want([A])
    change = take(registry)
    assert not registry.holds(A)
    assert registry.held == frozenset()
    registry.confirm(change)
    assert registry.holds(A)
    assert registry.held == {A}


def test_a_topic_whose_removal_is_on_its_way_is_not_held():
    # Whoever enters now would be told "live" at once, and lose what comes between the
    # removal and the new subscription without a Gap.
    registry = holding(A)
    registry.release([A])
    take(registry)
    registry.want([A])
    assert not registry.holds(A)


@pytest.mark.fault("P3")
def test_an_unanswered_addition_is_unknown_and_said_again():
    registry = Registry()
    registry.want([A, B])
    registry.expire(take(registry))
    assert not registry.holds(A)
    assert not registry.settled
    registry.release([B])
    # The server may have heard: what nobody wants any more must be taken back.
    assert frames(registry) == [(False, {B}), (True, {A})]
    assert registry.settled


@pytest.mark.fault("P3")
def test_an_unanswered_removal_is_unknown_and_said_again():
    registry = holding(A, B)
    registry.release([A])
    registry.expire(take(registry))
    assert registry.held == {B}
    assert frames(registry) == [(False, {A})]
    registry = holding(A)
    registry.release([A])
    registry.expire(take(registry))
    registry.want([A])
    assert not registry.holds(A)
    assert frames(registry) == [(True, {A})]


def refusing(registry: Registry, guilty: set[Topic]) -> tuple[list[int], set[Topic]]:
    """Play a server that refuses batches with guilty topics in them."""
    sizes: list[int] = []
    named: set[Topic] = set()
    while (change := registry.next_change()) is not None:
        assert len(sizes) < 100, "it never comes to rest"
        registry.sent(change)
        sizes.append(len(change.topics))
        if change.add and change.topics & guilty:
            if registry.reject(change):
                named |= change.topics
        else:
            registry.confirm(change)
    return sizes, named


@pytest.mark.fault("P8", "P9")
def test_a_refused_batch_is_halved_until_the_guilty_are_named_and_innocents_live():
    everybody = trades(*(f"US:{letter}" for letter in "ABCDEFGHIJ"))
    for guilty in ({everybody[0]}, {everybody[4], everybody[9]}, set(everybody)):
        registry = Registry()
        registry.want(everybody)
        sizes, named = refusing(registry, guilty)
        assert named == guilty
        assert registry.held == set(everybody) - guilty
        assert registry.settled
        assert sizes[:2] == [10, 5]
        assert len(sizes) < 2 * len(everybody)


def test_a_refused_topic_is_no_longer_wanted_by_anybody():
    registry = Registry()
    registry.want([A])
    registry.want([A])
    assert registry.reject(take(registry))
    assert not registry.wants(A)
    assert frames(registry) == []
    registry.want([A])
    assert frames(registry) == [(True, {A})]


@pytest.mark.fault("P8")
def test_a_refused_batch_may_have_been_applied_in_part():
    registry = Registry()
    registry.want([A, B])
    assert not registry.reject(take(registry))
    assert registry.held == frozenset()
    registry.release([A, B])
    said = frames(registry)
    assert {add for add, _ in said} == {False}
    assert set().union(*(topics for _, topics in said)) == {A, B}


def test_halves_leave_on_their_own_even_if_others_join_the_queue():
    registry = Registry()
    registry.want([A, B])
    registry.reject(take(registry))
    registry.want([C])
    said = frames(registry)
    assert (True, {C}) in said
    assert (True, {A}) in said
    assert (True, {B}) in said


def test_those_who_leave_meanwhile_are_not_asked_for():
    registry = Registry()
    registry.want([A, B, C, D])
    registry.reject(take(registry))
    registry.release([A, C])
    said = frames(registry)
    assert set().union(*(topics for add, topics in said if not add)) == {A, C}
    assert [topics for add, topics in said if add] == [{B}, {D}]


def test_a_halved_batch_starts_over_on_a_fresh_link():
    registry = Registry()
    registry.want([A, B, C])
    registry.reject(take(registry))
    registry.link_down()
    assert frames(registry) == [(True, {A, B, C})]


def test_refusing_to_unsubscribe_means_it_was_not_subscribed():
    registry = holding(A)
    registry.release([A])
    assert not registry.reject(take(registry))
    assert frames(registry) == []
    assert registry.settled
    registry.want([A])
    assert frames(registry) == [(True, {A})]


def test_a_refused_batch_of_removals_is_halved_as_well():
    # A server may refuse all of it because of one topic that it does not have; it
    # then keeps the others, and they keep their slots of the plan.
    registry = holding(A, B)
    server = {A}  # It lost B, say; and it refuses what it does not have.
    registry.release([A, B])
    for _ in range(10):
        change = registry.next_change()
        if change is None:
            break
        registry.sent(change)
        if change.topics <= server:
            server -= change.topics
            registry.confirm(change)
        else:
            registry.reject(change)
    assert registry.settled
    assert server == set()


def test_a_lost_link_forgets_what_the_server_had_and_asks_for_it_in_one_change():
    registry = holding(A, B, DEPTH)
    registry.release([B])
    registry.link_down()
    assert registry.held == frozenset()
    assert frames(registry) == [(True, {A}), (True, {DEPTH})]


def test_a_lost_link_forgets_what_was_on_its_way():
    registry = Registry()
    registry.want([A])
    take(registry)
    registry.link_down()
    assert frames(registry) == [(True, {A})]


def test_a_change_names_the_channel_and_interval_that_all_its_topics_share():
    change = Change(add=True, topics=frozenset([MINUTE]))
    assert change.any_topic is MINUTE
