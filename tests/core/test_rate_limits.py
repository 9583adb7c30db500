"""Rate limits, measured at the server."""

from __future__ import annotations

import heapq
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qos_async._core.rate_limits import Pacer, Quota


@pytest.mark.fault("P22")
def test_the_wait_starts_at_the_reply():
    pacer = Pacer(1.0, 8.0)
    assert pacer.is_free(0.0)
    pacer.sent(0.0)
    assert not pacer.is_free(1.0)
    assert not pacer.is_free(7.9)
    pacer.replied(3.0)
    assert not pacer.is_free(3.9)
    assert pacer.is_free(4.0)
    assert pacer.free_at == 4.0


def test_a_missing_reply_delays_the_next_frame_by_the_timeout_only():
    pacer = Pacer(1.0, 8.0)
    pacer.sent(10.0)
    assert not pacer.is_free(17.9)
    assert pacer.is_free(18.0)


def test_a_second_reply_changes_nothing():
    pacer = Pacer(1.0, 8.0)
    pacer.sent(0.0)
    pacer.replied(0.5)
    pacer.replied(1.4)
    assert pacer.free_at == 1.5


@pytest.mark.fault("F1")
@pytest.mark.parametrize(
    ("interval", "waits"),
    [
        (0.0, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.0]),
        (1.0, [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0]),
        (4.0, [4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 16.0]),
    ],
)
def test_each_refusal_for_the_pace_makes_the_next_wait_a_little_longer(interval, waits):
    pacer, now = Pacer(interval, 8.0), 100.0
    for wait in waits:
        pacer.sent(now)
        pacer.replied(now + 0.25)
        pacer.refused(now + 0.25)
        assert pacer.free_at == now + 0.25 + wait
        now = pacer.free_at
    pacer.sent(now)
    pacer.replied(now)
    pacer.accepted()
    assert pacer.free_at == now + interval
    pacer.sent(pacer.free_at)
    pacer.refused(now + 9.0)
    assert pacer.free_at == now + 9.0 + interval


def test_a_reply_to_nothing_delays_nothing():
    # Otherwise unsolicited replies could block the client for ever.
    pacer = Pacer(1.0, 8.0)
    pacer.sent(0.0)
    pacer.replied(0.5)
    pacer.late_reply(1.4)
    assert pacer.free_at == 1.5


def test_a_late_reply_delays_the_next_frame_once():
    pacer = Pacer(1.0, 8.0)
    pacer.sent(0.0)
    pacer.expired()
    pacer.late_reply(9.0)
    assert pacer.free_at == 10.0
    pacer.late_reply(9.5)
    assert pacer.free_at == 10.0


def test_the_reply_timeout_is_never_shorter_than_the_interval():
    pacer = Pacer(5.0, 2.0)
    pacer.sent(0.0)
    assert not pacer.is_free(4.9)
    assert pacer.is_free(5.0)


def test_a_lost_link_counts_as_the_reply():
    pacer = Pacer(1.0, 8.0)
    pacer.sent(0.0)
    pacer.link_down(0.2)
    assert not pacer.is_free(1.1)
    assert pacer.is_free(1.2)


def test_a_link_lost_after_the_reply_changes_nothing():
    pacer = Pacer(1.0, 8.0)
    pacer.sent(0.0)
    pacer.replied(0.2)
    pacer.link_down(100.0)
    assert pacer.is_free(1.2)


delays = st.floats(0.0, 7.0)


@pytest.mark.fault("P22", "I2")
@given(st.lists(st.tuples(delays, delays, st.sampled_from(["ok", "cut"]))))
def test_the_server_never_sees_two_frames_within_the_interval(
    frames: list[tuple[float, float, str]],
):
    pacer = Pacer(1.0, 8.0)
    now = last = 0.0
    seen: list[float] = []
    for there, back, fate in frames:
        now = max(now, pacer.free_at)
        pacer.sent(now)
        arrival = max(last, now + there)
        if fate == "ok":
            seen.append(arrival)
            last = arrival
            now = min(arrival + back, now + 8.0)
            if now == arrival + back:
                pacer.replied(now)
        else:  # The link breaks; frames in flight arrive before that or never.
            now += back
            if arrival <= now:
                seen.append(arrival)
            last = 0.0
            pacer.link_down(now)
    for earlier, later in itertools.pairwise(seen):
        assert later - earlier >= 1.0 - 1e-9


def test_the_quota_admits_the_plans_requests_and_then_returns_when():
    quota = Quota(requests=2, period=60.0)
    for now in (0.0, 1.0):
        assert quota.ready_at(now) == now
        quota.acquire(now)
    assert quota.ready_at(2.0) == math.inf
    quota.release_after_period(5.0)
    assert quota.ready_at(5.0) == 65.0
    assert quota.ready_at(64.9) == 65.0
    assert quota.ready_at(65.0) == 65.0


def test_a_request_that_was_never_sent_uses_no_slot():
    quota = Quota(requests=1, period=60.0)
    quota.acquire(0.0)
    quota.cancel()
    assert quota.ready_at(0.0) == 0.0


def test_a_period_of_zero_limits_only_concurrent_requests():
    quota = Quota(requests=1, period=0.0)
    quota.acquire(3.0)
    quota.release_after_period(3.0)
    assert quota.ready_at(3.0) == 3.0


waits = st.floats(0.0, 30.0)


@given(
    requests=st.integers(1, 4),
    period=st.floats(0.5, 20.0),
    trips=st.lists(st.tuples(waits, waits, st.booleans()), min_size=5, max_size=40),
)
def test_the_server_never_sees_more_requests_than_the_plan_under_jitter(
    requests, period, trips
):
    """Each request is sent as early as allowed; latencies vary freely."""
    quota = Quota(requests=requests, period=period)
    now = 0.0
    seen: list[float] = []
    answers: list[float] = []
    for there, back, idle in trips:
        now += 0.1 if idle else 0.0
        while quota.ready_at(now) > now:
            ready = quota.ready_at(now)
            if answers and answers[0] <= ready:
                now = max(now, heapq.heappop(answers))
                quota.release_after_period(now)
            else:
                now = ready
        quota.acquire(now)
        seen.append(now + there)
        heapq.heappush(answers, now + there + back)
    seen.sort()
    for first, later in zip(seen, seen[requests:], strict=False):
        assert later - first >= period - 1e-9
