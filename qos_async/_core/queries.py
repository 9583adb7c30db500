"""Queries: one-off requests, described once and sent over HTTP or the websocket.

A ``Query`` holds the path, the body and the decoder of the response. A query for many
symbols is a list: it is split into chunks of at most ``chunk`` symbols, or fewer where
the response would not fit into one frame. ``merge`` joins the results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, Generic, TypeAlias, TypeVar

from msgspec import Struct

from qos_async._core.decoding import RecordDecoder
from qos_async._core.responses import (
    KlineGroup,
    by_symbol,
    days_by_market,
    klines_by_symbol,
    products_by_market,
    trades_by_symbol,
)
from qos_async._core.rows import GroupsDecoder, RowsDecoder, Unread
from qos_async._validation import as_number, as_whole, check_whole
from qos_async.config import KLINES_MAX, TRADES_MAX
from qos_async.enums import Adjustment, Interval, Market
from qos_async.models import (
    Depth,
    Instrument,
    Kline,
    N,
    Product,
    Snapshot,
    Trade,
    TradingDay,
)
from qos_async.periods import FAR_FUTURE
from qos_async.results import Result
from qos_async.symbols import pack, split

__all__ = ["Queries", "Query", "epoch", "merge"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_Reader: TypeAlias = Callable[[bytes, list[Unread]], T]

# Rows in one response, chosen so that the largest stays below the 16 MiB of
# ``MAX_FRAME``.
_ROWS = 20_000
_SNAPSHOTS = 5_000
_DEPTHS = 2_000


class Query(Struct, Generic[T_co], frozen=True):
    """One request, and the decoder of its response.

    Attributes:
        path: The path over HTTP, such as ``/snapshot``.
        operation: The ``type`` on the websocket, such as ``RS``; empty for an endpoint
            that only HTTP has.
        body: The body, without ``type`` and ``reqid``.
        symbols: The symbols in the order requested; empty if the query names markets.
        reader: Decodes the ``data`` part of the response; appends to the list what
            cannot be read.
    """

    path: str
    operation: str
    body: dict[str, Any]
    symbols: tuple[str, ...]
    reader: _Reader[T_co]

    def read(self, data: bytes, unread: list[Unread] | None = None) -> T_co:
        """Return the value of a response's ``data``; no bytes count as ``null``.

        Args:
            data: JSON.
            unread: Receives the fields and rows that cannot be read. Such a field is
                left out, or its row, if the record cannot do without it.

        Raises:
            DecodeError: If it cannot be decoded, and no part of it.
        """
        return self.reader(data or b"null", [] if unread is None else unread)


class Queries(Generic[N]):
    """Builds the queries that the service answers (chapter 4, sections 5.6 to 5.11).

    Queries for symbols return ``{canonical symbol: value}``, without the symbols that
    the server left out. All methods raise ``ValueError`` for arguments that the
    document does not allow.
    """

    def __init__(
        self, numbers: type[N], *, chunk: int, most_trades: int = TRADES_MAX
    ) -> None:
        """Prepare the readers; each builds its decoder when a first response arrives.

        Args:
            numbers: The type of prices and volumes: Decimal, float or str.
            chunk: The most symbols that one query may name.
            most_trades: The most trades of a symbol.
        """
        self._chunk = chunk
        self._most_trades = most_trades
        self.numbers: Any = numbers

        def rows(
            record: Any, shape: Callable[[Any], dict[str, T]]
        ) -> _Reader[dict[str, T]]:
            return lambda data, unread: shape(
                _rows(record, self.numbers).decode(data, unread)
            )

        self._instruments: _Reader[dict[str, Instrument[N]]] = rows(
            Instrument, by_symbol
        )
        self._snapshots: _Reader[dict[str, Snapshot[N]]] = rows(Snapshot, by_symbol)
        self._depths: _Reader[dict[str, Depth[N]]] = rows(Depth, by_symbol)
        self._trades: _Reader[dict[str, list[Trade[N]]]] = rows(Trade, trades_by_symbol)
        self._klines: _Reader[dict[str, list[Kline[N]]]] = rows(
            KlineGroup, klines_by_symbol
        )

    def instruments(
        self, symbols: Iterable[str]
    ) -> list[Query[dict[str, Instrument[N]]]]:
        """Return queries for instrument information (sections 4.2, 5.11)."""
        parts = self._parts(symbols, _SNAPSHOTS)
        return _code_queries(parts, "/instrument-info", "RI", {}, self._instruments)

    def snapshots(self, symbols: Iterable[str]) -> list[Query[dict[str, Snapshot[N]]]]:
        """Return queries for snapshots of the trading day (sections 4.3, 5.6)."""
        parts = self._parts(symbols, _SNAPSHOTS)
        return _code_queries(parts, "/snapshot", "RS", {}, self._snapshots)

    def depths(self, symbols: Iterable[str]) -> list[Query[dict[str, Depth[N]]]]:
        """Return queries for order books (sections 4.4, 5.8)."""
        parts = self._parts(symbols, _DEPTHS)
        return _code_queries(parts, "/depth", "RD", {}, self._depths)

    def trades(
        self, symbols: Iterable[str], *, count: int = 1
    ) -> list[Query[dict[str, list[Trade[N]]]]]:
        """Return queries for the last 1 to 50 trades, oldest first (4.5, 5.7)."""
        count = check_whole("count", count, most=self._most_trades)
        more = {"count": count}
        parts = self._parts(symbols, max(_ROWS // count, 1))
        return _code_queries(parts, "/trade", "RT", more, self._trades)

    def klines(
        self,
        symbols: Iterable[str],
        *,
        interval: Interval | str | int,
        count: int = 100,
        adjust: Adjustment | int = Adjustment.NONE,
    ) -> list[Query[dict[str, list[Kline[N]]]]]:
        """Return queries for the newest 1 to 1000 klines, oldest first (4.6, 5.9)."""
        options = _kline_options(interval, count, adjust)
        return self._kline_queries(symbols, "/kline", "RK", options)

    def history(
        self,
        symbols: Iterable[str],
        *,
        interval: Interval | str | int,
        end: datetime | float,
        count: int = 100,
        adjust: Adjustment | int = Adjustment.NONE,
    ) -> list[Query[dict[str, list[Kline[N]]]]]:
        """Return queries for 1 to 1000 klines up to ``end``, oldest first (4.7, 5.10).

        The server was seen to ignore ``end``: check the response against it.
        """
        options = {"e": epoch(end), **_kline_options(interval, count, adjust)}
        return self._kline_queries(symbols, "/history", "RH", options)

    def calendar(self, markets: Iterable[str]) -> Query[dict[Market, list[TradingDay]]]:
        """Return the query for trading days (newer document, ``/market-calendar``)."""
        names = _markets(markets)
        return Query(
            "/market-calendar",
            "",
            {"market": list(names)},
            (),
            lambda data, unread: days_by_market(names, _days().decode(data), unread),
        )

    def products(self, markets: Iterable[str]) -> Query[dict[Market, list[Product]]]:
        """Return the query for listed products (newer document, ``/product-list``)."""
        names = _markets(markets)
        return Query(
            "/product-list",
            "",
            {"market": list(names)},
            (),
            lambda data, unread: products_by_market(
                names, _products().decode(data, unread)
            ),
        )

    def _kline_queries(
        self, symbols: Iterable[str], path: str, operation: str, options: dict[str, int]
    ) -> list[Query[dict[str, list[Kline[N]]]]]:
        return [
            Query(
                path,
                operation,
                {"kline_reqs": [{"c": entry, **options} for entry in pack(part)]},
                part,
                self._klines,
            )
            for part in self._parts(symbols, _ROWS // options["co"])
        ]

    def _parts(self, symbols: Iterable[str], limit: int) -> Iterator[tuple[str, ...]]:
        requested, size = split(symbols), min(self._chunk, limit)
        for start in range(0, len(requested), size):
            yield requested[start : start + size]


def merge(
    queries: Sequence[Query[dict[str, T]]], results: Iterable[dict[str, T]]
) -> Result[T]:
    """Return one result for a list of queries, in the order of their symbols."""
    found: dict[str, T] = {}
    for result in results:
        found.update(result)
    return Result((symbol for query in queries for symbol in query.symbols), found)


def epoch(value: datetime | float) -> int:
    """Return a point in time as whole epoch seconds, rounded down.

    Raises:
        ValueError: For a datetime without a time zone, for milliseconds, or for
            anything that is not a time.
    """
    if isinstance(value, datetime) and value == value:  # noqa: PLR0124 - unlike pandas.NaT
        if value.utcoffset() is None:
            raise ValueError(
                f"{value!r} has no time zone: use datetime.now(UTC), or give it one "
                "with .replace(tzinfo=ZoneInfo(...)) or .astimezone()"
            )
        return math.floor(value.timestamp())
    seconds = as_number(value)
    if seconds is None:
        raise ValueError(
            f"{value!r} is not a time: expected an aware datetime or epoch seconds"
            f"{_remedy(value)}"
        )
    if abs(seconds) >= FAR_FUTURE:
        raise ValueError(
            f"{value!r} is too far from now: expected epoch seconds, not milliseconds"
        )
    return math.floor(seconds)


def _remedy(value: object) -> str:
    if type(value).__name__ != "datetime64":
        return ""
    return "; it has no time zone: give it one with pandas.Timestamp(value, tz=...)"


def _code_queries(
    parts: Iterable[tuple[str, ...]],
    path: str,
    operation: str,
    more: dict[str, Any],
    reader: _Reader[T],
) -> list[Query[T]]:
    return [
        Query(path, operation, {"codes": pack(part), **more}, part, reader)
        for part in parts
    ]


# Cached by type, not by client: msgspec builds a decoder once a process.
@cache
def _rows(record: Any, numbers: Any) -> RowsDecoder[Any]:
    return RowsDecoder(record, numbers)


@cache
def _days() -> RecordDecoder[dict[str, Any] | None]:
    return RecordDecoder(dict[str, Any] | None, Decimal)


@cache
def _products() -> GroupsDecoder[Product]:
    return GroupsDecoder(Product)


def _kline_options(
    interval: Interval | str | int, count: int, adjust: Adjustment | int
) -> dict[str, int]:
    return {
        "co": check_whole("count", count, most=KLINES_MAX),
        "a": _adjustment(adjust),
        "kt": int(Interval.parse(interval)),
    }


def _adjustment(adjust: object) -> int:
    number = as_whole(adjust)
    if number in (0, 1):
        return number
    raise ValueError(
        f"unknown adjustment {adjust!r}: expected Adjustment.NONE or Adjustment.FORWARD"
    )


def _markets(markets: Iterable[str]) -> tuple[Market, ...]:
    names = (markets,) if isinstance(markets, str) else markets
    found = tuple(dict.fromkeys(_market(name) for name in names))
    if not found:
        raise ValueError('name at least one market, such as "HK"')
    return found


def _market(name: object) -> Market:
    text = name.strip() if isinstance(name, str) else ""
    if text.isascii() and text.isalpha():
        return Market(text)
    raise ValueError(f"malformed market {name!r}: expected letters, such as US or HK")
