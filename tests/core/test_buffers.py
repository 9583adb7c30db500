"""Bounded places where ticks wait for their reader."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qos_async._core.buffers import DropOldest, KlineFinalizer, Latest, Policy, Strict
from qos_async._core.notices import Dropped, Interrupted, Rejected
from qos_async.errors import LaggedError
from qos_async.models import Snapshot, Trade
from qos_async.topics import Topic
from tests.support.factories import flat_kline, gap

A, B = Topic("snapshot", "US:A"), Topic("snapshot", "US:B")
POLICIES: list[Policy] = [Latest(), DropOldest(3), Strict(50)]


def tick(second: int, symbol: str = "US:A") -> Snapshot[str]:
    return Snapshot(symbol=symbol, timestamp=second)


def events(buffer: Any) -> list[Any]:
    found = []
    while buffer.has_event:
        found.append(buffer.take_event())
    return found


@pytest.mark.parametrize("kind", [DropOldest, Strict])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, "9", True, None], ids=repr)
def test_an_invalid_size_raises_with_the_allowed_range(kind: Any, wrong: Any):
    with pytest.raises(ValueError, match="must be a whole number from 1") as caught:
        kind(wrong)
    assert repr(wrong) in str(caught.value)


def test_the_default_size_is_that_of_the_documentation():
    assert DropOldest().size == Strict().size == 65_536


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@given(
    steps=st.lists(
        st.integers(1, 30)
        | st.integers(1, 9).map(float)
        | st.just("mark")
        | st.just("event"),
        max_size=12,
    )
)
def test_a_batch_is_equal_to_its_ticks_one_by_one(policy: Policy, steps: list[Any]):
    many, single = policy.open(), policy.open()
    second = 0
    for step in steps:
        if isinstance(step, int):
            ticks = [tick(second + n, f"US:{n % 4}") for n in range(step)]
            second += step
            outcomes = _lagged(many, ticks), _lagged(single, *([one] for one in ticks))
            assert outcomes[0] == outcomes[1]
        elif isinstance(step, float) and len(single):
            count = min(int(step), len(single))
            assert many.take_all(int(step)) == [single.take() for _ in range(count)]
        elif step == "mark":
            for buffer in (many, single):
                buffer.put_notice(gap(A, second))
        elif step == "event" and single.has_event:
            assert many.take_event() == single.take_event()
        assert bool(many.pending) == bool(single.pending) == (len(single) > 0)
        assert (many.received, many.dropped) == (single.received, single.dropped)
    assert events(many) == events(single)


def _lagged(buffer: Any, *bursts: Any) -> bool:
    try:
        for burst in bursts:
            buffer.put(burst)
    except LaggedError:
        return True
    return False


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_events_are_taken_in_the_order_in_which_they_were_put(policy: Policy):
    buffer = policy.open()
    for second, symbol in enumerate(["US:A", "US:B", "US:C"]):
        buffer.put([tick(second, symbol)])
    assert len(buffer) == 3
    assert [buffer.take().timestamp for _ in range(3)] == [0, 1, 2]
    assert len(buffer) == 0
    assert (buffer.received, buffer.dropped) == (3, 0)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_each_policy_opens_a_new_buffer(policy: Policy):
    one, other = policy.open(), policy.open()
    one.put([tick(1)])
    assert len(other) == 0


def test_the_oldest_are_dropped_first_and_reported_in_their_place():
    buffer = DropOldest(2).open()
    for second in range(5):
        buffer.put([tick(second)])
    assert (buffer.received, buffer.dropped, len(buffer)) == (5, 3, 2)
    assert events(buffer) == [Dropped(3), tick(3), tick(4)]
    assert not buffer.has_event


def test_a_gap_before_dropped_ticks_is_delivered_before_dropped():
    buffer = DropOldest(2).open()
    buffer.put_notice(gap(A, 0))
    for second in (1, 2, 3):
        buffer.put([tick(second)])
    assert events(buffer) == [gap(A, 0), Dropped(1), tick(2), tick(3)]


def test_a_strict_consumer_is_ended_instead_of_losing_a_tick():
    buffer = Strict(2).open()
    buffer.put([tick(1)])
    buffer.put([tick(2)])
    with pytest.raises(LaggedError, match="more than 2 ticks behind"):
        buffer.put([tick(3)])
    assert [buffer.take().timestamp, buffer.take().timestamp] == [1, 2]
    assert buffer.dropped == 0


def test_the_newest_of_each_topic_stays():
    buffer = Latest().open()
    for second in range(3):
        buffer.put([tick(second, "US:A")])
        buffer.put([tick(second, "US:B")])
    assert (buffer.received, buffer.dropped, len(buffer)) == (6, 4, 2)
    assert events(buffer) == [tick(2, "US:A"), tick(2, "US:B")]


def test_channels_and_intervals_do_not_replace_each_other():
    buffer = Latest().open()

    mixed = [
        tick(1),
        Trade(symbol="US:A", price="1"),
        flat_kline(interval=1),
        flat_kline(interval=5),
    ]
    for item in mixed:
        buffer.put([item])
    assert events(buffer) == mixed


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_gap_keeps_its_place_among_the_ticks(policy: Policy):
    buffer = policy.open()
    buffer.put([tick(1, "US:B")])
    buffer.put_notice(gap(A, 2))
    buffer.put([tick(3, "US:A")])
    assert len(buffer) == 2
    assert events(buffer) == [tick(1, "US:B"), gap(A, 2), tick(3, "US:A")]


def test_a_newer_tick_of_a_slow_consumer_stays_behind_the_gap():
    buffer = Latest().open()
    buffer.put([tick(1)])
    buffer.put_notice(gap(A, 2))
    buffer.put([tick(3)])
    assert events(buffer) == [gap(A, 2), tick(3)]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_consumers_of_ticks_alone_skip_gaps(policy: Policy):
    buffer = policy.open()
    buffer.put_notice(gap(A, 0))
    buffer.put([tick(1, "US:A")])
    buffer.put_notice(gap(A, 2))
    buffer.put([tick(3, "US:B")])
    assert buffer.take() == tick(1, "US:A")
    assert buffer.take() == tick(3, "US:B")
    assert len(buffer) == 0
    buffer.put_notice(gap(A, 4))
    buffer.skip_notices()
    assert not buffer.has_event


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_gaps_of_an_idle_consumer_are_bounded(policy: Policy):
    buffer = policy.open()
    for second in range(1000):
        buffer.put_notice(gap(A, second))
        buffer.put_notice(gap(B, second))
    found = events(buffer)
    assert sorted(g.topic for g in found) == [A, B]
    assert {g.since.timestamp() for g in found} == {0}
    assert {g.until.timestamp() for g in found} == {1000}


@pytest.mark.fault("U4", "I7")
@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@given(
    moves=st.lists(
        st.sampled_from(["put A", "put B", "gap A", "gap B", "event", "take"])
    )
)
def test_every_tick_is_delivered_dropped_or_waiting(policy: Policy, moves: list[str]):
    buffer = policy.open()
    delivered = dropped = 0
    for second, move in enumerate(moves):
        topic = B if move.endswith("B") else A
        if move.startswith("put"):
            buffer.put([tick(second, topic.symbol)])
        elif move.startswith("gap"):
            buffer.put_notice(gap(topic, second))
        elif move == "take" and len(buffer):
            assert isinstance(buffer.take(), Snapshot)
            delivered += 1
        elif move == "event" and buffer.has_event:
            item = buffer.take_event()
            delivered += isinstance(item, Snapshot)
            dropped += item.count if isinstance(item, Dropped) else 0
        assert buffer.received == delivered + buffer.dropped + len(buffer)
    rest = events(buffer)
    assert len(buffer) == 0
    dropped += sum(item.count for item in rest if isinstance(item, Dropped))
    if isinstance(policy, DropOldest):
        assert dropped == buffer.dropped
    stamps = [
        i.timestamp for i in rest if isinstance(i, Snapshot) and i.symbol == "US:A"
    ]
    assert stamps == sorted(stamps)


def test_another_gap_of_a_topic_leaves_the_first_before_its_ticks():
    buffer = Latest().open()
    buffer.put_notice(gap(A, 10))
    buffer.put([tick(12)])
    buffer.put_notice(gap(A, 20))
    first, second = events(buffer)
    assert (first.since.timestamp(), first.until.timestamp()) == (10, 21)
    assert second == tick(12)


def test_a_kline_is_final_when_a_later_one_starts():
    finished = KlineFinalizer()
    assert finished.push([flat_kline(60, "1")]) == []
    assert finished.push([flat_kline(60, "2")]) == []
    assert finished.push([flat_kline(120, "3")]) == [flat_kline(60, "2")]
    assert finished.push([flat_kline(120, "4")]) == []


def test_each_kline_is_delivered_once_and_a_late_one_is_dropped():
    finished = KlineFinalizer()
    pushes = [
        flat_kline(60, "1"),
        flat_kline(120, "2"),
        flat_kline(60, "9"),
        flat_kline(180, "3"),
        flat_kline(120, "9"),
    ]
    assert finished.push(pushes) == [flat_kline(60, "1"), flat_kline(120, "2")]


def test_symbols_and_intervals_do_not_finish_each_other():
    finished = KlineFinalizer()
    finished.push([flat_kline(60, "1")])
    assert finished.push([flat_kline(120, "2", symbol="US:B")]) == []
    assert finished.push([flat_kline(300, "3", interval=5)]) == []
    assert finished.push([flat_kline(120, "4")]) == [flat_kline(60, "1")]


def interrupted(second: int, topic: Topic = A) -> Interrupted:
    return Interrupted(
        topic=topic, since=datetime.fromtimestamp(second, UTC), reason=""
    )


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_an_interruption_stays_before_the_gap_that_ends_it(policy: Policy):
    buffer = policy.open()
    buffer.put_notice(interrupted(1))
    buffer.put_notice(interrupted(1, B))
    buffer.put_notice(gap(A, 2))
    buffer.put_notice(gap(B, 2))
    assert events(buffer) == [interrupted(1), interrupted(1, B), gap(A, 2), gap(B, 2)]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_an_outage_that_goes_on_is_behind_the_gaps_of_the_earlier_ones(policy: Policy):
    buffer = policy.open()
    for second in range(3):
        buffer.put_notice(interrupted(second))
        buffer.put_notice(gap(A, second))
    buffer.put_notice(interrupted(9))
    first, merged, last = events(buffer)
    assert (first, last) == (interrupted(0), interrupted(9))
    assert (merged.since.timestamp(), merged.until.timestamp()) == (0, 3)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_an_outage_that_goes_on_is_not_lost_when_earlier_notices_were_read(
    policy: Policy,
):
    buffer = policy.open()
    for notice in (interrupted(1), gap(A, 1), interrupted(3)):
        buffer.put_notice(notice)
    assert buffer.take_events(2) == [interrupted(1), gap(A, 1)]
    buffer.put_notice(gap(A, 3))
    buffer.put_notice(interrupted(5))
    assert buffer.take_events(2) == [interrupted(3), gap(A, 3)]
    buffer.put_notice(gap(A, 5))
    assert events(buffer) == [interrupted(5), gap(A, 5)]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_rejection_ends_an_interruption(policy: Policy):
    buffer = policy.open()
    no = Rejected(A, "no")
    for notice in (interrupted(1), no, interrupted(3), gap(A, 3), no, interrupted(6)):
        buffer.put_notice(notice)
    assert events(buffer) == [interrupted(3), gap(A, 3), no, interrupted(6)]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_gap_stays_behind_the_rejection_before_it(policy: Policy):
    buffer = policy.open()
    no = Rejected(A, "no")
    for notice in (interrupted(1), gap(A, 1), no, interrupted(3), gap(A, 3)):
        buffer.put_notice(notice)
    first, second, merged = events(buffer)
    assert (first, second) == (no, interrupted(3))
    assert (merged.since.timestamp(), merged.until.timestamp()) == (1, 4)


NOTICES = st.lists(st.sampled_from(["outage", "reject", "read"]), max_size=40)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@given(steps=NOTICES)
def test_a_reader_always_learns_whether_a_topic_is_interrupted(policy, steps):
    buffer, seen, down = policy.open(), "", False
    for second, step in enumerate(steps):
        if step == "read":
            if buffer.has_event:
                seen = type(buffer.take_event()).__name__
        elif step == "reject":
            buffer.put_notice(Rejected(A, "no"))
            down = False
        else:
            buffer.put_notice(gap(A, second) if down else interrupted(second))
            down = not down
    rest = events(buffer)
    assert len(rest) <= 4
    seen = type(rest[-1]).__name__ if rest else seen
    assert (seen == "Interrupted") is down


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_rejection_keeps_its_place_among_the_ticks(policy: Policy):
    buffer = policy.open()
    buffer.put([tick(1, "US:B")])
    buffer.put_notice(Rejected(A, "no"))
    buffer.put([tick(2, "US:B2")])
    assert buffer.take_events(2) == [tick(1, "US:B"), Rejected(A, "no")]
    assert buffer.take_events(2) == [tick(2, "US:B2")]
    assert buffer.take_events(2) == []


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_events_can_be_taken_by_the_list(policy: Policy):
    buffer = policy.open()
    buffer.put([tick(n, f"US:{n}") for n in range(3)])
    assert buffer.take_events(2) == [tick(0, "US:0"), tick(1, "US:1")]
    buffer.put_notice(gap(A, 9))
    assert buffer.take_events(9) == [tick(2, "US:2"), gap(A, 9)]
    assert not buffer.has_event


def bars_received(*pairs: tuple[int, int]) -> list[Any]:
    """Return klines by their start and their time of receipt."""
    start = 1_741_953_600
    return [
        flat_kline(start + second, received_at=(start + received) * 10**9)
        for second, received in pairs
    ]


@pytest.mark.fault("F25")
def test_a_kline_that_begins_in_the_future_finishes_nothing():
    updates = bars_received((0, 1), (3600, 2), (0, 50), (60, 61), (120, 121))
    finalizer = KlineFinalizer()
    assert finalizer.push(updates) == [updates[2], updates[3]]
    assert finalizer.skipped == 3


def test_klines_of_a_clock_that_was_set_are_finished():
    updates = bars_received((0, 1), (3600, 61), (3600, 62), (3660, 121), (3720, 181))
    finalizer = KlineFinalizer()
    assert finalizer.push(updates) == [updates[0], updates[2], updates[3]]


def test_a_discarded_kline_is_not_finished_by_one_in_the_future():
    updates = bars_received((0, 1), (3600, 2), (3600, 3), (3660, 4))
    finalizer = KlineFinalizer()
    assert finalizer.push(updates[:2]) == []
    finalizer.discard(updates[0].symbol, updates[0].interval)
    assert finalizer.push(updates[2:]) == [updates[2]]
