"""Response rows, keyed by symbol or market.

The server sends rows in any order, leaves out codes without data, and may write a
symbol differently than the request did (``HK:700`` for ``HK:00700``). ``None`` is an
empty response.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any, Generic, Protocol, TypeVar, cast

from msgspec import Struct
from msgspec.structs import force_setattr

from qos_async._core.rows import Unread
from qos_async.enums import Market
from qos_async.errors import DecodeError
from qos_async.models import Kline, N, Product, Tick, Trade, TradingDay
from qos_async.symbols import canonical

__all__ = [
    "KlineGroup",
    "by_symbol",
    "canonical_or_same",
    "days_by_market",
    "klines_by_symbol",
    "products_by_market",
    "trades_by_symbol",
]


class _Record(Protocol):
    @property
    def symbol(self) -> str: ...


R = TypeVar("R", bound=_Record)
K = TypeVar("K", bound=Tick)


class KlineGroup(
    Struct, Generic[N], frozen=True, gc=False, rename={"symbol": "c", "bars": "k"}
):
    """The klines of one symbol, the way the server groups them."""

    symbol: str
    bars: list[Kline[N]] | None = None


def by_symbol(rows: Iterable[R] | None) -> dict[str, R]:
    """Return ``{canonical symbol: row}``, for responses with one row a symbol."""
    found: dict[str, R] = {}
    for row in rows or ():
        found[_canonicalize(row)] = row
    return found


def trades_by_symbol(rows: Iterable[Trade[N]] | None) -> dict[str, list[Trade[N]]]:
    """Return ``{canonical symbol: trades}`` from a flat list, oldest trade first."""
    found: dict[str, list[Trade[N]]] = {}
    names: dict[str, str] = {}
    for row in rows or ():
        sent = row.symbol
        symbol = names[sent] = names.get(sent) or canonical_or_same(sent)
        _set_symbol(row, symbol)
        found.setdefault(symbol, []).append(row)
    _sort_oldest_first(found.values())
    return found


def klines_by_symbol(
    groups: Iterable[KlineGroup[N]] | None,
) -> dict[str, list[Kline[N]]]:
    """Return ``{canonical symbol: klines}``, oldest first, without empty groups."""
    found: dict[str, list[Kline[N]]] = {}
    for group in groups or ():
        if group.bars:
            symbol = canonical_or_same(group.symbol)
            for bar in group.bars:
                _set_symbol(bar, symbol)
            found[symbol] = group.bars
    _sort_oldest_first(found.values())
    return found


def days_by_market(
    markets: Iterable[Market],
    response: dict[str, Any] | None,
    unread: list[Unread] | None = None,
) -> dict[Market, list[TradingDay]]:
    """Return the trading days from ``{"HK": ["20250606,F", "20250703,H"]}``.

    ``F`` is a whole day, ``H`` a half day. Markets that are left out stay left out, and
    so does one with a day that cannot be read: without that day, its list would say that
    it is a holiday.

    Args:
        markets: Those of the request.
        response: The days by market.
        unread: Receives the days that cannot be read.

    Raises:
        DecodeError: If no market can be read.
    """
    unread = [] if unread is None else unread
    days = {name.upper(): days for name, days in (response or {}).items()}
    requested = [market for market in markets if market in days]
    found = {market: _days(days[market], market, unread) for market in requested}
    readable = {market: dates for market, dates in found.items() if dates is not None}
    if found and not readable:
        raise DecodeError("cannot decode a trading day (it does not begin with a date)")
    return readable


def products_by_market(
    markets: Iterable[Market], response: dict[str, list[Product] | None] | None
) -> dict[Market, list[Product]]:
    """Return the products from ``{"HK": [{"code": "HK:00700", "name": "…"}]}``."""
    lists = {name.upper(): products for name, products in (response or {}).items()}
    for products in lists.values():
        for product in products or ():
            _canonicalize(product)
    return {market: lists[market] or [] for market in markets if market in lists}


def _sort_oldest_first(groups: Iterable[list[K]]) -> None:
    # Trades carry whole seconds: within one second, only the order of the response
    # orders them. So a response that is newest first is reversed as a whole, which also
    # reverses each second; the stable sort then moves only rows that are out of place.
    # All groups decide together, as one whose rows are of a single second shows no
    # direction.
    groups = [rows for rows in groups if rows]
    newest_first = sum(
        (rows[0].timestamp > rows[-1].timestamp)
        - (rows[0].timestamp < rows[-1].timestamp)
        for rows in groups
    )
    for rows in groups:
        if newest_first > 0:
            rows.reverse()
        rows.sort(key=_timestamp)


def _timestamp(row: Tick) -> int:
    return row.timestamp


def _canonicalize(row: _Record) -> str:
    symbol = canonical_or_same(row.symbol)
    _set_symbol(row, symbol)
    return symbol


def _set_symbol(row: _Record, symbol: str) -> None:
    # Records are frozen for users. This one was just decoded and has not been handed
    # out, so it is changed in place instead of copied.
    if row.symbol != symbol:
        force_setattr(row, "symbol", symbol)  # type: ignore[arg-type]
    # These two fields are set by this library; a server that sends fields of these
    # names must not be able to mark a tick as recovered.
    if isinstance(row, Tick) and (row.received_at or row.recovered):
        force_setattr(row, "received_at", 0)
        force_setattr(row, "recovered", False)


def canonical_or_same(sent: str) -> str:
    """Return a symbol of the server in canonical form; an unknown notation as it is."""
    try:
        return canonical(sent)
    except ValueError:
        return sent  # The row is still usable.


def _days(days: Any, market: str, unread: list[Unread]) -> list[TradingDay] | None:
    found: list[TradingDay] = []
    listed: list[Any] = cast("Any", days) if isinstance(days, list) else [days]
    for text in listed if days else ():
        day = _day(text) if isinstance(text, str) else None
        if day is None:
            unread.append(Unread(market, "", text, lost=True))
            return None
        found.append(day)
    return found


def _day(text: str) -> TradingDay | None:
    written, _, kind = text.partition(",")
    try:
        day = date.fromisoformat(written.strip())
    except ValueError:
        return None
    return TradingDay(date=day, half_day=kind.strip() == "H")
