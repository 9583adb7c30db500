"""When a market trades (document, section 3)."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import cast

from qos_async._core.queries import epoch
from qos_async.enums import Market
from qos_async.markets.hours import HOURS, code_of
from qos_async.markets.timetable import Calendar, Slot, Timetable, TradingSession
from qos_async.symbols import canonical, market_of

__all__ = ["is_open", "session_at", "sessions"]


def sessions(
    market: Market | str, date: date, *, calendar: Calendar | None = None
) -> tuple[TradingSession, ...]:
    """List the sessions of one trading date, in order.

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
        date: The trading date, in the market's own calendar.
        calendar: The trading days, from ``Client.fetch_calendar`` or
            ``exchange_calendar``. A day between the first and the last that it lists is
            a trading day if it is listed. Any other day is one from Monday to Friday, as
            if there were no holidays; so fetch it anew before it runs out.

    Returns:
        None at all for a day without trading.

    Raises:
        ValueError: If ``date`` is no date, or of the year 1 or 9999; if ``calendar`` is
            none; or if the hours of the market are unknown, as for IX: no document of
            the vendor tells them.
        ModuleNotFoundError: If this machine has no time zones, as Windows has not. The
            message says what to install.
    """
    if isinstance(date, datetime) or not isinstance(cast("object", date), _DATE):
        raise ValueError(  # noqa: TRY004 - as for every wrong argument
            f"a trading date is a datetime.date, not {date!r}"
        )
    if not _FIRST.date() <= date < _LAST.date():
        raise ValueError(_too_far(date))
    slots = Timetable(calendar).slots(_known(market), date)
    return tuple(slot.session for slot in slots)


def session_at(
    symbol: str, time: datetime | float, *, calendar: Calendar | None = None
) -> TradingSession | None:
    """Find the session that a time lies in; None while the market is closed.

    Auctions are outside of sessions, as in the document: in Hong Kong the last trade of
    a day is stamped up to ten minutes after 16:00.

    Args:
        symbol: Such as ``"US:AAPL"``, or a market, such as ``"US"``.
        time: An aware datetime or epoch seconds.
        calendar: As for ``sessions``.

    Raises:
        ValueError: If the symbol is malformed, if the hours of its market are unknown,
            if ``calendar`` is none, or if ``time`` has no time zone, is no time, or is
            of the year 1 or 9999.
        ModuleNotFoundError: As for ``sessions``.
    """
    slot = _slot_at(symbol, time, calendar)
    return None if slot is None else slot.session


def is_open(
    symbol: str, time: datetime | float, *, calendar: Calendar | None = None
) -> bool:
    """Tell whether the market of a symbol trades at a time, in whatever session.

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
    return _slot_at(symbol, time, calendar) is not None


_DATE = date  # The parameter has the same name.

# A session may begin on the day before, and end on the day after.
_FIRST, _LAST = datetime(2, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def _slot_at(
    symbol: str, time: datetime | float, calendar: Calendar | None
) -> Slot | None:
    whole = not isinstance(cast("object", symbol), str) or ":" in symbol
    market = _known(market_of(canonical(symbol)) if whole else symbol)
    try:
        second = epoch(time)
    except OverflowError:  # No float is as large.
        second = None
    if second is None or not _FIRST.timestamp() <= second < _LAST.timestamp():
        raise ValueError(_too_far(time))
    return Timetable(calendar).at(market, second)


def _too_far(time: object) -> str:
    return f"{time!r} is too far off: ask about the years {_FIRST.year} to {_LAST.year - 1}"


def _known(market: str) -> str:
    """Write a market's code in capitals."""
    code = code_of(market)
    if code not in HOURS:
        raise ValueError(
            f"the hours of market {market!r} are unknown: the vendor's document tells "
            f"none; known are {', '.join(HOURS)}"
        )
    return code
