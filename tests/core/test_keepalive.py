"""Keepalive deadlines and measurements."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qos_async._core.keepalive import (
    GracefulDeadline,
    Liveness,
    ServerClockEstimate,
    WaitStats,
)
from tests.support.wire_frames import new_protocol


def live() -> Liveness:
    return Liveness(interval=15.0, timeout=25.0, now=100.0)


def test_the_first_heartbeat_and_timeout_count_from_the_start():
    assert live().heartbeat_at == 115.0
    assert live().timeout_at == 125.0


def test_a_heartbeat_postpones_only_the_next_heartbeat():
    liveness = live()
    liveness.heartbeat_sent(116.0)
    assert liveness.heartbeat_at == 131.0
    assert liveness.timeout_at == 125.0


def test_a_received_frame_postpones_only_the_timeout():
    liveness = live()
    liveness.last_received_at = 110.0
    assert liveness.timeout_at == 135.0
    assert liveness.heartbeat_at == 115.0


def test_a_deadline_noticed_in_time_expires_at_once():
    deadline = GracefulDeadline()
    assert not deadline.expired(10.0, 9.9)
    assert deadline.expired(10.0, 10.0)
    assert deadline.expired(10.0, 10.5)


def test_a_deadline_noticed_late_expires_a_second_later():
    deadline = GracefulDeadline()
    assert not deadline.expired(10.0, 60.0)
    assert deadline.expires_at(10.0) == 61.0
    assert not deadline.expired(10.0, 60.9)
    assert deadline.expired(10.0, 61.0)


def test_a_deadline_gets_one_grace_period_only():
    deadline = GracefulDeadline()
    assert not deadline.expired(10.0, 60.0)
    assert deadline.expired(30.0, 61.0)


def test_the_next_late_deadline_gets_a_grace_period_of_its_own():
    deadline = GracefulDeadline()
    deadline.expired(10.0, 60.0)
    assert deadline.expired(10.0, 61.0)
    assert not deadline.expired(70.0, 100.0)
    assert deadline.expires_at(70.0) == 101.0


def test_an_infinite_deadline_never_expires():
    deadline = GracefulDeadline()
    assert not deadline.expired(math.inf, 1e9)
    assert deadline.expires_at(math.inf) == math.inf


seconds = st.floats(0, 10, allow_nan=False)


def exchange(
    clock: ServerClockEstimate, at: float, ahead: float, there: float, back: float
):
    """Make the server reply; return the time of the reply."""
    clock.update(math.floor(at + there + ahead), at, at + there + back)
    return at + there + back


def test_waits_are_summed_and_the_longest_is_kept():
    waits = WaitStats()
    for wait in (1.0, 3.0, 0.5):
        waits.add(wait)
    assert (waits.count, waits.total, waits.last, waits.max) == (3, 4.5, 0.5, 3.0)


def test_the_clock_offset_is_unknown_before_the_first_reply():
    assert ServerClockEstimate().offset is None


def test_one_reply_leaves_an_error_of_a_second_and_the_round_trip():
    clock = ServerClockEstimate()
    clock.update(17, 10.0, 10.2)
    ahead, error = clock.offset or (0, 0)
    assert ahead - error == pytest.approx(17 - 10.2)
    assert ahead + error == pytest.approx(18 - 10.0)


def test_replies_at_different_parts_of_a_second_reduce_the_error():
    clock, at = ServerClockEstimate(), 0.0
    for _ in range(40):
        at = exchange(clock, at + 15.03, ahead=5.25, there=0.01, back=0.01)
    ahead, error = clock.offset or (0, 0)
    assert error < 0.05
    assert abs(ahead - 5.25) <= error


@given(
    ahead=st.floats(-1e6, 1e6),
    trips=st.lists(st.tuples(st.floats(0, 60), seconds, seconds), min_size=1),
)
def test_the_true_offset_is_always_within_the_error(ahead, trips):
    clock, now = ServerClockEstimate(), 0.0
    for pause, there, back in trips:
        now = exchange(clock, now + pause, ahead, there, back)
        estimate, error = clock.offset or (0, 0)
        assert abs(estimate - ahead) <= error + 1e-6


@given(
    drift=st.floats(-5e-5, 5e-5),
    trips=st.lists(st.tuples(st.floats(0, 3600), seconds, seconds), min_size=1),
)
def test_a_slow_drift_of_the_clocks_is_followed(drift, trips):
    clock, now = ServerClockEstimate(), 0.0
    for pause, there, back in trips:
        asked_at = now + pause
        now = exchange(clock, asked_at, 3.0 + drift * asked_at, there, back)
        estimate, error = clock.offset or (0, 0)
        assert abs(estimate - (3.0 + drift * now)) <= error + 1e-2


def test_a_clock_that_is_set_restarts_the_estimate():
    clock = ServerClockEstimate()
    clock.update(100, 0.0, 0.1)
    clock.update(515, 15.0, 15.1)
    ahead, error = clock.offset or (0, 0)
    assert abs(ahead - 500.5) <= error < 0.6


def test_a_suspend_discards_the_clock_estimate():
    liveness = new_protocol()
    liveness.link_up(0.0)
    liveness.scheduler.stats.clock.update(100, 0.0, 0.1)
    liveness.suspended(60.0)
    assert liveness.scheduler.stats.clock.offset is None
