"""Sessions of markets, and trading days from exchange_calendars."""

from __future__ import annotations

import json
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from qos_async import Market, Session, TradingDay
from qos_async.markets import (
    exchange_calendar,
    hours,
    is_open,
    session_at,
    sessions,
)

NEW_YORK = ZoneInfo("America/New_York")
HONG_KONG = ZoneInfo("Asia/Hong_Kong")
MONDAY = date(2025, 3, 10)
YEAR = {"start": date(2025, 1, 1), "end": date(2025, 12, 31)}
SAMPLE = Path("tests/samples/http-market-calendar.response.json")


def new_york(*when: int) -> datetime:
    return datetime(*when, tzinfo=NEW_YORK)  # type: ignore[misc,arg-type]


def hong_kong(*when: int) -> datetime:
    return datetime(*when, tzinfo=HONG_KONG)  # type: ignore[misc,arg-type]


def spans(market: str, day: date, zone: str, **options: object) -> list[str]:
    return [
        f"{one.start.astimezone(ZoneInfo(zone)):%a %H:%M}-"
        f"{one.end.astimezone(ZoneInfo(zone)):%a %H:%M}"
        for one in sessions(market, day, **options)  # type: ignore[arg-type]
    ]


def recorded() -> dict[Market, list[TradingDay]]:
    rows = json.loads(SAMPLE.read_text())["data"]
    return {
        Market(market): [
            TradingDay(
                date=datetime.strptime(day[:8], "%Y%m%d").replace(tzinfo=UTC).date(),
                half_day=day.endswith("H"),
            )
            for day in days
        ]
        for market, days in rows.items()
    }


@pytest.mark.parametrize(
    ("market", "zone", "expected"),
    [
        (
            "US",
            "America/New_York",
            [
                "Sun 20:00-Mon 03:50",
                "Mon 04:00-Mon 09:30",
                "Mon 09:30-Mon 16:00",
                "Mon 16:00-Mon 20:00",
            ],
        ),
        ("HK", "Asia/Hong_Kong", ["Mon 09:30-Mon 12:00", "Mon 13:00-Mon 16:00"]),
        ("SH", "Asia/Shanghai", ["Mon 09:30-Mon 11:30", "Mon 13:00-Mon 15:00"]),
        ("SZ", "Asia/Shanghai", ["Mon 09:30-Mon 11:30", "Mon 13:00-Mon 15:00"]),
        ("CF", "UTC", ["Mon 00:00-Tue 00:00"]),
        ("FX", "America/New_York", ["Sun 17:00-Mon 17:00"]),
        ("CM", "America/New_York", ["Sun 18:00-Mon 17:00"]),
    ],
)
def test_the_sessions_of_a_day_are_those_of_the_document(market, zone, expected):
    assert spans(market, MONDAY, zone) == expected
    assert spans(market.lower(), MONDAY, zone) == expected
    for one in sessions(market, MONDAY):
        assert (one.market, one.date) == (market, MONDAY)
        assert one.start.utcoffset() == one.end.utcoffset() == timedelta(0)


def test_the_parts_of_the_us_day_are_in_the_order_of_the_wires_numbers():
    kinds = [int(one.kind) for one in sessions("US", MONDAY)]
    assert kinds == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("day", "utc_hour"),
    [
        (date(2025, 3, 7), 14),  # The document: 22:30 in UTC+8 in winter …
        (date(2025, 3, 10), 13),  # … and 21:30 in summer.
        (date(2025, 10, 31), 13),
        (date(2025, 11, 3), 14),
    ],
)
def test_new_york_opens_in_its_local_time(day, utc_hour):
    regular = sessions("US", day)[2]
    assert (regular.start.hour, regular.start.minute) == (utc_hour, 30)


def test_the_night_of_a_clock_change_is_an_hour_longer_or_shorter():
    # Monday's overnight session begins on the Sunday of the change, hours after it.
    nights = [sessions("US", day)[0] for day in (date(2025, 3, 10), date(2025, 3, 11))]
    assert [one.end - one.start for one in nights] == [
        timedelta(hours=7, minutes=50),
        timedelta(hours=7, minutes=50),
    ]


@pytest.mark.parametrize(
    ("when", "kind", "day"),
    [
        ((2025, 3, 9, 19, 59), None, None),
        ((2025, 3, 9, 20, 0), Session.OVERNIGHT, 10),
        ((2025, 3, 10, 3, 49), Session.OVERNIGHT, 10),
        ((2025, 3, 10, 3, 50), None, None),
        ((2025, 3, 10, 4, 0), Session.PRE_MARKET, 10),
        ((2025, 3, 10, 9, 30), Session.REGULAR, 10),
        ((2025, 3, 10, 16, 0), Session.POST_MARKET, 10),
        ((2025, 3, 10, 20, 0), Session.OVERNIGHT, 11),
        ((2025, 3, 14, 19, 59), Session.POST_MARKET, 14),
        ((2025, 3, 14, 20, 0), None, None),  # Friday evening leads into no trading day.
        ((2025, 3, 15, 12, 0), None, None),
    ],
)
def test_a_time_is_in_one_session_of_new_york_or_in_none(when, kind, day):
    found = session_at("US:AAPL", new_york(*when))
    assert is_open("US:AAPL", new_york(*when)) is (kind is not None)
    assert is_open("US", new_york(*when).timestamp()) is (kind is not None)
    if kind is None:
        assert found is None
    else:
        assert found is not None
        assert (found.kind, found.date) == (kind, date(2025, 3, day))


@pytest.mark.parametrize(
    ("symbol", "when", "expected"),
    [
        ("HK:00700", (2025, 3, 10, 9, 29), False),
        ("HK:00700", (2025, 3, 10, 11, 59), True),
        ("HK:00700", (2025, 3, 10, 12, 0), False),
        ("HK:00700", (2025, 3, 10, 12, 59), False),
        ("HK:00700", (2025, 3, 10, 13, 0), True),
        ("HK:00700", (2025, 3, 10, 16, 0), False),
        ("SH:600519", (2025, 3, 10, 11, 30), False),
        ("SZ:000001", (2025, 3, 10, 14, 59), True),
        ("SZ:000001", (2025, 3, 10, 15, 0), False),
        ("HK:700", (2025, 3, 9, 10, 0), False),
        ("CF:BTCUSDT", (2025, 3, 9, 10, 0), True),
        ("FX:EURUSD", (2025, 3, 10, 4, 59), False),  # Sunday, 16:59 in New York.
        ("FX:EURUSD", (2025, 3, 15, 4, 59), True),  # Friday, 16:59.
        ("FX:EURUSD", (2025, 3, 15, 5, 0), False),
        ("CM:XAUUSD", (2025, 3, 11, 5, 30), False),  # The daily pause.
        ("FX:EURUSD", (2025, 3, 11, 5, 30), True),
    ],
)
def test_lunch_nights_and_weekends_are_closed(symbol, when, expected):
    assert is_open(symbol, hong_kong(*when)) is expected


def test_a_calendar_determines_trading_days_and_half_days():
    calendar = recorded()
    assert sessions("US", date(2025, 7, 4), calendar=calendar) == ()
    assert spans("US", date(2025, 7, 3), "America/New_York", calendar=calendar) == [
        "Wed 20:00-Thu 03:50",
        "Thu 04:00-Thu 09:30",
        "Thu 09:30-Thu 13:00",
        "Thu 13:00-Thu 17:00",
    ]
    # The evening before the holiday is dark; the one before the next trading day is not.
    assert not is_open("US:AAPL", new_york(2025, 7, 3, 21, 0), calendar=calendar)
    assert is_open("US:AAPL", new_york(2025, 7, 6, 21, 0), calendar=calendar)


def test_a_half_day_ends_with_the_morning_session():
    half = {
        Market.HK: [TradingDay(date=date(2025, 12, 24), half_day=True)],
        Market.SH: [TradingDay(date=date(2025, 12, 24), half_day=True)],
    }
    for market, end in (("HK", "12:00"), ("SH", "11:30")):
        found = spans(market, date(2025, 12, 24), "Asia/Hong_Kong", calendar=half)
        assert found == [f"Wed 09:30-Wed {end}"]


def test_a_day_that_the_calendar_does_not_cover_is_open_from_monday_to_friday():
    calendar = recorded()
    assert [
        bool(sessions("US", date(2025, 6, 23) + timedelta(days=n), calendar=calendar))
        for n in range(7)
    ] == [True] * 5 + [False] * 2
    assert sessions("US", date(2025, 7, 8), calendar=calendar)
    assert is_open("CF:BTCUSDT", hong_kong(2025, 7, 5, 12), calendar=calendar)
    # A Saturday that is listed is a trading day: the list rules, not the weekday.
    saturday = {Market.SH: [TradingDay(date=date(2025, 7, 5))]}
    assert sessions("SH", date(2025, 7, 5), calendar=saturday)


def test_unknown_hours_raise_and_are_not_a_closed_market():
    for ask in (
        lambda: sessions("IX", MONDAY),
        lambda: session_at("IX:HSI", 0),
        lambda: is_open("XX:ABC", 0),
    ):
        with pytest.raises(
            ValueError, match=r"hours of market '(IX|XX)' are unknown.*US"
        ):
            ask()


def test_a_naive_time_raises():
    with pytest.raises(ValueError, match="has no time zone"):
        is_open("US:AAPL", datetime(2025, 3, 10, 12, 0))  # noqa: DTZ001
    with pytest.raises(ValueError, match="not milliseconds"):
        session_at("US:AAPL", 1_741_958_430_000)
    with pytest.raises(ValueError, match="malformed symbol"):
        is_open("US:", 0)


@pytest.mark.parametrize("wrong", ["2025-03-10", datetime(2025, 3, 10, tzinfo=UTC)])
def test_a_trading_date_is_a_date(wrong):
    with pytest.raises(ValueError, match=r"a trading date is a datetime\.date"):
        sessions("US", wrong)


@pytest.mark.parametrize("market", ["US", "HK", "CF", "CM"])
@pytest.mark.parametrize("wrong", [date.min, date.max])
def test_a_date_out_of_range_raises(market, wrong):
    with pytest.raises(
        ValueError, match="out of range: the years 2 to 9998 are supported"
    ):
        sessions(market, wrong)
    assert sessions(market, date(2, 1, 1))
    assert sessions(market, date(9998, 12, 31))


@pytest.mark.parametrize("symbol", ["US", "HK:700", "CF:BTCUSDT", "CM"])
@pytest.mark.parametrize(
    "wrong",
    [
        datetime.min.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=ZoneInfo("Asia/Hong_Kong")),
        datetime.max.replace(tzinfo=ZoneInfo("America/New_York")),
        10**400,
        -(10**400),
    ],
)
def test_a_time_out_of_range_raises(symbol, wrong):
    with pytest.raises(
        ValueError, match="out of range: the years 2 to 9998 are supported"
    ):
        is_open(symbol, wrong)
    for far in (datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, 23, tzinfo=UTC)):
        assert isinstance(is_open(symbol, far), bool)


@pytest.mark.parametrize("wrong", [None, 5, b"US:AAPL"])
def test_a_symbol_or_a_market_is_a_string(wrong):
    with pytest.raises(ValueError, match=r"malformed symbol .*: expected text"):
        is_open(wrong, 0)
    for ask in (lambda: sessions(wrong, MONDAY), lambda: exchange_calendar(wrong)):
        with pytest.raises(ValueError, match='a market is a string such as "US", not'):
            ask()


def test_an_invalid_time_raises():
    with pytest.raises(ValueError, match="None is not a time: expected an aware"):
        is_open("US:AAPL", None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([date(2025, 7, 3)], "fetch_calendar or exchange_calendar, .* not list"),
        ("XNYS", "fetch_calendar or exchange_calendar, .* not str"),
        ({"US": [date(2025, 7, 3)]}, r"list of TradingDay for US, .* datetime\.date\("),
        ({"US": 5}, "list of TradingDay for US, .* not 5"),
    ],
)
def test_an_invalid_calendar_raises(wrong, words):
    with pytest.raises(ValueError, match=f"calendar must .*{words}"):
        sessions("US", MONDAY, calendar=wrong)
    with pytest.raises(ValueError, match=f"calendar must .*{words}"):
        is_open("US:AAPL", 0, calendar=wrong)


def test_without_time_zones_the_error_has_the_command_to_install_them(monkeypatch):
    def missing(name: str) -> ZoneInfo:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr(hours, "ZoneInfo", missing)
    with pytest.raises(ModuleNotFoundError, match="pip install tzdata"):
        is_open("US:AAPL", 0)
    assert is_open("CF:BTCUSDT", 0)
    assert is_open("HK:700", hong_kong(2025, 3, 10, 10))


# exchange_calendars calls what pandas has deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_exchange_calendar_has_holidays_and_half_days_as_fetch_calendar():
    days = exchange_calendar("US", "HK", "SZ", **YEAR)
    assert list(days) == [Market.US, Market.HK, Market.SZ]
    half = {m: [str(d.date) for d in days[m] if d.half_day] for m in days}
    assert half == {
        Market.US: ["2025-07-03", "2025-11-28", "2025-12-24"],
        Market.HK: ["2025-01-28", "2025-12-24", "2025-12-31"],
        Market.SZ: [],
    }
    assert days[Market.HK][0] == TradingDay(date=date(2025, 1, 2))
    assert not is_open("US:AAPL", 1_751_639_400, calendar=days)  # 4 July, 10:30.
    assert is_open("US:AAPL", 1_751_639_400)
    assert not sessions("SZ", date(2025, 10, 1), calendar=days)
    with pytest.raises(ValueError, match=r"has SH from .* pip install -U"):
        exchange_calendar("SH", end=date(2100, 1, 1))


def test_a_market_without_an_exchange_calendar_is_named():
    with pytest.raises(ValueError, match="has no market 'CF'; it has US, HK, SH, SZ"):
        exchange_calendar("CF")


def test_without_exchange_calendars_the_error_has_the_command_to_install_it(
    monkeypatch,
):
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    with pytest.raises(ModuleNotFoundError, match=r"qos-async\[calendars\]") as caught:
        exchange_calendar("US")
    assert caught.value.name == "exchange_calendars"
