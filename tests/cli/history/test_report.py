"""Tests of ``qos_async.cli.history.report``."""

from __future__ import annotations

from datetime import date

import pytest

from qos_async import (
    Interval,
    TradingDay,
)
from qos_async.cli.history.report import Hole, Span, breaks, find_missing
from qos_async.enums import Market
from tests.support.history_pages import (
    START_AT,
    at,
)


def unknown(market):
    return None


def test_breaks_are_between_bars_that_do_not_touch():
    starts = [START_AT + 60 * n for n in (0, 1, 2, 5, 6)]
    found = breaks(starts, "CF:BTCUSDT", Interval.MIN_1, START_AT + 9 * 60 + 59)
    assert list(found) == [
        Span(START_AT + 180, START_AT + 300),
        Span(START_AT + 420, START_AT + 599),
    ]
    assert list(breaks(starts, "CF:BTCUSDT", Interval.MIN_1, START_AT + 450)) == [
        Span(START_AT + 180, START_AT + 300)
    ], "the bar at the end is not over"
    assert list(breaks([], "CF:BTCUSDT", Interval.MIN_1, START_AT)) == []


def test_in_a_market_that_never_closes_every_bar_counts():
    span = Span(at(2025, 2, 1, 10), at(2025, 2, 1, 12, 30))
    for interval, missing in ((Interval.MIN_1, 150), (Interval.HOUR_1, 2)):
        assert find_missing([span], "CF:BTCUSDT", interval, unknown) == [
            Hole(*span, missing, is_certain=True)
        ]
    days = Span(at(2025, 2, 1), at(2025, 2, 4))
    assert find_missing([days], "CF:BTCUSDT", Interval.DAY, unknown)[0].missing == 3


@pytest.mark.parametrize(
    ("symbol", "since", "until", "interval"),
    [
        ("HK:700", (2025, 2, 5, 4), (2025, 2, 5, 5), Interval.MIN_1),  # Lunch.
        ("HK:700", (2025, 2, 5, 8), (2025, 2, 6, 1, 30), Interval.MIN_1),  # Night.
        ("HK:700", (2025, 2, 5, 4, 30), (2025, 2, 5, 5), Interval.HOUR_1),
        ("US:AAPL", (2025, 2, 7, 21), (2025, 2, 10, 14, 30), Interval.MIN_1),
        ("US:AAPL", (2025, 2, 5, 10), (2025, 2, 5, 14, 30), Interval.MIN_1),
        ("HK:700", (2025, 2, 7, 16), (2025, 2, 9, 16), Interval.DAY),  # Weekend.
        ("FX:EURUSD", (2025, 2, 7, 22), (2025, 2, 9, 22), Interval.MIN_1),
    ],
)
def test_closing_times_are_not_holes(symbol, since, until, interval):
    """Nor are the hours before and after the regular session of a stock."""
    assert find_missing([Span(at(*since), at(*until))], symbol, interval, unknown) == []


def test_missing_bars_within_a_session_are_a_hole():
    within = Span(at(2025, 2, 5, 1, 40), at(2025, 2, 5, 6))
    assert find_missing([within], "HK:700", Interval.MIN_1, unknown) == [
        Hole(*within, 140 + 60, is_certain=True)
    ]


def test_a_known_holiday_is_not_a_hole():
    requested = []

    def calendar(market):
        requested.append(market)
        days = {31, 28, 29, 30}  # January 2025: new year was on the 29th.
        return {
            Market(market): [TradingDay(date=date(2025, 1, day)) for day in days - {29}]
        }

    night = Span(at(2025, 1, 28, 8), at(2025, 1, 30, 1, 30))
    [hole] = find_missing([night], "HK:700", Interval.MIN_1, unknown)
    assert hole == Hole(*night, 330, is_certain=False)
    assert find_missing([night] * 2, "HK:700", Interval.MIN_1, calendar) == []
    assert requested == ["HK"], "once"
    day = Span(at(2025, 1, 28, 16), at(2025, 1, 29, 16))
    assert find_missing([day], "HK:700", Interval.DAY, unknown)[0].missing == 1
    assert find_missing([day], "HK:700", Interval.DAY, calendar) == []
    traded = Span(at(2025, 1, 29, 16), at(2025, 1, 30, 16))
    assert find_missing([traded], "HK:700", Interval.DAY, calendar) == [
        Hole(*traded, 1, is_certain=True)
    ]


def test_a_market_without_known_hours_raises():
    with pytest.raises(ValueError, match="hours of market 'IX' are unknown"):
        find_missing([Span(0, 600)], "IX:HSI", Interval.MIN_1, unknown)
