"""Hours of the simulated markets, and that all views of one market agree."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from random import Random
from statistics import fmean
from typing import Any

import pytest

from qos_async.enums import Interval, Market, Session
from qos_async.markets import is_open, session_at, sessions
from qos_async.models import TradingDay
from qos_async.periods import bar_start, market_zone
from qos_async.sim import SimulatedMarket, Simulator
from qos_async.sim.calendar import is_trading_day
from qos_async.sim.instruments import INSTRUMENTS
from qos_async.symbols import market_of

pytestmark = [pytest.mark.slow, pytest.mark.fault("F35")]

SYMBOLS = [
    "US:AAPL",
    "HK:700",
    "SH:600519",
    "SZ:000001",
    "CF:BTCUSDT",
    "FX:EURUSD",
    "IX:HSI",
    "CM:XAUUSD",
]
INTRADAY = [one for one in Interval if Interval.UNKNOWN < one < Interval.DAY]
LONG = [Interval.WEEK, Interval.MONTH, Interval.YEAR]


def at(text, zone="UTC"):
    """Return epoch seconds of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=market_zone(zone)).timestamp()


RANDOM = Random(35)
STARTS = {
    "a Friday afternoon": at("2025-03-14 13:20:30"),
    "the Monday after spring forward in New York": at("2025-03-10 15:45", "US"),
    "the Monday after fall back in New York": at("2025-11-03 09:31:07", "US"),
    "a Saturday": at("2025-06-07 11:00"),
    "a Sunday evening in New York": at("2025-06-08 19:00", "US"),
    "lunch in Hong Kong": at("2025-06-11 12:20", "HK"),
    "after a half day in New York": at("2025-07-03 15:00", "US"),
    "Christmas": at("2024-12-25 10:00"),
    "after the half day before New Year in Hong Kong": at("2024-12-31 14:00", "HK"),
    "the second of a session's end": at("2025-06-11 11:30", "SH"),
    **{f"random {n}": RANDOM.uniform(1.5e9, 1.9e9) for n in range(3)},
}
# Each symbol with a quarter of the starts, each start with a quarter of the symbols.
EACH_CASE = pytest.mark.parametrize(
    ("symbol", "start"),
    [
        pytest.param(symbol, start, id=f"{symbol} {name}")
        for place, symbol in enumerate(SYMBOLS)
        for turn, (name, start) in enumerate(STARTS.items())
        if (place + turn) % 4 == 0
    ],
)
EACH_SYMBOL = pytest.mark.parametrize("symbol", SYMBOLS)


def values(row):
    return {name: Decimal(row[name]) for name in ("o", "h", "l", "cl", "v")}


def total(rows):
    found = [values(row) for row in rows]
    return {
        "o": found[0]["o"],
        "h": max(one["h"] for one in found),
        "l": min(one["l"] for one in found),
        "cl": found[-1]["cl"],
        "v": sum((one["v"] for one in found), Decimal(0)),
    }


def grouped(rows, interval, market):
    groups: dict[int, list[Any]] = {}
    for row in rows:
        groups.setdefault(bar_start(row["ts"], interval, market), []).append(row)
    return groups


def calendar_around(market, where, start):
    """Return the trading days from 80 days before the start, as the calendar lists them."""
    listed = market.calendar(where, start - 80 * 86_400)
    days = [
        TradingDay(date=date.fromisoformat(one[:8]), half_day="H" in one)
        for one in listed
    ]
    return {Market(where): days}


def returns(rows):
    """Return the changes from minute to minute, of minutes that follow each other."""
    return [
        math.log(float(later["cl"]) / float(row["cl"]))
        for row, later in pairwise(rows)
        if later["ts"] == row["ts"] + 60
    ]


def deviation(changes):
    return math.sqrt(fmean(change * change for change in changes))


# Agreement


@EACH_CASE
def test_klines_of_all_intervals_are_the_sum_of_their_minutes(symbol, start):
    market, where = SimulatedMarket(5, start), market_of(symbol)
    now = start + 400
    minutes = market.klines(symbol, Interval.MIN_1, 2000, now)
    assert len(minutes) == 2000
    for interval in (*INTRADAY, Interval.DAY):
        groups = grouped(minutes, interval, where)
        whole = [one for one in groups if one >= minutes[0]["ts"]]
        bars = market.klines(symbol, interval, len(groups), now)
        found = {row["ts"]: values(row) for row in bars}
        assert list(found) == list(groups)
        assert all(found[one] == total(groups[one]) for one in whole)


@pytest.mark.parametrize("start", ["2025-03-08T22:10", "2025-11-01T22:33"])
def test_klines_over_a_change_of_the_clocks_are_the_sum_of_their_minutes(start):
    """The Sundays in New York have 23 and 25 hours: their last klines end at midnight."""
    begin = at(start, "US")
    market, now = SimulatedMarket(1, begin, rate=0.05), begin + 30 * 3600
    minutes = market.klines("US:AAPL", Interval.MIN_1, 1700, now)
    for interval in INTRADAY:
        groups = grouped(minutes, interval, "US")
        del groups[next(iter(groups))]  # Its first minutes are missing.
        bars = market.klines("US:AAPL", interval, len(groups), now)
        assert {row["ts"]: values(row) for row in bars} == {
            one: total(rows) for one, rows in groups.items()
        }


@EACH_CASE
def test_klines_of_weeks_months_and_years_are_the_sum_of_their_days(symbol, start):
    market, where = SimulatedMarket(5, start), market_of(symbol)
    now = start + 400
    days = market.klines(symbol, Interval.DAY, 1000, now)
    assert len(days) == 1000
    for interval in LONG:
        groups = grouped(days, interval, where)
        del groups[next(iter(groups))]  # Its first days are missing.
        bars = market.klines(symbol, interval, len(groups), now)
        found = {row["ts"]: values(row) for row in bars}
        assert found == {one: total(rows) for one, rows in groups.items()}


@EACH_CASE
def test_minutes_since_the_first_trade_are_the_sum_of_the_trades(symbol, start):
    market, now = SimulatedMarket(5, start), start + 400
    trades = market.trades(symbol, now, market.count(symbol, now))
    groups = grouped(trades, Interval.MIN_1, market_of(symbol))
    bars = market.klines(symbol, Interval.MIN_1, len(groups), now)
    prices = {
        minute: [Decimal(row["p"]) for row in rows] for minute, rows in groups.items()
    }
    assert [(row["ts"], values(row)) for row in bars] == [
        (
            minute,
            {
                "o": prices[minute][0],
                "h": max(prices[minute]),
                "l": min(prices[minute]),
                "cl": prices[minute][-1],
                "v": sum(Decimal(row["v"]) for row in rows),
            },
        )
        for minute, rows in groups.items()
    ]


@EACH_CASE
def test_the_snapshot_agrees_with_the_days(symbol, start):
    market = SimulatedMarket(5, start)
    for now in (start, start + 400):
        row = market.snapshot(symbol, now)
        before, day = market.klines(symbol, Interval.DAY, 2, now)
        assert [row[name] for name in "ohlv"] == [day[name] for name in "ohlv"]
        assert row["lp"] == day["cl"] == market.trades(symbol, now, 1)[0]["p"]
        assert row.get("yp", before["cl"]) == before["cl"]
        price = Decimal(row["t"]) / Decimal(row["v"])
        lot = 100 if symbol[:2] in ("SH", "SZ") else 1
        low, high = Decimal(row["l"]), Decimal(row["h"])
        assert low * Decimal("0.9999") <= price / lot <= high * Decimal("1.0001")


@pytest.mark.parametrize("interval", [*INTRADAY, Interval.DAY, *LONG])
@pytest.mark.parametrize("symbol", ["SH:600519", "CM:XAUUSD"])
def test_pages_backwards_are_the_list_that_they_were_cut_from(symbol, interval):
    start = STARTS["a Friday afternoon"]
    market = SimulatedMarket(5, start, oldest_bars=1500)
    whole = market.klines(symbol, interval, 8000, start + 60)
    paged: list[Any] = []
    end = None
    while page := market.klines(symbol, interval, 700, start + 60, end=end):
        paged[:0], end = page, page[0]["ts"] - 1
    assert paged == whole
    assert all(low["ts"] < high["ts"] for low, high in pairwise(whole))
    assert len(whole) >= {Interval.MONTH: 600, Interval.YEAR: 54}.get(interval, 1500)


@EACH_SYMBOL
def test_each_kline_opens_where_the_one_before_closed(symbol):
    """Into the first trade as well: there is no cliff."""
    start = STARTS["a Friday afternoon"]
    market = SimulatedMarket(5, start)
    first = market.trades(symbol, start, market.count(symbol, start))[0]
    rows = market.klines(symbol, Interval.MIN_1, 3500, start)
    earlier = [row for row in rows if row["ts"] <= first["ts"]]
    assert len(earlier) >= 3000
    for row, later in pairwise(earlier):
        assert row["cl"] == later["o"]
        assert Decimal(later["l"]) <= min(Decimal(later["o"]), Decimal(later["cl"]))
        assert Decimal(later["h"]) >= max(Decimal(later["o"]), Decimal(later["cl"]))
        assert Decimal(later["v"]) > 0


# Hours


@EACH_CASE
def test_no_kline_and_no_trade_before_the_start_is_outside_of_the_sessions(
    symbol, start
):
    market, where = SimulatedMarket(5, start), market_of(symbol)
    calendar = calendar_around(market, where, start)
    listed = {one.date for one in calendar[where]}
    trades = market.trades(symbol, start, market.count(symbol, start))
    stamps = [row["ts"] for row in trades if row["ts"] < start]
    stamps += [row["ts"] for row in market.klines(symbol, Interval.MIN_1, 1500, start)]
    zone = market_zone(where)
    for stamp in stamps:
        if stamp < int(start) // 60 * 60:
            assert datetime.fromtimestamp(stamp, zone).date() in listed
            assert where == "IX" or is_open(symbol, stamp, calendar=calendar)
    for row in market.klines(symbol, Interval.DAY, 45, start)[:-1]:
        begins = datetime.fromtimestamp(row["ts"], zone)
        assert begins.date() in listed
        assert begins.timetz().isoformat()[:8] == "00:00:00"


@pytest.mark.parametrize("symbol", ["HK:700", "SH:600519", "CF:BTCUSDT", "US:AAPL"])
def test_no_minute_of_the_sessions_is_missing_in_the_history(symbol):
    """In the US from 4:00 to 20:00: the overnight session is not simulated."""
    where, start = market_of(symbol), STARTS["Christmas"] + 86_400
    market = SimulatedMarket(5, start, oldest_bars=6000)
    calendar = calendar_around(market, where, start)
    rows = market.klines(symbol, Interval.MIN_1, 8000, start)
    for day in (date(2024, 12, 23), date(2024, 12, 24), date(2024, 12, 25)):
        spans = sessions(where, day, calendar=calendar)
        wanted = [
            second
            for one in spans
            if one.kind is not Session.OVERNIGHT
            for second in range(
                int(one.start.timestamp()), int(one.end.timestamp()), 60
            )
        ]
        begins = datetime(day.year, day.month, day.day, tzinfo=market_zone(where))
        low = int(begins.timestamp())
        found = [row["ts"] for row in rows if low <= row["ts"] < low + 86_400]
        assert found == wanted


def test_days_follow_each_other_without_weekends_and_holidays():
    start = at("2025-01-03 12:00", "HK")
    market = SimulatedMarket(1, start)
    days = market.klines("HK:700", Interval.DAY, 8, start)
    found = [datetime.fromtimestamp(row["ts"], market_zone("HK")).day for row in days]
    assert found == [23, 24, 26, 27, 30, 31, 2, 3]
    assert market.calendar("HK", at("2024-12-23 12:00", "HK"))[:8] == [
        "20241223,F",
        "20241224,H",
        "20241226,F",
        "20241227,F",
        "20241230,F",
        "20241231,H",
        "20250102,F",
        "20250103,F",
    ]


@pytest.mark.parametrize("market", ["SH", "SZ"])
def test_shanghai_and_shenzhen_have_the_fixed_holidays_of_the_mainland(market):
    assert [
        day
        for month in (1, 5, 10, 12)
        for day in (date(2026, month, number) for number in range(1, 31))
        if day.weekday() < 5 and not is_trading_day(market, day)
    ] == [
        date(2026, 1, 1),
        date(2026, 5, 1),
        *(date(2026, 10, number) for number in (1, 2, 5, 6, 7)),
    ]


@EACH_CASE
def test_an_always_open_market_trades_from_the_start_on(symbol, start):
    market = SimulatedMarket(5, start)
    before = market.count(symbol, start - 1)
    trades = market.trades(symbol, start + 60, market.count(symbol, start + 60))
    fresh = [row["ts"] for row in trades[before:]]
    assert int(start) - 1 <= fresh[0] <= start + 10
    assert len(fresh) > 20


@EACH_CASE
def test_a_market_with_real_hours_trades_in_sessions_only(symbol, start):
    market = SimulatedMarket(5, start, market_hours="real", rate=0.02)
    where, now = market_of(symbol), start + 86_400 * 4
    calendar = calendar_around(market, where, start + 86_400 * 6)
    trades = market.trades(symbol, now, market.count(symbol, now))
    assert trades[0]["ts"] <= start
    assert len(trades) > 20
    listed = {one.date for one in calendar[where]}
    for row in trades:
        day = datetime.fromtimestamp(row["ts"], market_zone(where)).date()
        assert day in listed
        assert where == "IX" or is_open(symbol, row["ts"], calendar=calendar)
    minutes = market.klines(symbol, Interval.MIN_1, 9000, now)
    live = [row for row in minutes if row["ts"] >= start]
    for interval in (Interval.HOUR_1, Interval.DAY):
        groups = grouped(live, interval, where)
        bars = market.klines(symbol, interval, len(groups) - 1, now)
        assert [values(row) for row in bars] == [
            total(rows) for rows in list(groups.values())[1:]
        ]


def test_with_real_hours_hong_kong_stops_for_lunch():
    market = SimulatedMarket(1, at("2025-06-11 11:58", "HK"), market_hours="real")
    last = market.trades("HK:700", at("2025-06-11 12:59:59", "HK"), 1)[0]
    assert at("2025-06-11 11:59:45", "HK") < last["ts"] < at("2025-06-11 12:00", "HK")
    row = market.snapshot("HK:700", at("2025-06-11 12:30", "HK"))
    assert (row["lp"], row["ts"]) == (last["p"], last["ts"])
    opens = at("2025-06-11 13:00", "HK")
    assert market.trades("HK:700", opens, 1)[0]["ts"] == opens
    hours = market.klines("HK:700", Interval.HOUR_1, 3, opens + 60)
    zone = market_zone("HK")
    assert [datetime.fromtimestamp(one["ts"], zone).hour for one in hours] == [
        10,
        11,
        13,
    ]


@pytest.mark.parametrize(
    ("clock", "session", "trades"),
    [
        ("2025-06-11 03:52", Session.UNKNOWN, False),
        ("2025-06-11 04:05", Session.PRE_MARKET, True),
        ("2025-06-11 10:00", Session.REGULAR, True),
        ("2025-06-11 16:05", Session.POST_MARKET, True),
        ("2025-06-11 20:05", Session.OVERNIGHT, False),
        ("2025-06-13 20:05", Session.UNKNOWN, False),
        ("2025-06-14 12:00", Session.UNKNOWN, False),
        ("2025-07-03 13:30", Session.POST_MARKET, True),
        ("2025-07-03 17:30", Session.UNKNOWN, False),
    ],
)
def test_with_real_hours_the_us_names_its_session(clock, session, trades):
    now = at(clock, "US")
    market = SimulatedMarket(1, now - 300, market_hours="real")
    row = market.snapshot("US:AAPL", now)
    assert (row["tt"], row["s"]) == (session, 0)
    assert (row["ts"] > now - 300) == trades
    calendar = calendar_around(market, "US", now)
    span = session_at("US:AAPL", now, calendar=calendar)
    assert row["tt"] == (Session.UNKNOWN if span is None else span.kind)


def test_on_a_weekend_a_market_with_real_hours_has_the_state_of_friday():
    start = at("2025-06-14 12:00", "HK")
    market = SimulatedMarket(1, start, market_hours="real", history=0.0)
    row = market.snapshot("HK:700", start + 3600)
    thursday, friday = market.klines("HK:700", Interval.DAY, 2, start + 3600)
    assert friday["ts"] == at("2025-06-13 00:00", "HK")
    assert [row[name] for name in ("o", "h", "l", "v", "lp", "yp")] == [
        *(friday[name] for name in ("o", "h", "l", "v", "cl")),
        thursday["cl"],
    ]
    assert market.depth("HK:700", start)["b"]


def test_the_extended_hours_of_the_us_add_up_from_their_minutes():
    start = at("2025-06-11 12:00", "US")
    market = SimulatedMarket(1, start)
    quote = market.snapshot("US:AAPL", start)["pq"]
    low, high = at("2025-06-11 04:00", "US"), at("2025-06-11 09:30", "US")
    rows = market.klines("US:AAPL", Interval.MIN_1, 1000, start)
    whole = total([row for row in rows if low <= row["ts"] < high])
    assert (quote["lp"], quote["v"]) == (str(whole["cl"]), str(whole["v"]))
    assert (Decimal(quote["h"]), Decimal(quote["l"])) == (whole["h"], whole["l"])
    assert quote["ts"] == high


# Volatility


@pytest.mark.parametrize("rate", [None, 0.2])
@pytest.mark.parametrize("symbol", [*SYMBOLS, "SH:600518", "HK:1810"])
def test_prices_are_as_volatile_before_the_start_as_after_it(symbol, rate):
    """A coarse price increment, or few trades, makes no difference."""
    start = STARTS["a Friday afternoon"]
    market = SimulatedMarket(5, start, rate=rate, history=0.0)
    now = start + 1200 * 60
    rows = market.klines(symbol, Interval.MIN_1, 2700, now)
    before = deviation(returns([row for row in rows if row["ts"] < start - 60]))
    after = deviation(returns([row for row in rows if row["ts"] >= start]))
    assert after / before == pytest.approx(1, abs=0.15)


def test_the_days_are_as_volatile_as_their_minutes():
    market = SimulatedMarket(5, 1.75e9)
    for symbol in ("CF:BTCUSDT", "HK:700"):
        instrument = INSTRUMENTS[symbol]
        days = market.klines(symbol, Interval.DAY, 2500, 1.75e9)
        changes = [
            math.log(float(later["cl"]) / float(row["cl"]))
            for row, later in pairwise(days[:-1])
        ]
        minutes = 1440 if symbol.startswith("CF") else 330
        expected = instrument.volatility * math.sqrt(minutes)
        assert deviation(changes) == pytest.approx(expected, rel=0.1)
        prices = [float(row["cl"]) for row in days]
        assert max(prices) / min(prices) < 10


# The option


@pytest.mark.parametrize("wrong", ["Real", "", None, True, 0, ["real"]])
def test_other_market_hours_are_a_value_error_that_lists_both(wrong):
    with pytest.raises(ValueError, match='must be "always" or "real", not'):
        Simulator(market_hours=wrong)


async def test_a_simulator_with_real_hours_opens_as_its_clock_advances(enter):
    opens = at("2025-06-11 13:00", "HK")
    raw = await enter(start=opens - 60, speed=100.0, market_hours="real")
    wire = await raw.dial()
    await wire.request("T", "HK:700")
    push = await wire.push()
    assert push["ts"] == opens
    assert raw.sim.now >= opens


async def test_a_simulator_is_always_open_by_default(enter):
    raw = await enter(start=at("2025-06-14 12:00", "HK"), speed=10.0)
    wire = await raw.dial()
    await wire.request("T", "HK:700")
    assert (await wire.push())["ts"] >= at("2025-06-14 12:00", "HK")
