"""The stream protocol over several links, with times as plain numbers."""

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
    ack,
    decoded,
    encoded,
    new_protocol,
    rejection,
    topics,
    trades,
)

A, B = trades("US:A", "US:B")
(DEPTH,) = topics("depth", "US:A")
BODY = {"codes": ["US:A"]}


def subscribed(*wanted: Any, **more: Any) -> StreamProtocol[Any]:
    """Return a protocol whose link came up at 0 and whose topics are live at 0.5."""
    protocol = new_protocol(**more)
    protocol.registry.want(wanted)
    for turn in range(100):
        if not protocol.registry.has_work:
            return protocol
        protocol.receive(ack(protocol.poll(1.5 * turn)), 1.5 * turn + 0.5)
    raise AssertionError("it never comes to rest")


def failures(outcomes: Any) -> dict[int, type[Exception]]:
    return {o.reqid: type(o.error) for o in outcomes if isinstance(o, Failed)}


# Heartbeats


def test_the_first_heartbeat_is_due_an_interval_after_the_link_came_up():
    protocol = new_protocol()
    assert protocol.wake_at() == 15.0
    assert protocol.poll(14.9) is None
    assert protocol.poll(15.0) == HEARTBEAT


def test_heartbeats_repeat_while_they_are_acknowledged():
    protocol = new_protocol()
    for beat in (15.0, 30.0, 45.0):
        assert protocol.wake_at() == beat
        frame = protocol.poll(beat)
        assert frame == HEARTBEAT
        assert protocol.receive(ack(frame), beat + 0.2) is None
    assert protocol.stats.unmatched == 0


def test_a_heartbeat_that_is_due_outranks_everything():
    protocol = new_protocol()
    protocol.registry.want([A])
    protocol.request("RS", BODY, 10.0)
    assert protocol.poll(15.0) == HEARTBEAT
    assert protocol.poll(15.9) is None
    protocol.receive(ack(HEARTBEAT), 15.5)
    assert protocol.poll(16.4) is None
    assert decoded(protocol.poll(16.5))["type"] == "T"


def test_a_new_link_without_commands_is_confirmed_by_a_heartbeat():
    protocol = new_protocol()
    protocol.request_heartbeat()
    assert protocol.wake_at() <= 0.0
    assert protocol.poll(0.0) == HEARTBEAT
    protocol.receive(ack(HEARTBEAT), 0.1)
    assert protocol.wake_at() == 15.0


def test_a_new_link_with_commands_needs_no_early_heartbeat():
    protocol = new_protocol()
    protocol.registry.want([A])
    protocol.request_heartbeat()
    assert decoded(protocol.poll(0.0))["type"] == "T"


def test_without_a_link_nothing_is_sent_and_nothing_is_due():
    protocol = new_protocol(up=False)
    protocol.registry.want([A])
    protocol.request_heartbeat()
    assert protocol.poll(100.0) is None
    assert protocol.wake_at() == math.inf
    assert protocol.tick(100.0) == []


# The pace


def test_the_pace_starts_at_the_reply():
    protocol = new_protocol()
    protocol.registry.want([A, DEPTH])
    frame = protocol.poll(0.0)
    assert protocol.poll(2.0) is None
    protocol.receive(ack(frame), 2.5)
    assert protocol.wake_at() == 3.5
    assert protocol.poll(3.4) is None
    assert protocol.poll(3.5)


def test_a_missing_reply_blocks_nothing_beyond_its_timeout():
    protocol = new_protocol()
    protocol.registry.want([A, DEPTH])
    protocol.poll(0.0)
    assert protocol.wake_at() == 8.0
    assert protocol.tick(8.0) == [SubscriptionTimedOut(frozenset([A]))]
    assert protocol.poll(8.0)


@pytest.mark.fault("P22")
def test_the_pace_outlives_the_link():
    protocol = new_protocol()
    protocol.registry.want([A])
    protocol.poll(0.0)
    protocol.link_down("cut", 0.2)
    protocol.link_up(0.3)
    assert protocol.poll(1.1) is None
    assert protocol.wake_at() == 1.2
    assert protocol.poll(1.2)


@pytest.mark.fault("P22", "P4")
def test_a_late_reply_sets_the_pace_too():
    # The server has only just seen that frame; the next must not arrive at its heels.
    protocol = new_protocol()
    protocol.registry.want([A])
    frame = protocol.poll(0.0)
    protocol.tick(8.0)  # Timed out; the reply arrives before the next frame is sent.
    protocol.receive(ack(frame), 8.1)
    assert protocol.poll(8.2) is None


def test_pushes_and_unmatched_replies_do_not_change_the_pace():
    protocol = new_protocol()
    protocol.registry.want([A, DEPTH])
    frame = protocol.poll(0.0)
    protocol.receive(encoded(PUSHES["T"]), 0.1)
    protocol.receive(encoded({"type": "T", "msg": "OK", "reqid": 99}), 0.2)
    protocol.receive(b"junk", 0.3)
    assert protocol.poll(2.0) is None
    protocol.receive(ack(frame), 2.0)
    assert protocol.poll(3.0)


delays = st.floats(0.0, 3.5)
fates = st.sampled_from(["ok", "ok", "ok", "ok", "lost", "cut", "cut before"])


@pytest.mark.fault("P22", "I2")
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(delays, delays, fates), max_size=25))
def test_the_server_never_sees_two_frames_within_the_interval(
    fortune: list[tuple[float, float, str]],
):
    protocol = new_protocol()
    protocol.registry.want([A, B, DEPTH])
    now, held_up, seen = 0.0, 0.0, list[float]()
    for there, back, fate in fortune:
        protocol.request("RS", BODY, now)
        lost_at = list[float]()
        now, frame = next_frame(protocol, now, lost_at)
        if lost_at:  # Frames in flight are lost with the link.
            seen, held_up = [at for at in seen if at <= lost_at[0]], 0.0
        arrival = held_up = max(now + there, held_up)
        if fate == "cut before":  # It never arrives; the client learns of it later.
            now = arrival
            reconnect(protocol, now)
            held_up = 0.0
            continue
        seen.append(arrival)
        if fate == "ok":
            now = arrival + back
            protocol.receive(ack(frame), now)
        elif fate == "cut":
            now = arrival + back
            reconnect(protocol, now)
            held_up = 0.0
    assert all(b - a >= 1.0 - 1e-9 for a, b in itertools.pairwise(seen))


def reconnect(protocol: StreamProtocol[Any], now: float) -> None:
    protocol.link_down("cut", now)
    protocol.link_up(now)


def next_frame(
    protocol: StreamProtocol[Any], now: float, lost_at: list[float] | None = None
) -> tuple[float, bytes]:
    for _ in range(50):
        for outcome in protocol.tick(now):
            if isinstance(outcome, LinkTimedOut):
                reconnect(protocol, now)
                if lost_at is not None:
                    lost_at.append(now)
        if (frame := protocol.poll(now)) is not None:
            return now, frame
        assert protocol.wake_at() < math.inf
        now = max(now, protocol.wake_at())
    raise AssertionError("nothing is sent")


# Fair turns, and merged commands


def test_requests_and_changes_take_turns():
    protocol = new_protocol()
    protocol.registry.want([A, DEPTH, *topics("snapshot", "US:A")])
    for _ in range(3):
        protocol.request("RS", BODY, 0.0)
    now, order = 0.0, []
    for _ in range(6):
        now, frame = next_frame(protocol, now)
        protocol.receive(ack(frame), now)
        order.append(decoded(frame)["type"])
    assert [kind[0] == "R" for kind in order] == [False, True] * 3


def test_neither_requests_nor_changes_wait_for_an_empty_queue():
    protocol = new_protocol()
    for _ in range(3):
        protocol.request("RS", BODY, 0.0)
    now, order = 0.0, []
    for _ in range(3):
        now, frame = next_frame(protocol, now)
        protocol.receive(ack(frame), now)
        order.append(now)
    assert order == [0.0, 1.0, 2.0]


def test_a_burst_leaves_as_one_frame_a_channel_and_interval():
    protocol = new_protocol()
    for topic in [
        *trades("US:B", "HK:700", "US:A"),
        *topics("kline", "US:A", interval="1m"),
        *topics("kline", "US:B", interval="1d"),
    ]:
        protocol.registry.want([topic])
    first = decoded(protocol.poll(0.0))
    assert first["type"] == "T"
    assert sorted(first["codes"]) == ["HK:700", "US:A,B"]
    assert "kt" not in first
    now, frames = 0.0, [encoded(first)]
    while not protocol.registry.settled:
        assert len(frames) < 100, "it never comes to rest"
        protocol.receive(ack(frames[-1]), now)
        if not protocol.registry.has_work:
            break
        now, frame = next_frame(protocol, now)
        frames.append(frame)
    klines = [decoded(frame) for frame in frames[1:]]
    assert [(k["type"], k["codes"], k["kt"]) for k in klines] == [
        ("K", ["US:A"], 1),
        ("K", ["US:B"], 1001),
    ]


def test_subscribing_and_unsubscribing_before_the_frame_sends_nothing():
    protocol = new_protocol()
    protocol.registry.want([A])
    protocol.registry.release([A])
    assert protocol.poll(0.0) is None
    assert protocol.wake_at() == 15.0


def test_the_last_subscriber_to_leave_unsubscribes():
    protocol = subscribed(A)
    protocol.registry.want([A])
    protocol.registry.release([A])
    assert protocol.poll(5.0) is None
    protocol.registry.release([A])
    frame = decoded(protocol.poll(5.0))
    assert (frame["type"], frame["codes"]) == ("TC", ["US:A"])
    assert protocol.receive(ack(encoded(frame)), 5.5) is None
    assert protocol.registry.settled


def test_a_reconnect_resubscribes_with_one_frame_a_channel():
    protocol = subscribed(A, B, DEPTH)
    protocol.link_down("cut", 10.0)
    protocol.link_up(20.0)
    frames = []
    now = 20.0
    while not protocol.registry.settled:
        assert now < 1000, "it never comes to rest"
        now, frame = next_frame(protocol, now)
        frames.append(decoded(frame)["type"])
        protocol.receive(ack(frame), now)
    assert frames == ["T", "D"]
    assert now == 21.0


# Ids and replies


def test_ids_are_positive_and_never_repeat_even_on_a_new_link():
    protocol = new_protocol()
    ids = []
    now = 0.0
    for turn in range(12):
        ids.append(protocol.request("RS", BODY, now))
        (protocol.registry.want if turn % 2 else protocol.registry.release)([A])
        now, frame = next_frame(protocol, now)
        if "reqid" in decoded(frame) and decoded(frame)["type"] != "RS":
            ids.append(decoded(frame)["reqid"])
        if turn % 5 == 4:
            reconnect(protocol, now)
        else:
            protocol.receive(ack(frame), now)
    assert len(ids) == len(set(ids))
    assert min(ids) > 0


@pytest.mark.parametrize("more", [{}, {"reqid": ...}, {"reqid": None}])
def test_an_acknowledgement_confirms_with_or_without_an_id(more: dict[str, Any]):
    protocol = new_protocol()
    protocol.registry.want([A, B])
    event = protocol.receive(ack(protocol.poll(0.0), **more), 0.5)
    assert event == Confirmed(frozenset([A, B]), ACKED_AT)
    assert protocol.registry.held == {A, B}
    assert protocol.stats.unmatched == 0


def test_an_ack_of_very_many_topics_is_emitted_in_parts_and_nothing_is_sent_meanwhile():
    protocol = new_protocol()
    many = frozenset(trades(*[f"US:S{number}" for number in range(2500)]))
    protocol.registry.want([*many, DEPTH])
    assert protocol.receive(ack(protocol.poll(0.0)), 0.5) is None
    assert many <= protocol.registry.held
    parts: list[frozenset[Any]] = []
    while protocol.wake_at() == -math.inf:
        assert protocol.poll(9.0) is None
        [part] = protocol.tick(0.5)
        assert isinstance(part, Confirmed)
        assert part.second == ACKED_AT
        parts.append(part.topics)
    assert sum(map(len, parts)) == len(many)
    assert frozenset().union(*parts) == many
    assert max(map(len, parts)) <= 1000
    assert decoded(protocol.poll(9.0))["type"] == "D"


def test_the_rest_of_a_split_ack_is_emitted_before_the_link_is_lost():
    protocol = new_protocol()
    many = frozenset(trades(*[f"US:S{number}" for number in range(2500)]))
    protocol.registry.want(many)
    protocol.receive(ack(protocol.poll(0.0)), 0.5)
    [first] = protocol.tick(0.5)
    assert isinstance(first, Confirmed)
    rest = protocol.flush_confirmed()
    assert first.topics.union(*[part.topics for part in rest]) == many
    assert protocol.flush_confirmed() == []
    assert protocol.tick(0.5) == []


@pytest.mark.fault("P5", "P7")
@pytest.mark.parametrize(
    "more", [{"reqid": 77}, {"reqid": -1}, {"type": "S"}, {"type": "TC"}, {"type": "H"}]
)
def test_a_reply_that_does_not_match_is_counted_and_ignored(more: dict[str, Any]):
    protocol = new_protocol()
    protocol.registry.want([A])
    frame = protocol.poll(0.0)
    assert protocol.receive(ack(frame, **more), 0.5) is None
    assert protocol.stats.unmatched == 1
    assert not protocol.registry.holds(A)
    assert not protocol.is_verified
    assert protocol.receive(ack(frame), 1.0) == Confirmed(frozenset([A]), ACKED_AT)


@pytest.mark.fault("P5")
def test_a_second_reply_is_counted_and_ignored():
    protocol = new_protocol()
    protocol.registry.want([A])
    frame = protocol.poll(0.0)
    protocol.receive(ack(frame), 0.5)
    assert protocol.receive(ack(frame), 0.6) is None
    assert protocol.stats.unmatched == 1
    event = protocol.receive(rejection(frame), 0.7)
    assert event is None or isinstance(event, ServerError)
    assert protocol.stats.unmatched == 2
    assert protocol.registry.holds(A)


@pytest.mark.fault("P4")
def test_a_late_ack_does_not_confirm_a_later_command():
    protocol = new_protocol()
    protocol.registry.want([A])
    late = protocol.poll(0.0)
    protocol.tick(8.0)
    protocol.registry.want([B])
    again = protocol.poll(8.0)
    assert protocol.receive(ack(late), 8.5) is None
    assert protocol.registry.held == frozenset()
    assert protocol.stats.unmatched == 1
    assert protocol.receive(rejection(again), 9.0) is None
    assert protocol.registry.held == frozenset()


@pytest.mark.fault("P4")
def test_a_late_rejection_does_not_reject_a_later_command():
    protocol = new_protocol()
    protocol.registry.want([A])
    late = protocol.poll(0.0)
    protocol.tick(8.0)
    again = protocol.poll(8.0)
    event = protocol.receive(rejection(late), 8.5)
    assert not isinstance(event, SubscriptionRejected)
    assert protocol.registry.wants(A)
    assert protocol.receive(ack(again), 9.0) == Confirmed(frozenset([A]), ACKED_AT)


@pytest.mark.fault("P4")
def test_a_reply_to_a_frame_of_the_old_link_is_ignored_on_the_new_one():
    protocol = new_protocol()
    protocol.registry.want([A])
    old = protocol.poll(0.0)
    reconnect(protocol, 1.0)
    assert protocol.receive(ack(old), 1.5) is None
    assert not protocol.registry.holds(A)


@pytest.mark.fault("P6")
def test_an_error_without_a_command_is_emitted():
    protocol = new_protocol()
    event = protocol.receive(encoded({"msg": "maintenance\nat 5"}), 1.0)
    assert isinstance(event, ServerError)
    assert "maintenance" in event.message
    assert "\n" not in event.message
    assert protocol.stats.unmatched == 1


@pytest.mark.fault("P2")
def test_a_rejected_heartbeat_counts_as_a_reply():
    protocol = new_protocol()
    frame = protocol.poll(15.0)
    event = protocol.receive(rejection(frame, "no"), 15.5)
    assert isinstance(event, ServerError)
    assert event.message == "H: no"
    assert protocol.stats.unmatched == 0
    protocol.registry.want([A])
    assert protocol.poll(16.5)


# Rejections


@pytest.mark.fault("P8")
def test_a_rejected_batch_is_halved_until_the_rejected_topics_are_known():
    protocol = new_protocol()
    wanted = trades(*(f"US:{letter}" for letter in "ABCDEFGH"))
    protocol.registry.want(wanted)
    guilty = {wanted[2], wanted[7]}
    names = {topic.symbol for topic in guilty}
    now, events = 0.0, []
    while not protocol.registry.settled:
        assert now < 1000, "it never comes to rest"
        now, frame = next_frame(protocol, now)
        if decoded(frame)["type"] == "H":
            protocol.receive(ack(frame), now)
            continue
        codes = {f"US:{c}" for c in decoded(frame)["codes"][0][3:].split(",")}
        events.append(
            protocol.receive((rejection if codes & names else ack)(frame), now)
        )
    declined = [e for e in events if isinstance(e, SubscriptionRejected)]
    assert {t for e in declined for t in e.topics} == guilty
    assert {e.message for e in declined} == {"no such code"}
    assert protocol.registry.held == set(wanted) - guilty
    confirmed = [t for e in events if isinstance(e, Confirmed) for t in e.topics]
    assert sorted(confirmed) == sorted(set(wanted) - guilty)


@pytest.mark.fault("P6")
@pytest.mark.parametrize(
    "more",
    [{}, {"reqid": ...}, {"type": ...}, {"type": ..., "reqid": ...}, {"type": "E"}],
)
def test_a_rejection_counts_whatever_its_text(more: dict[str, Any]):
    protocol = new_protocol()
    protocol.registry.want([A])
    event = protocol.receive(rejection(protocol.poll(0.0), **more), 0.5)
    assert event == SubscriptionRejected(frozenset([A]), "no such code")
    assert not protocol.registry.wants(A)
    assert protocol.wake_at() == 15.0


def test_a_rejected_unsubscription_is_not_emitted():
    protocol = subscribed(A)
    protocol.registry.release([A])
    assert protocol.receive(rejection(protocol.poll(5.0)), 5.5) is None
    assert protocol.registry.settled
    assert protocol.registry.held == frozenset()


@pytest.mark.fault("P3")
def test_an_unacknowledged_change_is_emitted_and_sent_again():
    protocol = new_protocol()
    protocol.registry.want([A, B])
    first = protocol.poll(0.0)
    assert protocol.tick(7.9) == []
    assert protocol.tick(8.0) == [SubscriptionTimedOut(frozenset([A, B]))]
    assert protocol.tick(8.0) == []
    again = protocol.poll(8.0)
    assert decoded(again)["codes"] == decoded(first)["codes"]
    assert protocol.receive(ack(again), 8.5) == Confirmed(frozenset([A, B]), ACKED_AT)


@pytest.mark.fault("F1", "F61")
def test_the_first_frame_of_all_is_sent_again_in_half_of_the_time():
    """An earlier process may have sent one just before; some servers drop it then."""
    protocol = new_protocol(fresh=True)
    protocol.registry.want([A])
    first = protocol.poll(0.0)
    assert protocol.wake_at() == 4.0
    assert protocol.tick(4.0) == []
    again = protocol.poll(4.0)
    assert decoded(again)["codes"] == decoded(first)["codes"]
    assert protocol.tick(8.0) == [SubscriptionTimedOut(frozenset([A]))]
    again = protocol.poll(8.0)
    assert protocol.receive(ack(again), 8.5) == Confirmed(frozenset([A]), ACKED_AT)


@pytest.mark.fault("F1", "F61")
@pytest.mark.parametrize("answered", [4.2, math.inf])
def test_a_request_that_is_the_first_frame_is_sent_again_within_its_time(answered):
    protocol = new_protocol(fresh=True)
    reqid = protocol.request("RS", BODY, 0.0)
    first = protocol.poll(0.0)
    assert protocol.tick(4.0) == []
    again = protocol.poll(4.0)
    assert decoded(again)["reqid"] > decoded(first)["reqid"]
    if answered < math.inf:
        event = protocol.receive(ack(again, data=[]), answered)
        assert isinstance(event, Replied)
        return
    assert failures(protocol.tick(8.0)) == {reqid: RequestTimeoutError}
    assert protocol.poll(8.0) is None


@pytest.mark.fault("F1", "F61")
def test_a_reply_to_the_first_attempt_is_the_reply_to_the_request():
    protocol = new_protocol(fresh=True)
    protocol.request("RS", BODY, 0.0)
    first = protocol.poll(0.0)
    protocol.tick(4.0)
    protocol.poll(4.0)
    assert isinstance(protocol.receive(ack(first, data=[]), 5.0), Replied)


def test_an_unacknowledged_removal_is_sent_again_and_not_emitted():
    protocol = subscribed(A)
    protocol.registry.release([A])
    protocol.poll(5.0)
    assert protocol.tick(13.0) == []
    assert decoded(protocol.poll(13.0))["type"] == "TC"


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
    protocol = new_protocol()
    if to == "change":
        protocol.registry.want([A])
    elif to == "request":
        protocol.request("RS", BODY, 0.0)
    else:
        protocol.request_heartbeat()
    event = protocol.receive(rejection(protocol.poll(0.0), "Key expired.", **more), 0.5)
    assert isinstance(event, KeyRejected)
    assert isinstance(event.error, AuthenticationError)
    assert "Key expired." in str(event.error)
    assert not protocol.is_verified


@pytest.mark.parametrize("more", [{}, {"type": "H"}, {"type": "S", "reqid": 3}])
def test_a_rejected_key_is_fatal_without_a_command(more: dict[str, Any]):
    protocol = new_protocol()
    event = protocol.receive(encoded({"msg": "invalid key"} | more), 0.5)
    assert isinstance(event, KeyRejected)


# Requests


def test_a_request_resolves_to_its_reply():
    protocol = new_protocol()
    reqid = protocol.request("RS", BODY, 0.0)
    frame = protocol.poll(0.0)
    assert decoded(frame) == {"type": "RS", "reqid": reqid, **BODY}
    event = protocol.receive(ack(frame, data=[{"c": "US:A"}]), 0.5)
    assert isinstance(event, Replied)
    assert event.reqid == reqid
    assert json.loads(bytes(event.data)) == [{"c": "US:A"}]
    assert protocol.tick(8.0) == []


@pytest.mark.parametrize(
    ("msg", "kind"), [("no such code", RejectedError), ("too many codes", LimitError)]
)
def test_a_rejected_request_fails_with_the_text_of_the_server(
    msg: str, kind: type[Exception]
):
    protocol = new_protocol()
    reqid = protocol.request("RS", BODY, 0.0)
    event = protocol.receive(rejection(protocol.poll(0.0), msg), 0.5)
    assert isinstance(event, Failed)
    assert event.reqid == reqid
    assert type(event.error) is kind
    assert str(event.error) == f"RS US:A: {msg}"


@pytest.mark.fault("P3", "P4", "I5")
def test_a_request_without_a_reply_times_out_and_a_later_reply_is_ignored():
    protocol = new_protocol()
    reqid = protocol.request("RS", BODY, 0.0)
    frame = protocol.poll(0.0)
    assert protocol.wake_at() == 8.0
    (failed,) = protocol.tick(8.0)
    assert failures([failed]) == {reqid: RequestTimeoutError}
    assert "RS: no reply within 8 s" in str(failed.error)  # type: ignore[union-attr]
    assert protocol.tick(8.0) == []
    assert protocol.receive(ack(frame), 9.0) is None


def test_a_request_without_a_link_times_out_too():
    protocol = new_protocol(up=False)
    reqid = protocol.request("RS", BODY, 100.0)
    assert protocol.wake_at() == 108.0
    (failed,) = protocol.tick(108.0)
    assert failures([failed]) == {reqid: RequestTimeoutError}
    assert "no link" in str(failed.error)  # type: ignore[union-attr]
    assert protocol.wake_at() == math.inf


def work_through(
    protocol: StreamProtocol[Any], *, now: float, trip: float, silent: int = 0
) -> tuple[list[int], dict[int, type[Exception]]]:
    """Reply to all but ``silent`` frames, each after a round trip; return the outcomes."""
    answered: list[int] = []
    failed: dict[int, type[Exception]] = {}
    while protocol.wake_at() < min(now + 14, 500):
        now = max(now, protocol.wake_at())
        outcomes = protocol.tick(now)
        assert not any(isinstance(outcome, LinkTimedOut) for outcome in outcomes)
        failed |= failures(outcomes)
        if (frame := protocol.poll(now)) is None:
            continue
        if silent:
            silent -= 1
            continue
        now += trip
        event = protocol.receive(ack(frame), now)
        if isinstance(event, Replied):
            answered.append(event.reqid)
        if not protocol.scheduler.requests.has_work:
            break
    return answered, failed


@pytest.mark.parametrize("trip", [0.0, 0.5, 3.0, 7.0])
def test_requests_of_a_long_queue_that_moves_do_not_time_out(trip: float):
    protocol = new_protocol(silence=29.0)
    ids = [protocol.request("RS", BODY, 0.0) for _ in range(20)]
    assert work_through(protocol, now=0.0, trip=trip) == (ids, {})


def test_one_lost_reply_fails_one_request_and_not_the_queue():
    # The next ones have waited as long, but were not sent yet.
    protocol = new_protocol()
    ids = [protocol.request("RS", BODY, 0.0) for _ in range(4)]
    answered, failed = work_through(protocol, now=0.0, trip=0.2, silent=1)
    assert failed == {ids[0]: RequestTimeoutError}
    assert answered == ids[1:]


@pytest.mark.parametrize("after", [0.0, 0.1, 4.0])
def test_a_request_behind_a_lost_reply_still_gets_a_reply(after: float):
    protocol = new_protocol()
    protocol.request_heartbeat()
    protocol.poll(0.0)  # A heartbeat without a reply.
    reqid = protocol.request("RS", BODY, after)
    assert work_through(protocol, now=after, trip=0.3) == ([reqid], {})


def test_a_cancelled_request_is_not_sent():
    protocol = new_protocol()
    protocol.cancel(protocol.request("RS", BODY, 0.0))
    assert protocol.poll(0.0) is None
    assert protocol.tick(8.0) == []


def test_a_request_cancelled_after_it_was_sent_still_sets_the_pace():
    protocol = new_protocol()
    reqid = protocol.request("RS", BODY, 0.0)
    frame = protocol.poll(0.0)
    protocol.cancel(reqid)
    protocol.request("RS", BODY, 0.1)
    assert protocol.receive(ack(frame), 2.0) is None
    assert protocol.stats.unmatched == 0
    assert protocol.poll(2.9) is None
    assert protocol.poll(3.0)


def test_a_lost_link_fails_sent_requests_and_keeps_queued_ones():
    protocol = new_protocol()
    sent, unsent = protocol.request("RS", BODY, 0.0), protocol.request("RT", BODY, 0.0)
    protocol.poll(0.0)
    outcomes = protocol.link_down("reset by peer", 0.5)
    assert failures(outcomes) == {sent: TransportError}
    [failed] = outcomes
    assert isinstance(failed, Failed)
    assert "RS" in str(failed.error)
    assert "reset by peer" in str(failed.error)
    protocol.link_up(2.0)
    assert decoded(protocol.poll(2.0))["reqid"] == unsent
    assert protocol.tick(7.9) == []


# Silence, and stalls of the loop


@pytest.mark.fault("P1")
def test_silence_is_a_loss():
    protocol = new_protocol()
    protocol.receive(ack(protocol.poll(15.0)), 15.1)
    protocol.poll(30.1)
    protocol.tick(38.1)
    assert protocol.tick(40.0) == []
    assert protocol.wake_at() <= 40.1
    (lost,) = protocol.tick(40.1)
    assert lost == LinkTimedOut("nothing was received for 25 s")


@pytest.mark.fault("P1")
@pytest.mark.parametrize(
    "data", [encoded(PUSHES["T"]), b"junk", b'{"tp":"new"}', b"{}"]
)
def test_any_received_bytes_break_the_silence(data: bytes):
    protocol = new_protocol()
    protocol.receive(data, 20.0)
    assert protocol.tick(25.0) == []
    assert isinstance(protocol.tick(45.0)[0], LinkTimedOut)


def test_after_a_stall_the_socket_is_read_before_the_link_times_out():
    protocol = new_protocol()
    protocol.registry.want([A])
    reqid = protocol.request("RS", BODY, 0.0)
    frame = protocol.poll(0.0)
    assert protocol.tick(60.0) == []
    assert protocol.receive(ack(frame), 60.0) == Confirmed(frozenset([A]), ACKED_AT)
    assert protocol.tick(60.5) == []
    outcomes = protocol.tick(61.0)
    assert not any(isinstance(o, LinkTimedOut) for o in outcomes)
    assert failures(outcomes).keys() <= {reqid}


def test_a_link_that_is_silent_after_a_stall_is_lost_a_second_later():
    protocol = new_protocol()
    assert protocol.tick(60.0) == []
    assert protocol.tick(60.9) == []
    assert isinstance(protocol.tick(61.0)[0], LinkTimedOut)


def test_the_grace_period_after_a_stall_does_not_spin():
    # A wake_at() in the past for the whole second would be a busy loop.
    protocol = new_protocol()
    protocol.registry.want([A])
    protocol.poll(0.0)
    assert protocol.tick(60.0) == []
    assert protocol.poll(60.0) is None
    assert protocol.wake_at() > 60.0


def test_a_reply_just_before_the_deadline_counts():
    protocol = new_protocol()
    protocol.registry.want([A])
    frame = protocol.poll(0.0)
    assert protocol.receive(ack(frame), 7.999) == Confirmed(frozenset([A]), ACKED_AT)
    assert protocol.tick(8.0) == []


STORIES = st.lists(st.tuples(st.integers(0, 5), st.floats(0.0, 12.0)), max_size=40)


def act(
    protocol: StreamProtocol[Any], what: int, frame: bytes | None, now: float
) -> None:
    match what:
        case 0:
            protocol.registry.want([A])
        case 1:
            protocol.registry.release([A])
        case 2:
            protocol.request("RS", BODY, now)
        case 3 if frame:
            protocol.receive(ack(frame), now)
        case 4 if frame:
            protocol.receive(rejection(frame), now)
        case 5:
            reconnect(protocol, now)
            protocol.request_heartbeat()
        case _:
            pass


@pytest.mark.parametrize("stalls", [False, True])
@settings(deadline=None)
@given(story=STORIES)
def test_polling_at_wake_at_always_makes_progress(
    story: list[tuple[int, float]],
    stalls: bool,  # noqa: FBT001
):
    protocol = new_protocol()
    now, frame = 0.0, None
    for what, wait in story:
        act(protocol, what, frame, now)
        end = now + wait
        if stalls and wait > 9:
            now = end = now + 5 * wait
        while protocol.wake_at() <= end:
            now = max(now, protocol.wake_at())
            outcomes, polled = protocol.tick(now), protocol.poll(now)
            frame = polled or frame
            assert outcomes or polled or protocol.wake_at() > now
            if any(isinstance(outcome, LinkTimedOut) for outcome in outcomes):
                reconnect(protocol, now)
        now = end


# Outages


def test_a_lost_link_opens_an_outage_for_what_was_live():
    protocol = subscribed(A, DEPTH)
    protocol.receive(encoded(PUSHES["T"]), 5.0)
    protocol.registry.want([B])
    protocol.link_down("cut", 9.0)
    assert protocol.outages.end(A) == protocol.outages.end(DEPTH) == Outage(5.0, "cut")
    assert protocol.outages.end(B) is None


def test_a_second_loss_before_the_topic_is_live_keeps_the_beginning():
    protocol = subscribed(A)
    protocol.link_down("cut", 9.0)
    protocol.link_up(20.0)
    protocol.poll(20.0)
    protocol.link_down("cut again", 21.0)
    assert protocol.outages.end(A) == Outage(0.5, "cut")


def test_a_failed_attempt_is_no_outage_of_its_own():
    protocol = new_protocol(up=False)
    protocol.registry.want([A])
    assert protocol.link_down("refused", 1.0) == []
    assert not protocol.outages.open


def test_a_topic_that_is_no_longer_wanted_has_no_outage():
    # Released, but not yet unsubscribed: this outage would never end.
    protocol = subscribed(A)
    protocol.registry.release([A])
    protocol.link_down("cut", 9.0)
    assert not protocol.outages.open


def test_a_topic_that_ticks_before_its_ack_has_an_outage_too():
    protocol = new_protocol()
    protocol.registry.want([A])
    protocol.poll(0.0)
    protocol.receive(encoded(PUSHES["T"]), 0.5)
    protocol.outages.note_early_tick(A)
    protocol.link_down("cut", 0.7)
    assert protocol.outages.end(A) == Outage(0.5, "cut")


def test_a_topic_that_ticked_before_its_ack_and_was_removed_has_no_outage():
    # The ack clears the record of the early tick.
    protocol = new_protocol()
    protocol.registry.want([A])
    frame = protocol.poll(0.0)
    protocol.outages.note_early_tick(A)
    protocol.receive(ack(frame), 0.5)
    protocol.registry.release([A])
    protocol.receive(ack(protocol.poll(1.5)), 2.0)
    assert protocol.registry.settled
    protocol.link_down("cut", 9.0)
    assert not protocol.outages.open


# Frames in, counted


def test_a_push_is_emitted_as_its_tick():
    protocol = new_protocol()
    event = protocol.receive(encoded(PUSHES["T"]), 1.0)
    assert isinstance(event, Trade)
    assert event.symbol == "US:AAPL"


@pytest.mark.fault("P12")
def test_an_unreadable_frame_is_counted_emitted_and_skipped():
    protocol = new_protocol()
    event = protocol.receive(b"\x1b[2J junk", 1.0)
    assert isinstance(event, Unreadable)
    assert "junk" in event.reason
    assert "\x1b" not in event.reason
    assert protocol.stats.unreadable == 1


@pytest.mark.fault("P19")
def test_a_push_of_a_new_kind_is_counted_and_skipped():
    protocol = new_protocol()
    assert protocol.receive(b'{"tp":"X","c":"US:A"}', 1.0) is None
    assert protocol.stats.unknown == 1


def test_frames_sent_are_counted():
    protocol = new_protocol()
    protocol.registry.want([A])
    protocol.receive(ack(protocol.poll(0.0)), 0.5)
    assert protocol.poll(1.0) is None
    assert protocol.poll(15.0)
    assert protocol.stats.frames_sent == 2


def test_a_reply_confirms_the_link_and_each_new_link_is_confirmed_anew():
    protocol = new_protocol()
    assert not protocol.is_verified
    protocol.registry.want([A])
    protocol.receive(ack(protocol.poll(0.0)), 0.5)
    assert protocol.is_verified
    reconnect(protocol, 1.0)
    assert not protocol.is_verified


def test_the_key_in_text_of_the_server_is_redacted():
    protocol = StreamProtocol(
        Decimal,
        limits=Limits(),
        timing=Timing(),
        stats=Counters(),
        redact=lambda text: text.replace("s3cr3t", "***"),
    )
    protocol.link_up(0.0)
    protocol.registry.want([A])
    events = [
        protocol.receive(b'{"msg":"s3cr3t?"}'[:-1], 0.1),
        protocol.receive(rejection(protocol.poll(0.0), "no s3cr3t"), 0.2),
        protocol.receive(encoded({"msg": "what s3cr3t"}), 0.3),
        protocol.receive(encoded({"msg": "invalid key s3cr3t"}), 0.4),
    ]
    kinds = [Unreadable, SubscriptionRejected, ServerError, KeyRejected]
    assert [type(event) for event in events] == kinds
    for event in events:
        shown = str(event.error) if isinstance(event, KeyRejected) else str(event)
        assert "s3cr3t" not in shown
        assert "***" in shown


def test_a_burst_of_pushes_is_read_at_once_or_not_at_all():
    one = new_protocol()
    one.link_up(0.0)
    pushes = one.receive_ticks([encoded(PUSHES["T"]), encoded(PUSHES["K"])], 30.0)
    assert [type(push) for push in pushes] == [Trade, Kline]
    heard_until = one.wake_at()
    for other in (b'{"type":"H","msg":"OK"}', b"{", b'{"tp":"Z"}'):
        assert not one.receive_ticks([encoded(PUSHES["T"]), other], 40.0)
    assert one.wake_at() == heard_until
    assert (one.stats.answers, one.stats.unreadable, one.stats.unknown) == (0, 0, 0)
