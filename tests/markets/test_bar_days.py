"""Bars of a day or longer, and sessions: one source of truth."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from qos_async import Market, Trade, TradingDay
from qos_async.markets import bars, sessions

NEW_YORK = ZoneInfo("America/New_York")


def at(text: str) -> int:
    """Read a time in New York."""
    return int(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp())


async def spans(
    symbol: str, interval: str, times: list[str], **options: Any
) -> list[tuple[str, str, int]]:
    async def stream() -> Any:
        for time in times:
            yield Trade(symbol=symbol, price=1, size=1, timestamp=at(time))

    return [
        (
            f"{bar.time.astimezone(NEW_YORK):%m-%d %H:%M}",
            f"{bar.end.astimezone(NEW_YORK):%m-%d %H:%M}",
            bar.count,
        )
        async for bar in bars(stream(), interval, **options)
    ]


# 2025-03-09, a Sunday, is the beginning of summer time in New York.
WEEKS = [
    "2025-03-06T17:00",
    "2025-03-07T16:59:59",
    "2025-03-09T18:00",
    "2025-03-09T19:59",  # Midnight in UTC.
    "2025-03-09T20:01",
    "2025-03-10T16:59:59",
    "2025-03-10T18:00",
    "2025-03-14T16:59",
    "2025-03-16T18:30",
]


@pytest.mark.fault("F24")
@pytest.mark.parametrize(("symbol", "opens"), [("FX:EURUSD", 17), ("CM:XAUUSD", 18)])
async def test_a_day_of_a_market_over_midnight_is_the_session_of_its_date(
    symbol, opens
):
    times = WEEKS[1:] if opens == 18 else WEEKS
    found = await spans(symbol, "1d", times)
    assert found == [
        (f"03-06 {opens}:00", "03-07 17:00", len(times) - 7),
        (f"03-09 {opens}:00", "03-10 17:00", 4),
        (f"03-10 {opens}:00", "03-11 17:00", 1),
        (f"03-13 {opens}:00", "03-14 17:00", 1),
        (f"03-16 {opens}:00", "03-17 17:00", 1),
    ]


@pytest.mark.fault("F24")
@pytest.mark.parametrize("market", ["FX", "CM", "CF"])
@pytest.mark.parametrize(
    "day", [date(2025, 3, 10), date(2025, 7, 4), date(2025, 11, 3)]
)
async def test_a_day_bar_begins_and_ends_with_the_session_of_its_date(market, day):
    [session] = sessions(market, day)
    for moment in (session.start, session.end - timedelta(seconds=1)):
        trade = Trade[Any](
            symbol=f"{market}:X", price=1, timestamp=int(moment.timestamp())
        )

        async def stream(trade: Trade[Any] = trade) -> Any:
            yield trade

        [bar] = [bar async for bar in bars(stream(), "1d")]
        assert (bar.time, bar.end) == (session.start, session.end)


@pytest.mark.fault("F24")
async def test_a_week_of_fx_is_from_sunday_to_friday_evening():
    assert await spans("FX:EURUSD", "1w", WEEKS) == [
        ("03-02 17:00", "03-07 17:00", 2),
        ("03-09 17:00", "03-14 17:00", 6),
        ("03-16 17:00", "03-21 17:00", 1),
    ]


async def test_a_month_and_a_year_of_fx_are_those_of_the_trading_dates():
    times = [
        "2024-12-31T16:59",
        "2024-12-31T17:00",
        "2025-01-31T17:00",
        "2025-02-02T18:00",
    ]
    times.remove("2025-01-31T17:00")  # Closed: see below.
    assert await spans("FX:EURUSD", "1M", times) == [
        ("12-01 17:00", "12-31 17:00", 1),
        ("12-31 17:00", "01-31 17:00", 1),
        ("02-02 17:00", "02-28 17:00", 1),
    ]
    assert [count for _, _, count in await spans("FX:EURUSD", "1y", times)] == [1, 2]


@pytest.mark.fault("F24")
async def test_trades_while_fx_is_closed_are_in_no_week_and_have_days_of_their_own():
    times = [
        WEEKS[1],
        "2025-03-07T17:00",
        "2025-03-07T17:00:05",
        "2025-03-08T12:00",
        "2025-03-09T16:59",
        *WEEKS[2:4],
    ]
    assert await spans("FX:EURUSD", "1w", times) == [
        ("03-02 17:00", "03-07 17:00", 1),
        ("03-09 17:00", "03-14 17:00", 2),
    ]
    assert await spans("FX:EURUSD", "1d", times) == [
        ("03-06 17:00", "03-07 17:00", 1),
        ("03-07 17:00", "03-08 00:00", 2),
        ("03-08 00:00", "03-09 00:00", 1),
        ("03-09 00:00", "03-09 17:00", 1),
        ("03-09 17:00", "03-10 17:00", 2),
    ]


@pytest.mark.fault("F24")
@pytest.mark.parametrize("symbol", ["FX:EURUSD", "CM:XAUUSD"])
@pytest.mark.parametrize("interval", ["1d", "1w", "1M", "1y"])
@pytest.mark.parametrize(
    "begin",
    ["2025-01-29T12:00", "2025-03-06T12:00", "2025-07-30T12:00", "2025-12-30T12:00"],
)
async def test_no_bar_has_a_trade_before_its_start_or_at_its_end(
    symbol, interval, begin
):
    days = [TradingDay(date=date(2025, 3, day)) for day in (5, 6, 7, 11, 12, 14)]
    calendar = {Market(symbol[:2]): days}
    stamps = [at(begin) + 1800 * n for n in range(8 * 48)]

    async def stream() -> Any:
        for second in stamps:
            yield Trade(symbol=symbol, price=second, timestamp=second)

    found = [bar async for bar in bars(stream(), interval, calendar=calendar)]
    assert found
    for bar in found:
        inside = [one for one in stamps if bar.timestamp <= one < bar.end_timestamp]
        assert (bar.open, bar.close, bar.count) == (inside[0], inside[-1], len(inside))


@pytest.mark.fault("F24")
async def test_trades_in_the_hour_of_rest_of_cm_are_in_the_week():
    times = ["2025-03-10T16:59", "2025-03-10T17:30", "2025-03-10T18:00"]
    assert await spans("CM:XAUUSD", "1w", times) == [("03-09 18:00", "03-14 17:00", 3)]


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    "outside",
    [
        "2025-07-02T20:00",
        "2025-07-02T20:00:03",
        "2025-07-03T03:49:59",
        "2025-07-03T03:50",
        "2025-07-03T03:55",
        "2025-07-03T09:29:59",
        "2025-07-03T13:00:01",
        "2025-07-03T17:00",
        "2025-07-03T17:30",
        "2025-07-06T20:00",
    ],
)
async def test_a_day_in_the_us_has_trades_of_regular_hours_only(outside):
    days = [TradingDay(date=date(2025, 7, day), half_day=day == 3) for day in (2, 3, 7)]
    calendar = {Market.US: days}
    regular = ["2025-07-02T16:00", "2025-07-03T09:30", "2025-07-03T13:00"]
    times = sorted([*regular, "2025-07-07T09:30", outside])
    assert await spans("US:AAPL", "1d", times, calendar=calendar) == [
        ("07-02 00:00", "07-03 00:00", 1),
        ("07-03 00:00", "07-04 00:00", 2),
        ("07-07 00:00", "07-08 00:00", 1),
    ]
    for interval, counts in {"1w": [3, 1], "1M": [4], "1y": [4]}.items():
        found = await spans("US:AAPL", interval, times, calendar=calendar)
        assert [count for _, _, count in found] == counts


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    ("day", "outside"),
    [("04", "07-04T10:00"), ("05", "07-05T10:00"), ("06", "07-06T19:59:59")],
)
async def test_a_closed_date_in_the_us_has_a_day_of_its_own_and_is_in_no_week(
    day, outside
):
    calendar = {Market.US: [TradingDay(date=date(2025, 7, day)) for day in (3, 7)]}
    times = ["2025-07-03T10:00", f"2025-{outside}", "2025-07-07T09:30"]
    found = await spans("US:AAPL", "1d", times, calendar=calendar)
    assert [start[:5] for start, _, _ in found] == ["07-03", f"07-{day}", "07-07"]
    found = await spans("US:AAPL", "1w", times, calendar=calendar)
    assert [count for _, _, count in found] == [1, 1]


async def test_a_holiday_ends_a_week_of_fx_early():
    days = [TradingDay(date=date(2025, 3, day)) for day in (3, 10, 11, 12, 13, 17)]
    found = await spans("FX:EURUSD", "1w", [WEEKS[2]], calendar={Market("FX"): days})
    assert found == [("03-09 17:00", "03-13 17:00", 1)]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ("4h", [("03-09 17:00", "03-09 21:00", 3), ("03-10 13:00", "03-10 17:00", 1)]),
        ("2h", [("03-09 17:00", "03-09 19:00", 1), ("03-09 19:00", "03-09 21:00", 2), ("03-10 15:00", "03-10 17:00", 1)]),
        ("1h", [("03-09 18:00", "03-09 19:00", 1), ("03-09 19:00", "03-09 20:00", 1), ("03-09 20:00", "03-09 21:00", 1), ("03-10 16:00", "03-10 17:00", 1)]),
    ],
)  # fmt: skip
async def test_hours_of_fx_are_counted_from_its_opening(interval, expected):
    assert await spans("FX:EURUSD", interval, WEEKS[2:6]) == expected


async def test_an_index_without_known_hours_has_days_at_utc_midnight():
    found = await spans("IX:HSI", "1d", ["2025-03-10T19:59", "2025-03-10T20:00"])
    assert found == [
        ("03-09 20:00", "03-10 20:00", 1),
        ("03-10 20:00", "03-11 20:00", 1),
    ]
