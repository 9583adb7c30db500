"""Whose fault it is that a deadline has passed."""

from __future__ import annotations

import math

from qos_async._core.patience import Patience


def test_a_deadline_noticed_in_time_is_over():
    patience = Patience()
    assert not patience.is_over(10.0, 9.9)
    assert patience.is_over(10.0, 10.0)
    assert patience.is_over(10.0, 10.5)


def test_a_deadline_noticed_late_counts_a_second_later():
    patience = Patience()
    assert not patience.is_over(10.0, 60.0)
    assert patience.ends_at(10.0) == 61.0
    assert not patience.is_over(10.0, 60.9)
    assert patience.is_over(10.0, 61.0)


def test_one_grace_is_enough_for_one_stall():
    patience = Patience()
    assert not patience.is_over(10.0, 60.0)
    assert patience.is_over(30.0, 61.0)


def test_the_next_stall_earns_its_own_grace():
    patience = Patience()
    patience.is_over(10.0, 60.0)
    assert patience.is_over(10.0, 61.0)
    assert not patience.is_over(70.0, 100.0)
    assert patience.ends_at(70.0) == 101.0


def test_what_is_never_due_is_never_over():
    patience = Patience()
    assert not patience.is_over(math.inf, 1e9)
    assert patience.ends_at(math.inf) == math.inf
