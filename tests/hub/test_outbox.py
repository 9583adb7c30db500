"""What waits for a slow client."""

import pytest

from qos_async.hub.outbox import Outbox


def test_frames_leave_in_the_order_they_came():
    box = Outbox(10, 1000)
    for n in range(5):
        box.put(b"%d" % n)
    assert box.take(1000) == [b"0", b"1", b"2", b"3", b"4"]
    assert not box


@pytest.mark.fault("H6")
def test_state_replaces_the_state_that_waits_in_its_place():
    box = Outbox(10, 1000)
    box.put(b"book 1", "book")
    box.put(b"trade")
    box.put(b"book 2", "book")
    assert box.take(1000) == [b"book 2", b"trade"]
    assert box.conflated == 1


def test_a_slot_is_free_again_once_its_frame_has_left():
    box = Outbox(10, 1000)
    box.put(b"book 1", "book")
    box.take(1000)
    box.put(b"trade")
    box.put(b"book 2", "book")
    assert box.take(1000) == [b"trade", b"book 2"]
    assert box.conflated == 0


def test_only_as_many_bytes_leave_as_asked_for_but_at_least_one_frame():
    box = Outbox(10, 1000)
    for frame in (b"x" * 100, b"y" * 10, b"z" * 10):
        box.put(frame)
    assert box.take(50) == [b"x" * 100]
    assert box.take(15) == [b"y" * 10]
    assert box.take(15) == [b"z" * 10]


def test_too_many_frames_are_reported():
    box = Outbox(2, 1000)
    assert box.put(b"1")
    assert box.put(b"2", "slot")
    assert box.put(b"3", "slot")
    assert not box.put(b"4")


def test_too_many_bytes_are_reported_and_those_that_left_do_not_count():
    box = Outbox(10, 100)
    assert box.put(b"x" * 60, "slot")
    assert box.put(b"x" * 90, "slot")
    assert not box.put(b"x" * 20)
    box.take(1)
    assert box.put(b"x" * 80)
    box.clear()
    assert box.put(b"x" * 100)
