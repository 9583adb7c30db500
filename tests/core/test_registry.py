"""Registry of wanted and held topics."""

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
    raise AssertionError("it does not converge")


def frames(registry: Registry) -> list[tuple[bool, set[Topic]]]:
    """Send all changes to a server that acknowledges everything."""
    changes: list[tuple[bool, set[Topic]]] = []
    while (change := registry.next_change()) is not None:
        assert len(changes) < 100, "it does not converge"
        registry.sent(change)
        changes.append((change.add, set(change.topics)))
        registry.confirm(change)
    return changes


def test_a_burst_becomes_one_change_per_channel_and_interval():
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
def test_a_subscription_released_in_time_sends_nothing():
    registry = Registry()
    registry.want([A, B])
    registry.release([A, B])
    assert not registry.has_work
    assert registry.next_change() is None
    assert registry.settled


@pytest.mark.fault("U5")
def test_two_subscribers_share_one_subscription_and_the_last_release_ends_it():
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


def test_releasing_an_unwanted_topic_sends_nothing():
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


def test_at_most_one_change_is_in_flight():
    registry = Registry()
    registry.want([A])
    change = take(registry)
    registry.want([DEPTH])
    assert registry.next_change() is None
    assert not registry.has_work
    registry.confirm(change)
    assert frames(registry) == [(True, {DEPTH})]


def test_a_reversal_while_in_flight_is_sent_after_the_reply():
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


def test_held_topics_are_those_the_server_acknowledged():
    registry = Registry()
    registry.want([A])
    change = take(registry)
    assert not registry.holds(A)
    assert registry.held == frozenset()
    registry.confirm(change)
    assert registry.holds(A)
    assert registry.held == {A}


def test_a_topic_with_a_removal_in_flight_is_not_held():
    # A subscriber that enters now would count as live at once, and miss the ticks between
    # the removal and the new subscription without a Gap.
    registry = holding(A)
    registry.release([A])
    take(registry)
    registry.want([A])
    assert not registry.holds(A)


@pytest.mark.fault("P3")
def test_an_addition_without_a_reply_is_unknown_and_repeated():
    registry = Registry()
    registry.want([A, B])
    registry.expire(take(registry))
    assert not registry.holds(A)
    assert not registry.settled
    registry.release([B])
    # The server may have applied it, so an unwanted topic must be removed.
    assert frames(registry) == [(False, {B}), (True, {A})]
    assert registry.settled


@pytest.mark.fault("P3")
def test_a_removal_without_a_reply_is_unknown_and_repeated():
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


def reject_some(
    registry: Registry, rejected: set[Topic]
) -> tuple[list[int], set[Topic]]:
    """Play a server that rejects batches with certain topics in them."""
    sizes: list[int] = []
    named: set[Topic] = set()
    while (change := registry.next_change()) is not None:
        assert len(sizes) < 100, "it does not converge"
        registry.sent(change)
        sizes.append(len(change.topics))
        if change.add and change.topics & rejected:
            if registry.reject(change):
                named |= change.topics
        else:
            registry.confirm(change)
    return sizes, named


@pytest.mark.fault("P8", "P9")
def test_a_rejected_batch_is_split_until_only_rejected_topics_are_dropped():
    everything = trades(*(f"US:{letter}" for letter in "ABCDEFGHIJ"))
    for rejected in ({everything[0]}, {everything[4], everything[9]}, set(everything)):
        registry = Registry()
        registry.want(everything)
        sizes, named = reject_some(registry, rejected)
        assert named == rejected
        assert registry.held == set(everything) - rejected
        assert registry.settled
        assert sizes[:2] == [10, 5]
        assert len(sizes) < 2 * len(everything)


def test_a_rejected_topic_is_no_longer_wanted():
    registry = Registry()
    registry.want([A])
    registry.want([A])
    assert registry.reject(take(registry))
    assert not registry.wants(A)
    assert frames(registry) == []
    registry.want([A])
    assert frames(registry) == [(True, {A})]


@pytest.mark.fault("P8")
def test_a_rejected_batch_may_have_been_applied_in_part():
    registry = Registry()
    registry.want([A, B])
    assert not registry.reject(take(registry))
    assert registry.held == frozenset()
    registry.release([A, B])
    changes = frames(registry)
    assert {add for add, _ in changes} == {False}
    assert set().union(*(topics for _, topics in changes)) == {A, B}


def test_halves_are_sent_alone_even_if_others_are_added():
    registry = Registry()
    registry.want([A, B])
    registry.reject(take(registry))
    registry.want([C])
    changes = frames(registry)
    assert (True, {C}) in changes
    assert (True, {A}) in changes
    assert (True, {B}) in changes


def test_topics_released_meanwhile_are_left_out_of_halves():
    registry = Registry()
    registry.want([A, B, C, D])
    registry.reject(take(registry))
    registry.release([A, C])
    changes = frames(registry)
    assert set().union(*(topics for add, topics in changes if not add)) == {A, C}
    assert [topics for add, topics in changes if add] == [{B}, {D}]


def test_a_split_batch_starts_over_on_a_new_link():
    registry = Registry()
    registry.want([A, B, C])
    registry.reject(take(registry))
    registry.link_down()
    assert frames(registry) == [(True, {A, B, C})]


def test_a_rejected_removal_means_the_topic_was_not_subscribed():
    registry = holding(A)
    registry.release([A])
    assert not registry.reject(take(registry))
    assert frames(registry) == []
    assert registry.settled
    registry.want([A])
    assert frames(registry) == [(True, {A})]


def test_a_rejected_batch_of_removals_is_split_too():
    # A server may reject the batch because of one topic that it does not hold. It then
    # keeps the others, which continue to count for the plan.
    registry = holding(A, B)
    server = {
        A
    }  # It has lost B, for example, and rejects the removal of unheld topics.
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


def test_a_lost_link_clears_what_was_held_and_resubscribes_in_one_change():
    registry = holding(A, B, DEPTH)
    registry.release([B])
    registry.link_down()
    assert registry.held == frozenset()
    assert frames(registry) == [(True, {A}), (True, {DEPTH})]


def test_on_a_new_link_trades_are_subscribed_first():
    registry = Registry()
    registry.want([DEPTH, A, MINUTE, B])
    registry.link_up()
    assert frames(registry)[0] == (True, {A, B})
    registry.link_down()
    registry.link_up()
    assert frames(registry)[0] == (True, {A, B})


def test_a_lost_link_clears_the_change_in_flight():
    registry = Registry()
    registry.want([A])
    take(registry)
    registry.link_down()
    assert frames(registry) == [(True, {A})]


def test_a_change_has_the_channel_and_interval_of_all_its_topics():
    change = Change(add=True, topics=frozenset([MINUTE]))
    assert change.any_topic is MINUTE
