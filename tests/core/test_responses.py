"""Response rows, keyed by symbol or market (see also test_queries)."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from qos_async._core.responses import (
    KlineGroup,
    by_symbol,
    days_by_market,
    klines_by_symbol,
    products_by_market,
    trades_by_symbol,
)
from qos_async.enums import Market
from qos_async.errors import DecodeError
from qos_async.models import Product, Snapshot, Trade
from tests.support.factories import flat_kline


def trade(second: int, price: str, symbol: str = "US:A") -> Trade[str]:
    return Trade(symbol=symbol, timestamp=second, price=price)


def test_null_is_a_response_without_rows():
    assert by_symbol(None) == {}
    assert trades_by_symbol(None) == {}
    assert klines_by_symbol(None) == {}
    assert days_by_market([Market.US], None) == {}
    assert products_by_market([Market.US], None) == {}
    assert klines_by_symbol([KlineGroup("US:A", None), KlineGroup("US:B", [])]) == {}


@pytest.mark.fault("P11")
def test_rows_are_keyed_by_their_canonical_symbol_and_carry_it():
    found = by_symbol([Snapshot(symbol="HK:00700"), Snapshot(symbol="odd one")])
    assert list(found) == ["HK:700", "odd one"]
    assert found["HK:700"].symbol == "HK:700"
    (bars,) = klines_by_symbol(
        [KlineGroup("HK:00700", [flat_kline(1, symbol="HK:00700")])]
    ).values()
    assert bars[0].symbol == "HK:700"
    assert [t.symbol for t in trades_by_symbol([trade(1, "1", "hk:0001")])["HK:1"]] == [
        "HK:1"
    ]


@pytest.mark.fault("P11")
def test_fields_of_this_library_cannot_be_set_by_the_server():
    own: dict[str, Any] = {"received_at": 9, "recovered": True}
    [[fetched]] = trades_by_symbol([replace(trade(1, "1"), **own)]).values()
    [[first]] = klines_by_symbol(
        [KlineGroup("US:A", [replace(flat_kline(1), **own)])]
    ).values()
    [state] = by_symbol([Snapshot(symbol="US:A", **own)]).values()
    for row in (fetched, first, state):
        assert (row.received_at, row.recovered) == (0, False)


def test_trades_of_one_second_keep_their_order_in_time():
    oldest_first = [trade(1, "a"), trade(2, "b"), trade(2, "c"), trade(3, "d")]
    for rows in (oldest_first, oldest_first[::-1]):
        found = trades_by_symbol(list(rows))["US:A"]
        assert [row.price for row in found] == ["a", "b", "c", "d"]


@given(st.lists(st.integers(0, 5)), st.booleans())
def test_trades_and_bars_are_sorted_by_time(seconds: list[int], newest_first: bool):  # noqa: FBT001
    rows = [trade(s, str(i)) for i, s in enumerate(sorted(seconds))]
    sent = rows[::-1] if newest_first else rows
    found = trades_by_symbol(sent).get("US:A", [])
    assert sorted(row.timestamp for row in rows) == [row.timestamp for row in found]
    bars = klines_by_symbol([KlineGroup("US:A", [flat_kline(s) for s in seconds])]).get(
        "US:A", []
    )
    assert [row.timestamp for row in bars] == sorted(seconds)


def test_trading_days_are_whole_or_half():
    days = days_by_market(
        [Market.HK, Market.US, Market.SH],
        {"hk": ["20250606,F", "20250703,H", " 20250704 , H "], "US": None},
    )
    assert [(d.date, d.half_day) for d in days[Market.HK]] == [
        (date(2025, 6, 6), False),
        (date(2025, 7, 3), True),
        (date(2025, 7, 4), True),
    ]
    assert days[Market.US] == []
    assert Market.SH not in days


@pytest.mark.parametrize("text", ["", "junk,F", "20251399,F", ",H"])
def test_an_unreadable_day_is_a_decode_error(text: str):
    with pytest.raises(DecodeError, match="cannot decode a trading day"):
        days_by_market([Market.HK], {"HK": [text]})


def test_product_rows_carry_canonical_symbols():
    rows = [Product(symbol="HK:00700", name="Tencent")]
    found = products_by_market([Market.HK, Market.CM], {"HK": rows, "CM": None})
    assert [product.symbol for product in found[Market.HK]] == ["HK:700"]
    assert found[Market.CM] == []
