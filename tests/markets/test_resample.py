"""Longer klines made of shorter ones."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from qos_async import Interval, Kline, Market, Session, TradingDay
from qos_async.frames import to_arrow, to_pandas, to_polars
from qos_async.markets import Bar, resample, sessions
from qos_async.periods import market_zone
from qos_async.results import Result

FRIDAY = date(2025, 3, 14)
NEW_YORK = ZoneInfo("America/New_York")


def kline(
    start: datetime, interval: str = "1m", symbol: str = "HK:700", price: Any = 1
) -> Kline[Any]:
    return Kline(
        symbol=symbol,
        interval=Interval.parse(interval),
        timestamp=int(start.timestamp()),
        open=price,
        high=price + 1,
        low=price - 1,
        close=price,
        volume=Decimal("0.1"),
    )


def minutes(
    market: str, *days: date, step: int = 1, interval: str = "1m"
) -> list[Kline[Any]]:
    """Make the klines of whole trading days."""
    starts: list[datetime] = []
    for day in days:
        for one in sessions(market, day):
            length = (one.end - one.start) // timedelta(minutes=step)
            starts += [
                one.start + number * timedelta(minutes=step) for number in range(length)
            ]
    symbol = {"HK": "HK:700", "US": "US:AAPL"}.get(market, f"{market}:600519")
    return [
        kline(start, interval, symbol, number) for number, start in enumerate(starts)
    ]


def lie(found: Iterable[Bar[Any]], zone: Any = None) -> list[str]:
    return [
        f"{bar.time.astimezone(zone or market_zone(bar.symbol[:2])):%H:%M}-"
        f"{bar.end.astimezone(zone or market_zone(bar.symbol[:2])):%H:%M}"
        for bar in found
    ]


def at(clock: str, day: date = FRIDAY, market: str = "HK") -> datetime:
    zone = market_zone(market)
    return datetime.fromisoformat(f"{day} {clock}").replace(tzinfo=zone)


def test_hours_of_hong_kong_start_with_its_sessions():
    found = resample(minutes("HK", FRIDAY), "1h")
    assert lie(found) == [
        "09:30-10:30",
        "10:30-11:30",
        "11:30-12:00",
        "13:00-14:00",
        "14:00-15:00",
        "15:00-16:00",
    ]
    assert [bar.volume for bar in found] == [6, 6, 3, 6, 6, 6]
    assert [bar.complete for bar in found] == [True] * 6
    assert [bar.final for bar in found] == [True] * 5 + [False]
    first = found[0]
    assert (first.open, first.high, first.low, first.close) == (0, 60, -1, 59)
    assert (first.session, first.turnover, first.count) == (Session.REGULAR, None, 0)


def test_a_day_has_both_sessions_and_the_date_of_its_market():
    monday = FRIDAY + timedelta(days=3)
    found = resample(minutes("SH", FRIDAY, monday), "1d")
    assert [bar.date for bar in found] == [FRIDAY, monday]
    assert [(bar.volume, bar.complete, bar.final) for bar in found] == [
        (24, True, True),
        (24, True, False),
    ]


def test_the_auctions_belong_to_the_first_and_the_last_bar():
    whole = minutes("HK", FRIDAY)
    auctions = [kline(at("09:20"), price=7), *whole, kline(at("16:08"), price=9)]
    found = resample(auctions, "2h")
    assert lie(found) == ["09:30-11:30", "11:30-12:00", "13:00-15:00", "15:00-16:00"]
    assert (found[0].open, found[-1].close) == (7, 9)
    assert [bar.complete for bar in found] == [True] * 4


def test_a_day_of_the_us_has_regular_hours_only():
    found = resample(minutes("US", FRIDAY), "1d")
    assert [(bar.volume, bar.complete, bar.final) for bar in found] == [
        (39, True, True)
    ]
    hours = resample(minutes("US", FRIDAY), "1h")
    regular = [bar for bar in hours if bar.session is Session.REGULAR]
    assert lie(regular)[0] == "09:30-10:30"
    assert lie(regular)[-1] == "15:30-16:00"


def test_a_missing_kline_makes_its_bar_incomplete():
    whole = minutes("HK", FRIDAY)
    found = resample([*whole[:40], *whole[41:]], "30m")
    assert [bar.complete for bar in found] == [True, False] + [True] * 9
    assert found[1].volume == Decimal("2.9")


def test_a_first_bar_that_begins_late_is_incomplete():
    assert [bar.complete for bar in resample(minutes("HK", FRIDAY)[5:70], "30m")] == [
        False,
        True,
        True,
    ]


def test_an_unfinished_last_bar_is_complete_up_to_its_newest_kline():
    [*_, last] = resample(minutes("HK", FRIDAY)[:70], "30m")
    assert (last.final, last.complete, last.volume) == (False, True, 1)
    whole = minutes("HK", FRIDAY)
    [*_, last] = resample([*whole[:65], *whole[66:70]], "30m")
    assert (last.final, last.complete) == (False, False)


def test_a_final_bar_that_reaches_the_end_makes_the_last_bar_final():
    shorter = resample(minutes("HK", FRIDAY), "5m")
    shorter[-1] = msgspec.structs.replace(shorter[-1], final=True)
    found = resample(shorter, "1h")
    assert [bar.final for bar in found] == [True] * 6
    assert found == [
        msgspec.structs.replace(bar, final=True)
        for bar in resample(minutes("HK", FRIDAY), "1h")
    ]
    assert not resample(shorter[:-1], "1h")[-1].final


def test_a_kline_that_is_incomplete_makes_its_bar_incomplete():
    shorter = resample(minutes("HK", FRIDAY), "5m")
    shorter[0] = msgspec.structs.replace(shorter[0], complete=False)
    assert [bar.complete for bar in resample(shorter, "1h")] == [False] + [True] * 5


def test_half_days_and_holidays_come_from_the_calendar():
    days = {
        Market.HK: [
            TradingDay(date=date(2025, 3, 10)),
            TradingDay(date=FRIDAY, half_day=True),
        ]
    }
    morning = minutes("HK", FRIDAY)[:150]
    following = kline(at("09:30", FRIDAY + timedelta(days=3)))
    assert not resample([*morning, following], "1d")[0].complete
    assert resample([*morning, following], "1d", calendar=days)[0].complete
    week = [kline(at("00:00", one.date), "1d") for one in days[Market.HK]]
    week.append(kline(at("00:00", FRIDAY + timedelta(days=3)), "1d"))
    assert not resample(week, "1w")[0].complete
    assert resample(week, "1w", calendar=days)[0].complete


def test_days_make_weeks_months_and_years():
    start = date(2025, 1, 1)
    days = [start + timedelta(days=number) for number in range(400)]
    rows = [kline(at("00:00", day), "1d") for day in days if day.weekday() < 5]
    for interval, dates in {
        "1w": [date(2024, 12, 30), date(2025, 1, 6)],
        "1M": [start, date(2025, 2, 1)],
        "1y": [start, date(2026, 1, 1)],
    }.items():
        found = resample(rows, interval)
        assert [bar.date for bar in found[:2]] == dates
        assert found[1].complete
        assert sum(bar.volume or 0 for bar in found) == len(rows) * Decimal("0.1")


def test_contracts_make_days_of_utc():
    start = datetime.fromisoformat("2025-03-14T00:00+00:00")
    rows = [
        kline(start + number * timedelta(hours=1), "1h", "CF:BTCUSDT")
        for number in range(30)
    ]
    found = resample(rows, "1d")
    assert [(bar.volume, bar.complete, bar.final) for bar in found] == [
        (Decimal("2.4"), True, True),
        (Decimal("0.6"), True, False),
    ]


def test_a_market_without_known_hours_is_aligned_to_midnight():
    start = datetime.fromisoformat("2025-03-14T13:30+00:00")
    rows = [kline(start + n * timedelta(minutes=1), "1m", "IX:SPX") for n in range(60)]
    found = resample(rows, "1h")
    assert [(bar.time.hour, bar.complete) for bar in found] == [(13, False), (14, True)]


def test_days_of_dealers_begin_in_the_evening():
    start = datetime(2025, 3, 13, 17, tzinfo=NEW_YORK)
    rows = [kline(start + n * timedelta(hours=1), "1h", "FX:EURUSD") for n in range(24)]
    [day] = resample(rows, "1d")
    assert (lie([day], NEW_YORK), day.complete) == (["17:00-17:00"], True)


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([0.1, 0.2, 0.3], 0.6),
        (["0.1", "0.2", "0.00000001"], "0.30000001"),
        ([1, 2, 3], 6),
        (
            [Decimal("1e20"), Decimal("1e-18"), Decimal("1e-18")],
            Decimal("100000000000000000000.000000000000000002"),
        ),
        ([Decimal(1), None, Decimal(1)], None),
    ],
)
def test_volumes_are_summed_exactly_in_their_type(values: list[Any], total: Any):
    rows = [
        msgspec.structs.replace(one, volume=volume)
        for one, volume in zip(minutes("HK", FRIDAY), values, strict=False)
    ]
    [bar] = resample(rows, "30m")
    assert bar.volume == total
    assert type(bar.volume) is type(total)


def test_text_is_compared_as_numbers():
    low, high = minutes("HK", FRIDAY)[:2]
    rows = [
        msgspec.structs.replace(low, open="9", high="9", low="9", close="9"),
        msgspec.structs.replace(high, open="10", high="10", low="10", close="10"),
    ]
    [bar] = resample(rows, "30m")
    assert (bar.high, bar.low) == ("10", "9")


def test_a_result_and_frames_make_the_same_bars():
    whole = minutes("HK", FRIDAY)
    whole = [
        msgspec.structs.replace(
            one,
            **{
                name: Decimal(getattr(one, name))
                for name in ("open", "high", "low", "close")
            },
        )
        for one in whole
    ]
    expected = resample(whole, "30m")
    result = Result(["HK:700"], {"HK:700": whole}, Kline, Interval.MIN_1)
    assert resample(result, "30m") == expected
    for make in (to_polars, to_pandas, to_arrow):
        frame: Any = make(result, numbers=Decimal)
        assert resample(frame, "30m") == expected
        longer: Any = make(expected, numbers=Decimal)
        assert [bar.volume for bar in resample(longer, "1h")] == [6, 6, 3, 6, 6, 6]
    dicts = to_polars(result, numbers=Decimal).to_dicts()
    assert resample(dicts, "30m") == expected
    tuples = to_pandas(result, numbers=Decimal).itertuples()
    assert resample(tuples, "30m") == expected


def test_symbols_keep_their_order_also_when_mixed():
    one, other = minutes("HK", FRIDAY)[:60], minutes("SH", FRIDAY)[:60]
    mixed = [row for pair in zip(one, other, strict=True) for row in pair]
    found = resample(mixed, "30m")
    assert [bar.symbol for bar in found] == ["HK:700"] * 2 + ["SH:600519"] * 2
    assert found == resample(one, "30m") + resample(other, "30m")


def test_no_klines_make_no_bars():
    assert resample([], "30m") == []


async def nothing() -> Any:
    yield


MINUTE = kline(at("10:00"))
NEXT = kline(at("10:01"))


@pytest.mark.parametrize(
    ("rows", "interval", "message"),
    [
        ([kline(at("10:00"), "1h")], "30m", "1h klines cannot make 30m bars"),
        ([MINUTE], "1m", "1m klines cannot make 1m bars: .* longer bars"),
        ([MINUTE, kline(at("10:05"), "5m")], "30m", "several intervals, 1m and 5m"),
        ([NEXT, MINUTE], "30m", "HK:700: the kline of .* sort them by time"),
        ([MINUTE, MINUTE], "30m", "two klines at 2025-03-14 02:00 UTC: keep the last"),
        ([kline(at("11:00"), "1h")], "2h", "belongs to two 2h bars.*shorter klines"),
        (
            [kline(at("09:00", market="US"), "1h", "US:AAPL")],
            "1d",
            "only partly to one",
        ),
        ([kline(at("00:00", date(2025, 3, 31)), "1w")], "1M", "belongs to two 1M bars"),
        ([MINUTE], "45m", "unknown interval '45m'"),
        ([1], "30m", "resample takes klines: .* not int"),
        ([{"symbol": "HK:700", "price": 1}], "30m", "not a row with symbol, price"),
        (nothing(), "30m", "must be a list of klines.* collect an asynchronous"),
        (MINUTE, "30m", "must be a list of klines, a Result or a frame, not Kline"),
        ("HK:700", "30m", "must be a list of klines"),
        (
            [msgspec.structs.replace(MINUTE, interval=Interval.UNKNOWN)],
            "30m",
            "unknown interval: leave it out",
        ),
        (
            [msgspec.structs.replace(MINUTE, close=float("nan"))],
            "30m",
            "the kline of 2025-03-14 02:00 UTC has no close",
        ),
    ],
)
def test_wrong_klines_are_named(rows: Any, interval: str, message: str):
    with pytest.raises(ValueError, match=message):
        resample(rows, interval)


def test_bars_that_overlap_are_named():
    one, other = resample(minutes("HK", FRIDAY)[:60], "30m")
    late = msgspec.structs.replace(other, timestamp=other.timestamp - 60)
    with pytest.raises(ValueError, match=r"starts before that of .* ends"):
        resample([one, late], "1h")
