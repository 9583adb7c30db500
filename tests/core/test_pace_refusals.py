"""Refusals for the pace: commands that the server did not look at are sent again."""

from __future__ import annotations

import math
from typing import Any

import pytest

from qos_async._core.events import (
    Confirmed,
    Failed,
    KeyRejected,
    Outcome,
    Replied,
    ServerError,
    SubscriptionRejected,
)
from qos_async._core.protocol import StreamProtocol
from qos_async._core.scheduler import MAX_REFUSALS
from qos_async._core.wire import HEARTBEAT
from qos_async.errors import LimitError
from tests.support.wire_frames import (
    ack,
    decoded,
    encoded,
    new_protocol,
    rejection,
    topics,
    trades,
)

pytestmark = pytest.mark.fault("F1")

A, B, C, D = trades("US:A", "US:B", "US:C", "US:D")
BODY = {"codes": ["US:A"]}
TOO_SOON = "Request too frequent: at least 1 second between two."


class Server:
    """Replies at once, in the order of ``verdicts``; then to everything with OK."""

    def __init__(self, protocol: StreamProtocol[Any], *verdicts: str) -> None:
        self.protocol = protocol
        self.verdicts = list(verdicts)
        self.now = 0.0
        self.sent: list[tuple[float, bytes]] = []
        self.events: list[Outcome] = []

    def run(self, until: float) -> list[Outcome]:
        """Send what is due and reply to it; return the events since the last call."""
        while (due := self.protocol.wake_at()) <= until:
            self.now = max(self.now, due)
            self.events += self.protocol.tick(self.now)
            frame = self.protocol.poll(self.now)
            if frame is not None:
                self.sent.append((self.now, frame))
                verdict = self.verdicts.pop(0) if self.verdicts else "OK"
                reply = ack(frame, data=[]) if verdict == "OK" else ...
                reply = rejection(frame, verdict) if reply is ... else reply
                event: Any = self.protocol.receive(reply, self.now)
                self.events += [] if event is None else [event]
        self.now = until
        events, self.events = self.events, []
        return events

    @property
    def kinds(self) -> list[str]:
        return [decoded(frame)["type"] for _, frame in self.sent]

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.sent]


def test_a_subscription_is_sent_again_after_longer_and_longer_waits():
    protocol = new_protocol()
    protocol.registry.want([A, B])
    server = Server(protocol, *[TOO_SOON] * 3)
    events = server.run(14.0)
    assert [e for e in events if not isinstance(e, ServerError)] == [
        Confirmed(frozenset([A, B]), 1741960243)
    ]
    assert server.times == [0.0, 1.0, 2.5, 4.5]
    assert {decoded(frame)["codes"][0] for _, frame in server.sent} == {"US:A,B"}
    assert protocol.registry.held == {A, B}


def test_the_first_refusal_is_not_worth_a_warning_and_others_are():
    protocol = new_protocol()
    protocol.registry.want([A])
    server = Server(protocol, TOO_SOON, TOO_SOON)
    assert server.run(0.5) == []
    [error] = server.run(1.5)
    assert isinstance(error, ServerError)
    assert TOO_SOON in error.message


def test_the_waits_start_anew_after_a_frame_that_was_taken():
    protocol = new_protocol()
    protocol.registry.want([A])
    server = Server(protocol, TOO_SOON, TOO_SOON, "OK", TOO_SOON)
    server.run(5.0)
    protocol.registry.want([B])
    server.run(14.0)
    assert server.times == [0.0, 1.0, 2.5, 5.0, 6.0]


@pytest.mark.parametrize(
    "more",
    [{}, {"reqid": ...}, {"type": ...}, {"type": ..., "reqid": ...}, {"type": "E"}],
)
def test_a_refusal_counts_whatever_fields_it_has(more: dict[str, Any]):
    protocol = new_protocol()
    protocol.registry.want([A])
    frame = protocol.poll(0.0)
    assert protocol.receive(rejection(frame, TOO_SOON, **more), 0.5) is None
    assert protocol.registry.wants(A)
    assert protocol.poll(1.4) is None
    again = protocol.poll(1.5)
    assert decoded(again)["codes"] == decoded(frame)["codes"]


def test_a_refused_batch_is_not_halved_and_a_half_stays_on_its_own():
    protocol = new_protocol()
    protocol.registry.want([A, B, C, D])
    server = Server(protocol, TOO_SOON, "no such code", TOO_SOON, "OK", TOO_SOON)
    server.run(3.0)  # Refused, rejected as a whole, and its first half refused.
    protocol.registry.want(trades("US:NEW"))
    server.run(14.0)
    asked = [decoded(frame)["codes"][0] for _, frame in server.sent]
    assert asked[:3] == ["US:A,B,C,D", "US:A,B,C,D", "US:A,B"]
    assert sorted(set(asked[3:])) == ["US:A,B", "US:C,D", "US:NEW"]
    assert protocol.registry.held == {A, B, C, D, *trades("US:NEW")}


def test_a_topic_that_is_unsubscribed_meanwhile_is_not_sent_again():
    protocol = new_protocol()
    protocol.registry.want([A, B])
    server = Server(protocol, TOO_SOON)
    server.run(0.5)
    protocol.registry.release([A])
    server.run(14.0)
    assert [decoded(f)["codes"] for _, f in server.sent] == [["US:A,B"], ["US:B"]]


def test_an_unsubscription_is_sent_again_until_it_is_taken():
    protocol = new_protocol()
    protocol.registry.want([A])
    server = Server(protocol, "OK", *[TOO_SOON] * 3)
    server.run(2.0)
    protocol.registry.release([A])
    server.run(14.0)
    assert server.kinds == ["T", "TC", "TC", "TC", "TC"]
    assert protocol.registry.settled
    assert protocol.registry.held == frozenset()


def test_a_topic_that_is_wanted_again_when_its_removal_is_refused_is_acknowledged():
    protocol = new_protocol()
    protocol.registry.want([A, B])
    Server(protocol).run(2.0)
    protocol.registry.release([A, B])
    removal = protocol.poll(2.0)
    protocol.registry.want([A])
    assert protocol.receive(rejection(removal, TOO_SOON), 2.1) is None
    server = Server(protocol)
    assert server.run(14.0) == [Confirmed(frozenset([A]))]
    assert [decoded(f)["codes"] for _, f in server.sent] == [["US:B"]]
    assert protocol.registry.held == {A}


def test_a_topic_that_is_wanted_again_stays_held_after_the_last_refusal_of_its_removal():
    protocol = new_protocol(silence=1e6)
    protocol.registry.want([A])
    server = Server(protocol, "OK", *[TOO_SOON] * (MAX_REFUSALS - 1))
    server.run(2.0)
    protocol.registry.release([A])
    while server.kinds.count("TC") < MAX_REFUSALS - 1:
        server.run(protocol.wake_at())
    now = protocol.wake_at()
    removal = protocol.poll(now)
    assert decoded(removal)["type"] == "TC"
    protocol.registry.want([A])
    protocol.receive(rejection(removal, TOO_SOON), now)
    assert server.run(now + 10.0) == [Confirmed(frozenset([A]))]
    assert server.kinds.count("T") == 1
    assert protocol.registry.held == {A}


def test_a_request_is_sent_again_with_another_reqid_before_others():
    protocol = new_protocol()
    first = protocol.request("RS", BODY, 0.0)
    second = protocol.request("RD", BODY, 0.0)
    server = Server(protocol, *[TOO_SOON] * 2)
    events = server.run(14.0)
    replied = [event.reqid for event in events if isinstance(event, Replied)]
    assert replied == [first, second]
    assert server.kinds == ["RS", "RS", "RS", "RD"]
    reqids = [decoded(frame)["reqid"] for _, frame in server.sent]
    assert len(set(reqids)) == 4


def test_a_refused_request_whose_caller_has_left_is_not_sent_again():
    protocol = new_protocol()
    reqid = protocol.request("RS", BODY, 0.0)
    frame = protocol.poll(0.0)
    protocol.cancel(reqid)
    assert protocol.receive(rejection(frame, TOO_SOON), 0.5) is None
    assert not protocol.scheduler.has_work


def test_a_refused_request_does_not_time_out_while_it_waits():
    protocol = new_protocol(pace=4.0, request_timeout=8.0, heartbeat=12.0)
    protocol.request("RS", BODY, 0.0)
    server = Server(protocol, *[TOO_SOON] * (MAX_REFUSALS - 1))
    events = server.run(100.0)
    assert [type(event) for event in events if not isinstance(event, ServerError)] == [
        Replied
    ]


def test_a_refused_heartbeat_is_sent_again_after_the_interval():
    protocol = new_protocol()
    server = Server(protocol, TOO_SOON, TOO_SOON)
    server.run(20.0)
    assert server.sent == [(15.0, HEARTBEAT), (16.0, HEARTBEAT), (17.5, HEARTBEAT)]
    server.run(33.0)
    assert server.times[3:] == [32.5]


def test_heartbeats_that_are_always_refused_keep_their_interval():
    protocol = new_protocol(silence=1e6)
    server = Server(protocol, *[TOO_SOON] * 100)
    errors = server.run(300.0)
    assert all(isinstance(error, ServerError) for error in errors)
    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert max(gaps) <= 30.0
    assert len(server.sent) < 35


def test_after_several_refusals_in_a_row_a_request_fails_and_the_next_gets_its_turns():
    protocol = new_protocol()
    first = protocol.request("RS", BODY, 0.0)
    second = protocol.request("RD", BODY, 0.0)
    server = Server(protocol, *[TOO_SOON] * 1000)
    events = server.run(60.0)
    failed = [event for event in events if isinstance(event, Failed)]
    assert [event.reqid for event in failed] == [first, second]
    assert {type(event.error) for event in failed} == {LimitError}
    assert "too frequent" in str(failed[0].error)
    assert "another program may use this key" in str(failed[0].error)
    assert server.kinds.count("RS") == server.kinds.count("RD") == MAX_REFUSALS


def test_after_several_refusals_in_a_row_all_topics_of_a_subscription_fail_together():
    protocol = new_protocol()
    protocol.registry.want([A, B, C])
    server = Server(protocol, *[TOO_SOON] * 1000)
    events = server.run(40.0)
    [rejected] = [e for e in events if isinstance(e, SubscriptionRejected)]
    assert rejected.topics == {A, B, C}
    assert TOO_SOON in rejected.message
    assert server.kinds.count("T") == MAX_REFUSALS
    assert protocol.registry.settled


def test_a_subscription_that_may_be_held_all_the_same_is_removed_when_it_fails():
    protocol = new_protocol(silence=1e6, heartbeat=15.0)
    protocol.registry.want([A])
    protocol.poll(0.0)
    protocol.tick(8.0)  # Its reply timed out: the server may have it.
    server = Server(protocol, *[TOO_SOON] * 10)
    server.run(60.0)
    assert "TC" in server.kinds
    assert protocol.registry.settled


def test_an_unsubscription_that_is_always_refused_does_not_stop_what_follows():
    protocol = new_protocol()
    protocol.registry.want([A])
    server = Server(protocol, "OK", *[TOO_SOON] * 1000)
    server.run(2.0)
    protocol.registry.release([A])
    protocol.registry.want(topics("depth", "US:A"))
    events = server.run(100.0)
    assert any(isinstance(event, SubscriptionRejected) for event in events)


def test_changes_and_requests_take_turns_while_both_are_refused():
    protocol = new_protocol()
    protocol.registry.want([A])
    protocol.request("RS", BODY, 0.0)
    server = Server(protocol, *[TOO_SOON] * 4)
    events = server.run(20.0)
    assert {type(e) for e in events} >= {Confirmed, Replied}
    assert server.kinds[:4] == ["T", "RS", "T", "RS"]


def test_a_topic_that_was_live_gets_more_turns_than_a_new_one():
    protocol = new_protocol(silence=1e6)
    protocol.registry.want([A, B])
    server = Server(protocol)
    server.run(2.0)
    protocol.link_down("cut", 2.0)
    protocol.link_up(2.0)
    server.verdicts = [TOO_SOON] * 3 * MAX_REFUSALS
    events = server.run(200.0)
    assert not any(isinstance(event, SubscriptionRejected) for event in events)
    assert protocol.registry.held == {A, B}


def test_a_refused_link_counts_as_verified_and_sends_on_the_next_one_too():
    protocol = new_protocol()
    reqid = protocol.request("RS", BODY, 0.0)
    protocol.receive(rejection(protocol.poll(0.0), TOO_SOON), 0.1)
    assert protocol.is_verified
    assert not any(isinstance(e, Failed) for e in protocol.link_down("cut", 0.2))
    protocol.link_up(0.3)
    assert protocol.poll(1.0) is None
    frame = protocol.poll(1.2)
    replied = protocol.receive(ack(frame, data=[]), 1.3)
    assert isinstance(replied, Replied)
    assert replied.reqid == reqid


def test_a_faulty_key_is_final_whatever_else_the_text_has():
    protocol = new_protocol()
    protocol.registry.want([A])
    event = protocol.receive(
        rejection(protocol.poll(0.0), "Key expired, please try again later"), 0.1
    )
    assert isinstance(event, KeyRejected)


def test_a_refusal_that_belongs_to_nothing_delays_nothing():
    protocol = new_protocol()
    event = protocol.receive(encoded({"msg": TOO_SOON}), 0.5)
    assert isinstance(event, ServerError)
    protocol.registry.want([A])
    assert protocol.poll(0.5)
    assert protocol.wake_at() < math.inf
