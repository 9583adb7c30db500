"""The months of ``qos calendar``."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest

from qos_async import TradingDay
from qos_async.cli.display import Display
from qos_async.cli.months import calendar
from qos_async.cli.tables import render
from tests.support.cli_process import run_on_terminal


def weekdays(first, count, *, closed=(), half=()):
    days = [first + timedelta(days=number) for number in range(count)]
    return [
        TradingDay(date=day, half_day=day in half)
        for day in days
        if day.weekday() < 5 and day not in closed
    ]


def shown(market, days, tz):
    tables = calendar({market: days}, Display(tz))
    return [
        ["".join(cell.text for cell in line).rstrip() for line in render(table)]
        for table in tables
    ]


@pytest.mark.fault("Y7")
def test_closed_days_weekends_and_half_days_are_marked():
    christmas, eve = date(2025, 12, 25), date(2025, 12, 24)
    days = weekdays(date(2025, 12, 22), 15, closed=[christmas], half=[eve])
    assert shown("US", days, "market") == [
        [
            "US  December 2025  09:30-16:00 New York",
            "Mo   Tu   We   Th   Fr   Sa   Su   x closed, h half day",
            "22   23   24h  25x  26    .    .   24h 09:30-13:00",
            "29   30   31",
        ],
        [
            "US  January 2026  09:30-16:00 New York",
            "Mo   Tu   We   Th   Fr   Sa   Su   x closed, h half day",
            "                1    2    .    .",
            " 5",
        ],
    ]


def test_hours_that_change_within_a_month_are_beside_their_week():
    [lines] = shown("US", weekdays(date(2025, 3, 3), 12), "UTC")
    assert lines[0] == "US  March 2025  14:30-21:00 UTC"
    assert lines[3].endswith("from 10 on 13:30-20:00")


def test_a_market_that_is_open_at_weekends_has_no_closed_days():
    days = [TradingDay(date=date(2025, 3, number)) for number in (1, 2, 3)]
    [lines] = shown("CF", days, "UTC")
    assert lines[0] == "CF  March 2025  24 hours a day, 7 days a week"
    assert lines[2].split() == ["1", "2"]


@pytest.mark.parametrize(
    ("market", "hours"),
    [("FX", "24 hours from 22:00 UTC"), ("IX", "hours unknown")],
)
def test_the_hours_of_a_market_that_does_not_close_are_words(market, hours):
    [lines] = shown(market, weekdays(date(2025, 2, 3), 3), "UTC")
    assert lines[0] == f"{market}  February 2025  {hours}"


@pytest.mark.parametrize(("columns", "beside"), [(120, 2), (100, 1)])
def test_months_of_a_market_are_side_by_side_on_a_wide_terminal(columns, beside):
    out = run_on_terminal("calendar", "--sim", "US", "HK", size=(60, columns)).out
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()
    titles = [line for line in lines if re.search(r"[A-Z]{2}  \w+ 20", line)]
    counts = [len(re.findall(r"(?:US|HK)  ", line)) for line in titles]
    assert max(counts) == beside
    assert not any("US  " in line and "HK  " in line for line in titles)
    assert all(len(line) <= columns for line in lines)
