"""The HTTP pace, as the server sees it."""

from __future__ import annotations

import heapq
import math

from hypothesis import given
from hypothesis import strategies as st

from qos_async._core.rate_limits import Quota


def test_it_lets_through_as_many_as_the_plan_allows_and_then_says_when():
    quota = Quota(requests=2, period=60.0)
    for now in (0.0, 1.0):
        assert quota.ready_at(now) == now
        quota.acquire(now)
    assert quota.ready_at(2.0) == math.inf
    quota.release_after_period(5.0)
    assert quota.ready_at(5.0) == 65.0
    assert quota.ready_at(64.9) == 65.0
    assert quota.ready_at(65.0) == 65.0


def test_a_request_that_never_left_costs_nothing():
    quota = Quota(requests=1, period=60.0)
    quota.acquire(0.0)
    quota.cancel()
    assert quota.ready_at(0.0) == 0.0


def test_a_period_of_zero_limits_only_what_is_under_way():
    quota = Quota(requests=1, period=0.0)
    quota.acquire(3.0)
    quota.release_after_period(3.0)
    assert quota.ready_at(3.0) == 3.0


delays = st.floats(0.0, 30.0)


@given(
    requests=st.integers(1, 4),
    period=st.floats(0.5, 20.0),
    trips=st.lists(st.tuples(delays, delays, st.booleans()), min_size=5, max_size=40),
)
def test_no_jitter_makes_the_server_see_more_than_the_plan(requests, period, trips):
    """Each request is sent as early as it may be; ways there and back vary freely."""
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
