"""Enumerations: the numbers of the wire, and unknown values."""

from __future__ import annotations

import copy
import json
import pickle
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest

from qos_async.enums import (
    Adjustment,
    Channel,
    Interval,
    LinkState,
    Market,
    Session,
    Side,
    TradingStatus,
)

INTERVALS = {
    "1m": 1,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "2h": 120,
    "4h": 240,
    "1d": 1001,
    "1w": 1007,
    "1M": 1030,
    "1y": 2001,
}


@pytest.mark.parametrize(("short", "number"), INTERVALS.items())
def test_an_interval_is_parsed_from_its_short_name_its_number_and_itself(
    short: str, number: int
):
    interval = Interval.parse(short)
    assert int(interval) == number
    assert interval.short == short
    assert Interval.parse(number) is interval
    assert Interval.parse(interval) is interval


@pytest.mark.parametrize(
    "wrong",
    [
        "1H",
        "1D",
        "1min",
        "3m",
        "",
        " 1m",
        "60",
        2,
        0,
        -1,
        1002,
        None,
        [],
        {},
        1.5,
        Interval.UNKNOWN,
    ],
    ids=repr,
)
def test_any_other_interval_raises_with_the_allowed_ones(wrong: Any):
    with pytest.raises(ValueError, match="unknown interval") as caught:
        Interval.parse(wrong)
    text = str(caught.value)
    assert repr(wrong) in text
    for short in INTERVALS:
        assert short in text


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("60m", "1h"),
        ("1D", "1d"),
        ("1wk", "1w"),
        ("1mo", "1M"),
        ("5min", "5m"),
        ("H4", "4h"),
        ("daily", "1d"),
        ("1 hour", "1h"),
        ("1H", "1h"),
        ("D", "1d"),
    ],
)
def test_an_interval_of_another_program_suggests_one(text: str, meant: str):
    with pytest.raises(ValueError, match="unknown interval") as caught:
        Interval.parse(text)
    assert str(caught.value).endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize("text", ["3m", "10m", "", "x", "0m", "1q", "d1d", "60"])
def test_an_interval_that_there_is_not_suggests_nothing(text: str):
    with pytest.raises(ValueError, match="unknown interval") as caught:
        Interval.parse(text)
    assert "did you mean" not in str(caught.value)


def test_a_number_of_any_whole_type_is_an_interval():
    class Sixty:
        def __index__(self) -> int:
            return 60

    numbers: list[Any] = [Sixty(), np.int64(60), np.uint8(60)]
    assert [Interval.parse(number) for number in numbers] == [Interval.HOUR_1] * 3


@pytest.mark.parametrize("wrong", [np.True_, 1.0, np.float64(1), Decimal(1)], ids=repr)
def test_a_number_of_another_type_is_not_an_interval(wrong: Any):
    with pytest.raises(ValueError, match="unknown interval"):
        Interval.parse(wrong)


def test_a_bool_is_not_an_interval():

    with pytest.raises(ValueError, match="unknown interval True"):
        Interval.parse(True)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Side, {"UNKNOWN": 0, "BUY": 1, "SELL": 2}),
        (
            Session,
            {
                "UNKNOWN": 0,
                "OVERNIGHT": 1,
                "PRE_MARKET": 2,
                "REGULAR": 3,
                "POST_MARKET": 4,
            },
        ),
        (TradingStatus, {"UNKNOWN": -1, "TRADING": 0, "SUSPENDED": 1}),
        (Adjustment, {"NONE": 0, "FORWARD": 1}),
    ],
)
def test_members_carry_the_numbers_of_the_document(kind: Any, values: dict[str, int]):
    assert {member.name: int(member) for member in kind} == values


@pytest.mark.parametrize("kind", [Side, Session, TradingStatus, Interval])
@pytest.mark.parametrize("number", [7, 99, -5, 2**70])
def test_an_unlisted_number_reads_as_unknown(kind: Any, number: int):
    assert kind(number) is kind.UNKNOWN


@pytest.mark.parametrize("kind", [Side, Session, TradingStatus, Interval])
def test_a_string_is_not_a_member_of_a_numeric_enum(kind: Any):
    with pytest.raises(ValueError, match="is not a valid"):
        kind("junk")


WORDS = [
    (Side.BUY, "buy"),
    (Session.PRE_MARKET, "pre_market"),
    (TradingStatus.SUSPENDED, "suspended"),
    (Adjustment.FORWARD, "forward"),
    (Interval.DAY, "1d"),
    (Interval.MONTH, "1M"),
    (Interval.UNKNOWN, "unknown"),
    (Market.HK, "HK"),
    (Channel.TRADE, "trade"),
    (LinkState.OPEN, "open"),
]


@pytest.mark.parametrize(("member", "word"), WORDS)
def test_a_member_prints_its_word_and_is_read_from_it(member: Any, word: str):
    assert str(member) == f"{member}" == word
    assert f"{member:>12}" == f"{word:>12}"
    assert type(member)(word) is member


@pytest.mark.parametrize("member", [member for member, _ in WORDS[:7]])
def test_a_number_of_the_wire_stays_a_number(member: Any):
    number = int(member)
    assert member == number
    assert f"{member:d}" == json.dumps(member) == str(number)
    assert f"{member:+05}" == f"{number:+05}"
    assert msgspec.json.encode(member) == str(number).encode()
    assert type(member)(number) is member
    assert pickle.loads(pickle.dumps(member)) is member
    assert copy.deepcopy(member) is member


def test_the_word_of_a_side_is_read_in_any_case():
    assert Side("BUY") is Side("Buy") is Side.BUY


def test_the_word_of_an_interval_is_read_in_its_case():
    assert Interval("1m") is Interval.MIN_1
    assert Interval("1M") is Interval.MONTH
    with pytest.raises(ValueError, match="is not a valid Interval"):
        Interval("1D")


def test_an_unknown_interval_has_a_name_too():
    assert Interval.UNKNOWN.short == "unknown"


def test_markets_are_an_open_set():
    assert Market("US") is Market.US
    assert Market("us") is Market.US
    new = Market("zz")
    assert new == "ZZ"
    assert new.value == new.name == str(new) == "ZZ"
    assert {new: 1}["ZZ"] == 1  # type: ignore[index]
    assert Market("ZZ") == new
    assert "ZZ" not in list(Market)


def test_an_unlisted_market_survives_copying_and_pickling():
    new = Market("ZZ")
    assert pickle.loads(pickle.dumps(new)) == new
    assert copy.deepcopy(new) == new


@pytest.mark.parametrize("wrong", ["", "U5", "U S", "Ü", 5, None])
def test_an_invalid_market_raises(wrong: Any):
    with pytest.raises(ValueError, match="is not a valid Market"):
        Market(wrong)


def test_channels_and_states_are_plain_words():
    assert [str(channel) for channel in Channel] == [
        "snapshot",
        "trade",
        "depth",
        "kline",
    ]
    assert [str(state) for state in LinkState] == [
        "idle",
        "standby",
        "connecting",
        "open",
        "backoff",
        "closed",
    ]
