"""Bars built from trades of the past: lists, results, frames and rows of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from qos_async import Gap, Interval, Kline, Topic, Trade
from qos_async.frames import to_arrow, to_pandas, to_polars
from qos_async.markets import Bar, bars
from qos_async.results import Result
from tests.support.factories import gap as make_gap

NOON = 1_741_953_600  # 2025-03-14 12:00 UTC.


def trade(second: int, price: str = "1", size: str | None = "1") -> Trade[Decimal]:
    amount = None if size is None else Decimal(size)
    return Trade(
        symbol="CF:BTCUSDT", price=Decimal(price), size=amount, timestamp=NOON + second
    )


TRADES = [
    trade(1, "10.5", "0.1"),
    trade(20, "12", "0.2"),
    trade(61, "11", None),
    trade(62, "11.25", "3"),
    trade(125),
]


def values(found: Any) -> list[tuple[Any, ...]]:
    return [
        (bar.timestamp - NOON, bar.open, bar.high, bar.close, bar.volume, bar.final)
        for bar in found
    ]


EXPECTED = [
    (0, Decimal("10.5"), 12, 12, Decimal("0.3"), True),
    (60, 11, Decimal("11.25"), Decimal("11.25"), 3, True),
    (120, 1, 1, 1, 1, False),
]


def test_a_list_of_trades_gives_bars_in_a_plain_loop():
    assert values(bars(TRADES, "1m")) == EXPECTED


async def test_the_same_bars_come_from_an_async_loop():
    assert values([bar async for bar in bars(iter(TRADES), "1m")]) == EXPECTED


async def test_bars_of_the_past_can_be_ended():
    for wait in (False, True):
        past = bars(TRADES, "1m")
        next(past)
        if wait:
            await past.aclose()
        else:
            past.close()
        assert list(past) == []


def test_a_result_gives_the_bars_of_each_symbol():
    other = [Trade(symbol="CF:ETHUSDT", price=Decimal(2), timestamp=NOON)]
    result = Result(
        ["CF:BTCUSDT", "CF:ETHUSDT"], {"CF:BTCUSDT": TRADES, "CF:ETHUSDT": other}, Trade
    )
    found = list(bars(result, "1m"))
    assert [(bar.symbol, bar.timestamp - NOON) for bar in found] == [
        ("CF:BTCUSDT", 0),
        ("CF:BTCUSDT", 60),
        ("CF:BTCUSDT", 120),
        ("CF:ETHUSDT", 0),
    ]


@pytest.mark.parametrize("make", [to_polars, to_pandas, to_arrow])
@pytest.mark.parametrize("numbers", [Decimal, float, str])
def test_a_frame_gives_the_bars_of_its_trades(make: Any, numbers: Any):
    frame = make(TRADES, numbers=numbers)
    found: list[Bar[Any]] = [*bars(frame, "1m")]
    assert [bar.timestamp - NOON for bar in found] == [0, 60, 120]
    assert [type(bar.close) for bar in found] == [numbers] * 3
    assert float(found[0].volume or 0) == pytest.approx(0.3)
    assert float(found[1].volume or 0) == 3.0


@pytest.mark.parametrize(
    "rows",
    [
        to_polars(TRADES, numbers=Decimal).iter_rows(named=True),
        to_arrow(TRADES, numbers=Decimal).to_pylist(),
        to_pandas(TRADES, numbers=Decimal).itertuples(),
        to_pandas(TRADES, numbers=Decimal).set_index("time"),
        [trade.to_dict() for trade in TRADES],
    ],
    ids=["polars", "arrow", "pandas", "index", "dicts"],
)
def test_rows_of_a_frame_give_the_bars_of_its_trades(rows: Any):
    assert values(bars(rows, "1m")) == EXPECTED


def test_a_gap_in_a_list_marks_the_bars_around_it_incomplete():
    hole: Gap = make_gap(
        Topic("trade", "CF:BTCUSDT"), NOON + 63, NOON + 64, reason="", status="unfilled"
    )
    found = list(bars([*TRADES[:4], hole, TRADES[4], trade(181)], "1m"))
    assert [bar.complete for bar in found] == [False, False, False, True]
    assert [bar.complete for bar in bars([*TRADES, trade(181)], "1m")][1:] == [True] * 3


def test_no_trades_give_no_bars():
    assert list(bars([], "1m")) == []


def kline() -> Kline[float]:
    return Kline(
        symbol="HK:700", interval=Interval.MIN_1, open=1.0, high=1.0, low=1.0, close=1.0
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (TRADES[::-1], r"newest first: .* reversed\(trades\)"),
        ([kline()], "these are klines: .* qos_async.markets.resample"),
        ([kline().to_dict()], "expected|not a row with symbol"),
        ([[TRADES[0]]], "single trades"),
        ([1, 2], "builds bars from trades: .* not int"),
        ([{"symbol": "US:AAPL", "price": None}], "not a row with symbol, price"),
        ([{"symbol": "US:AAPL", "price": 1.0}], "time"),
    ],
)
def test_what_is_no_row_of_trades_is_named(wrong: Any, message: str):
    with pytest.raises(ValueError, match=message):
        values(bars(wrong, "1m"))


def test_waiting_for_the_clock_is_for_subscriptions():
    with pytest.raises(ValueError, match="close_after needs a live subscription"):
        bars(TRADES, "1m", close_after=1.0)  # type: ignore[call-overload] # the fault
