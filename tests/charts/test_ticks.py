"""Labels of the time axis: round times, days and months, in the zone of the chart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from qos_async import Interval
from qos_async.charts.ticks import fitting, levels

HONG_KONG = ZoneInfo("Asia/Hong_Kong")


def times(start: datetime, step: timedelta, count: int) -> list[datetime]:
    return [start + step * n for n in range(count)]


def session(days: int) -> list[datetime]:
    """Return the starts of the bars of 15 minutes of some days in Hong Kong."""
    found: list[datetime] = []
    for day in range(days):
        date = datetime(2026, 3, 2, tzinfo=HONG_KONG) + timedelta(days=day)
        for start, end in ((570, 720), (780, 960)):
            found += [date + timedelta(minutes=one) for one in range(start, end, 15)]
    return found


def labels(found: list[datetime], interval: Interval, most: int) -> list[str]:
    return [tick.text for tick in fitting(levels(found, interval), most, len(found))]


@pytest.mark.fault("C2")
def test_a_day_with_lunch_and_night_is_labelled_in_its_own_zone():
    assert labels(session(1), Interval.MIN_15, 6) == [
        "02 Mar 10:00",
        "11:00",
        "13:00",
        "14:00",
        "15:00",
    ]
    assert labels(session(3), Interval.MIN_15, 4) == ["03 Mar 2026", "04 Mar"]


def test_the_first_bar_of_a_day_has_its_date():
    shown = labels(session(2), Interval.MIN_15, 10)
    assert "03 Mar" in shown
    assert "09:30" not in " ".join(shown)


@pytest.mark.fault("C2")
def test_four_hours_are_counted_from_midnight_of_the_zone():
    start = datetime(2026, 3, 2, tzinfo=ZoneInfo("America/New_York"))
    found = times(start, timedelta(hours=1), 30)
    assert labels(found, Interval.HOUR_1, 8) == [
        *("02 Mar 04:00", "08:00", "12:00", "16:00", "20:00"),
        *("03 Mar", "04:00"),
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 100, 1000, 5000])
@pytest.mark.parametrize("most", [1, 2, 5, 10])
@pytest.mark.parametrize(
    ("interval", "step"),
    [
        (Interval.MIN_1, timedelta(minutes=1)),
        (Interval.DAY, timedelta(days=1)),
        (Interval.WEEK, timedelta(days=7)),
        (Interval.YEAR, timedelta(days=366)),
    ],
)
def test_there_are_labels_and_not_too_many(count, most, interval, step):
    found = times(datetime(1000, 1, 1, tzinfo=UTC), step, count)
    ticks = fitting(levels(found, interval), most, count)
    assert 1 <= len(ticks) <= most
    assert all(one.place < other.place for one, other in pairwise(ticks))
    assert ticks[0].text == ticks[0].full


def test_of_two_labels_that_are_too_near_the_day_stays():
    """The close of a day is one bar before the open of the next."""
    start = datetime(2026, 3, 2, 12, tzinfo=UTC)
    found = [
        *times(start, timedelta(minutes=5), 37),  # Until 15:00.
        *times(start + timedelta(hours=22), timedelta(minutes=5), 37),
    ]
    shown = labels(found, Interval.MIN_5, 7)
    assert "03 Mar" in shown
    assert "15:00" not in shown[:-1]
