"""Labels of a time axis with one place for each bar, whatever time lies between two.

A label stands at the first bar of its minute, hour, day, month or year. ``levels``
returns the labels of each of these periods, from which an axis takes those that fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from qos_async.enums import Interval

__all__ = ["LEAST_GAP", "AxisTick", "TickLevel", "fitting", "levels"]

_Period = Callable[[datetime], Any]
_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 240, 360, 720)
_DAYS = (1, 2, 4, 7, 14)
_MONTHS = (1, 2, 3, 6)
_YEARS = (1, 2, 5, 10, 20, 50, 1000)
LEAST_GAP = 0.6
"""The least distance of two labels, as a part of their average distance."""


class AxisTick(NamedTuple):
    """A label of the axis.

    Attributes:
        place: The index of its bar.
        text: What differs from the label before.
        full: All of it, for the first label of the axis.
        major: Whether a day, or a year, begins here: of two labels that are too near to
            each other, this one stays.
    """

    place: int
    text: str
    full: str
    major: bool


TickLevel = list[AxisTick]
"""The labels of one period."""


class _Style(NamedTuple):
    """How the labels of a period look.

    Attributes:
        text: The format of a label.
        full: The format of a label with its context.
        context: The format of what ``text`` leaves out.
    """

    text: str
    full: str
    context: str


_OF_MINUTES = _Style("%H:%M", "%d %b %H:%M", "%Y-%m-%d")
_OF_DAYS = _Style("%d %b", "%d %b %Y", "%Y")
_OF_MONTHS = _Style("%b", "%b %Y", "%Y")
_OF_YEARS = _Style("%Y", "%Y", "%Y")


def levels(times: Sequence[datetime], interval: Interval) -> list[TickLevel]:
    """Return the labels of each period for which they differ, the shortest first.

    The last level has the first bar only.
    """
    found: list[TickLevel] = []
    before: list[int] = []
    periods = _periods(interval)
    for style, period in periods:
        places = _first_of_each([period(time) for time in times])
        if places and places != before:
            found.append(_labelled(times, places, style))
        before = places
    shortest, _ = periods[0]
    return [*found, _labelled(times, [0], shortest)]


def fitting(found: list[TickLevel], most: int, count: int) -> list[AxisTick]:
    """Return at most ``most`` labels for an axis of ``count`` bars.

    They are those of the shortest period that has no more, and far enough from each
    other; the first one is in full.
    """
    level = next(level for level in found if len(level) <= most)
    shown: list[AxisTick] = []
    for tick in level:
        near = shown and tick.place - shown[-1].place < LEAST_GAP * count / most
        if near and (shown[-1].major or not tick.major):
            continue
        if near:
            shown.pop()
        shown.append(tick)
    first = shown[0]
    return [first._replace(text=first.full), *shown[1:]]


def _periods(interval: Interval) -> list[tuple[_Style, _Period]]:
    days: list[tuple[_Style, _Period]] = [
        *((_OF_DAYS, _days(count)) for count in _DAYS),
        *((_OF_MONTHS, _months(count)) for count in _MONTHS),
        *((_OF_YEARS, _years(count)) for count in _YEARS),
    ]
    if interval is Interval.YEAR:
        return days[-len(_YEARS) :]
    if interval is Interval.MONTH:
        return days[-len(_YEARS) - len(_MONTHS) :]
    if interval >= Interval.DAY:
        return [days[0], *days[3:]]  # Days of trading are counted in weeks.
    return [*((_OF_MINUTES, _minutes(count)) for count in _MINUTES), *days]


def _minutes(count: int) -> _Period:
    # By the clock of the zone, not since the epoch: labels at 12:00 rather than 11:00.
    return lambda time: (time.toordinal(), (time.hour * 60 + time.minute) // count)


def _days(count: int) -> _Period:
    return lambda time: (time.toordinal() - 1) // count  # Day 1 was a Monday.


def _months(count: int) -> _Period:
    return lambda time: (time.year * 12 + time.month - 1) // count


def _years(count: int) -> _Period:
    return lambda time: time.year // count


def _first_of_each(periods: list[Any]) -> list[int]:
    """Return where a new period begins; the very first may have begun before."""
    pairs = enumerate(pairwise(periods), 1)
    return [place for place, (before, one) in pairs if one != before]


def _labelled(times: Sequence[datetime], places: list[int], style: _Style) -> TickLevel:
    level: TickLevel = []
    before = ""
    for place in places:
        time = times[place]
        text, full, context = (f"{time:{form}}" for form in style)
        starts_day = style is _OF_MINUTES and (
            place > 0 and times[place - 1].date() != time.date()
        )
        if starts_day:
            text = full = f"{time:%d %b}"
        elif context != before:
            text = full
        level.append(AxisTick(place, text, full, major=context != before))
        before = context
    return level
