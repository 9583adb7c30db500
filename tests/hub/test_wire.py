"""Ticks as pushes of the service."""

import json
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import force_setattr, replace

from qos_async._core.wire import FrameDecoder
from qos_async.enums import Interval
from qos_async.hub.wire import push_frame, row_of, slot_of
from tests.support.factories import flat_kline, trade_at

SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.mark.parametrize("channel", ["snapshot", "trade", "depth", "kline"])
@pytest.mark.parametrize("numbers", [Decimal, str])
def test_a_push_goes_out_with_the_fields_it_came_with(channel, numbers):
    data = (SAMPLES / f"ws-{channel}.push.json").read_bytes()
    tick = FrameDecoder(numbers).push(data)
    force_setattr(tick, "received_at", 1_700_000_000_123_456_789)
    # As text: a number of the wire keeps each of its digits.
    sent = json.loads(push_frame(tick), parse_float=str)
    received = json.loads(data, parse_float=str)
    assert sent == {name: value for name, value in received.items() if name in sent}
    assert FrameDecoder(numbers).push(push_frame(tick)) == replace(tick, received_at=0)


@pytest.mark.fault("H1")
def test_a_recovered_tick_is_an_ordinary_push():
    tick = trade_at(5)
    force_setattr(tick, "recovered", True)
    force_setattr(tick, "received_at", 9)
    assert msgspec.json.decode(push_frame(tick)) == {
        "tp": "T",
        "c": "US:A",
        "ts": 5,
        "p": "1",
        "v": "1",
        "d": 0,
    }


def test_a_field_that_is_missing_stays_missing():
    tick = msgspec.structs.replace(trade_at(5), size=None)
    assert "v" not in msgspec.json.decode(push_frame(tick))


def test_a_symbol_that_contains_null_goes_out_like_any_other():
    plain = msgspec.json.decode(push_frame(trade_at(5)))
    tick = replace(trade_at(5), symbol="CF:nullUSDT")
    assert msgspec.json.decode(push_frame(tick)) == plain | {"c": "CF:nullUSDT"}


def test_the_row_of_a_push_is_the_push_without_its_kind():
    frame = push_frame(trade_at(5))
    row = msgspec.json.decode(row_of(frame))
    assert row == {
        name: value
        for name, value in msgspec.json.decode(frame).items()
        if name != "tp"
    }


@pytest.mark.fault("H6")
def test_each_bar_has_a_slot_of_its_own_and_trades_have_none():
    first, second = flat_kline(0), flat_kline(60)
    assert slot_of(first) == slot_of(flat_kline(0, price="2"))
    assert slot_of(first) != slot_of(second)
    assert slot_of(first) != slot_of(flat_kline(0, interval=Interval.MIN_5))
    assert slot_of(trade_at(1)) is None


@pytest.mark.parametrize(
    ("price", "text"),
    [("0.00000012", "0.00000012"), ("1E-7", "0.0000001"), ("0E-8", "0.00000000")],
)
def test_a_small_number_is_written_without_an_exponent(price, text):
    tick = replace(trade_at(5), price=Decimal(price), size=Decimal("1E+3"))
    sent = json.loads(push_frame(tick))
    assert (sent["p"], sent["v"]) == (text, "1000")
