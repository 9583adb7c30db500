"""Which subscriptions a push goes to."""

from __future__ import annotations

import pytest

from qos_async._core.routes import Routes
from qos_async._core.topics import Topic
from qos_async.enums import Interval
from qos_async.models import Depth, Kline, Snapshot, Trade


def kline(symbol: str, interval: int) -> Kline[str]:
    return Kline(
        symbol=symbol,
        interval=Interval(interval),
        open="1",
        high="1",
        low="1",
        close="1",
    )


PUSHES = {
    Topic("snapshot", "US:A"): Snapshot(symbol="US:A"),
    Topic("trade", "US:A"): Trade(symbol="US:A", price="1"),
    Topic("depth", "US:A"): Depth(symbol="US:A"),
    Topic("kline", "US:A", "1m"): kline("US:A", 1),
    Topic("kline", "US:A", "5m"): kline("US:A", 5),
}


@pytest.mark.parametrize("topic", PUSHES, ids=str)
def test_a_push_finds_those_who_watch_its_topic_and_nobody_else(topic: Topic):
    routes: Routes[str] = Routes()
    routes.add(topic, "me")
    for other, push in PUSHES.items():
        expected = ("me",) if other == topic else ()
        assert routes.find(push).watchers == routes.of(other).watchers == expected


def test_several_may_watch_one_topic_and_leave_one_by_one():
    routes: Routes[str] = Routes()
    topic = Topic("trade", "US:A")
    push = PUSHES[topic]
    routes.add(topic, "one")
    routes.add(topic, "two")
    handed_round = routes.find(push).watchers
    routes.remove(topic, "one")
    assert handed_round == ("one", "two")
    assert routes.find(push).watchers == ("two",)
    routes.remove(topic, "two")
    routes.remove(topic, "two")
    assert routes.find(push).watchers == routes.of(topic).watchers == ()


@pytest.mark.fault("P11")
def test_a_symbol_in_another_spelling_finds_its_way_and_is_mended():
    routes: Routes[str] = Routes()
    routes.add(Topic("trade", "HK:700"), "me")
    routes.add(Topic("kline", "HK:700", "1m"), "you")
    push = Trade(symbol="hk:00700", price="1")
    assert routes.find(push).watchers == ("me",)
    assert push.symbol == "HK:700"
    bar = kline("HK:0700", 1)
    assert routes.find(bar).watchers == ("you",)
    assert bar.symbol == "HK:700"


@pytest.mark.fault("P11")
@pytest.mark.parametrize("symbol", ["", "AAPL", "US:A,B", "US:\x00", "US:B", "HK:007"])
def test_a_symbol_nobody_watches_or_understands_finds_nobody(symbol: str):
    routes: Routes[str] = Routes()
    routes.add(Topic("trade", "US:A"), "me")
    assert routes.find(Trade(symbol=symbol, price="1")).watchers == ()


def test_a_kline_of_an_unknown_interval_finds_nobody():
    routes: Routes[str] = Routes()
    routes.add(Topic("kline", "US:A", "1m"), "me")
    assert routes.find(kline("US:A", 7)).watchers == ()
