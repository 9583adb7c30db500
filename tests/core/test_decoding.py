"""Bytes to records: twice as patient as msgspec alone, and no slower for it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qos_async._core.decoding import RecordDecoder, finite_type
from qos_async._core.wire import FrameDecoder
from qos_async.errors import DecodeError
from qos_async.models import Depth, Instrument, Kline, Snapshot, Trade
from tests.support.wire_frames import PUSHES

NUMBERS: list[type[Any]] = [Decimal, float, str]
TRADES: dict[str, bytes] = {
    "as documented": b'[{"c":"US:A","p":"1.50","v":"2","ts":5,"d":1}]',
    "as numbers": b'[{"c":"US:A","p":1.50,"v":2,"ts":5,"d":1}]',
    "all text": b'[{"c":"US:A","p":"1.50","v":"2","ts":"5","d":"1"}]',
    "with a null": b'[{"c":"US:A","p":1.50,"v":"2","ts":5,"d":1,"x":null}]',
}


def trades(numbers: type[Any]) -> RecordDecoder[list[Trade[Any]]]:
    number: Any = finite_type(numbers)
    return RecordDecoder(list[Trade[number]], numbers)


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("data", TRADES.values(), ids=list(TRADES))
def test_every_way_of_writing_reads_the_same(data: bytes, numbers: type[Any]):
    (trade,) = trades(numbers).decode(data)
    assert trade.price == numbers("1.50")
    assert trade.size == numbers("2")
    assert (trade.timestamp, int(trade.side)) == (5, 1)


@pytest.mark.parametrize("numbers", NUMBERS)
def test_the_usual_frame_needs_no_second_try(numbers: type[Any]):
    decoder = trades(numbers)
    data = TRADES["as documented"]
    assert decoder.decode_strict(data) == decoder.decode(data)


def test_nulls_count_as_missing_at_every_depth():
    data = b'{"c":"US:A","ls":null,"ts":null,"ep":null,"nc":null}'
    decoder: RecordDecoder[Any] = RecordDecoder(Instrument[Decimal], Decimal)
    assert decoder.decode(data) == Instrument(symbol="US:A")


@pytest.mark.parametrize("field", ["ls", "ts", "os"])
@pytest.mark.parametrize("numbers", NUMBERS)
def test_whole_numbers_may_be_text(field: str, numbers: type[Any]):
    decoder: RecordDecoder[Any] = RecordDecoder(Instrument[numbers], numbers)  # type: ignore[valid-type]
    found = decoder.decode(b'{"c":"US:A","%s":"100","ep":1.5}' % field.encode())
    assert {found.lot_size, found.total_shares, found.circulating_shares} == {None, 100}
    assert found.eps == numbers("1.5")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1]", b'[{"c":"US:A"}]', b'[{"c":"US:A","p":"x"}]', b'"\xff"']
)
def test_what_nobody_can_read_says_why(data: bytes):
    with pytest.raises(DecodeError, match="cannot read an answer") as caught:
        trades(Decimal).decode(data)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_price_that_is_no_number_is_no_price():
    for junk in (b'"x"', b"true", b"[]", b'"1,5"', b'"0x10"'):
        for numbers in (Decimal, float):
            with pytest.raises(DecodeError):
                trades(numbers).decode(b'[{"c":"US:A","p":%s}]' % junk)


# Numbers that are none

LIMITLESS = ["NaN", "nan", "NAN", "-nan", "inf", "Inf", "INFINITY", "-Infinity"]
SIGNALS = ["sNaN", "-SNAN", "NaN123"]
HIDDEN = ["\\u004e\\u0061\\u004e", "i\\u006ef"]
RECORDS: dict[str, type[Any]] = {"S": Snapshot, "T": Trade, "D": Depth, "K": Kline}


def everywhere(kind: str, written: str) -> list[bytes]:
    """Write the number in each place of a push, and of a list of such records."""
    frames: list[bytes] = []
    push = PUSHES[kind]
    for letter, value in push.items():
        if kind == "D" and letter in "ab":
            level = value[0]
            changed: list[dict[str, Any]] = [
                {letter: [level, level | {at: "@"}]} for at in level
            ]
        elif isinstance(value, str) and letter not in {"tp", "c"}:
            changed = [{letter: "@"}]
        else:
            continue
        frames += [json.dumps(push | change).encode() for change in changed]
    if kind == "S":
        frames.append(json.dumps(push | {"aq": {"lp": "@"}}).encode())
    assert len(frames) >= 2
    return [frame.replace(b'"@"', b'"%s"' % written.encode()) for frame in frames]


@pytest.mark.fault("P18")
@pytest.mark.parametrize("numbers", [Decimal, float])
@pytest.mark.parametrize("kind", PUSHES)
@pytest.mark.parametrize("written", [*LIMITLESS, *SIGNALS, *HIDDEN])
def test_a_number_that_is_infinite_or_none_is_unreadable_wherever_it_stands(
    written: str, kind: str, numbers: type[Any]
):
    number: Any = finite_type(numbers)
    record: Any = RECORDS[kind]
    rows: RecordDecoder[Any] = RecordDecoder(list[record[number]], numbers)
    for data in everywhere(kind, written):
        with pytest.raises(DecodeError):
            FrameDecoder(numbers).read(data)
        with pytest.raises(DecodeError):
            rows.decode(b"[%s]" % data)


@pytest.mark.fault("P18")
@pytest.mark.parametrize("written", [*LIMITLESS, *SIGNALS])
def test_nothing_infinite_slips_through_the_second_try(written: str):
    for numbers in (Decimal, float):
        data = b'[{"c":"US:A","p":"%s","v":null}]' % written.encode()
        with pytest.raises(DecodeError):
            trades(numbers).decode(data)


@pytest.mark.fault("P18")
@pytest.mark.parametrize("written", ["1e999", '"1e999"', "-1e999", "9" * 400])
def test_a_number_that_no_float_can_hold_is_unreadable(written: str):
    with pytest.raises(DecodeError):
        trades(float).decode(b'[{"c":"US:A","p":%s}]' % written.encode())


@pytest.mark.fault("P18")
@pytest.mark.parametrize("symbol", ["US:NAN", "US:INFY", "US:nan", "CF:BNBUSDT"])
@pytest.mark.parametrize("kind", PUSHES)
def test_a_symbol_that_reads_like_no_number_is_a_symbol(symbol: str, kind: str):
    for numbers in NUMBERS:
        frames = FrameDecoder(numbers)
        data = json.dumps(PUSHES[kind] | {"c": symbol}).encode()
        assert frames.push(data).symbol == symbol


@pytest.mark.fault("P18")
def test_text_is_as_on_the_wire_whatever_that_is():
    (trade,) = trades(str).decode(b'[{"c":"US:A","p":"NaN","v":"1_000"}]')
    assert (trade.price, trade.size) == ("NaN", "1_000")


@pytest.mark.fault("P18")
@pytest.mark.parametrize("numbers", [Decimal, float])
@given(
    text=st.one_of(
        st.text(max_size=12),
        st.floats().map(repr),
        st.decimals().map(str),
        st.from_regex(r"[-+]?(s?nan|inf(inity)?)[0-9]{0,3}", fullmatch=True),
        st.from_regex(r"[-+]?[0-9]{0,5}[._]?[0-9]{0,5}([eE][-+]?[0-9]{1,5})?"),
    ),
    bare=st.booleans(),
    kind=st.sampled_from("TK"),
)
@example(text="\u0661\u0662", bare=False, kind="T")
@example(text="1e1000000000", bare=True, kind="K")
def test_whatever_stands_for_a_number_it_is_finite_or_unreadable(
    numbers: type[Any],
    text: str,
    bare: bool,  # noqa: FBT001
    kind: str,
):
    written = text if bare else json.dumps(text)
    push = json.dumps(PUSHES[kind] | {"p": "@", "o": "@"}).replace('"@"', written)
    data = push.encode("utf-8", "surrogatepass")
    try:
        tick: Any = FrameDecoder(numbers).read(data)
    except DecodeError:
        return
    number = tick.price if kind == "T" else tick.open
    assert type(number) is numbers
    assert Decimal(number).is_finite()
