"""Trading hours of markets, and bars built from trades.

>>> from qos_async.markets import bars, is_open, resample, session_at, sessions

Nothing here connects. ``sessions``, ``session_at`` and ``is_open`` use the hours of
section 3 of the vendor's document, with holidays and half days from
``Client.fetch_calendar`` or ``exchange_calendar``; ``bars`` builds klines from trades, and
``resample`` longer klines from shorter ones, aligned to these hours.
"""

from __future__ import annotations

from qos_async.markets.bars import Bar, bars
from qos_async.markets.hours import Calendar, TradingSession
from qos_async.markets.resample import resample
from qos_async.markets.sessions import exchange_calendar, is_open, session_at, sessions

__all__ = [
    "Bar",
    "Calendar",
    "TradingSession",
    "bars",
    "exchange_calendar",
    "is_open",
    "resample",
    "session_at",
    "sessions",
]
