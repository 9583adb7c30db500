"""Topics: valid and invalid ones."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from qos_async._core.wire import LETTERS
from qos_async.enums import Channel, Interval
from qos_async.models import Depth, Kline, Snapshot, Trade
from qos_async.topics import Topic


def test_words_and_members_make_the_same_topic():
    assert Topic("trade", "us:AAPL") == Topic(Channel.TRADE, "US:AAPL")
    day = Topic(Channel.KLINE, "CF:BTCUSDT", Interval.DAY)
    assert Topic("kline", "CF:BTCUSDT", "1d") == day
    assert hash(Topic("kline", "CF:BTCUSDT", "1d")) == hash(day)
    assert type(Topic("trade", "US:A").channel) is Channel
    assert type(Topic("kline", "US:A", "1m").interval) is Interval


def test_the_symbol_is_canonical():
    assert Topic("depth", "hk:00700").symbol == "HK:700"


@pytest.mark.parametrize("wrong", ["trades", "", "T", "kline ", None, 3, []], ids=repr)
def test_an_unknown_channel_is_named_with_those_that_exist(wrong: Any):
    with pytest.raises(ValueError, match="unknown channel") as caught:
        Topic(wrong, "US:A")
    text = str(caught.value)
    assert repr(wrong) in text
    for channel in Channel:
        assert channel in text


@pytest.mark.parametrize(
    "wrong", ["AAPL", "US:", "US:A,B", "US:A,HK:1", "", 5], ids=repr
)
def test_a_malformed_symbol_is_named(wrong: Any):
    with pytest.raises(ValueError, match="malformed symbol") as caught:
        Topic("trade", wrong)
    assert repr(wrong) in str(caught.value)


def test_a_kline_topic_without_an_interval_raises_with_an_example():
    with pytest.raises(ValueError, match="needs an interval") as caught:
        Topic("kline", "US:A")
    assert 'Topic("kline", "US:A", "1m")' in str(caught.value)


@pytest.mark.parametrize("wrong", ["3m", 7, 0, "", Interval.UNKNOWN], ids=repr)
def test_a_kline_topic_with_an_unknown_interval_raises_with_the_known_ones(wrong: Any):
    with pytest.raises(ValueError, match="unknown interval") as caught:
        Topic("kline", "US:A", wrong)
    assert repr(wrong) in str(caught.value)
    assert "1m 5m 15m 30m 1h 2h 4h 1d 1w 1M 1y" in str(caught.value)


@pytest.mark.parametrize("channel", ["trade", "snapshot", "depth"])
@pytest.mark.parametrize("interval", ["1m", Interval.DAY, "nonsense"])
def test_other_channels_have_no_interval(channel: str, interval: Any):
    with pytest.raises(ValueError, match=f"a {channel} topic has no interval"):
        Topic(channel, "US:A", interval)


def test_a_topic_as_text_has_channel_symbol_and_interval():
    assert str(Topic("trade", "US:A")) == "trade US:A"
    assert str(Topic("kline", "US:A", "1M")) == "kline US:A 1M"


def test_topics_are_frozen_sort_and_survive_pickling():
    topic = Topic("kline", "US:A", "1m")
    with pytest.raises(AttributeError):
        topic.symbol = "US:B"  # type: ignore[misc]
    assert min([Topic("trade", "US:B"), Topic("trade", "US:A")]).symbol == "US:A"
    for twin in (pickle.loads(pickle.dumps(topic)), copy.deepcopy(topic)):
        assert twin == topic
        assert type(twin.channel) is Channel


@pytest.mark.parametrize(
    ("tick", "topic"),
    [
        (Snapshot(symbol="US:A"), Topic("snapshot", "US:A")),
        (Trade(symbol="HK:700", price="1"), Topic("trade", "HK:700")),
        (Depth(symbol="US:A"), Topic("depth", "US:A")),
        (
            Kline(
                symbol="US:A",
                interval=Interval.DAY,
                open="1",
                high="1",
                low="1",
                close="1",
            ),
            Topic("kline", "US:A", "1d"),
        ),
    ],
    ids=str,
)
def test_a_tick_has_its_topic_and_channel(tick: Any, topic: Topic):
    assert tick.topic == topic
    assert tick.channel is type(tick).channel is topic.channel


def test_the_letter_of_klines_is_that_of_the_examples():
    assert LETTERS[Channel.KLINE] == "K"
    assert set(LETTERS) == set(Channel)
