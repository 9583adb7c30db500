"""Decoding of JSON to records: tolerant, and no slower for well-formed frames."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qos_async._core.decoding import RecordDecoder, finite_type, quote_bare_words
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
def test_all_notations_of_a_row_decode_to_equal_records(
    data: bytes, numbers: type[Any]
):
    (trade,) = trades(numbers).decode(data)
    assert trade.price == numbers("1.50")
    assert trade.size == numbers("2")
    assert (trade.timestamp, int(trade.side)) == (5, 1)


@pytest.mark.parametrize("numbers", NUMBERS)
def test_a_well_formed_frame_is_decoded_in_the_first_attempt(numbers: type[Any]):
    decoder = trades(numbers)
    data = TRADES["as documented"]
    assert decoder.decode_strict(data) == decoder.decode(data)


def test_nulls_count_as_missing_at_every_depth():
    data = b'{"c":"US:A","ls":null,"ts":null,"ep":null,"nc":null}'
    decoder: RecordDecoder[Any] = RecordDecoder(Instrument[Decimal], Decimal)
    assert decoder.decode(data) == Instrument(symbol="US:A")


@pytest.mark.parametrize("field", ["ls", "ts", "os"])
@pytest.mark.parametrize("numbers", NUMBERS)
def test_integers_may_be_text(field: str, numbers: type[Any]):
    decoder: RecordDecoder[Any] = RecordDecoder(Instrument[numbers], numbers)  # type: ignore[valid-type]
    found = decoder.decode(b'{"c":"US:A","%s":"100","ep":1.5}' % field.encode())
    assert {found.lot_size, found.total_shares, found.circulating_shares} == {None, 100}
    assert found.eps == numbers("1.5")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1]", b'[{"c":"US:A"}]', b'[{"c":"US:A","p":"x"}]', b'"\xff"']
)
def test_undecodable_data_raises_an_error_with_the_reason(data: bytes):
    with pytest.raises(DecodeError, match="cannot decode a message") as caught:
        trades(Decimal).decode(data)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_price_that_is_not_a_number_raises():
    for junk in (b'"x"', b"true", b"[]", b'"1,5"', b'"0x10"'):
        for numbers in (Decimal, float):
            with pytest.raises(DecodeError):
                trades(numbers).decode(b'[{"c":"US:A","p":%s}]' % junk)


# Values that are not numbers

LIMITLESS = ["NaN", "nan", "NAN", "-nan", "inf", "Inf", "INFINITY", "-Infinity"]
SIGNALS = ["sNaN", "-SNAN", "NaN123"]
SPACED = ["N_aN", "_i_n_f", "Inf_inity"]
HIDDEN = ["\\u004e\\u0061\\u004e", "i\\u006ef"]
RECORDS: dict[str, type[Any]] = {"S": Snapshot, "T": Trade, "D": Depth, "K": Kline}


def everywhere(kind: str, written: str) -> list[bytes]:
    """Put the number into each field of a push, and of a list of such records."""
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
@pytest.mark.parametrize("written", [*LIMITLESS, *SIGNALS, *HIDDEN, *SPACED])
def test_an_infinite_or_nan_number_raises_in_any_field(
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
def test_the_tolerant_attempt_rejects_infinite_numbers_too(written: str):
    for numbers in (Decimal, float):
        data = b'[{"c":"US:A","p":"%s","v":null}]' % written.encode()
        with pytest.raises(DecodeError):
            trades(numbers).decode(data)


@pytest.mark.fault("P18")
@pytest.mark.parametrize("written", ["1e999", '"1e999"', "-1e999", "9" * 400])
def test_a_number_beyond_the_range_of_float_raises(written: str):
    with pytest.raises(DecodeError):
        trades(float).decode(b'[{"c":"US:A","p":%s}]' % written.encode())


@pytest.mark.fault("F83")
@pytest.mark.parametrize("numbers", [Decimal, float])
@pytest.mark.parametrize("symbol", ["US:A", "CF:ETHUSDT", "ZZ:new"])
@pytest.mark.parametrize("kind", PUSHES)
def test_a_push_with_an_exponent_of_three_digits_raises(kind, symbol, numbers):
    """Nothing has such a price, and the mean of two such floats overflows."""
    frames = FrameDecoder(numbers)
    push = json.dumps(PUSHES[kind] | {"c": symbol})
    name = {"S": "lp", "T": "p", "D": "p", "K": "cl"}[PUSHES[kind]["tp"]]

    def sent(number):
        return re.sub(rf'("{name}": ?)"?[-0-9.]+"?', rf"\g<1>{number}", push, count=1)

    for number in ('"1e400"', '"-1E+300"', "1.7e308"):
        with pytest.raises(msgspec.ValidationError):
            frames.push(sent(number).encode())
    for number in ('"1e-7"', "1E+3"):
        assert frames.push(sent(number).encode()).symbol == symbol


@pytest.mark.fault("P18", "F83")
@pytest.mark.parametrize("numbers", [Decimal, float])
@pytest.mark.parametrize("symbol", ["US:A", "CF:ETHUSDT", "US:INFY", "US:nee"])
@pytest.mark.parametrize("kind", PUSHES)
@pytest.mark.parametrize(
    "written",
    [*LIMITLESS, *SIGNALS, *HIDDEN, *SPACED, "1e400", "1E+300", "1\\u0065400"],
)
def test_one_such_number_among_frames_that_arrived_together_raises(
    written: str, kind: str, symbol: str, numbers: type[Any]
):
    frames = FrameDecoder(numbers)
    good = [
        json.dumps(PUSHES[kind] | {"c": symbol}).encode() for kind in (*PUSHES, "T")
    ]
    assert frames.push_all(good) == [frames.push(data) for data in good]
    for bad in everywhere(kind, written):
        with pytest.raises(msgspec.ValidationError):
            frames.push_all([*good, bad, *good])


@pytest.mark.fault("P18")
@pytest.mark.parametrize("symbol", ["US:NAN", "US:INFY", "US:nan", "CF:BNBUSDT"])
@pytest.mark.parametrize("kind", PUSHES)
def test_a_symbol_may_contain_nan_or_inf(symbol: str, kind: str):
    for numbers in NUMBERS:
        frames = FrameDecoder(numbers)
        data = json.dumps(PUSHES[kind] | {"c": symbol}).encode()
        assert frames.push(data).symbol == symbol


@pytest.mark.fault("P18")
def test_numbers_as_text_keep_the_text_of_the_wire():
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
def test_any_value_of_a_number_decodes_to_a_finite_one_or_raises(
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


@pytest.mark.fault("F22", "F67")
@pytest.mark.parametrize(
    ("sent", "quoted"),
    [
        (b'{"p":NaN}', b'{"p":"NaN"}'),
        (b"[-Infinity,+inf , nan]", b'["-Infinity","+inf" , "nan"]'),
        (
            b'{"NaN":"Infinity, \\" NaN","p":NaN',
            b'{"NaN":"Infinity, \\" NaN","p":"NaN"',
        ),
        (b'{"p":1}', None),
        (b"nano inf.5 info _inf 1nan", None),
        (b'NaN "no end, NaN', b'"NaN" "no end, NaN'),
    ],
)
def test_bare_words_for_numbers_become_text(sent, quoted):
    assert quote_bare_words(sent) == quoted


@pytest.mark.fault("F67")
def test_the_search_for_bare_words_takes_linear_time():
    assert quote_bare_words(b'\\"' * 1_000_000) is None
    assert quote_bare_words(b'"\\' * 1_000_000) is None
