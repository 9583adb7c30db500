"""Bytes to records: twice as patient as msgspec alone, and no slower for it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from qos_async._core.decoding import Decoder
from qos_async.errors import DecodeError
from qos_async.models import Instrument, Trade

NUMBERS: list[type[Any]] = [Decimal, float, str]
TRADES: dict[str, bytes] = {
    "as documented": b'[{"c":"US:A","p":"1.50","v":"2","ts":5,"d":1}]',
    "as numbers": b'[{"c":"US:A","p":1.50,"v":2,"ts":5,"d":1}]',
    "all text": b'[{"c":"US:A","p":"1.50","v":"2","ts":"5","d":"1"}]',
    "with a null": b'[{"c":"US:A","p":1.50,"v":"2","ts":5,"d":1,"x":null}]',
}


def trades(numbers: type[Any]) -> Decoder[list[Trade[Any]]]:
    return Decoder(list[Trade[numbers]], numbers)  # type: ignore[valid-type]


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
    assert decoder.fast(data) == decoder.decode(data)


def test_nulls_count_as_missing_at_every_depth():
    data = b'{"c":"US:A","ls":null,"ts":null,"ep":null,"nc":null}'
    decoder: Decoder[Any] = Decoder(Instrument[Decimal], Decimal)
    assert decoder.decode(data) == Instrument(symbol="US:A")


@pytest.mark.parametrize("field", ["ls", "ts", "os"])
@pytest.mark.parametrize("numbers", NUMBERS)
def test_whole_numbers_may_be_text(field: str, numbers: type[Any]):
    decoder: Decoder[Any] = Decoder(Instrument[numbers], numbers)  # type: ignore[valid-type]
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
