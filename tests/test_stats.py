"""Counters."""

from __future__ import annotations

import msgspec
import pytest

from qos_async.stats import Stats, SubscriptionStats


def test_every_counter_of_a_client_starts_at_nothing():
    assert set(msgspec.structs.asdict(Stats()).values()) == {0}


def test_a_clients_counters_count():
    stats = Stats()
    stats.ticks += 2
    assert stats.ticks == 2


def test_a_subscriptions_counters_are_a_frozen_picture():
    picture = SubscriptionStats(
        received=3, delivered=1, dropped=1, recovered=0, gaps=0, backlog=1
    )
    with pytest.raises(AttributeError):
        picture.received = 4  # type: ignore[misc]
    assert picture.received == picture.delivered + picture.dropped + picture.backlog
