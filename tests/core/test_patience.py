"""Whose fault it is that a deadline has passed."""

from __future__ import annotations

import math

from qos_async._core.keepalive import GracefulDeadline


def test_a_deadline_noticed_in_time_is_over():
    patience = GracefulDeadline()
    assert not patience.expired(10.0, 9.9)
    assert patience.expired(10.0, 10.0)
    assert patience.expired(10.0, 10.5)


def test_a_deadline_noticed_late_counts_a_second_later():
    patience = GracefulDeadline()
    assert not patience.expired(10.0, 60.0)
    assert patience.expires_at(10.0) == 61.0
    assert not patience.expired(10.0, 60.9)
    assert patience.expired(10.0, 61.0)


def test_one_grace_is_enough_for_one_stall():
    patience = GracefulDeadline()
    assert not patience.expired(10.0, 60.0)
    assert patience.expired(30.0, 61.0)


def test_the_next_stall_earns_its_own_grace():
    patience = GracefulDeadline()
    patience.expired(10.0, 60.0)
    assert patience.expired(10.0, 61.0)
    assert not patience.expired(70.0, 100.0)
    assert patience.expires_at(70.0) == 101.0


def test_what_is_never_due_is_never_over():
    patience = GracefulDeadline()
    assert not patience.expired(math.inf, 1e9)
    assert patience.expires_at(math.inf) == math.inf
