"""Records of each kind: one with every field filled, one with required fields only."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from qos_async import (
    Depth,
    Instrument,
    Interval,
    Kline,
    PriceLevel,
    Product,
    Session,
    SessionQuote,
    Side,
    Snapshot,
    Trade,
    TradingDay,
    TradingStatus,
)

D = Decimal
AT = 1_749_130_200  # 2025-06-05 13:30:00 UTC
TIME = dt.datetime(2025, 6, 5, 13, 30, tzinfo=dt.UTC)
RECEIVED_AT = AT * 10**9 + 123_456_789


def quote(price: str, at: int = AT) -> SessionQuote[Decimal]:
    return SessionQuote(
        last_price=D(price),
        prev_close=D(2),
        high=D(3),
        low=D(4),
        volume=D(5),
        turnover=D(6),
        timestamp=at,
    )


def levels(*pairs: tuple[str, str]) -> tuple[PriceLevel[Decimal], ...]:
    return tuple(PriceLevel(D(price), D(size)) for price, size in pairs)


LIVE: dict[str, Any] = {
    "symbol": "US:AAPL",
    "timestamp": AT,
    "received_at": RECEIVED_AT,
    "recovered": True,
}

FULL: dict[type[Any], Any] = {
    Trade: Trade(price=D("212.65"), size=D("0.5"), side=Side.SELL, **LIVE),
    Kline: Kline(
        interval=Interval.MIN_1,
        open=D(1),
        high=D("4.5"),
        low=D("0.5"),
        close=D(2),
        volume=D(100),
        **LIVE,
    ),
    Depth: Depth(
        bids=levels(("212.6", "110"), ("212.5", "0")),
        asks=levels(("212.7", "338")),
        **LIVE,
    ),
    Snapshot: Snapshot(
        last_price=D("212.65"),
        prev_close=D(210),
        open=D(211),
        high=D(213),
        low=D("209.5"),
        volume=D(1000),
        turnover=D("212650.5"),
        status=TradingStatus.SUSPENDED,
        session=Session.PRE_MARKET,
        pre_market=quote("1.1"),
        post_market=quote("1.2"),
        overnight=quote("1.3", 0),
        **LIVE,
    ),
    Instrument: Instrument(
        symbol="HK:700",
        exchange="HKEX",
        currency="HKD",
        name_zh="腾讯控股",
        name_en="TENCENT",
        lot_size=100,
        total_shares=9_000_000_000,
        circulating_shares=8_000_000_000,
        eps=D("20.9"),
        bps=D("115"),
        dividend=D("4.5"),
    ),
    Product: Product(symbol="CM:XAUUSD", name="黄金"),
    TradingDay: TradingDay(date=dt.date(2025, 7, 3), half_day=True),
}

BARE: dict[type[Any], Any] = {
    Trade: Trade(symbol="US:AAPL", price=D(1)),
    Kline: Kline(
        symbol="US:AAPL",
        interval=Interval.UNKNOWN,
        open=D(1),
        high=D(1),
        low=D(1),
        close=D(1),
    ),
    Depth: Depth(symbol="US:AAPL"),
    Snapshot: Snapshot(symbol="US:AAPL"),
    Instrument: Instrument(symbol="US:AAPL"),
    Product: Product(symbol="US:AAPL"),
    TradingDay: TradingDay(date=dt.date(2025, 7, 4)),
}
KINDS = list(FULL)
