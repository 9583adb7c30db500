"""Records: market data as typed, frozen msgspec ``Struct``s, decoded from the wire.

The letters of the wire stand once each, in ``rename``, on the class that declares the
field. Records with prices are generic in their number type: ``Trade[Decimal]`` by
default, ``Trade[float]`` or ``Trade[str]`` on request.

A field that a market may leave out is ``None``; a missing ``timestamp`` is 0.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Generic,
    TypeAlias,
    cast,
)

from msgspec import Meta, Struct

from qos_async._books import best_level
from qos_async.enums import Channel, Interval, Session, Side, TradingStatus
from qos_async.periods import FAR_FUTURE, bar_date, bar_end
from qos_async.symbols import market_of
from qos_async.topics import Topic

if TYPE_CHECKING:  # Only type checkers need the default (PEP 696).
    from typing_extensions import TypeVar

    N = TypeVar("N", bound=Decimal | float | str, default=Decimal)
else:
    from typing import TypeVar

    N = TypeVar("N", bound=Decimal | float | str)

__all__ = [
    "CHANNELS",
    "PLACE",
    "AnyTick",
    "Depth",
    "Instrument",
    "Kline",
    "N",
    "PriceLevel",
    "Product",
    "Record",
    "SessionQuote",
    "Snapshot",
    "Tick",
    "Trade",
    "TradingDay",
]

# Bars may be older than 1970.
_Second = Annotated[int, Meta(gt=-10_000_000_000, lt=FAR_FUTURE)]


PLACE = "place"
"""The field of a tick that is left out where it is empty."""


class Record(Struct, frozen=True, gc=False):
    """The base class of all records."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, in the order of the class.

        Every field is there, also one that is None; but ``place`` only where a tick has
        one. Enums are their words (``"buy"``, ``"1d"``, ``"pre_market"``), nested records
        dicts, the levels of a book a list of dicts. All else is as the record has it:
        numbers of the client's type, ``timestamp`` in epoch seconds, ``received_at`` in
        epoch nanoseconds, the day of a ``TradingDay`` a ``date``. Properties such as
        ``time`` and ``topic`` are not in it.
        """
        found = {name: _plain(getattr(self, name)) for name in self.__struct_fields__}
        if not found.get(PLACE, True):
            del found[PLACE]
        return found

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the fields for ``repr``."""
        fields = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [field for field in fields if field != (PLACE, "")]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def _repr_html_(self) -> str:
        from qos_async.notebook import record_table  # noqa: PLC0415 - for notebooks only

        return record_table(self)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[object, ...]", value)]
    return str(value) if isinstance(value, Enum) else value


class Tick(
    Record,
    frozen=True,
    kw_only=True,
    gc=False,
    # No field of the service has the name of the place, so that none can set it.
    rename={"symbol": "c", "timestamp": "ts", PLACE: "qos_async.place"},
):
    """The fields that snapshots, trades, depths and klines have in common.

    Attributes:
        channel: The channel of these ticks, a ``Channel``; an attribute of the class.
        symbol: Canonical, such as ``"US:AAPL"``.
        timestamp: The server's, in epoch seconds; 0 where it sent none. A tick
            stamped before the year 1654 or after 5137 is unreadable.
        received_at: When this machine received it, in nanoseconds since the epoch;
            0 on fetched records.
        recovered: Whether it was fetched after an outage instead of pushed.
        place: Its place in a recording, where it is from one; empty on ticks of the
            service. Text that is unique, sorts in the order of the recording, and is the
            same each time that it is read: a key for writes that may be repeated.
    """

    channel: ClassVar[Channel]

    symbol: str
    timestamp: _Second = 0
    received_at: int = 0
    recovered: bool = False
    place: str = ""

    @property
    def time(self) -> datetime:
        """The server's timestamp as an aware UTC datetime."""
        return datetime.fromtimestamp(self.timestamp, UTC)

    @property
    def topic(self) -> Topic:
        """The topic to which this tick belongs."""
        return Topic(self.channel, self.symbol)


class SessionQuote(
    Record,
    Generic[N],
    frozen=True,
    kw_only=True,
    gc=False,
    rename={
        "last_price": "lp",
        "prev_close": "yp",
        "high": "h",
        "low": "l",
        "volume": "v",
        "turnover": "t",
        "timestamp": "ts",
    },
):
    """A US pre-market, post-market or overnight session (section 4.3.3).

    Attributes:
        last_price: The price of the last trade in this session.
        prev_close: The close to which changes relate.
        high: The highest price so far.
        low: The lowest price so far.
        volume: Shares traded in this session.
        turnover: Their value, in the trading currency.
        timestamp: The server's, in epoch seconds; 0 where it sent none.
    """

    last_price: N | None = None
    prev_close: N | None = None
    high: N | None = None
    low: N | None = None
    volume: N | None = None
    turnover: N | None = None
    timestamp: _Second = 0

    @property
    def time(self) -> datetime:
        """The server's timestamp as an aware UTC datetime."""
        return datetime.fromtimestamp(self.timestamp, UTC)


class Snapshot(
    Tick,
    Generic[N],
    frozen=True,
    kw_only=True,
    gc=False,
    tag_field="tp",
    tag="S",
    rename={
        "last_price": "lp",
        "prev_close": "yp",
        "open": "o",
        "high": "h",
        "low": "l",
        "volume": "v",
        "turnover": "t",
        "status": "s",
        "session": "tt",
        "pre_market": "pq",
        "post_market": "aq",
        "overnight": "nq",
    },
):
    """The state of one instrument's trading day (sections 4.3, 5.2, 5.6).

    Volume is in shares for US and HK, in lots of 100 for SH and SZ, in coins for
    CF; ``turnover`` is in the trading currency. Outside regular hours ``last_price``
    may lie outside ``low`` to ``high``.

    Attributes:
        last_price: The price of the last trade.
        prev_close: The close of the previous trading day.
        open: The first price of the day.
        high: The highest price of the day.
        low: The lowest price of the day.
        volume: The volume of the day.
        turnover: Its value.
        status: Whether it is traded or suspended.
        session: The part of the US trading day; None elsewhere.
        pre_market: The session before the regular one (US only, as the next two).
        post_market: The session after the regular one.
        overnight: The session of the night.
    """

    channel: ClassVar[Channel] = Channel.SNAPSHOT

    last_price: N | None = None
    prev_close: N | None = None
    open: N | None = None
    high: N | None = None
    low: N | None = None
    volume: N | None = None
    turnover: N | None = None
    status: TradingStatus = TradingStatus.UNKNOWN
    session: Session | None = None
    pre_market: SessionQuote[N] | None = None
    post_market: SessionQuote[N] | None = None
    overnight: SessionQuote[N] | None = None


class Trade(
    Tick,
    Generic[N],
    frozen=True,
    kw_only=True,
    gc=False,
    tag_field="tp",
    tag="T",
    rename={"price": "p", "size": "v", "side": "d"},
):
    """One execution (sections 4.5, 5.3, 5.7).

    Trades have no id and whole seconds: equal trades in one second are normal.
    Size is in shares for US and HK, in lots of 100 for SH and SZ, in coins for CF.

    Attributes:
        price: In the trading currency.
        size: The traded quantity.
        side: The aggressor, the side that crossed the spread.
    """

    channel: ClassVar[Channel] = Channel.TRADE

    price: N
    size: N | None = None
    side: Side = Side.UNKNOWN


class PriceLevel(
    Record, Generic[N], frozen=True, gc=False, rename={"price": "p", "size": "v"}
):
    """One level of the order book.

    Attributes:
        price: In the trading currency.
        size: The quantity bid or offered at that price, in the units of ``Trade.size``.
    """

    price: N
    size: N


class Depth(
    Tick,
    Generic[N],
    frozen=True,
    kw_only=True,
    gc=False,
    tag_field="tp",
    tag="D",
    rename={"bids": "b", "asks": "a"},
):
    """The whole order book, best price first on both sides (sections 4.4, 5.4, 5.8).

    US has 1 level a side, SH and SZ 5, HK 10, CF 20. Levels of size zero occur and
    are kept in ``bids`` and ``asks``.

    Attributes:
        bids: The buy side, the highest price first.
        asks: The sell side, the lowest price first.
    """

    channel: ClassVar[Channel] = Channel.DEPTH

    bids: tuple[PriceLevel[N], ...] = ()
    asks: tuple[PriceLevel[N], ...] = ()

    @property
    def best_bid(self) -> PriceLevel[N] | None:
        """The highest bid with a price and a size; None without one.

        In an auction, a level without a price has the orders at any price.
        """
        return best_level(self.bids)

    @property
    def best_ask(self) -> PriceLevel[N] | None:
        """The lowest ask with a price and a size; None without one."""
        return best_level(self.asks)

    @property
    def mid(self) -> N | None:
        """The mean of best bid and best ask; None if a side is empty."""
        return self._of_best(lambda bid, ask: (bid + ask) / 2)

    @property
    def spread(self) -> N | None:
        """Best ask minus best bid; None if a side is empty."""
        return self._of_best(lambda bid, ask: ask - bid)

    def _of_best(self, compute: Callable[[Any, Any], Any]) -> N | None:
        bid, ask = self.best_bid, self.best_ask
        if bid is None or ask is None:
            return None
        if not isinstance(bid.price, str):
            return cast("N", compute(bid.price, ask.price))
        try:
            found: Decimal = compute(Decimal(bid.price), Decimal(ask.price))
        except ArithmeticError:  # Text is as it was sent.
            return None
        return cast("N", str(found))


class Kline(
    Tick,
    Generic[N],
    frozen=True,
    kw_only=True,
    gc=False,
    tag_field="tp",
    tag="K",
    rename={
        "open": "o",
        "high": "h",
        "low": "l",
        "close": "cl",
        "volume": "v",
        "interval": "kt",
    },
):
    """Open, high, low, close and volume of one interval (sections 4.6, 5.5, 5.9).

    ``timestamp`` is the start of the bar; for a day bar, local midnight of its market. So
    in UTC a day bar of Hong Kong or Shanghai starts on the day before; ``date`` is its
    trading date. The newest bar is unfinished.

    Attributes:
        interval: Its length.
        open: The first price.
        high: The highest price.
        low: The lowest price.
        close: The last price, so far in an unfinished bar.
        volume: In the units of ``Trade.size``.
    """

    channel: ClassVar[Channel] = Channel.KLINE

    interval: Interval
    open: N
    high: N
    low: N
    close: N
    volume: N | None = None

    @property
    def topic(self) -> Topic:
        """The topic to which this tick belongs."""
        return Topic(self.channel, self.symbol, self.interval)

    @property
    def date(self) -> dt.date:
        """The trading date on which the bar starts, in the time zone of its market.

        For a week, month or year it is the first day.
        """
        return bar_date(self.timestamp, market_of(self.symbol))

    @property
    def end(self) -> datetime:
        """The end of the bar (exclusive), as an aware UTC datetime."""
        end = bar_end(self.timestamp, self.interval, market_of(self.symbol))
        return datetime.fromtimestamp(end, UTC)


AnyTick: TypeAlias = Snapshot[N] | Trade[N] | Depth[N] | Kline[N]
"""A tick of any channel."""

CHANNELS: dict[type[object], Channel] = {
    kind: kind.channel for kind in (Snapshot, Trade, Depth, Kline)
}
"""The channel of each class of ticks."""


class Instrument(
    Record,
    Generic[N],
    frozen=True,
    kw_only=True,
    gc=False,
    rename={
        "symbol": "c",
        "exchange": "e",
        "currency": "tc",
        "name_zh": "nc",
        "name_en": "ne",
        "lot_size": "ls",
        "total_shares": "ts",
        "circulating_shares": "os",
        "eps": "ep",
        "bps": "na",
        "dividend": "dy",
    },
):
    """The static data of an instrument (sections 4.2, 5.11).

    Attributes:
        symbol: Canonical, such as ``"US:AAPL"``.
        exchange: The exchange on which it is listed, as the service names it.
        currency: The trading currency.
        name_zh: Its name in Chinese.
        name_en: Its name in English.
        lot_size: The number of shares in a lot.
        total_shares: The shares issued.
        circulating_shares: The shares that can be traded.
        eps: Earnings per share.
        bps: Book value (net assets) per share.
        dividend: Dividend per share; the document calls it a yield, its values
            are amounts.
    """

    symbol: str
    exchange: str | None = None
    currency: str | None = None
    name_zh: str | None = None
    name_en: str | None = None
    lot_size: int | None = None
    total_shares: int | None = None
    circulating_shares: int | None = None
    eps: N | None = None
    bps: N | None = None
    dividend: N | None = None


class Product(Record, frozen=True, kw_only=True, gc=False, rename={"symbol": "code"}):
    """One row of a market's product list (newer document, ``/product-list``).

    Attributes:
        symbol: The symbol, as the server lists it.
        name: Empty where it sent none.
    """

    symbol: str
    name: str = ""


class TradingDay(Record, frozen=True, kw_only=True, gc=False):
    """A day on which a market trades (newer document, ``/market-calendar``).

    Attributes:
        date: The date, in the time zone of its market.
        half_day: Whether it ends early.
    """

    date: dt.date
    half_day: bool = False
