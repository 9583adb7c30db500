"""Sessions of markets by date and time (document, section 3)."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, cast

from qos_async._core.queries import epoch
from qos_async._validation import as_number, as_whole
from qos_async.enums import Market
from qos_async.markets.hours import (
    HOURS,
    Calendar,
    SessionSpan,
    TradingHours,
    TradingSession,
    code_of,
)
from qos_async.models import TradingDay
from qos_async.symbols import canonical, market_of

__all__ = ["exchange_calendar", "is_open", "session_at", "sessions"]


def sessions(
    market: Market | str, date: date, *, calendar: Calendar | None = None
) -> tuple[TradingSession, ...]:
    """Return the sessions of one trading date, in order.

    ======  ==============================================================  ==========
    market  sessions, local time                                            source
    ======  ==============================================================  ==========
    US      overnight 20:00 (of the day before) to 3:50, pre-market 4:00,   section 3
            regular 9:30 to 16:00, post-market to 20:00; New York
    US      on a half day: regular until 13:00, post-market until 17:00     exchanges
    HK      9:30 to 12:00 and 13:00 to 16:00; half day: the morning         section 3
    SH, SZ  9:30 to 11:30 and 13:00 to 15:00                                section 3
    CF      the whole UTC day, every day                                    section 3
    FX      17:00 (of the day before) to 17:00; New York, Monday to Friday  inferred
    CM      18:00 (of the day before) to 17:00; New York, Monday to Friday  inferred
    ======  ==============================================================  ==========

    >>> from datetime import date
    >>> [one.kind.name for one in sessions("US", date(2025, 7, 7))]
    ['OVERNIGHT', 'PRE_MARKET', 'REGULAR', 'POST_MARKET']

    Args:
        market: Such as ``"US"``.
        date: The trading date, in the market's time zone.
        calendar: The trading days, from ``Client.fetch_calendar`` or
            ``exchange_calendar``. A day between its first and its last is a trading day
            if it is listed. Before and after them, Monday to Friday are, as if there
            were no holidays; so fetch a new calendar before it runs out.

    Returns:
        An empty tuple for a day without trading.

    Raises:
        ValueError: If ``date`` is not a date, or of the year 1 or 9999; if ``calendar``
            is not a calendar; or if the hours of the market are unknown, as those of IX:
            they are in no document of the vendor.
        ModuleNotFoundError: Without time zone data, as on Windows; the message has the
            command to install it.
    """
    if isinstance(date, datetime) or not isinstance(cast("object", date), _DATE):
        raise ValueError(  # noqa: TRY004 - as for every wrong argument
            f"a trading date is a datetime.date, not {date!r}"
        )
    if not _FIRST.date() <= date < _LAST.date():
        raise ValueError(_too_far(date))
    spans = TradingHours(calendar).sessions_on(_known_market(market), date)
    return tuple(span.session for span in spans)


def session_at(
    symbol: str, time: datetime | float, *, calendar: Calendar | None = None
) -> TradingSession | None:
    """Return the session at a time; None while the market is closed.

    Auctions are outside of sessions, as in the document: in Hong Kong the last trade of
    a day is stamped up to ten minutes after 16:00.

    Args:
        symbol: Such as ``"US:AAPL"``, or a market, such as ``"US"``.
        time: An aware datetime or epoch seconds.
        calendar: As for ``sessions``.

    Raises:
        ValueError: If the symbol is malformed, if the hours of its market are unknown,
            if ``calendar`` is not a calendar, or if ``time`` has no time zone, is not a
            time, or is of the year 1 or 9999.
        ModuleNotFoundError: As for ``sessions``.
    """
    span = _span_at(symbol, time, calendar)
    return None if span is None else span.session


def is_open(
    symbol: str, time: datetime | float, *, calendar: Calendar | None = None
) -> bool:
    """Return whether the market of a symbol trades at a time, in any session.

    >>> is_open("CF:BTCUSDT", 1_741_958_430)
    True

    Args:
        symbol: As for ``session_at``.
        time: As for ``session_at``.
        calendar: As for ``sessions``.

    Raises:
        ValueError: As for ``session_at``.
        ModuleNotFoundError: As for ``sessions``.
    """
    return _span_at(symbol, time, calendar) is not None


_DATE = date  # The parameter has the same name.

# A session may start on the day before its date, and end on the day after.
_FIRST, _LAST = datetime(2, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def _span_at(
    symbol: str, time: datetime | float, calendar: Calendar | None
) -> SessionSpan | None:
    whole = not isinstance(cast("object", symbol), str) or ":" in symbol
    market = _known_market(market_of(canonical(symbol)) if whole else symbol)
    number = as_whole(time)
    if number is not None and as_number(number) is None:
        raise ValueError(_too_far(time))  # Larger than any float.
    second = epoch(time)
    if not _FIRST.timestamp() <= second < _LAST.timestamp():
        raise ValueError(_too_far(time))
    return TradingHours(calendar).session_at(market, second)


def _too_far(time: object) -> str:
    return f"{time!r} is out of range: the years {_FIRST.year} to {_LAST.year - 1} are supported"


def _known_market(market: str) -> str:
    """Return the code of a market with known hours."""
    code = code_of(market)
    if code not in HOURS:
        raise ValueError(
            f"the hours of market {market!r} are unknown: they are not in the vendor's "
            f"document; known are {', '.join(HOURS)}"
        )
    return code


_EXCHANGES = {"US": "XNYS", "HK": "XHKG", "SH": "XSHG", "SZ": "XSHG"}


def exchange_calendar(
    *markets: Market | str, start: date | None = None, end: date | None = None
) -> dict[Market, list[TradingDay]]:
    """Return trading days and half days without a request to the service.

    They are those of the installed version of the package exchange_calendars: from
    years ago until about a year ahead. US is XNYS, HK is XHKG; SH and SZ are XSHG, since
    Shanghai and Shenzhen have the same days. The result has the form of
    ``Client.fetch_calendar``.

    >>> days = exchange_calendar("US", "HK")
    >>> is_open("US:AAPL", 1_751_639_400, calendar=days)  # 4 July 2025, 10:30
    False

    Args:
        *markets: Such as ``"US"``; all four by default.
        start: The first day; by default, the first of the package.
        end: The last day; by default, the last of the package.

    Raises:
        ModuleNotFoundError: If exchange_calendars is not installed.
        ValueError: For a market that is not in it, or if it has no days from ``start``
            to ``end``.
    """
    return {
        Market(code): _exchange_days(code, start, end)
        for code in [_exchange_market(market) for market in markets or _EXCHANGES]
    }


def _exchange_market(market: str) -> str:
    code = code_of(market)
    if code not in _EXCHANGES:
        raise ValueError(
            f"exchange_calendars has no market {market!r}; it has "
            f"{', '.join(_EXCHANGES)}"
        )
    return code


def _exchange_days(
    market: str, start: date | None, end: date | None
) -> list[TradingDay]:
    # Lazy import: loads pandas (100 MB).
    try:
        import exchange_calendars  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        raise ModuleNotFoundError(
            f"exchange_calendar() needs {exc.name}: pip install 'qos-async[calendars]'",
            name=exc.name,
        ) from exc
    exchange: Any = exchange_calendars.get_calendar(_EXCHANGES[market])
    first: date = exchange.first_session.date()
    last: date = exchange.last_session.date()
    start, end = start or first, end or last
    if start < first or end > last or end < start:
        raise ValueError(
            f"exchange_calendars has {market} from {first} to {last}, not from "
            f"{start} to {end}: pip install -U exchange_calendars, or shorten the range"
        )
    short = {moment.date() for moment in exchange.early_closes}
    listed = [moment.date() for moment in exchange.sessions]
    return [
        TradingDay(date=day, half_day=day in short)
        for day in listed
        if start <= day <= end
    ]
