"""Text and dictionaries of ticks and gaps."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from qos_async import (
    Depth,
    Interval,
    Kline,
    PriceLevel,
    Side,
    Topic,
    Trade,
)
from qos_async.cli.formatting import gaps_line, percent, percent_change, tick_line
from tests.support.factories import gap

TRADE = Trade(symbol="US:AAPL", price=Decimal("211.1"), size=Decimal(40), side=Side.BUY)
DEPTH = Depth(
    symbol="US:AAPL", bids=(PriceLevel(price=Decimal("211.05"), size=Decimal(3)),)
)
KLINE = Kline(
    symbol="US:AAPL",
    interval=Interval.MIN_1,
    open=Decimal(200),
    high=Decimal(212),
    low=Decimal(199),
    close=Decimal(210),
)
TOPIC = Topic("trade", "US:AAPL")
NOON = datetime(2025, 7, 3, 12, tzinfo=UTC)


def test_numbers_ticks_and_gaps_as_text():
    """Signs, missing numbers and plurals."""
    assert percent(Decimal("-0.001")) == "+0.00%"
    assert percent(None) == "-"
    assert percent_change(Decimal(1), Decimal(0)) is None
    assert tick_line(DEPTH).endswith("211.05 x 3  /  -")
    assert "1m 00:00" in tick_line(KLINE)
    assert gaps_line([gap(TOPIC, NOON, seconds=1), gap(TOPIC, NOON, seconds=2)]) == (
        "trade of 2 symbols may have missed 2.0 s, unfilled, 0 ticks recovered"
    )


def test_records_have_the_long_names_and_words_for_enums():
    """Names of the record fields, words for enumerations; Decimals are left to the encoder."""
    assert TRADE.to_dict()["side"] == "buy"
    assert KLINE.to_dict()["interval"] == "1m"
    assert DEPTH.to_dict()["bids"] == [{"price": Decimal("211.05"), "size": 3}]
