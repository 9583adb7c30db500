"""Start and end of klines."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qos_async.enums import Interval
from qos_async.periods import bar_end, bar_start, market_zone

REAL = [interval for interval in Interval if interval is not Interval.UNKNOWN]
NEW_YORK = ZoneInfo("America/New_York")


def local(market: str, *when: int) -> int:
    return int(datetime(*when, tzinfo=market_zone(market)).timestamp())  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("interval", "minutes"),
    [(1, 1), (5, 5), (15, 15), (30, 30), (60, 60), (120, 120), (240, 240)],
)
def test_an_intraday_bar_has_a_fixed_length(interval: int, minutes: int):
    assert bar_end(1741910400, Interval(interval), "CF") == 1741910400 + 60 * minutes


@pytest.mark.parametrize(
    ("day", "hours"),
    [((2025, 3, 9), 23), ((2025, 3, 10), 24), ((2025, 11, 2), 25)],
)
def test_a_day_in_new_york_follows_daylight_saving(
    day: tuple[int, int, int], hours: int
):
    start = local("US", *day)
    assert bar_end(start, Interval.DAY, "US") - start == hours * 3600


def test_the_samples_day_bars_start_where_their_markets_days_do():
    for market, start in {"CF": 1741910400, "US": 1741924800, "HK": 1741881600}.items():
        assert bar_start(start + 3600, Interval.DAY, market) == start
        assert bar_end(start, Interval.DAY, market) == start + 86400


@pytest.mark.parametrize(
    ("interval", "start", "end"),
    [
        (Interval.WEEK, (2025, 3, 3), (2025, 3, 10)),
        (Interval.WEEK, (2025, 10, 27), (2025, 11, 3)),
        (Interval.MONTH, (2025, 3, 1), (2025, 4, 1)),
        (Interval.MONTH, (2024, 2, 1), (2024, 3, 1)),
        (Interval.MONTH, (2025, 12, 1), (2026, 1, 1)),
        (Interval.MONTH, (2025, 1, 1), (2025, 2, 1)),
        (Interval.YEAR, (2024, 1, 1), (2025, 1, 1)),
        (Interval.YEAR, (2025, 1, 1), (2026, 1, 1)),
    ],
)
@pytest.mark.parametrize("market", ["US", "HK", "SH", "SZ", "CF", "FX"])
def test_weeks_months_and_years_end_at_local_midnight(
    interval: Interval,
    start: tuple[int, int, int],
    end: tuple[int, int, int],
    market: str,
):
    assert bar_end(local(market, *start), interval, market) == local(market, *end)


def test_a_week_stamped_with_its_first_trading_day_ends_with_that_week():
    wednesday = local("US", 2025, 1, 1)
    assert bar_end(wednesday, Interval.WEEK, "US") == local("US", 2025, 1, 6)
    assert bar_end(local("US", 2025, 1, 2), Interval.MONTH, "US") == local(
        "US", 2025, 2, 1
    )
    assert bar_end(local("US", 2025, 1, 2), Interval.YEAR, "US") == local(
        "US", 2026, 1, 1
    )


def test_a_year_of_shanghai_starts_at_its_local_midnight():
    start = local("SH", 2025, 1, 1)
    assert datetime.fromtimestamp(start, UTC) == datetime(2024, 12, 31, 16, tzinfo=UTC)
    assert bar_end(start, Interval.YEAR, "SH") == local("SH", 2026, 1, 1)


@given(
    st.integers(1_000_000_000, 2_000_000_000),
    st.sampled_from(REAL),
    st.sampled_from(["US", "HK", "SH", "CF", "ZZ"]),
)
def test_every_time_is_inside_its_bar(moment: int, interval: Interval, market: str):
    start = bar_start(moment, interval, market)
    assert start <= moment < bar_end(start, interval, market)
    assert bar_start(start, interval, market) == start


# The days around the changes of New York to summer and winter time, and any others.
NEAR_CHANGES = st.tuples(
    st.sampled_from([(2025, 3, 9), (2025, 11, 2), (2026, 3, 8), (2026, 11, 1)]),
    st.integers(-86_400, 3 * 86_400),
).map(lambda one: local("US", *one[0]) + one[1])
MARKETS = st.sampled_from(["US", "HK", "SH", "SZ", "CF", "FX", "CM", "IX"])


@pytest.mark.fault("F35")
@given(
    st.one_of(NEAR_CHANGES, st.integers(1_000_000_000, 2_000_000_000)),
    st.sampled_from(REAL),
    MARKETS,
)
def test_each_bar_ends_where_the_next_starts(
    moment: int, interval: Interval, market: str
):
    start = bar_start(moment, interval, market)
    end = bar_end(start, interval, market)
    assert start <= moment < end
    assert bar_start(end, interval, market) == end
    assert bar_start(end - 1, interval, market) == start


@pytest.mark.fault("F35")
@pytest.mark.parametrize("market", ["US", "FX", "CM", "HK", "SH", "SZ", "CF", "IX"])
@pytest.mark.parametrize("interval", [one for one in REAL if one < Interval.DAY])
@pytest.mark.parametrize("day", [(2025, 3, 8), (2025, 11, 1)])
def test_the_bars_of_days_with_23_and_25_hours_share_no_minute(
    day: tuple[int, int, int], interval: Interval, market: str
):
    first = bar_start(local("US", *day), interval, market)
    last = first + 4 * 86_400
    ends = [first]
    while ends[-1] < last:
        ends.append(bar_end(ends[-1], interval, market))
    found = {bar_start(second, interval, market) for second in range(first, last, 60)}
    assert sorted(found) == ends[:-1]


@pytest.mark.fault("F35")
@pytest.mark.parametrize(
    ("day", "start"), [((2025, 11, 3), (2025, 11, 2, 23)), ((2025, 3, 10), (2025, 3, 9, 21))]
)  # fmt: skip
def test_the_last_bar_of_a_day_with_23_or_25_hours_ends_at_midnight(day, start):
    begin, midnight = local("US", *start), local("US", *day)
    assert bar_end(begin, Interval.HOUR_4, "US") == midnight
    assert bar_start(midnight - 1, Interval.HOUR_4, "US") == begin


def test_an_unknown_market_is_in_utc():
    assert market_zone("ZZ").utcoffset(datetime(2025, 7, 1)).total_seconds() == 0  # type: ignore[union-attr]  # noqa: DTZ001


def test_without_time_zone_data_only_daylight_saving_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
):
    def absent(name: str) -> ZoneInfo:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr("zoneinfo.ZoneInfo", absent)
    market_zone.cache_clear()
    try:
        start = int(datetime(2025, 1, 6, tzinfo=NEW_YORK).timestamp())
        assert bar_start(start + 7200, Interval.DAY, "US") == start
        assert market_zone("HK").utcoffset(None).total_seconds() == 8 * 3600  # type: ignore[union-attr]
    finally:
        market_zone.cache_clear()
