"""Text and dictionaries of ticks and gaps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from msgspec import structs

from qos_async import (
    Depth,
    Interval,
    Kline,
    PriceLevel,
    Side,
    Snapshot,
    Topic,
    Trade,
)
from qos_async.cli.display import IN_UTC
from qos_async.cli.formatting import gaps_line, percent, percent_change, tick_line
from qos_async.cli.tick_lines import TickLines
from qos_async.models import AnyTick
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
    assert percent(None) == "-"
    assert tick_line(DEPTH).endswith("211.05 x 3  /  -")
    assert "1m 00:00" in tick_line(KLINE)
    tesla = Topic("trade", "US:TSLA")
    assert gaps_line([gap(TOPIC, NOON, seconds=1), gap(tesla, NOON, seconds=2)]) == (
        "trade of US:AAPL, US:TSLA may have missed 2.0 s, unfilled, 0 ticks recovered"
    )


def test_a_gap_names_its_symbols_unless_they_are_many():
    """A list of more than three is a number; a topic twice is one symbol."""
    topics = [Topic("trade", f"US:{name}") for name in "ABCD"]
    gaps = [gap(topic, NOON, seconds=1) for topic in topics]
    assert gaps_line(gaps).startswith("trade of 4 symbols may have")
    assert gaps_line(gaps[:1] * 4).startswith("trade of US:A may have")
    assert gaps_line(gaps[:3]).startswith("trade of US:A, US:B, US:C may have")


def test_one_recovered_tick_is_no_plural():
    """A count of one is singular."""
    one = structs.replace(gap(TOPIC, NOON, seconds=1), recovered=1)
    assert gaps_line([one]).endswith(", 1 tick recovered")


@pytest.mark.parametrize("tick", [TRADE, KLINE])
def test_the_line_of_a_recovered_tick_has_the_time_it_is_written(tick: AnyTick):
    """A fetched record has no time of receipt: 0 would be 1970."""
    before = datetime.now(UTC)
    line = tick_line(structs.replace(tick, recovered=True, received_at=0))
    assert line.endswith("(recovered)")
    written = datetime.fromisoformat(line.split()[0])
    assert abs(written - before) < timedelta(minutes=1)
    short = TickLines(IN_UTC, [], colours=False, columns=lambda: 120)
    line = short.line(structs.replace(tick, recovered=True, received_at=0))
    assert line.split()[0][:5] in {f"{t:%H:%M}" for t in (before, datetime.now(UTC))}


def test_records_have_the_long_names_and_words_for_enums():
    """Names of the record fields, words for enumerations; Decimals are left to the encoder."""
    assert TRADE.to_dict()["side"] == "buy"
    assert KLINE.to_dict()["interval"] == "1m"
    assert DEPTH.to_dict()["bids"] == [{"price": Decimal("211.05"), "size": 3}]


CHANGES = [
    ("11", "10", "+10.00%"),
    ("9", "10", "-10.00%"),
    # Prices may be negative, as those of oil in April 2020: a rise is no fall.
    ("10.01", "-37.63", "+126.60%"),
    ("-19.5", "-18", "-8.33%"),
    ("-18", "-19.5", "+7.69%"),
    ("-1", "2", "-150.00%"),
    # Nothing was traded.
    ("0", "11.2", "-"),
    ("0.000", "-1", "-"),
    ("11.2", "0", "-"),
    # What is shown as zero has no sign.
    ("10", "10", "0.00%"),
    ("100000.5", "100000", "0.00%"),
    ("99999.5", "100000", "0.00%"),
    ("100006", "100000", "+0.01%"),
    ("99994", "100000", "-0.01%"),
    # No server sends these, but no output may end with an error because of them.
    ("NaN", "1", "-"),
    ("sNaN", "1", "-"),
    ("1", "NaN", "-"),
    ("Infinity", "1", "-"),
    ("1", "Infinity", "-"),
    ("1E+999999", "1E-999999", "-"),
]


@pytest.mark.fault("F9")
@pytest.mark.parametrize(("value", "base", "text"), CHANGES)
def test_a_change_is_relative_to_the_absolute_value_and_unknown_without_a_price(
    value, base, text
):
    assert percent(percent_change(Decimal(value), Decimal(base))) == text


def test_a_change_is_unknown_without_both_prices():
    assert percent_change(None, Decimal(1)) is None
    assert percent_change(Decimal(1), None) is None


@pytest.mark.fault("F8")
@pytest.mark.parametrize(("value", "base", "text"), CHANGES[:13])
def test_a_line_of_a_stream_has_the_change(value, base, text):
    tick = Snapshot(
        symbol="HK:1",
        last_price=Decimal(value),
        prev_close=Decimal(base),
        received_at=1,
    )
    assert tick_line(tick).split("high")[0].split()[-1] == text
