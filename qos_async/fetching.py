"""One-off requests: the methods ``fetch_*`` of the client."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar

from msgspec import Struct

from qos_async._core.queries import Queries, Query, merge
from qos_async._io.clocks import ServerClock
from qos_async._io.http import Fetcher
from qos_async._io.retry import OnWait, Patience
from qos_async._io.stream import Stream
from qos_async.enums import Adjustment, Interval, Market
from qos_async.errors import QosError
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

if TYPE_CHECKING:
    from qos_async._io.history import HistoryPages

__all__ = ["Fetching", "Via"]

T = TypeVar("T")

Via: TypeAlias = Literal["http", "stream"]
"""Transport of a request: ``"http"``, or ``"stream"`` for the websocket."""


class Fetching(Generic[N]):
    """``fetch_*``: one request, one result.

    Symbols are ``"US:AAPL"``, ``"US:AAPL,TSLA"`` or iterables of such. More symbols
    than the plan allows in one request are sent in several requests, one after another,
    and the results are merged. If one of the requests fails, the error has the results of
    those before it as ``partial``. A field that cannot be read is None, and a record that
    lacks a required one is left out; both are logged. Each of these methods raises:

    - ``ValueError`` before any I/O, for an argument that the service does not accept;
    - ``AuthenticationError`` if the key is rejected;
    - ``RejectedError`` if the server rejects the request, ``LimitError`` if it does so
      because of the plan; ``symbols`` are those that the server names;
    - ``RequestTimeoutError`` or another ``TransportError`` if the network fails: over
      HTTP after four attempts, over the stream at once;
    - ``DecodeError`` for a response that cannot be decoded;
    - ``ClosedError`` after the client was closed;
    - ``RuntimeError`` in another event loop than that of the client's first use.

    Over HTTP, a request is sent up to four times where the same request may succeed
    later: after a failure of the network, HTTP 408, 425, 429 or 5xx, a text such as "too
    frequent", or a response that cannot be read. Before each further attempt it waits:
    ``limits.http_period`` after a refusal for the pace, as long as the server asks with
    ``Retry-After`` (300 s at most), else up to a few seconds. So a request that is
    refused for the pace to the end takes three periods. Waiting less takes an
    ``asyncio.timeout`` around the call.
    """

    _queries: Queries[N]
    _http: Fetcher
    _stream: Stream[N]
    _server_clock: ServerClock

    async def fetch_instruments(
        self, *symbols: Symbols, via: Via = "http"
    ) -> Result[Instrument[N]]:
        """Return static data of each: names, currency, shares (section 4.2)."""
        queries = self._queries.instruments(split(*symbols))
        return await self._fetch(queries, via, Instrument)

    async def fetch_snapshots(
        self, *symbols: Symbols, via: Via = "http"
    ) -> Result[Snapshot[N]]:
        """Return the trading day of each: last price, range, volume (section 4.3)."""
        queries = self._queries.snapshots(split(*symbols))
        return await self._fetch(queries, via, Snapshot)

    async def fetch_depth(
        self, *symbols: Symbols, via: Via = "http"
    ) -> Result[Depth[N]]:
        """Return the order book of each, best prices first (section 4.4)."""
        return await self._fetch(self._queries.depths(split(*symbols)), via, Depth)

    async def fetch_trades(
        self, *symbols: Symbols, count: int = 1, via: Via = "http"
    ) -> Result[list[Trade[N]]]:
        """Return the last ``count`` (1 to 50) trades of each, oldest first (section 4.5)."""
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
        """Return the newest klines of each, oldest first (section 4.6).

        ``count`` is 1 to 1000. The last kline is unfinished.
        """
        queries = self._queries.klines(
            split(*symbols), interval=interval, count=count, adjust=adjust
        )
        return await self._fetch(queries, via, Kline, Interval.parse(interval))

    async def fetch_history(
        self,
        *symbols: Symbols,
        interval: Interval | str,
        end: datetime | float | None = None,
        count: int = 100,
        adjust: Adjustment = Adjustment.NONE,
        via: Via = "http",
    ) -> Result[list[Kline[N]]]:
        """Return the klines of each up to ``end``, oldest first (section 4.7).

        Args:
            *symbols: Which symbols.
            interval: Such as ``"1m"`` or ``Interval.MIN_1``.
            end: An aware datetime or epoch seconds; now by default. The server was
                seen to ignore it: the klines may be newer.
            count: The number of klines of each symbol, 1 to 1000.
            adjust: Whether prices are adjusted for dividends and splits.
            via: The transport.
        """
        queries = self._queries.history(
            split(*symbols),
            interval=interval,
            end=self._server_clock.time() if end is None else end,
            count=count,
            adjust=adjust,
        )
        return await self._fetch(queries, via, Kline, Interval.parse(interval))

    def iter_history(
        self,
        symbol: str,
        *,
        interval: Interval | str,
        start: datetime | float,
        end: datetime | float | None = None,
        adjust: Adjustment = Adjustment.NONE,
        on_wait: OnWait | None = None,
    ) -> HistoryPages[N]:
        """Return an iterator back through klines, over HTTP, 1000 a page.

        It yields ``list[Kline]``: the newest page first, each page oldest first, no kline
        twice, none outside ``start`` to ``end`` (both included). It ends when the server
        has no older klines. Without ``end``, it is the present by the server's
        clock, which the stream or the first response shows.

        The server was seen to ignore the end of a request. Then only its newest page is
        available, at most 1000 klines: the iteration ends after it, although older klines
        may exist, ``end_ignored`` is true, and a warning is logged to ``qos_async.http``.

        It waits for as long as it takes: while the server replies that a request may
        succeed later (HTTP 408, 425, 429, 5xx, or a text such as "too frequent") and, once
        there was a page, while the network fails. Any other error ends it, such as an
        ``AuthenticationError`` or a ``RejectedError``. ``on_wait`` is called with the
        error and the number of seconds before each such wait, which is also logged to
        ``qos_async.http``.
        """
        # Slower to import than most, and only needed here.
        from qos_async._io.history import HistoryPages  # noqa: PLC0415

        return HistoryPages(
            partial(self._http.fetch, patience=Patience(on_wait)),
            self._queries,
            symbol,
            interval=interval,
            start=start,
            end=end,
            adjust=adjust,
            clock=self._stream.clock.time,
            ahead=self._server_clock.ahead,
        )

    async def fetch_calendar(self, *markets: str) -> dict[Market, list[TradingDay]]:
        """Return the next trading days of each market (``/market-calendar``).

        Markets that are missing from the response are missing here.
        """
        return await self._http.fetch(self._queries.calendar(markets))

    async def fetch_products(self, *markets: str) -> dict[Market, list[Product]]:
        """Return the products of each market (``/product-list``)."""
        return await self._http.fetch(self._queries.products(markets))

    async def _fetch(
        self,
        queries: list[Query[dict[str, T]]],
        via: Via,
        kind: type[Struct],
        interval: Interval | None = None,
    ) -> Result[T]:
        if via not in ("http", "stream"):
            raise ValueError(f'via must be "http" or "stream", not {via!r}')
        fetch = self._http.fetch if via == "http" else self._stream.fetch
        replies: list[dict[str, T]] = []
        for query in queries:
            try:
                reply = await fetch(query)
            except QosError as error:
                answered = queries[: len(replies)]
                error.partial = _result(answered, replies, kind, interval)
                raise
            replies.append(reply)
        return _result(queries, replies, kind, interval)


def _result(
    queries: list[Query[dict[str, T]]],
    replies: list[dict[str, T]],
    kind: type[Struct],
    interval: Interval | None,
) -> Result[T]:
    result = merge(queries, replies)
    result.kind, result.interval = kind, interval
    return result
