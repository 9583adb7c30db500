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
        ("-2d", "US", 1_749_827_200, 1_749_827_200),
        ("now", "US", 1_750_000_000, 1_750_000_000),
        ("1969-12-31T23:59:59.5Z", "US", -1, -1),
        ("20250131", "CF", at(2025, 1, 31), at(2025, 2, 1)),
        ("2025-W05", "CF", at(2025, 1, 27), at(2025, 2, 3)),
        ("2025-W05-5", "CF", at(2025, 1, 31), at(2025, 2, 1)),
        ("2025-01", "HK", at(2024, 12, 31, 16), at(2025, 1, 31, 16)),
        ("2024-12", "CF", at(2024, 12, 1), at(2025, 1, 1)),
        ("2024", "CF", at(2024, 1, 1), at(2025, 1, 1)),
        # It is 2025-06-15 in all markets, but 11:06 in New York and 23:06 in Hong Kong.
        ("today", "US", at(2025, 6, 15, 4), at(2025, 6, 16, 4)),
        ("Today", "HK", at(2025, 6, 14, 16), at(2025, 6, 15, 16)),
        ("yesterday", "HK", at(2025, 6, 13, 16), at(2025, 6, 14, 16)),
    ],
)
def test_a_day_is_in_the_zone_of_the_market(text, market, start, end):
    """As an end, it means the end of the day, daylight saving included."""
    spec, zone = TimeSpec.parse(text), market_zone(market)
    assert (spec.start(zone, NOW), spec.end(zone, NOW)) == (start, end)


@pytest.mark.fault("F32")
@pytest.mark.parametrize(
    ("text", "market", "moment"),
    [
        ("2026-11-26T09:30", "US", at(2026, 11, 26, 14, 30)),
        ("2026-11-26 09:30", "US", at(2026, 11, 26, 14, 30)),
        ("2026-07-01T09:30:00", "US", at(2026, 7, 1, 13, 30)),
        ("2026-11-26T09:30", "HK", at(2026, 11, 26, 1, 30)),
        ("2026-11-26T09:30", "SH", at(2026, 11, 26, 1, 30)),
        ("2026-11-26T09:30", "CF", at(2026, 11, 26, 9, 30)),
        ("2026-11-26t09:30z", "US", at(2026, 11, 26, 9, 30)),
        ("20261126T0930", "US", at(2026, 11, 26, 14, 30)),
        ("202601310930", "US", at(2026, 1, 31, 14, 30)),
        ("202601310930", "HK", at(2026, 1, 31, 1, 30)),
        ("4102444799000", "US", 4_102_444_799),
        ("631152000000", "US", 631_152_000),
        (" 2026-11-26T09:30Z\r\n", "US", at(2026, 11, 26, 9, 30)),
        ("1767225600", "US", 1_767_225_600),
        ("1767225600.75", "US", 1_767_225_600),
        ("1767225600123", "US", 1_767_225_600),
        ("1767225600123456", "US", 1_767_225_600),
        ("1767225600123456789", "US", 1_767_225_600),
        ("946684800", "US", 946_684_800),
        ("946684800000", "US", 946_684_800),
        ("@0", "US", 0),
        ("@-1.5", "US", -2),
        ("@1767225600", "US", 1_767_225_600),
    ],
)
def test_a_point_in_time_is_taken_in_any_usual_form(text, market, moment):
    """Without a zone, it is in that of the market, as days are."""
    spec, zone = TimeSpec.parse(text), market_zone(market)
    assert (spec.start(zone, NOW), spec.end(zone, NOW)) == (moment, moment)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("last week", "try a day such as 2025-01-31 or yesterday"),
        ("17672256001234", "a Unix time such as 1767225600"),
        ("202613310930", "is not a time"),
        ("100000000000", "is not a time"),
        ("4102444800000", "is not a time"),
        ("631151999999999", "is not a time"),
        ("9999999999999999999", "is not a time"),
        ("12345", "a Unix time such as 1767225600"),
        ("2025-13", "try a day such as"),
        ("2025-W60", "try a day such as"),
        ("09:30", "a time such as 2025-01-31T09:30"),
        ("2025-01-31T25:00", "a time such as 2025-01-31T09:30"),
        ("\u0661\u0662d", "units m h d w"),
        ("2025-02-30", "try a day such as"),
        ("2d3h", "units m h d w"),
        ("99999999999999w", "units m h d w"),
        ("", "is not a time"),
        ("1y", r"units .* are m \(minutes\), h \(hours\), .*: try 365d$"),
        ("2 Years", ": try 730d$"),
        ("3M", ": try 90d$"),
        ("6mo", ": try 180d$"),
        ("-1q", ": try 91d$"),
        ("5D", ": try 5d$"),
        ("90min", ": try 90m$"),
        ("10s", r"and w \(weeks\)$"),
    ],
)
def test_an_invalid_time_raises_with_an_example(text, says):
    with pytest.raises(ValueError, match=says):
        TimeSpec.parse(text)


@pytest.mark.parametrize(
    "text", ["9999-12-31", "9999", "9999-12", "0001-01-01", "9999999d"]
)
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
