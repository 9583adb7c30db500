"""The conversation over one link after another, in plain numbers."""

from __future__ import annotations

import itertools
import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qos_async._core.events import (
    Confirmed,
    Failed,
    KeyRejected,
    LinkTimedOut,
    Replied,
    ServerError,
    SubscriptionRejected,
    SubscriptionTimedOut,
    Unreadable,
)
from qos_async._core.protocol import StreamProtocol
from qos_async._core.recovery import Outage
from qos_async._core.stats import Counters
from qos_async._core.wire import HEARTBEAT
from qos_async.config import Limits, Timing
from qos_async.errors import (
    AuthenticationError,
    LimitError,
    RejectedError,
    RequestTimeoutError,
    TransportError,
)
from qos_async.models import Kline, Trade
from tests.support.wire_frames import (
    ACKED_AT,
    PUSHES,
    encoded,
    no,
    ok,
    said,
    session,
    topics,
    trades,
)

A, B = trades("US:A", "US:B")
(DEPTH,) = topics("depth", "US:A")
BODY = {"codes": ["US:A"]}


def subscribed(*wanted: Any, **more: Any) -> StreamProtocol[Any]:
    """Make a session whose link came up at 0 and whose topics are live at 0.5."""
    alive = session(**more)
    alive.registry.want(wanted)
    for turn in range(100):
        if not alive.registry.has_work:
            return alive
        alive.receive(ok(alive.poll(1.5 * turn)), 1.5 * turn + 0.5)
    raise AssertionError("it never comes to rest")


def failures(outcomes: Any) -> dict[int, type[Exception]]:
    return {o.reqid: type(o.error) for o in outcomes if isinstance(o, Failed)}


# Heartbeats


def test_the_first_heartbeat_is_due_an_interval_after_the_link_came_up():
    alive = session()
    assert alive.wake_at() == 15.0
    assert alive.poll(14.9) is None
    assert alive.poll(15.0) == HEARTBEAT


def test_heartbeats_repeat_while_they_are_acknowledged():
    alive = session()
    for beat in (15.0, 30.0, 45.0):
        assert alive.wake_at() == beat
        frame = alive.poll(beat)
        assert frame == HEARTBEAT
        assert alive.receive(ok(frame), beat + 0.2) is None
    assert alive.stats.unmatched == 0


def test_a_heartbeat_that_is_due_outranks_everything():
    alive = session()
    alive.registry.want([A])
    alive.request("RS", BODY, 10.0)
    assert alive.poll(15.0) == HEARTBEAT
    assert alive.poll(15.9) is None
    alive.receive(ok(HEARTBEAT), 15.5)
    assert alive.poll(16.4) is None
    assert said(alive.poll(16.5))["type"] == "T"


def test_a_new_link_without_commands_is_confirmed_by_a_heartbeat():
    alive = session()
    alive.request_heartbeat()
    assert alive.wake_at() <= 0.0
    assert alive.poll(0.0) == HEARTBEAT
    alive.receive(ok(HEARTBEAT), 0.1)
    assert alive.wake_at() == 15.0


def test_a_new_link_with_commands_needs_no_early_heartbeat():
    alive = session()
    alive.registry.want([A])
    alive.request_heartbeat()
    assert said(alive.poll(0.0))["type"] == "T"


def test_without_a_link_nothing_is_sent_and_nothing_is_due():
    alive = session(up=False)
    alive.registry.want([A])
    alive.request_heartbeat()
    assert alive.poll(100.0) is None
    assert alive.wake_at() == math.inf
    assert alive.tick(100.0) == []


# The pace


def test_the_pace_starts_at_the_reply():
    alive = session()
    alive.registry.want([A, DEPTH])
    frame = alive.poll(0.0)
    assert alive.poll(2.0) is None
    alive.receive(ok(frame), 2.5)
    assert alive.wake_at() == 3.5
    assert alive.poll(3.4) is None
    assert alive.poll(3.5)


def test_a_missing_reply_blocks_nothing_beyond_its_timeout():
    alive = session()
    alive.registry.want([A, DEPTH])
    alive.poll(0.0)
    assert alive.wake_at() == 8.0
    assert alive.tick(8.0) == [SubscriptionTimedOut(frozenset([A]))]
    assert alive.poll(8.0)


@pytest.mark.fault("P22")
def test_the_pace_outlives_the_link():
    alive = session()
    alive.registry.want([A])
    alive.poll(0.0)
    alive.link_down("cut", 0.2)
    alive.link_up(0.3)
    assert alive.poll(1.1) is None
    assert alive.wake_at() == 1.2
    assert alive.poll(1.2)


@pytest.mark.fault("P22", "P4")
def test_a_late_reply_sets_the_pace_too():
    # The server has only just seen that frame; the next must not arrive at its heels.
    alive = session()
    alive.registry.want([A])
    frame = alive.poll(0.0)
    alive.tick(8.0)  # Given up; before anything else leaves, the answer is here.
    alive.receive(ok(frame), 8.1)
    assert alive.poll(8.2) is None


def test_pushes_and_unmatched_replies_do_not_change_the_pace():
    alive = session()
    alive.registry.want([A, DEPTH])
    frame = alive.poll(0.0)
    alive.receive(encoded(PUSHES["T"]), 0.1)
    alive.receive(encoded({"type": "T", "msg": "OK", "reqid": 99}), 0.2)
    alive.receive(b"junk", 0.3)
    assert alive.poll(2.0) is None
    alive.receive(ok(frame), 2.0)
    assert alive.poll(3.0)


delays = st.floats(0.0, 3.5)
fates = st.sampled_from(["ok", "ok", "ok", "ok", "lost", "cut", "cut before"])


@pytest.mark.fault("P22", "I2")
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(delays, delays, fates), max_size=25))
def test_the_server_never_sees_two_frames_within_the_interval(
    fortune: list[tuple[float, float, str]],
):
    alive = session()
    alive.registry.want([A, B, DEPTH])
    now, held_up, seen = 0.0, 0.0, list[float]()
    for there, back, fate in fortune:
        alive.request("RS", BODY, now)
        lost_at = list[float]()
        now, frame = next_frame(alive, now, lost_at)
        if lost_at:  # What was still on its way went down with the link.
            seen, held_up = [at for at in seen if at <= lost_at[0]], 0.0
        arrival = held_up = max(now + there, held_up)
        if fate == "cut before":  # It never arrives; the client learns of it later.
            now = arrival
            reconnect(alive, now)
            held_up = 0.0
            continue
        seen.append(arrival)
        if fate == "ok":
            now = arrival + back
            alive.receive(ok(frame), now)
        elif fate == "cut":
            now = arrival + back
            reconnect(alive, now)
            held_up = 0.0
    assert all(b - a >= 1.0 - 1e-9 for a, b in itertools.pairwise(seen))


def reconnect(alive: StreamProtocol[Any], now: float) -> None:
    alive.link_down("cut", now)
    alive.link_up(now)


def next_frame(
    alive: StreamProtocol[Any], now: float, lost_at: list[float] | None = None
) -> tuple[float, bytes]:
    for _ in range(50):
        for outcome in alive.tick(now):
            if isinstance(outcome, LinkTimedOut):
                reconnect(alive, now)
                if lost_at is not None:
                    lost_at.append(now)
        if (frame := alive.poll(now)) is not None:
            return now, frame
        assert alive.wake_at() < math.inf
        now = max(now, alive.wake_at())
    raise AssertionError("nothing is ever said")


# Fair turns, and what is folded


def test_requests_and_changes_take_turns():
    alive = session()
    alive.registry.want([A, DEPTH, *topics("snapshot", "US:A")])
    for _ in range(3):
        alive.request("RS", BODY, 0.0)
    now, order = 0.0, []
    for _ in range(6):
        now, frame = next_frame(alive, now)
        alive.receive(ok(frame), now)
        order.append(said(frame)["type"])
    assert [kind[0] == "R" for kind in order] == [False, True] * 3


def test_neither_requests_nor_changes_wait_for_an_empty_queue():
    alive = session()
    for _ in range(3):
        alive.request("RS", BODY, 0.0)
    now, order = 0.0, []
    for _ in range(3):
        now, frame = next_frame(alive, now)
        alive.receive(ok(frame), now)
        order.append(now)
    assert order == [0.0, 1.0, 2.0]


def test_a_burst_leaves_as_one_frame_a_channel_and_interval():
    alive = session()
    for topic in [
        *trades("US:B", "HK:700", "US:A"),
        *topics("kline", "US:A", interval="1m"),
        *topics("kline", "US:B", interval="1d"),
    ]:
        alive.registry.want([topic])
    first = said(alive.poll(0.0))
    assert first["type"] == "T"
    assert sorted(first["codes"]) == ["HK:700", "US:A,B"]
    assert "kt" not in first
    now, frames = 0.0, [encoded(first)]
    while not alive.registry.settled:
        assert len(frames) < 100, "it never comes to rest"
        alive.receive(ok(frames[-1]), now)
        if not alive.registry.has_work:
            break
        now, frame = next_frame(alive, now)
        frames.append(frame)
    klines = [said(frame) for frame in frames[1:]]
    assert [(k["type"], k["codes"], k["kt"]) for k in klines] == [
        ("K", ["US:A"], 1),
        ("K", ["US:B"], 1001),
    ]


def test_subscribing_and_unsubscribing_before_the_frame_sends_nothing():
    alive = session()
    alive.registry.want([A])
    alive.registry.release([A])
    assert alive.poll(0.0) is None
    assert alive.wake_at() == 15.0


def test_the_last_subscriber_to_leave_unsubscribes():
    alive = subscribed(A)
    alive.registry.want([A])
    alive.registry.release([A])
    assert alive.poll(5.0) is None
    alive.registry.release([A])
    frame = said(alive.poll(5.0))
    assert (frame["type"], frame["codes"]) == ("TC", ["US:A"])
    assert alive.receive(ok(encoded(frame)), 5.5) is None
    assert alive.registry.settled


def test_a_reconnect_resubscribes_with_one_frame_a_channel():
    alive = subscribed(A, B, DEPTH)
    alive.link_down("cut", 10.0)
    alive.link_up(20.0)
    frames = []
    now = 20.0
    while not alive.registry.settled:
        assert now < 1000, "it never comes to rest"
        now, frame = next_frame(alive, now)
        frames.append(said(frame)["type"])
        alive.receive(ok(frame), now)
    assert frames == ["T", "D"]
    assert now == 21.0


# Ids and answers


def test_ids_are_positive_and_never_repeat_even_on_a_new_link():
    alive = session()
    ids = []
    now = 0.0
    for turn in range(12):
        ids.append(alive.request("RS", BODY, now))
        (alive.registry.want if turn % 2 else alive.registry.release)([A])
        now, frame = next_frame(alive, now)
        if "reqid" in said(frame) and said(frame)["type"] != "RS":
            ids.append(said(frame)["reqid"])
        if turn % 5 == 4:
            reconnect(alive, now)
        else:
            alive.receive(ok(frame), now)
    assert len(ids) == len(set(ids))
    assert min(ids) > 0


@pytest.mark.parametrize("more", [{}, {"reqid": ...}, {"reqid": None}])
def test_an_acknowledgement_confirms_with_or_without_an_id(more: dict[str, Any]):
    alive = session()
    alive.registry.want([A, B])
    event = alive.receive(ok(alive.poll(0.0), **more), 0.5)
    assert event == Confirmed(frozenset([A, B]), ACKED_AT)
    assert alive.registry.held == {A, B}
    assert alive.stats.unmatched == 0


def test_an_ack_of_very_many_topics_is_emitted_in_parts_and_nothing_is_sent_meanwhile():
    alive = session()
    many = frozenset(trades(*[f"US:S{number}" for number in range(2500)]))
    alive.registry.want([*many, DEPTH])
    assert alive.receive(ok(alive.poll(0.0)), 0.5) is None
    assert many <= alive.registry.held
    told: list[frozenset[Any]] = []
    while alive.wake_at() == -math.inf:
        assert alive.poll(9.0) is None
        [part] = alive.tick(0.5)
        assert isinstance(part, Confirmed)
        assert part.second == ACKED_AT
        told.append(part.topics)
    assert sum(map(len, told)) == len(many)
    assert frozenset().union(*told) == many
    assert max(map(len, told)) <= 1000
    assert said(alive.poll(9.0))["type"] == "D"


def test_the_rest_of_a_split_ack_is_emitted_before_the_link_is_lost():
    alive = session()
    many = frozenset(trades(*[f"US:S{number}" for number in range(2500)]))
    alive.registry.want(many)
    alive.receive(ok(alive.poll(0.0)), 0.5)
    [first] = alive.tick(0.5)
    assert isinstance(first, Confirmed)
    rest = alive.flush_confirmed()
    assert first.topics.union(*[part.topics for part in rest]) == many
    assert alive.flush_confirmed() == []
    assert alive.tick(0.5) == []


@pytest.mark.fault("P5", "P7")
@pytest.mark.parametrize(
    "more", [{"reqid": 77}, {"reqid": -1}, {"type": "S"}, {"type": "TC"}, {"type": "H"}]
)
def test_a_reply_that_does_not_match_is_counted_and_ignored(more: dict[str, Any]):
    alive = session()
    alive.registry.want([A])
    frame = alive.poll(0.0)
    assert alive.receive(ok(frame, **more), 0.5) is None
    assert alive.stats.unmatched == 1
    assert not alive.registry.holds(A)
    assert not alive.is_verified
    assert alive.receive(ok(frame), 1.0) == Confirmed(frozenset([A]), ACKED_AT)


@pytest.mark.fault("P5")
def test_a_second_reply_is_counted_and_ignored():
    alive = session()
    alive.registry.want([A])
    frame = alive.poll(0.0)
    alive.receive(ok(frame), 0.5)
    assert alive.receive(ok(frame), 0.6) is None
    assert alive.stats.unmatched == 1
    event = alive.receive(no(frame), 0.7)
    assert event is None or isinstance(event, ServerError)
    assert alive.stats.unmatched == 2
    assert alive.registry.holds(A)


@pytest.mark.fault("P4")
def test_a_late_ack_does_not_confirm_a_later_command():
    alive = session()
    alive.registry.want([A])
    late = alive.poll(0.0)
    alive.tick(8.0)
    alive.registry.want([B])
    again = alive.poll(8.0)
    assert alive.receive(ok(late), 8.5) is None
    assert alive.registry.held == frozenset()
    assert alive.stats.unmatched == 1
    assert alive.receive(no(again), 9.0) is None
    assert alive.registry.held == frozenset()


@pytest.mark.fault("P4")
def test_a_late_rejection_does_not_reject_a_later_command():
    alive = session()
    alive.registry.want([A])
    late = alive.poll(0.0)
    alive.tick(8.0)
    again = alive.poll(8.0)
    event = alive.receive(no(late), 8.5)
    assert not isinstance(event, SubscriptionRejected)
    assert alive.registry.wants(A)
    assert alive.receive(ok(again), 9.0) == Confirmed(frozenset([A]), ACKED_AT)


@pytest.mark.fault("P4")
def test_a_reply_to_a_frame_of_the_old_link_is_ignored_on_the_new_one():
    alive = session()
    alive.registry.want([A])
    old = alive.poll(0.0)
    reconnect(alive, 1.0)
    assert alive.receive(ok(old), 1.5) is None
    assert not alive.registry.holds(A)


@pytest.mark.fault("P6")
def test_an_error_without_a_command_is_emitted():
    alive = session()
    event = alive.receive(encoded({"msg": "maintenance\nat 5"}), 1.0)
    assert isinstance(event, ServerError)
    assert "maintenance" in event.message
    assert "\n" not in event.message
    assert alive.stats.unmatched == 1


@pytest.mark.fault("P2")
def test_a_rejected_heartbeat_counts_as_a_reply():
    alive = session()
    frame = alive.poll(15.0)
    said = alive.receive(no(frame, "busy"), 15.5)
    assert isinstance(said, ServerError)
    assert said.message == "H: busy"
    assert alive.stats.unmatched == 0
    alive.registry.want([A])
    assert alive.poll(16.5)


# Refusals


@pytest.mark.fault("P8")
def test_a_rejected_batch_is_halved_until_the_rejected_topics_are_known():
    alive = session()
    wanted = trades(*(f"US:{letter}" for letter in "ABCDEFGH"))
    alive.registry.want(wanted)
    guilty = {wanted[2], wanted[7]}
    names = {topic.symbol for topic in guilty}
    now, events = 0.0, []
    while not alive.registry.settled:
        assert now < 1000, "it never comes to rest"
        now, frame = next_frame(alive, now)
        if said(frame)["type"] == "H":
            alive.receive(ok(frame), now)
            continue
        codes = {f"US:{c}" for c in said(frame)["codes"][0][3:].split(",")}
        events.append(alive.receive((no if codes & names else ok)(frame), now))
    declined = [e for e in events if isinstance(e, SubscriptionRejected)]
    assert {t for e in declined for t in e.topics} == guilty
    assert {e.message for e in declined} == {"no such code"}
    assert alive.registry.held == set(wanted) - guilty
    confirmed = [t for e in events if isinstance(e, Confirmed) for t in e.topics]
    assert sorted(confirmed) == sorted(set(wanted) - guilty)


@pytest.mark.fault("P6")
@pytest.mark.parametrize(
    "more",
    [{}, {"reqid": ...}, {"type": ...}, {"type": ..., "reqid": ...}, {"type": "E"}],
)
def test_a_rejection_counts_whatever_its_text(more: dict[str, Any]):
    alive = session()
    alive.registry.want([A])
    event = alive.receive(no(alive.poll(0.0), **more), 0.5)
    assert event == SubscriptionRejected(frozenset([A]), "no such code")
    assert not alive.registry.wants(A)
    assert alive.wake_at() == 15.0


def test_a_rejected_unsubscription_is_not_emitted():
    alive = subscribed(A)
    alive.registry.release([A])
    assert alive.receive(no(alive.poll(5.0)), 5.5) is None
    assert alive.registry.settled
    assert alive.registry.held == frozenset()


@pytest.mark.fault("P3")
def test_an_unacknowledged_change_is_emitted_and_sent_again():
    alive = session()
    alive.registry.want([A, B])
    first = alive.poll(0.0)
    assert alive.tick(7.9) == []
    assert alive.tick(8.0) == [SubscriptionTimedOut(frozenset([A, B]))]
    assert alive.tick(8.0) == []
    again = alive.poll(8.0)
    assert said(again)["codes"] == said(first)["codes"]
    assert alive.receive(ok(again), 8.5) == Confirmed(frozenset([A, B]), ACKED_AT)


def test_an_unacknowledged_removal_is_sent_again_and_not_emitted():
    alive = subscribed(A)
    alive.registry.release([A])
    alive.poll(5.0)
    assert alive.tick(13.0) == []
    assert said(alive.poll(13.0))["type"] == "TC"


# The key


REFUSALS: list[dict[str, Any]] = [
    {},
    {"reqid": ...},
    {"type": ...},
    {"type": ..., "reqid": ...},
    {"reqid": 77},
    {"type": "S"},
]


@pytest.mark.fault("P2", "P6")
@pytest.mark.parametrize("more", REFUSALS)
@pytest.mark.parametrize("to", ["change", "request", "heartbeat"])
def test_a_rejected_key_is_fatal_in_reply_to_any_command(to: str, more: dict[str, Any]):
    alive = session()
    if to == "change":
        alive.registry.want([A])
    elif to == "request":
        alive.request("RS", BODY, 0.0)
    else:
        alive.request_heartbeat()
    event = alive.receive(no(alive.poll(0.0), "Key expired.", **more), 0.5)
    assert isinstance(event, KeyRejected)
    assert isinstance(event.error, AuthenticationError)
    assert "Key expired." in str(event.error)
    assert not alive.is_verified


@pytest.mark.parametrize("more", [{}, {"type": "H"}, {"type": "S", "reqid": 3}])
def test_a_rejected_key_is_fatal_without_a_command(more: dict[str, Any]):
    alive = session()
    event = alive.receive(encoded({"msg": "invalid key"} | more), 0.5)
    assert isinstance(event, KeyRejected)


# Requests


def test_a_request_resolves_to_its_reply():
    alive = session()
    reqid = alive.request("RS", BODY, 0.0)
    frame = alive.poll(0.0)
    assert said(frame) == {"type": "RS", "reqid": reqid, **BODY}
    event = alive.receive(ok(frame, data=[{"c": "US:A"}]), 0.5)
    assert isinstance(event, Replied)
    assert event.reqid == reqid
    assert json.loads(bytes(event.data)) == [{"c": "US:A"}]
    assert alive.tick(8.0) == []


@pytest.mark.parametrize(
    ("msg", "kind"), [("no such code", RejectedError), ("too many codes", LimitError)]
)
def test_a_rejected_request_fails_with_the_text_of_the_server(
    msg: str, kind: type[Exception]
):
    alive = session()
    reqid = alive.request("RS", BODY, 0.0)
    event = alive.receive(no(alive.poll(0.0), msg), 0.5)
    assert isinstance(event, Failed)
    assert event.reqid == reqid
    assert type(event.error) is kind
    assert str(event.error) == f"RS: {msg}"


@pytest.mark.fault("P3", "P4", "I5")
def test_a_request_without_a_reply_times_out_and_a_later_reply_is_ignored():
    alive = session()
    reqid = alive.request("RS", BODY, 0.0)
    frame = alive.poll(0.0)
    assert alive.wake_at() == 8.0
    (failed,) = alive.tick(8.0)
    assert failures([failed]) == {reqid: RequestTimeoutError}
    assert "RS: no reply within 8 s" in str(failed.error)  # type: ignore[union-attr]
    assert alive.tick(8.0) == []
    assert alive.receive(ok(frame), 9.0) is None


def test_a_request_without_a_link_times_out_too():
    alive = session(up=False)
    reqid = alive.request("RS", BODY, 100.0)
    assert alive.wake_at() == 108.0
    (failed,) = alive.tick(108.0)
    assert failures([failed]) == {reqid: RequestTimeoutError}
    assert "no link" in str(failed.error)  # type: ignore[union-attr]
    assert alive.wake_at() == math.inf


def work_through(
    alive: StreamProtocol[Any], *, now: float, trip: float, silent: int = 0
) -> tuple[list[int], dict[int, type[Exception]]]:
    """Answer all but ``silent`` frames, each after a round trip; tell what came of it."""
    answered: list[int] = []
    failed: dict[int, type[Exception]] = {}
    while alive.wake_at() < min(now + 14, 500):
        now = max(now, alive.wake_at())
        outcomes = alive.tick(now)
        assert not any(isinstance(outcome, LinkTimedOut) for outcome in outcomes)
        failed |= failures(outcomes)
        if (frame := alive.poll(now)) is None:
            continue
        if silent:
            silent -= 1
            continue
        now += trip
        event = alive.receive(ok(frame), now)
        if isinstance(event, Replied):
            answered.append(event.reqid)
        if not alive.scheduler.requests.has_work:
            break
    return answered, failed


@pytest.mark.parametrize("trip", [0.0, 0.5, 3.0, 7.0])
def test_requests_of_a_long_queue_that_moves_do_not_time_out(trip: float):
    alive = session(silence=29.0)
    ids = [alive.request("RS", BODY, 0.0) for _ in range(20)]
    assert work_through(alive, now=0.0, trip=trip) == (ids, {})


def test_one_lost_reply_fails_one_request_and_not_the_queue():
    # Those behind it have waited just as long, but not for their own answer.
    alive = session()
    ids = [alive.request("RS", BODY, 0.0) for _ in range(4)]
    answered, failed = work_through(alive, now=0.0, trip=0.2, silent=1)
    assert failed == {ids[0]: RequestTimeoutError}
    assert answered == ids[1:]


@pytest.mark.parametrize("after", [0.0, 0.1, 4.0])
def test_a_request_behind_a_lost_reply_still_gets_a_reply(after: float):
    alive = session()
    alive.request_heartbeat()
    alive.poll(0.0)  # A heartbeat that nobody answers.
    reqid = alive.request("RS", BODY, after)
    assert work_through(alive, now=after, trip=0.3) == ([reqid], {})


def test_a_cancelled_request_is_not_sent():
    alive = session()
    alive.cancel(alive.request("RS", BODY, 0.0))
    assert alive.poll(0.0) is None
    assert alive.tick(8.0) == []


def test_a_request_cancelled_after_it_was_sent_still_sets_the_pace():
    alive = session()
    reqid = alive.request("RS", BODY, 0.0)
    frame = alive.poll(0.0)
    alive.cancel(reqid)
    alive.request("RS", BODY, 0.1)
    assert alive.receive(ok(frame), 2.0) is None
    assert alive.stats.unmatched == 0
    assert alive.poll(2.9) is None
    assert alive.poll(3.0)


def test_a_lost_link_fails_sent_requests_and_keeps_queued_ones():
    alive = session()
    sent, unsent = alive.request("RS", BODY, 0.0), alive.request("RT", BODY, 0.0)
    alive.poll(0.0)
    outcomes = alive.link_down("reset by peer", 0.5)
    assert failures(outcomes) == {sent: TransportError}
    [failed] = outcomes
    assert isinstance(failed, Failed)
    assert "RS" in str(failed.error)
    assert "reset by peer" in str(failed.error)
    alive.link_up(2.0)
    assert said(alive.poll(2.0))["reqid"] == unsent
    assert alive.tick(7.9) == []


# Silence, and our own stalls


@pytest.mark.fault("P1")
def test_silence_is_a_loss():
    alive = session()
    alive.receive(ok(alive.poll(15.0)), 15.1)
    alive.poll(30.1)
    alive.tick(38.1)
    assert alive.tick(40.0) == []
    assert alive.wake_at() <= 40.1
    (lost,) = alive.tick(40.1)
    assert lost == LinkTimedOut("nothing was received for 25 s")


@pytest.mark.fault("P1")
@pytest.mark.parametrize(
    "data", [encoded(PUSHES["T"]), b"junk", b'{"tp":"new"}', b"{}"]
)
def test_any_received_bytes_break_the_silence(data: bytes):
    alive = session()
    alive.receive(data, 20.0)
    assert alive.tick(25.0) == []
    assert isinstance(alive.tick(45.0)[0], LinkTimedOut)


def test_after_a_stall_the_socket_is_read_before_the_link_times_out():
    alive = session()
    alive.registry.want([A])
    reqid = alive.request("RS", BODY, 0.0)
    frame = alive.poll(0.0)
    assert alive.tick(60.0) == []
    assert alive.receive(ok(frame), 60.0) == Confirmed(frozenset([A]), ACKED_AT)
    assert alive.tick(60.5) == []
    outcomes = alive.tick(61.0)
    assert not any(isinstance(o, LinkTimedOut) for o in outcomes)
    assert failures(outcomes).keys() <= {reqid}


def test_a_link_that_is_silent_after_a_stall_is_lost_a_second_later():
    alive = session()
    assert alive.tick(60.0) == []
    assert alive.tick(60.9) == []
    assert isinstance(alive.tick(61.0)[0], LinkTimedOut)


def test_the_grace_period_after_a_stall_does_not_spin():
    # A wake_at() in the past for the whole second would be a busy loop.
    alive = session()
    alive.registry.want([A])
    alive.poll(0.0)
    assert alive.tick(60.0) == []
    assert alive.poll(60.0) is None
    assert alive.wake_at() > 60.0


def test_a_reply_just_before_the_deadline_counts():
    alive = session()
    alive.registry.want([A])
    frame = alive.poll(0.0)
    assert alive.receive(ok(frame), 7.999) == Confirmed(frozenset([A]), ACKED_AT)
    assert alive.tick(8.0) == []


STORIES = st.lists(st.tuples(st.integers(0, 5), st.floats(0.0, 12.0)), max_size=40)


def act(alive: StreamProtocol[Any], what: int, frame: bytes | None, now: float) -> None:
    match what:
        case 0:
            alive.registry.want([A])
        case 1:
            alive.registry.release([A])
        case 2:
            alive.request("RS", BODY, now)
        case 3 if frame:
            alive.receive(ok(frame), now)
        case 4 if frame:
            alive.receive(no(frame), now)
        case 5:
            reconnect(alive, now)
            alive.request_heartbeat()
        case _:
            pass


@pytest.mark.parametrize("stalls", [False, True])
@settings(deadline=None)
@given(story=STORIES)
def test_polling_at_wake_at_always_makes_progress(
    story: list[tuple[int, float]],
    stalls: bool,  # noqa: FBT001
):
    alive = session()
    now, frame = 0.0, None
    for what, wait in story:
        act(alive, what, frame, now)
        end = now + wait
        if stalls and wait > 9:
            now = end = now + 5 * wait
        while alive.wake_at() <= end:
            now = max(now, alive.wake_at())
            outcomes, polled = alive.tick(now), alive.poll(now)
            frame = polled or frame
            assert outcomes or polled or alive.wake_at() > now
            if any(isinstance(outcome, LinkTimedOut) for outcome in outcomes):
                reconnect(alive, now)
        now = end


# Outages


def test_a_lost_link_opens_an_outage_for_what_was_live():
    alive = subscribed(A, DEPTH)
    alive.receive(encoded(PUSHES["T"]), 5.0)
    alive.registry.want([B])
    alive.link_down("cut", 9.0)
    assert alive.outages.end(A) == alive.outages.end(DEPTH) == Outage(5.0, "cut")
    assert alive.outages.end(B) is None


def test_a_second_loss_before_the_topic_is_live_keeps_the_beginning():
    alive = subscribed(A)
    alive.link_down("cut", 9.0)
    alive.link_up(20.0)
    alive.poll(20.0)
    alive.link_down("cut again", 21.0)
    assert alive.outages.end(A) == Outage(0.5, "cut")


def test_a_failed_attempt_is_no_outage_of_its_own():
    alive = session(up=False)
    alive.registry.want([A])
    assert alive.link_down("refused", 1.0) == []
    assert not alive.outages.open


def test_a_topic_that_is_no_longer_wanted_has_no_outage():
    # Released, but not yet unsubscribed: nobody would ever end this outage.
    alive = subscribed(A)
    alive.registry.release([A])
    alive.link_down("cut", 9.0)
    assert not alive.outages.open


def test_a_topic_that_ticks_before_its_ack_has_an_outage_too():
    alive = session()
    alive.registry.want([A])
    alive.poll(0.0)
    alive.receive(encoded(PUSHES["T"]), 0.5)
    alive.outages.note_early_tick(A)
    alive.link_down("cut", 0.7)
    assert alive.outages.end(A) == Outage(0.5, "cut")


def test_a_topic_that_ticked_before_its_ack_and_was_removed_has_no_outage():
    # Being early is forgotten when the yes comes.
    alive = session()
    alive.registry.want([A])
    frame = alive.poll(0.0)
    alive.outages.note_early_tick(A)
    alive.receive(ok(frame), 0.5)
    alive.registry.release([A])
    alive.receive(ok(alive.poll(1.5)), 2.0)
    assert alive.registry.settled
    alive.link_down("cut", 9.0)
    assert not alive.outages.open


# Frames in, counted


def test_a_push_is_emitted_as_its_tick():
    alive = session()
    event = alive.receive(encoded(PUSHES["T"]), 1.0)
    assert isinstance(event, Trade)
    assert event.symbol == "US:AAPL"


@pytest.mark.fault("P12")
def test_an_unreadable_frame_is_counted_emitted_and_skipped():
    alive = session()
    event = alive.receive(b"\x1b[2J junk", 1.0)
    assert isinstance(event, Unreadable)
    assert "junk" in event.reason
    assert "\x1b" not in event.reason
    assert alive.stats.unreadable == 1


@pytest.mark.fault("P19")
def test_a_push_of_a_new_kind_is_counted_and_skipped():
    alive = session()
    assert alive.receive(b'{"tp":"X","c":"US:A"}', 1.0) is None
    assert alive.stats.unknown == 1


def test_frames_sent_are_counted():
    alive = session()
    alive.registry.want([A])
    alive.receive(ok(alive.poll(0.0)), 0.5)
    assert alive.poll(1.0) is None
    assert alive.poll(15.0)
    assert alive.stats.frames_sent == 2


def test_a_reply_confirms_the_link_and_each_new_link_is_confirmed_anew():
    alive = session()
    assert not alive.is_verified
    alive.registry.want([A])
    alive.receive(ok(alive.poll(0.0)), 0.5)
    assert alive.is_verified
    reconnect(alive, 1.0)
    assert not alive.is_verified


def test_the_key_in_text_of_the_server_is_redacted():
    alive = StreamProtocol(
        Decimal,
        limits=Limits(),
        timing=Timing(),
        stats=Counters(),
        redact=lambda text: text.replace("s3cr3t", "***"),
    )
    alive.link_up(0.0)
    alive.registry.want([A])
    events = [
        alive.receive(b'{"msg":"s3cr3t?"}'[:-1], 0.1),
        alive.receive(no(alive.poll(0.0), "no s3cr3t"), 0.2),
        alive.receive(encoded({"msg": "what s3cr3t"}), 0.3),
        alive.receive(encoded({"msg": "invalid key s3cr3t"}), 0.4),
    ]
    kinds = [Unreadable, SubscriptionRejected, ServerError, KeyRejected]
    assert [type(event) for event in events] == kinds
    for event in events:
        shown = str(event.error) if isinstance(event, KeyRejected) else str(event)
        assert "s3cr3t" not in shown
        assert "***" in shown


def test_a_burst_of_pushes_is_read_at_once_or_not_at_all():
    one = session()
    one.link_up(0.0)
    pushes = one.receive_ticks([encoded(PUSHES["T"]), encoded(PUSHES["K"])], 30.0)
    assert [type(push) for push in pushes] == [Trade, Kline]
    heard_until = one.wake_at()
    for other in (b'{"type":"H","msg":"OK"}', b"{", b'{"tp":"Z"}'):
        assert not one.receive_ticks([encoded(PUSHES["T"]), other], 40.0)
    assert one.wake_at() == heard_until
    assert (one.stats.answers, one.stats.unreadable, one.stats.unknown) == (0, 0, 0)
