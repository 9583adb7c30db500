"""Arguments of which frames are made, and errors for all others."""

from __future__ import annotations

import datetime as dt
import sys
from decimal import Decimal
from typing import Any

import pytest

from qos_async import (
    Instrument,
    Kline,
    Market,
    Product,
    Result,
    Trade,
    TradingDay,
)
from qos_async.frames import columns, schema, to_arrow, to_pandas, to_polars
from tests.support.full_records import BARE, FULL


def trade(symbol: str, price: Any) -> Trade[Any]:
    return Trade(symbol=symbol, price=price)


def test_a_result_of_records_has_a_row_for_each():
    found = {"US:B": FULL[Instrument], "US:A": BARE[Instrument]}
    frame = Result(("US:A", "US:X", "US:B"), found).to_polars()
    assert frame["symbol"].to_list() == ["US:AAPL", "HK:700"]


def test_a_result_of_lists_has_a_row_for_each_record_symbol_after_symbol():
    found = Result(
        ("US:B", "US:A", "US:C"),
        {
            "US:A": [trade("US:A", 1), trade("US:A", 2)],
            "US:B": [trade("US:B", 3)],
            "US:C": [],
        },
    )
    frame = found.to_polars()
    assert frame["symbol"].to_list() == ["US:B", "US:A", "US:A"]
    assert frame["price"].to_list() == [3, 1, 2]
    assert found.to_arrow().to_pylist() == frame.to_dicts()
    assert found.to_pandas()["price"].tolist() == [3, 1, 2]


def test_any_iterable_of_records_is_accepted():
    frame = to_polars(trade("US:A", n) for n in range(3))
    assert frame["price"].to_list() == [0, 1, 2]


def test_a_calendar_has_a_column_for_the_market():
    days = [TradingDay(date=dt.date(2025, 6, 6)), FULL[TradingDay]]
    frame = to_polars({Market.HK: days, Market.US: days[:1]})
    assert frame.rows() == [
        ("HK", dt.date(2025, 6, 6), False),
        ("HK", dt.date(2025, 7, 3), True),
        ("US", dt.date(2025, 6, 6), False),
    ]
    assert to_polars(days)["market"].to_list() == [None, None]


def test_a_product_list_has_a_row_for_each_product():
    frame = to_polars({Market.CM: [FULL[Product]], Market.HK: []})
    assert frame.rows() == [("CM:XAUUSD", "黄金")]


@pytest.mark.parametrize("make", [to_polars, to_pandas, to_arrow])
def test_no_records_make_an_empty_frame_of_the_given_kind(make: Any):
    nothings: list[Any] = [[], {}, Result((), {}), Result(("US:A",), {"US:A": []})]
    for nothing in nothings:
        frame = make(nothing, kind=Trade)
        names = frame.column_names if make is to_arrow else list(frame.columns)
        assert (len(frame), names) == (0, list(columns(Trade)))


@pytest.mark.parametrize("make", [to_polars, to_pandas, to_arrow])
@pytest.mark.parametrize("kind", [Trade[float], Trade[Decimal], Trade[Any]], ids=str)
def test_a_kind_may_have_a_type_parameter(make: Any, kind: Any):
    """It says nothing here: ``numbers`` does."""
    for records in ([], [trade("US:A", 1)]):
        frame = make(records, kind=kind)
        assert len(frame) == len(records)
        assert frame.equals(make(records, kind=Trade))
    assert columns(kind) == columns(Trade)
    assert schema(kind) == schema(Trade)


def test_an_empty_result_has_a_kind_or_needs_one():
    empty: Any = Result(("US:A",), {}, Kline)
    assert empty.to_polars().columns == list(columns(Kline, live=False))
    with pytest.raises(ValueError, match="pass kind=, such as kind=Trade"):
        Result(("US:A",), {}).to_polars()
    with pytest.raises(ValueError, match="so the columns are unknown"):
        to_polars([])


def test_records_of_two_kinds_raise_with_the_remedy():
    mixed = [FULL[Trade], FULL[Kline]]
    with pytest.raises(TypeError, match=r"found Trade, Kline: .*isinstance\(r, Trade"):
        to_polars(mixed)


def test_a_kind_other_than_that_of_the_records_raises():
    with pytest.raises(TypeError, match="kind=Kline, but the records are Trade"):
        to_polars([FULL[Trade]], kind=Kline)


async def _stream() -> Any:
    yield FULL[Trade]


class Framing:
    def to_polars(self) -> None:
        pass


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (FULL[Trade], "not Trade: put it into a list"),
        (_stream(), r"not async_generator: read it first, \[r async for"),
        (Framing(), r"not Framing: call its own to_polars\(\)"),
        ("US:AAPL", "not str"),
        (None, "not NoneType"),
        ([1, 2], "records such as Trade or Kline, found int"),
        ([[FULL[Trade]]], "found list"),
        ({"US:A": 1}, "found int"),
    ],
)
def test_arguments_without_records_raise_with_their_type(wrong: Any, message: str):
    with pytest.raises(TypeError, match=message):
        to_polars(wrong)


@pytest.mark.parametrize("numbers", [int, "float", None, []])
def test_numbers_are_float_decimal_or_str(numbers: Any):
    for make in (
        lambda **o: to_polars([], kind=Trade, **o),
        lambda **o: schema(Trade, **o),
    ):
        with pytest.raises(ValueError, match="must be float, Decimal or str, not"):
            make(numbers=numbers)


@pytest.mark.parametrize(
    ("make", "package", "extra"),
    [
        (to_polars, "polars", "polars"),
        (to_pandas, "pandas", "pandas"),
        (to_arrow, "pyarrow", "arrow"),
        (lambda _: schema(Trade), "pyarrow", "arrow"),
    ],
)
def test_without_the_package_the_error_has_the_command_to_install_it(
    monkeypatch: Any, make: Any, package: str, extra: str
):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"needs {package}, .*: pip install 'qos-async\[{extra}\]'"
    with pytest.raises(ModuleNotFoundError, match=message):
        make([FULL[Trade]])
