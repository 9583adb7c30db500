"""Longer klines from shorter ones, aligned to the sessions of a market."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Context, Decimal
from typing import Any, overload

from qos_async.enums import Interval, Session
from qos_async.markets.alignment import BarAligner, BarSpan
from qos_async.markets.bar import Bar
from qos_async.markets.hours import HOURS, Calendar, TradingHours
from qos_async.markets.rows import FineBar, clock, fine_bars, is_rows
from qos_async.models import Kline, N
from qos_async.periods import bar_end, bar_start
from qos_async.symbols import market_of

__all__ = ["resample"]

_DAY = timedelta(days=1)
# More digits than a sum of prices or volumes has.
_EXACT = Context(prec=1000)


@overload
def resample(
    klines: Iterable[Kline[N]] | Mapping[str, list[Kline[N]]],
    interval: Interval | str,
    *,
    calendar: Calendar | None = None,
) -> list[Bar[N]]: ...
@overload
def resample(
    klines: Iterable[Bar[N]],
    interval: Interval | str,
    *,
    calendar: Calendar | None = None,
) -> list[Bar[N]]: ...
@overload
def resample(
    klines: object, interval: Interval | str, *, calendar: Calendar | None = None
) -> list[Bar[Any]]: ...
def resample(
    klines: object, interval: Interval | str, *, calendar: Calendar | None = None
) -> list[Bar[Any]]:
    """Return longer klines made of shorter ones, aligned to the trading sessions.

    >>> minutes = await client.fetch_klines("HK:700", interval="1m", count=1000)
    >>> for bar in resample(minutes, "30m"):
    ...     print(bar.time, bar.close, bar.volume, bar.complete)

    Bars start and end as those of ``bars``: below a day with the sessions, so that the
    hours of Hong Kong are 9:30, 10:30, 11:30 (half an hour), 13:00, …; a day or longer
    at midnight of the market. Klines of the opening and closing auctions belong to the
    first and the last bar of their session. Bars of a day have regular hours only in the
    US; a kline that starts at 16:00 in New York is post-market. Days are put together by
    their date. A time without klines has no bar.

    ``volume`` and ``turnover`` are exact sums, in the units and the type of the klines,
    and None if one of these has none, as klines have no turnover. ``count`` is 0 for
    ``Kline``, which has no number of trades.

    ``complete`` is False if a kline is missing or is not complete itself. The service
    may leave out a minute without a trade, which looks the same. Without a calendar a
    holiday looks like a missing day. In IX, whose hours are unknown, only a day with a
    kline for every time is complete.

    The last bar of each symbol has ``final=False``, since the newest kline of the
    service is unfinished, and is ``complete`` if none is missing up to that. It is final
    if its last kline is a final ``Bar`` that reaches its end, or if a kline comes after
    it that is in no bar.

    Args:
        klines: Of one interval, each symbol in order of time: ``Kline`` or ``Bar``, a
            ``Result``, or a frame of pandas, polars or pyarrow with the columns of
            ``Kline`` or its rows. Numbers of any type.
        interval: Of the bars, longer than that of the klines.
        calendar: Holidays and half days, as for ``sessions``.

    Returns:
        The bars of each symbol, oldest first; symbols in the order of ``klines``.

    Raises:
        ValueError: For klines that are as long or longer, of several intervals, not in
            order, twice, overlapping, or across the start of a bar, as an hour from
            11:00 in Hong Kong; for an unknown interval, or what is no kline.
        ModuleNotFoundError: As for ``sessions``.
    """
    wanted = Interval.parse(interval)
    resampler = _Resampler(wanted, TradingHours(calendar))
    if not is_rows(klines):
        raise ValueError(
            "klines must be a list of klines, a Result or a frame, not "
            f"{type(klines).__name__}: collect an asynchronous iterator first, as in "
            "[bar async for bar in bars(...)], or await pages.to_polars()"
        )
    by_symbol: dict[str, list[FineBar]] = {}
    fine: Interval | None = None
    for kline in fine_bars(klines):
        fine = fine or kline.interval
        _check_interval(kline.interval, fine, wanted)
        before = by_symbol.setdefault(kline.symbol, [])
        if before:
            _check_order(before[-1], kline)
        before.append(kline)
    return [bar for rows in by_symbol.values() for bar in resampler.bars(rows)]


def _check_interval(interval: Interval, first: Interval, wanted: Interval) -> None:
    if interval is not first:
        raise ValueError(
            f"the klines are of several intervals, {first} and {interval}: pass those of "
            "one"
        )
    if interval >= wanted:
        raise ValueError(
            f"{interval} klines cannot make {wanted} bars: resample makes longer bars of "
            "shorter klines, such as 30m of 1m"
        )


def _check_order(before: FineBar, kline: FineBar) -> None:
    symbol, start = kline.symbol, clock(kline.start)
    if kline.start == before.start:
        raise ValueError(
            f"{symbol} has two klines at {start}: keep the last of each time"
        )
    if kline.start < before.start:
        raise ValueError(
            f"{symbol}: the kline of {start} comes after that of {clock(before.start)}: "
            "sort them by time, oldest first (pages of iter_history are newest first)"
        )
    if kline.start < before.end:
        raise ValueError(
            f"{symbol}: the kline of {start} starts before that of "
            f"{clock(before.start)} ends: pass klines that do not overlap"
        )


class _Resampler:
    """Makes bars of one interval from the klines of one symbol at a time."""

    def __init__(self, interval: Interval, hours: TradingHours) -> None:
        self._interval = interval
        self._hours = hours
        self._aligner = BarAligner(interval, hours)

    def bars(self, klines: list[FineBar]) -> list[Bar[Any]]:
        groups: dict[int, tuple[BarSpan, list[FineBar]]] = {}
        for kline in klines:
            span = self._span_of(kline)
            if span.counts:
                groups.setdefault(span.start, (span, []))[1].append(kline)
        newest = klines[-1]
        return [
            self._bar(span, rows, is_newest=rows[-1] is newest)
            for span, rows in groups.values()
        ]

    def _span_of(self, kline: FineBar) -> BarSpan:
        """Return the bar to which a kline belongs."""
        market, start = market_of(kline.symbol), kline.start
        if kline.interval >= Interval.DAY and start == bar_start(
            start, kline.interval, market
        ):
            first = bar_start(start, self._interval, market)
            end = bar_end(first, self._interval, market)
            if kline.end > end:
                raise self._across(kline)
            return BarSpan(first, end, first, end)
        near = self._hours.sessions_near(market, start) if market in HOURS else ()
        inside = [
            (max(one.start, start), min(one.end, kline.end))
            for one in near
            if one.start < kline.end and one.end > start
        ]
        # One second later, since a trade of 16:00:00 is of the session before.
        points = [point for since, until in inside for point in (since + 1, until - 1)]
        spans = [
            self._aligner.span_for(market, point) for point in points or [start + 1]
        ]
        if len({(one.start if one.counts else None) for one in spans}) > 1:
            raise self._across(kline)
        return spans[0]

    def _across(self, kline: FineBar) -> ValueError:
        market = market_of(kline.symbol)
        return ValueError(
            f"{kline.symbol}: the {kline.interval} kline of {clock(kline.start)} belongs "
            f"to two {self._interval} bars, or only partly to one, as the sessions of "
            f"{market} and the calendar divide them: pass shorter klines"
        )

    def _bar(self, span: BarSpan, rows: list[FineBar], *, is_newest: bool) -> Bar[Any]:
        last = rows[-1]
        expected = self._expected(market_of(last.symbol), span)
        final = not is_newest or (last.final and last.end >= expected[-1][1])
        if not final:
            expected = [(since, min(until, last.end)) for since, until in expected]
        missing = sum(max(until - since, 0) for since, until in expected) - sum(
            max(min(row.end, until) - max(row.start, since), 0)
            for row in rows
            for since, until in expected
        )
        return Bar(
            symbol=last.symbol,
            interval=self._interval,
            timestamp=span.start,
            end_timestamp=span.end,
            open=rows[0].open,
            high=max((row.high for row in rows), key=_number),
            low=min((row.low for row in rows), key=_number),
            close=last.close,
            volume=_total([row.volume for row in rows]),
            turnover=_total([row.turnover for row in rows]),
            count=sum(row.trades for row in rows),
            session=span.session,
            final=final,
            complete=not missing and all(row.complete for row in rows),
        )

    def _expected(self, market: str, span: BarSpan) -> list[tuple[int, int]]:
        """Return the times of a bar in which there should be klines."""
        whole = [(span.start, span.end)]
        if market not in HOURS:
            return whole
        zone = HOURS[market].zone(market)
        day = datetime.fromtimestamp(span.start, zone).date() - _DAY
        last = datetime.fromtimestamp(span.end, zone).date() + _DAY
        days = (day + number * _DAY for number in range((last - day).days + 1))
        regular_only = self._interval >= Interval.DAY
        found = [
            (max(one.start, span.start), min(one.end, span.end))
            for each in days
            for one in self._hours.sessions_on(market, each)
            if one.start < span.end
            and one.end > span.start
            and (not regular_only or one.session.kind is Session.REGULAR)
        ]
        return found or whole


def _number(value: Any) -> Any:
    return Decimal(value) if isinstance(value, str) else value


def _total(values: list[Any]) -> Any:
    """Return the exact sum, in the type of the values; None if one is missing."""
    if any(value is None for value in values):
        return None
    total = Decimal(0)
    for value in values:
        total = _EXACT.add(total, Decimal(str(value)))
    example = values[0]
    if isinstance(example, Decimal):
        return total
    return f"{total:f}" if isinstance(example, str) else type(example)(total)
