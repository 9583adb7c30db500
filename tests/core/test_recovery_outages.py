"""Gaps and outages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from qos_async._core.notices import Dropped
from qos_async._core.recovery import Outage, OutageTracker
from qos_async._core.registry import Registry
from qos_async.topics import Topic
from tests.support.factories import gap
from tests.support.wire_frames import trades

A, B = trades("US:A", "US:B")


def at(second: int) -> datetime:
    return datetime(2025, 3, 14, 12, 0, second, tzinfo=UTC)


def tracker(*topics: Topic) -> OutageTracker:
    registry = Registry()
    registry.want(topics)
    change = registry.next_change()
    assert change is not None
    registry.sent(change)
    registry.confirm(change)
    return OutageTracker(registry)


def test_an_outage_lasts_until_its_topic_is_live_again():
    outages = tracker(A, B)
    assert outages.link_down(Outage(1.0, "cut")) == {A, B}
    assert outages.open
    assert outages.end(A) == Outage(1.0, "cut")
    assert outages.end(A) is None
    assert outages.open
    assert outages.end(B) == Outage(1.0, "cut")
    assert not outages.open


def test_a_second_loss_keeps_the_first_beginning():
    outages = tracker(A, B)
    outages.mark_suspect(Outage(1.0, "cut"), among=lambda topic: topic == A)
    outages.link_down(Outage(9.0, "silence"))
    assert outages.end(A) == Outage(1.0, "cut")
    assert outages.end(B) == Outage(9.0, "silence")


def test_a_topic_without_subscribers_has_no_outage():
    outages = tracker(A, B)
    outages.link_down(Outage(1.0, "cut"))
    outages.remove([A])
    outages.remove([A])
    assert outages.end(A) is None
    assert outages.end(B)


def test_a_topic_that_is_live_has_no_outage():
    outages = tracker(A)
    assert outages.end(A) is None
    assert not outages.open


def test_joined_gaps_reach_from_the_first_to_the_last():
    joined = gap(A, at(20), at(25), status="filled", recovered=3).merged_with(
        gap(A, at(1), at(5), status="filled")
    )
    assert (joined.since, joined.until) == (at(1), at(25))
    assert joined.recovered == 3
    assert gap(A, at(20), at(25)).merged_with(gap(A, at(1), at(5))).reason == "cut"


@pytest.mark.parametrize("worse", ["partial", "unverified", "unfilled"])
def test_a_joined_gap_never_claims_more_than_its_worse_half(worse: Any):
    joined = gap(A, at(20), at(25), status="filled", recovered=3).merged_with(
        gap(A, at(1), at(5), status=worse)
    )
    assert joined.status != "filled"


def test_notices_are_frozen():
    with pytest.raises(AttributeError):
        gap(A, at(1), at(2)).reason = "x"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Dropped(1).count = 2  # type: ignore[misc]


def test_a_topic_that_is_being_removed_is_not_live_where_data_may_be_missing():
    registry = Registry()
    outages = OutageTracker(registry)
    registry.want([A, B])
    change = registry.next_change()
    assert change is not None
    registry.sent(change)
    registry.confirm(change)
    registry.release([A])
    removal = registry.next_change()
    assert removal is not None
    registry.sent(removal)
    registry.want([A])  # Wanted again: the server removes it all the same.
    suspect = outages.mark_suspect(Outage(1.0, "unreadable"), among=lambda _: True)
    assert suspect == {B}
    assert outages.open.keys() == {B}
