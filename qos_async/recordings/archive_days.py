"""Trading days of markets as spans without a hole: each moment belongs to one of them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo

from msgspec import Struct

from qos_async.markets.hours import HOURS

__all__ = ["TradingDays"]

_DAY = timedelta(days=1)
_FRIDAY = 4
_SECOND = 1_000_000_000


class _Rules(Struct, frozen=True):
    zone: tzinfo
    begins: time
    on_day_before: bool
    daily: bool


class TradingDays:
    """The trading days of a market, Monday to Friday unless it trades daily.

    A day begins with its first session, where that is on the evening before, else at
    midnight of the market. What comes on a weekend is of the Monday.

    Args:
        market: Its code. Of one whose hours are unknown, days are those of UTC.
    """

    def __init__(self, market: str) -> None:
        hours = HOURS.get(market)
        if hours is None:
            self._rules = _Rules(UTC, time(), on_day_before=False, daily=True)
        else:
            first = hours.full_day[0]
            before = first.starts_day_before
            self._rules = _Rules(
                hours.zone(market),
                first.opens if before else time(),
                on_day_before=before,
                daily=hours.daily,
            )
        self._known = (0, 0, date.min)

    def date_at(self, at: int) -> date:
        """Return the trading date of a time in nanoseconds since the epoch."""
        since, until, found = self._known
        if not since <= at < until:
            found = self._date_at(at)
            self._known = self.begins_at(found), self.ends_at(found), found
        return found

    def _date_at(self, at: int) -> date:
        rules = self._rules
        local = datetime.fromtimestamp(at // _SECOND, rules.zone)
        day = local.date()
        if rules.on_day_before and local.time() >= rules.begins:
            day += _DAY
        while not rules.daily and day.weekday() > _FRIDAY:
            day += _DAY
        return day

    def begins_at(self, day: date) -> int:
        """Return the beginning of a trading date."""
        before = day - _DAY
        while not self._rules.daily and before.weekday() > _FRIDAY:
            before -= _DAY
        return self.ends_at(before)

    def ends_at(self, day: date) -> int:
        """Return the end of a trading date, where the next one begins."""
        rules = self._rules
        last = day if rules.on_day_before else day + _DAY
        return (
            int(datetime.combine(last, rules.begins, rules.zone).timestamp()) * _SECOND
        )
