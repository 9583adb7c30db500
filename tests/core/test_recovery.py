"""Recovery requests after an outage, and when cases are settled without a reply."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest

from qos_async._core.queries import Queries
from qos_async._core.recovery import Outage, Recovery
from qos_async._core.rows import Unread
from qos_async.topics import Topic
from tests.support.factories import trade_at

OUTAGE = Outage(100.0, "cut")


def recovery(*topics: Topic, now: float = 110.0, chunk: int = 10) -> Recovery[Decimal]:
    made = Recovery(Queries(Decimal, chunk=chunk))
    for topic in topics:
        assert made.open_case(topic, OUTAGE, [], now)
    return made


def trades(*names: str) -> list[Topic]:
    return [Topic("trade", f"US:{name}") for name in names]


def sent_requests(made: Recovery[Decimal], now: float) -> list[str]:
    return [question.query.operation for question in made.next_requests(now)]


def test_many_symbols_are_requested_in_as_few_frames_as_the_plan_allows():
    topics = [Topic("snapshot", f"US:A{number}") for number in range(25)]
    questions = recovery(*topics).next_requests(110.0)
    assert [len(question.topics) for question in questions] == [10, 10, 5]
    assert {topic for question in questions for topic in question.topics} == set(topics)


def test_each_channel_and_interval_is_one_request():
    topics = [
        Topic("depth", "US:A"),
        Topic("kline", "US:A", "5m"),
        Topic("kline", "US:B", "1m"),
        Topic("kline", "US:A", "1m"),
        Topic("snapshot", "US:A"),
        *trades("A", "B"),
    ]
    made = recovery(*topics)
    assert sent_requests(made, 120.0) == ["RT", "RK", "RK", "RS", "RD"]
    assert sent_requests(made, 120.0) == []
    assert made.next_request_at() == math.inf


def test_no_more_than_a_thousand_klines_are_requested():
    made = Recovery(Queries(Decimal, chunk=10))
    made.open_case(Topic("kline", "US:A", "1m"), Outage(0.0, "cut"), [], 10**6)
    [question] = made.next_requests(10.0**6)
    assert question.query.body["kline_reqs"][0]["co"] == 1000


def test_topics_that_are_live_at_slightly_different_times_share_a_request():
    made = Recovery(Queries(Decimal, chunk=10))
    for number, topic in enumerate(trades("A", "B", "C")):
        made.open_case(topic, OUTAGE, [], 110.0 + number / 100)
    found, now = [], made.next_request_at()
    while now < math.inf:
        found += made.next_requests(now)
        now = made.next_request_at()
    assert [len(question.topics) for question in found] == [3]


def test_a_push_does_not_replace_the_time_of_the_ack():
    [topic] = trades("A")
    made = recovery(topic)
    made.acknowledged(topic, 77)
    made.acknowledged(topic, None)
    assert made.cases[topic].acked_at == 77


def test_five_seconds_after_all_topics_are_live_the_known_data_decides():
    made = recovery(*trades("A"))
    made.next_requests(112.0)
    made.next_requests(113.0)
    assert made.deadline == 117.0
    assert made.tick(116.9) == []
    [healing] = made.tick(117.0)
    assert healing.status == "unfilled"
    assert made.cases == {}
    assert made.deadline == math.inf


def test_topics_are_not_held_for_ever_if_others_cannot_be_restored():
    made = recovery(*trades("A"))
    assert made.deadline == 125.0
    assert len(made.tick(125.0)) == 1


def test_a_lost_link_keeps_the_cases_and_nothing_is_due():
    [topic] = trades("A")
    made = recovery(topic)
    made.next_requests(110.0)
    made.link_down()
    assert (made.deadline, made.next_request_at()) == (math.inf, math.inf)
    assert made.tick(10**6) == []
    assert made.open_case(topic, Outage(1.0, "later"), [], 200.0)
    assert made.cases[topic].outage == OUTAGE
    assert not made.open_case(topic, OUTAGE, [], 201.0)


def test_a_new_link_restarts_the_timeout_and_another_suspicion_does_not():
    [topic] = trades("A")
    made = recovery(topic)
    for now in (113.0, 116.0, 119.0):
        made.mark_suspect([topic])
        assert made.open_case(topic, OUTAGE, [], now)
    assert made.deadline == 110.0 + 15.0
    made.link_down()
    assert made.open_case(topic, OUTAGE, [], 200.0)
    assert made.deadline == 200.0 + 15.0


def test_removed_topics_leave_no_state():
    topics = trades("A", "B")
    made = recovery(*topics)
    [question] = made.next_requests(120.0)
    made.sent(7, question)
    assert made.remove(topics[:1]) == []
    assert made.remove(topics[1:]) == [7]  # Its reply is no longer needed.
    assert not made.owns(7)
    assert (made.cases, made.echoes) == ({}, {})


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"{}", b"7", b"[null]", b'[{"c":"US:A"}]', b"\xff", b"[" * 5000],
)
def test_an_unreadable_reply_returns_none(data):
    made = recovery(*trades("A"))
    [question] = made.next_requests(120.0)
    made.sent(7, question)
    [healing] = made.on_reply(7, data)
    assert (healing.status, healing.recovered) == ("unfilled", ())


def test_a_reply_settles_each_topic_on_its_own():
    made = recovery(*(Topic("snapshot", f"US:{name}") for name in "AB"))
    [question] = made.next_requests(110.0)
    made.sent(7, question)
    healings = made.on_reply(7, json.dumps([{"c": "US:B", "ts": 5}]).encode())
    assert {h.topic.symbol: h.status for h in healings} == {
        "US:A": "unfilled",
        "US:B": "filled",
    }


def test_a_recovered_trade_that_is_pushed_late_is_an_echo_once():
    [topic] = trades("A")
    made = Recovery(Queries(Decimal, chunk=10))
    tail = [trade_at(second) for second in range(1, 6)]
    made.open_case(topic, OUTAGE, tail, 110.0)
    made.acknowledged(topic, 8)
    [question] = made.next_requests(120.0)
    made.sent(7, question)
    rows: list[Any] = [
        {"c": "US:A", "p": "1", "v": "1", "ts": second} for second in range(1, 10)
    ]
    assert made.on_reply(7, json.dumps(rows).encode()) == []
    assert made.hold(topic, trade_at(9)) is not None
    assert made.is_echo(topic, trade_at(8))
    assert not made.is_echo(topic, trade_at(8))
    assert not made.is_echo(topic, trade_at(14))
    assert made.echoes == {}


@pytest.mark.fault("F22")
def test_a_symbol_with_an_unreadable_row_counts_as_not_in_the_reply():
    """Its other rows are not all that was missed."""
    first, second = trades("A", "B")
    made = recovery(first, second)
    [request] = made.next_requests(120.0)
    made.sent(1, request)
    good = {"p": "1", "v": "1", "ts": 105}
    rows: list[dict[str, Any]] = [
        {"c": "US:A", **good},
        {"c": "US:A", **good, "p": "-"},
        {"c": "US:B", **good},
    ]
    unread: list[Unread] = []
    results = made.on_reply(1, json.dumps(rows).encode(), unread)
    assert {one.topic: (one.status, len(one.recovered)) for one in results} == {
        first: ("unfilled", 0),
        second: ("unverified", 0),
    }
    assert [(one.name, one.field) for one in unread] == [("US:A", "p")]


@pytest.mark.fault("F22")
def test_a_row_without_a_symbol_makes_the_whole_reply_count_as_none():
    topics = trades("A", "B")
    made = recovery(*topics)
    [request] = made.next_requests(120.0)
    made.sent(1, request)
    rows = [{"c": "US:A", "p": "1", "ts": 105}, {"p": "1", "ts": 105}]
    results = made.on_reply(1, json.dumps(rows).encode())
    assert {one.topic: one.status for one in results} == dict.fromkeys(
        topics, "unfilled"
    )
