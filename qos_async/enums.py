"""Enumerations of the service, with their numbers on the wire.

A value that the service adds later reads as ``UNKNOWN``: a new number must never end a
stream.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Self

from qos_async._spellings import interval_advice
from qos_async._validation import as_whole

__all__ = [
    "Adjustment",
    "Channel",
    "Interval",
    "LinkState",
    "Market",
    "Session",
    "Side",
    "TradingStatus",
]


class Market(StrEnum):
    """The part of a symbol before its colon (document, section 3).

    Markets are an open set: ``Market("XX")`` is a ``Market`` equal to its code, also if
    it is not listed here.
    """

    US = "US"
    """United States stocks."""
    HK = "HK"
    """Hong Kong stocks."""
    SH = "SH"
    """Shanghai A-shares; volumes are in lots of 100."""
    SZ = "SZ"
    """Shenzhen A-shares; volumes are in lots of 100."""
    CF = "CF"
    """Crypto perpetual contracts."""
    FX = "FX"
    """Foreign exchange."""
    IX = "IX"
    """Indices."""
    CM = "CM"
    """Metals and energy."""

    @classmethod
    def _missing_(cls, value: object) -> Market | None:
        if not isinstance(value, str) or not value.isalpha() or not value.isascii():
            return None
        known = cls.__members__.get(value.upper())
        if known is not None:
            return known
        member = str.__new__(cls, value.upper())
        member._name_ = member._value_ = value.upper()
        return member


class Channel(StrEnum):
    """A kind of live data.

    Attributes:
        SNAPSHOT: ``Snapshot``, the state of a trading day.
        TRADE: ``Trade``, one execution.
        DEPTH: ``Depth``, the order book.
        KLINE: ``Kline``, the open, high, low and close of an interval.
    """

    SNAPSHOT = "snapshot"
    TRADE = "trade"
    DEPTH = "depth"
    KLINE = "kline"


class _WireEnum(IntEnum):
    """An enumeration with a number on the wire and a word everywhere else.

    ``str()`` and ``format()`` give the word, which the class reads back; ``int()`` and
    comparison have the number. Unknown numbers read as ``UNKNOWN``, where there is one.
    """

    def __new__(cls, value: int | str) -> Self:
        # As IntEnum does; for type checkers, which take ``Side("buy")`` from it.
        member = int.__new__(cls, value)
        member._value_ = member.real
        return member

    def __str__(self) -> str:
        return self.name.lower()

    def __format__(self, spec: str) -> str:
        try:
            return format(str(self), spec)
        except ValueError:  # Of numbers only: "d", "03".
            return format(int(self), spec)

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if isinstance(value, str):
            return cls.__members__.get(value.upper())
        return cls._unknown(value)

    @classmethod
    def _unknown(cls, value: object) -> Self | None:
        return cls.__members__.get("UNKNOWN") if isinstance(value, int) else None


class Interval(_WireEnum):
    """The length of a kline (document, section 2.1).

    Attributes:
        UNKNOWN: A length that the service added later.
        MIN_1: ``"1m"``, a minute.
        MIN_5: ``"5m"``.
        MIN_15: ``"15m"``.
        MIN_30: ``"30m"``.
        HOUR_1: ``"1h"``, an hour.
        HOUR_2: ``"2h"``.
        HOUR_4: ``"4h"``.
        DAY: ``"1d"``, a trading day.
        WEEK: ``"1w"``.
        MONTH: ``"1M"``, a month of the calendar.
        YEAR: ``"1y"``.
    """

    UNKNOWN = 0
    MIN_1 = 1
    MIN_5 = 5
    MIN_15 = 15
    MIN_30 = 30
    HOUR_1 = 60
    HOUR_2 = 120
    HOUR_4 = 240
    DAY = 1001
    WEEK = 1007
    MONTH = 1030
    YEAR = 2001

    def __str__(self) -> str:
        return _SHORT.get(self, "unknown")

    @classmethod
    def _missing_(cls, value: object) -> Interval | None:
        if value == "unknown":
            return cls.UNKNOWN
        return _INTERVALS.get(value) if isinstance(value, str) else cls._unknown(value)

    @classmethod
    def parse(cls, value: Interval | str | int) -> Interval:
        """Return the interval of a member, ``"1m"`` or a wire number.

        Raises:
            ValueError: For anything else; the message lists the allowed values.
        """
        key = value if isinstance(value, str) else as_whole(value)
        found = None if key is None else _INTERVALS.get(key)
        if found is None:
            allowed = " ".join(_SHORT.values())
            advice = interval_advice(value) if isinstance(value, str) else ""
            raise ValueError(
                f"unknown interval {value!r}: expected one of {allowed}, "
                f"or a member of Interval{advice}"
            )
        return found

    @property
    def short(self) -> str:
        """The short name, such as ``"1m"`` or ``"1d"``; the same as ``str()``."""
        return str(self)


_SHORT = {
    Interval.MIN_1: "1m",
    Interval.MIN_5: "5m",
    Interval.MIN_15: "15m",
    Interval.MIN_30: "30m",
    Interval.HOUR_1: "1h",
    Interval.HOUR_2: "2h",
    Interval.HOUR_4: "4h",
    Interval.DAY: "1d",
    Interval.WEEK: "1w",
    Interval.MONTH: "1M",
    Interval.YEAR: "1y",
}
_INTERVALS: dict[str | int, Interval] = {
    **{short: interval for interval, short in _SHORT.items()},
    **{int(interval): interval for interval in _SHORT},
}


class Side(_WireEnum):
    """The aggressor of a trade: the side that crossed the spread (section 2.2).

    Attributes:
        UNKNOWN: Not sent by the service.
        BUY: The buyer.
        SELL: The seller.
    """

    UNKNOWN = 0
    BUY = 1
    SELL = 2


class Session(_WireEnum):
    """The part of the US trading day (document, section 2.3).

    Attributes:
        UNKNOWN: A part that the service added later.
        OVERNIGHT: The night before a trading day.
        PRE_MARKET: Before the opening bell.
        REGULAR: Between opening and closing bell.
        POST_MARKET: After the closing bell.
    """

    UNKNOWN = 0
    OVERNIGHT = 1
    PRE_MARKET = 2
    REGULAR = 3
    POST_MARKET = 4


class TradingStatus(_WireEnum):
    """Whether an instrument is suspended (field ``s`` of a snapshot).

    Attributes:
        UNKNOWN: A state that the service added later.
        TRADING: Traded.
        SUSPENDED: Suspended from trading.
    """

    UNKNOWN = -1
    TRADING = 0
    SUSPENDED = 1


class Adjustment(_WireEnum):
    """The adjustment of klines for dividends and splits (field ``a`` of a request).

    Attributes:
        NONE: None: prices as they were.
        FORWARD: Earlier prices are adjusted to the newest.
    """

    NONE = 0
    FORWARD = 1


class LinkState(StrEnum):
    """The state of the websocket.

    Attributes:
        IDLE: Not needed yet.
        STANDBY: Waiting for the lease that another recorder holds.
        CONNECTING: Connecting.
        OPEN: Open.
        BACKOFF: Waiting before the next attempt, after a failed one or a lost link.
        CLOSED: Closed for good.
    """

    IDLE = "idle"
    STANDBY = "standby"
    CONNECTING = "connecting"
    OPEN = "open"
    BACKOFF = "backoff"
    CLOSED = "closed"
