"""The pace, where it counts: at the server."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qos_async._core.rate_limits import Pacer


@pytest.mark.fault("P22")
def test_the_wait_starts_at_the_answer():
    pacer = Pacer(1.0, 8.0)
    assert pacer.is_free(0.0)
    pacer.sent(0.0)
    assert not pacer.is_free(1.0)
    assert not pacer.is_free(7.9)
    pacer.replied(3.0)
    assert not pacer.is_free(3.9)
    assert pacer.is_free(4.0)
    assert pacer.free_at == 4.0


def test_an_answer_that_never_comes_holds_up_nothing_beyond_the_patience():
    pacer = Pacer(1.0, 8.0)
    pacer.sent(10.0)
    assert not pacer.is_free(17.9)
    assert pacer.is_free(18.0)


def test_a_second_answer_changes_nothing():
    pacer = Pacer(1.0, 8.0)
    pacer.sent(0.0)
    pacer.replied(0.5)
    pacer.replied(1.4)
    assert pacer.free_at == 1.5


def test_an_answer_to_nothing_sets_no_pace():
    # Else a server that talks to itself could keep us silent for ever.
    pacer = Pacer(1.0, 8.0)
    pacer.sent(0.0)
    pacer.replied(0.5)
    pacer.late_reply(1.4)
    assert pacer.free_at == 1.5


def test_an_answer_that_was_given_up_sets_the_pace_once():
    pacer = Pacer(1.0, 8.0)
    pacer.sent(0.0)
    pacer.expired()
    pacer.late_reply(9.0)
    assert pacer.free_at == 10.0
    pacer.late_reply(9.5)
    assert pacer.free_at == 10.0


def test_patience_is_never_shorter_than_the_pace():
    pacer = Pacer(5.0, 2.0)
    pacer.sent(0.0)
    assert not pacer.is_free(4.9)
    assert pacer.is_free(5.0)


def test_a_lost_link_counts_as_the_answer():
    pacer = Pacer(1.0, 8.0)
    pacer.sent(0.0)
    pacer.link_down(0.2)
    assert not pacer.is_free(1.1)
    assert pacer.is_free(1.2)


def test_a_link_lost_after_the_answer_changes_nothing():
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
        else:  # The link breaks; what is under way arrives before that or never.
            now += back
            if arrival <= now:
                seen.append(arrival)
            last = 0.0
            pacer.link_down(now)
    for earlier, later in itertools.pairwise(seen):
        assert later - earlier >= 1.0 - 1e-9
