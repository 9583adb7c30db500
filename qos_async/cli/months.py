"""The table of ``qos calendar``: months, in which closed and half days are marked."""

from __future__ import annotations

from calendar import day_abbr, month_name, monthcalendar
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby

from qos_async import Market, Session, TradingDay
from qos_async.cli.display import IN_UTC, Display
from qos_async.cli.tables import Cell, Table, TableColumn
from qos_async.markets import sessions
from qos_async.markets.hours import HOURS

__all__ = ["calendar"]

_SATURDAY = 5
_DAY = timedelta(days=1)
_LEGEND = "x closed, h half day"
_ALWAYS_OPEN = "24 hours a day, 7 days a week"


def calendar(
    found: Mapping[str, list[TradingDay]], display: Display = IN_UTC
) -> Iterator[Table]:
    """A table for each market and month, from its first day that is known to the last."""
    for market, days in found.items():
        for (year, month), of_month in groupby(
            days, lambda day: (day.date.year, day.date.month)
        ):
            known = days[0].date, days[-1].date
            yield _Month(market, list(of_month), known, display).table(year, month)


class _Month:
    """The trading days of a market in a month."""

    def __init__(
        self,
        market: str,
        days: list[TradingDay],
        known: tuple[date, date],
        display: Display,
    ) -> None:
        self._market, self._known, self._display = market, known, display
        self._days = {day.date: day for day in days}
        whole = [day for day in days if not day.half_day] or days
        self._hours = self._hours_of(whole[0])
        self._first = whole[0].date

    def table(self, year: int, month: int) -> Table:
        """Return a row for each week, from Monday on."""
        noon = datetime.combine(self._first, time(12), UTC).timestamp()
        hours = self._hours or "hours unknown"
        if hours[-1].isdigit():
            hours += f" {self._display.zone_name(f'{self._market}:', noon)}"
        weeks = [
            [date(year, month, number) if number else None for number in week]
            for week in monthcalendar(year, month)
        ]
        return Table(
            f"{self._market}  {month_name[month]} {year}  {hours}",
            [
                *(TableColumn(f"{name[:2]} ") for name in day_abbr),
                TableColumn(_LEGEND, 1, left=True),
            ],
            [
                [*map(self._cell, week), Cell(", ".join(self._notes(week)), "yellow")]
                for week in weeks
                if any(day and self._is_known(day) for day in week)
            ],
            group=self._market,
        )

    def _cell(self, day: date | None) -> Cell:
        if day is None or not self._is_known(day):
            return Cell("")
        if day in self._days:
            half = self._days[day].half_day
            return Cell(f"{day.day}h", "yellow") if half else Cell(f"{day.day} ")
        if day.weekday() >= _SATURDAY:
            return Cell(". ", "dim")
        return Cell(f"{day.day}x", "bold red")

    def _is_known(self, day: date) -> bool:
        return self._known[0] <= day <= self._known[1]

    def _notes(self, week: list[date | None]) -> Iterator[str]:
        """Iterate over the hours that differ from those before."""
        for day in week:
            if day is None or day not in self._days:
                continue
            one = self._days[day]
            hours = self._hours_of(one)
            if one.half_day:
                yield f"{day.day}h {hours}"
            elif hours != self._hours:
                self._hours = hours
                yield f"from {day.day} on {hours}"

    def _hours_of(self, day: TradingDay) -> str:
        """Return the regular hours of a day; empty where they are unknown."""
        calendar = {Market(self._market): [day]}
        try:
            found = sessions(self._market, day.date, calendar=calendar)
        except ValueError:
            return ""
        if HOURS[self._market].daily:
            return _ALWAYS_OPEN
        times = [
            [
                self._display.time(at.timestamp(), f"{self._market}:")
                for at in (one.start, one.end)
            ]
            for one in found
            if one.kind is Session.REGULAR
        ]
        return ", ".join(
            f"24 hours from {opens:%H:%M}"
            if closes - opens == _DAY
            else f"{opens:%H:%M}-{closes:%H:%M}"
            for opens, closes in times
        )
