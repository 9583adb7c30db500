"""Tests of ``qos_async.cli.times``."""

from __future__ import annotations

import pytest

from qos_async import Interval
from qos_async.cli.times import TimeSpec, iso, local_time
from qos_async.periods import market_zone
from tests.support.history_pages import at

NOW = 1_750_000_000.5


@pytest.mark.parametrize(
    ("text", "market", "start", "end"),
    [
        ("2025-01-31", "CF", at(2025, 1, 31), at(2025, 2, 1)),
        ("2025-01-31", "HK", at(2025, 1, 30, 16), at(2025, 1, 31, 16)),
        ("2025-03-09", "US", at(2025, 3, 9, 5), at(2025, 3, 10, 4)),
        ("2025-01-31T09:30Z", "HK", at(2025, 1, 31, 9, 30), at(2025, 1, 31, 9, 30)),
        (
            "2025-01-31T09:30+08:00",
            "US",
            at(2025, 1, 31, 1, 30),
            at(2025, 1, 31, 1, 30),
        ),
        ("2025-01-31 09:30Z", "US", at(2025, 1, 31, 9, 30), at(2025, 1, 31, 9, 30)),
        ("90m", "US", 1_749_994_600, 1_749_994_600),
        ("2d", "US", 1_749_827_200, 1_749_827_200),
        ("1969-12-31T23:59:59.5Z", "US", -1, -1),
    ],
)
def test_a_day_is_in_the_zone_of_the_market(text, market, start, end):
    """As an end, it means the end of the day, daylight saving included."""
    spec, zone = TimeSpec.parse(text), market_zone(market)
    assert (spec.start(zone, NOW), spec.end(zone, NOW)) == (start, end)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("yesterday", "try a day such as 2025-01-31"),
        ("2025-02-30", "try a day such as"),
        ("2d3h", "units m h d w"),
        ("99999999999999w", "units m h d w"),
        ("2025-01-31T09:30", "write 2025-01-31T09:30Z for UTC"),
        ("", "is not a time"),
    ],
)
def test_an_invalid_time_raises_with_an_example(text, says):
    with pytest.raises(ValueError, match=says):
        TimeSpec.parse(text)


@pytest.mark.parametrize("text", ["9999-12-31", "0001-01-01", "9999999d"])
def test_a_time_out_of_range_raises(text):
    spec = TimeSpec.parse(text)
    for resolve in (spec.start, spec.end):
        with pytest.raises(ValueError, match=f"'{text}' is out of range"):
            resolve(market_zone("HK"), NOW)


def test_days_are_shown_in_the_zone_of_the_market_and_times_in_utc():
    midnight = at(2025, 1, 30, 16)
    assert local_time(midnight, "HK:700", Interval.DAY) == "2025-01-31"
    assert local_time(midnight, "HK:700", Interval.HOUR_1) == "2025-01-30 16:00"
    assert iso(midnight) == "2025-01-30T16:00:00Z"
