"""Routes from pushes to subscriptions."""

from __future__ import annotations

import pytest

from qos_async._core.router import Router, TopicActivity
from qos_async.models import Depth, Snapshot, Trade
from qos_async.topics import Topic
from tests.support.factories import flat_kline

PUSHES = {
    Topic("snapshot", "US:A"): Snapshot(symbol="US:A"),
    Topic("trade", "US:A"): Trade(symbol="US:A", price="1"),
    Topic("depth", "US:A"): Depth(symbol="US:A"),
    Topic("kline", "US:A", "1m"): flat_kline(symbol="US:A", interval=1),
    Topic("kline", "US:A", "5m"): flat_kline(symbol="US:A", interval=5),
}


@pytest.mark.parametrize("topic", PUSHES, ids=str)
def test_a_push_is_routed_to_the_subscribers_of_its_topic_only(topic: Topic):
    routes: Router[str] = Router()
    routes.add(topic, "me")
    for other, push in PUSHES.items():
        expected = ("me",) if other == topic else ()
        assert routes.find(push).subscribers == routes.of(other).subscribers == expected


def test_several_subscribers_of_one_topic_leave_one_by_one():
    routes: Router[str] = Router()
    topic = Topic("trade", "US:A")
    push = PUSHES[topic]
    routes.add(topic, "one")
    routes.add(topic, "two")
    handed_round = routes.find(push).subscribers
    routes.remove(topic, "one")
    assert handed_round == ("one", "two")
    assert routes.find(push).subscribers == ("two",)
    routes.remove(topic, "two")
    routes.remove(topic, "two")
    assert routes.find(push).subscribers == routes.of(topic).subscribers == ()


@pytest.mark.fault("P11")
def test_a_symbol_in_another_spelling_is_routed_and_made_canonical():
    routes: Router[str] = Router()
    routes.add(Topic("trade", "HK:700"), "me")
    routes.add(Topic("kline", "HK:700", "1m"), "you")
    push = Trade(symbol="hk:00700", price="1")
    assert routes.find(push).subscribers == ("me",)
    assert push.symbol == "HK:700"
    bar = flat_kline(symbol="HK:0700", interval=1)
    assert routes.find(bar).subscribers == ("you",)
    assert bar.symbol == "HK:700"


@pytest.mark.fault("P11")
@pytest.mark.parametrize("symbol", ["", "AAPL", "US:A,B", "US:\x00", "US:B", "HK:007"])
def test_an_unsubscribed_or_malformed_symbol_has_no_route(symbol: str):
    routes: Router[str] = Router()
    routes.add(Topic("trade", "US:A"), "me")
    assert routes.find(Trade(symbol=symbol, price="1")).subscribers == ()


def test_a_kline_of_an_unknown_interval_has_no_route():
    routes: Router[str] = Router()
    routes.add(Topic("kline", "US:A", "1m"), "me")
    assert routes.find(flat_kline(symbol="US:A", interval=7)).subscribers == ()


def test_the_subscriber_of_all_topics_is_known_while_all_have_the_same():
    routes: Router[str] = Router()
    one, two = Topic("trade", "US:A"), Topic("trade", "US:B")
    routes.add(one, "me")
    routes.add(two, "me")
    routes.add(Topic("depth", "US:A"), "you")
    assert routes.shared_subscribers == {Trade: ("me",), Depth: ("you",)}
    routes.add(one, "you")
    assert routes.shared_subscribers == {Depth: ("you",)}
    routes.add(two, "you")
    assert routes.shared_subscribers[Trade] == ("me", "you")
    routes.remove(one, "me")
    routes.remove(one, "you")
    assert routes.shared_subscribers[Trade] == ("me", "you")
    routes.remove(two, "me")
    assert routes.shared_subscribers[Trade] == ("you",)
    routes.remove(two, "you")
    assert routes.shared_subscribers == {Depth: ("you",)}


def test_no_subscriber_has_all_klines_because_one_symbol_has_several_intervals():
    routes: Router[str] = Router()
    routes.add(Topic("kline", "US:A", "1m"), "me")
    assert not routes.shared_subscribers


def test_topics_that_are_counted_are_routed_push_by_push():
    routes: Router[str] = Router()
    routes.add(Topic("trade", "US:A"), "me")
    assert routes.activity(Topic("trade", "US:A")) == TopicActivity(0, 0)
    assert not routes.shared_subscribers
    routes.add(Topic("trade", "US:B"), "me")
    assert not routes.shared_subscribers


def test_the_tail_of_a_symbol_is_kept_in_its_route():
    routes: Router[str] = Router()
    topic = Topic("trade", "US:A")
    routes.add(topic, "me")
    push = PUSHES[topic]
    routes.tail_append[Trade]["US:A"](push)
    assert [*routes.of(topic).tail] == [push]
    routes.remove(topic, "me")
    assert not routes.tail_append[Trade]


def test_pushes_that_are_counted_together_are_part_of_the_sum():
    routes: Router[str] = Router()
    topic = Topic("trade", "US:A")
    routes.add(topic, "me")
    routes.counts[Trade] += 3
    routes.find(PUSHES[topic]).ticks += 1
    routes.find(Trade(symbol="US:B", price="1")).ticks += 1
    assert routes.ticks()["trade"] == 5
    assert routes.unrouted() == 1
    routes.remove(topic, "me")
    assert routes.ticks()["trade"] == 5
