"""The verbs that ask once."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Generic, Literal, TypeAlias, TypeVar

from msgspec import Struct

from qos_async._core.queries import Queries, Query, merge
from qos_async._io.history import HistoryPages
from qos_async._io.http import Fetcher
from qos_async._io.stream import Stream
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
from qos_async.results import Result
from qos_async.symbols import Symbols, split

__all__ = ["Fetching", "Via"]

T = TypeVar("T")

Via: TypeAlias = Literal["http", "stream"]
"""Where to ask: ``"http"``, or ``"stream"`` for the live websocket."""


class Fetching(Generic[N]):
    """``fetch_*``: one question, one answer.

    Symbols are ``"US:AAPL"``, ``"US:AAPL,TSLA"`` or iterables of such. More of them
    than the plan allows in one call are asked for in several, one after another, and
    merged. Each of these verbs raises:

    - ``ValueError`` before any I/O, for an argument that the service does not take;
    - ``AuthenticationError`` if the key is refused;
    - ``RejectedError`` if the server says no, ``LimitError`` because of the plan;
    - ``RequestTimeoutError`` or another ``TransportError`` if the network fails: over
      HTTP after several attempts, over the stream at once;
    - ``DecodeError`` for an answer that cannot be read;
    - ``ClosedError`` after the client was closed;
    - ``RuntimeError`` in another event loop than that of the client's first use.
    """

    _queries: Queries[N]
    _http: Fetcher
    _stream: Stream[N]

    async def fetch_instruments(
        self, *symbols: Symbols, via: Via = "http"
    ) -> Result[Instrument[N]]:
        """What does not change during a day: names, currency, shares (section 4.2)."""
        queries = self._queries.instruments(split(*symbols))
        return await self._fetch(queries, via, Instrument)

    async def fetch_snapshots(
        self, *symbols: Symbols, via: Via = "http"
    ) -> Result[Snapshot[N]]:
        """The state of the trading day: last price, range, volume (section 4.3)."""
        queries = self._queries.snapshots(split(*symbols))
        return await self._fetch(queries, via, Snapshot)

    async def fetch_depth(
        self, *symbols: Symbols, via: Via = "http"
    ) -> Result[Depth[N]]:
        """The order book, best prices first (section 4.4)."""
        return await self._fetch(self._queries.depths(split(*symbols)), via, Depth)

    async def fetch_trades(
        self, *symbols: Symbols, count: int = 1, via: Via = "http"
    ) -> Result[list[Trade[N]]]:
        """The last ``count`` (1 to 50) trades of each, oldest first (section 4.5)."""
        queries = self._queries.trades(split(*symbols), count=count)
        return await self._fetch(queries, via, Trade)

    async def fetch_klines(
        self,
        *symbols: Symbols,
        interval: Interval | str,
        count: int = 100,
        adjust: Adjustment = Adjustment.NONE,
        via: Via = "http",
    ) -> Result[list[Kline[N]]]:
        """The newest ``count`` (1 to 1000) klines of each, oldest first (section 4.6).

        The last one is unfinished.
        """
        queries = self._queries.klines(
            split(*symbols), interval=interval, count=count, adjust=adjust
        )
        return await self._fetch(queries, via, Kline)

    async def fetch_history(
        self,
        *symbols: Symbols,
        interval: Interval | str,
        end: datetime | float | None = None,
        count: int = 100,
        adjust: Adjustment = Adjustment.NONE,
        via: Via = "http",
    ) -> Result[list[Kline[N]]]:
        """``count`` (1 to 1000) klines up to ``end``, oldest first (section 4.7).

        Args:
            *symbols: What to ask for.
            interval: Such as ``"1m"`` or ``Interval.MIN_1``.
            end: An aware datetime or epoch seconds; now by default. The server was
                seen to ignore it: what comes back may be newer.
            count: How many.
            adjust: For dividends and splits.
            via: Where to ask.
        """
        queries = self._queries.history(
            split(*symbols),
            interval=interval,
            end=time.time() if end is None else end,
            count=count,
            adjust=adjust,
        )
        return await self._fetch(queries, via, Kline)

    def iter_history(
        self,
        symbol: str,
        *,
        interval: Interval | str,
        start: datetime | float,
        end: datetime | float | None = None,
        adjust: Adjustment = Adjustment.NONE,
    ) -> HistoryPages[N]:
        """Page back through klines, over HTTP, a thousand at a time.

        Yields ``list[Kline]``: the newest page first, each ascending, no bar twice, none
        outside ``start`` to ``end`` (both included). It ends when the server has nothing
        older.

        The server was seen to ignore the end it was asked for. Then only its newest
        page can be had, at most 1000 bars: the iteration ends after it, although older
        bars may exist, and a warning in the log ``qos_async.http`` says so. Compare the
        first bar of the last page with ``start``.
        """
        return HistoryPages(
            self._http.fetch,
            self._queries,
            symbol,
            interval=interval,
            start=start,
            end=end,
            adjust=adjust,
        )

    async def fetch_calendar(self, *markets: str) -> dict[Market, list[TradingDay]]:
        """On which of the next days each market trades (``/market-calendar``).

        Markets that the server left out are left out.
        """
        return await self._http.fetch(self._queries.calendar(markets))

    async def fetch_products(self, *markets: str) -> dict[Market, list[Product]]:
        """What can be traded in each market (``/product-list``)."""
        return await self._http.fetch(self._queries.products(markets))

    async def _fetch(
        self, queries: list[Query[dict[str, T]]], via: Via, kind: type[Struct]
    ) -> Result[T]:
        if via not in ("http", "stream"):
            raise ValueError(f'via must be "http" or "stream", not {via!r}')
        ask = self._http.fetch if via == "http" else self._stream.fetch
        result = merge(queries, [await ask(query) for query in queries])
        result.kind = kind
        return result
