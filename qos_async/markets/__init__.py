"""When markets trade, and klines that are built from trades.

>>> from qos_async.markets import bars, is_open, session_at, sessions

Nothing here connects: ``sessions``, ``session_at`` and ``is_open`` know the hours of
section 3 of the vendor's document, with holidays and half days from
``Client.fetch_calendar`` or ``exchange_calendar``; ``bars`` turns a stream of trades into
klines that keep to these hours.
"""

from __future__ import annotations

from qos_async.markets.bars import Bar, bars
from qos_async.markets.exchanges import exchange_calendar
from qos_async.markets.sessions import is_open, session_at, sessions
from qos_async.markets.timetable import Calendar, TradingSession

__all__ = [
    "Bar",
    "Calendar",
    "TradingSession",
    "bars",
    "exchange_calendar",
    "is_open",
    "session_at",
    "sessions",
]
