"""Answers: the replies to one-off requests, from what is live, kept, or upstream."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import Coroutine, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from qos_async._core.queries import Query
from qos_async._core.rows import Unread
from qos_async._server.parsing import KlineRequest, RequestParser, Row
from qos_async.enums import Channel, Market
from qos_async.hub.kept import KeptBar, KeptBars
from qos_async.hub.live import LiveState
from qos_async.hub.questions import Ask, Questions
from qos_async.hub.tokens import Token
from qos_async.hub.upstream import Upstream
from qos_async.symbols import market_of
from qos_async.topics import Topic

__all__ = ["Answers", "ForbiddenError", "MustWaitError"]

T = TypeVar("T")

_WAIT_MAX = 5.0  # Seconds that a question waits; for more, it is refused with the time.
_KLINE_REQUESTS_MAX = 100
_BY_MARKET_KEPT = 600.0  # Seconds; calendars and product lists change once a day.
_CHANNELS = {"RS": Channel.SNAPSHOT, "RD": Channel.DEPTH, "RT": Channel.TRADE}
_MARKET = re.compile(r"[A-Z]{1,4}")
_LIVE, _KEPT, _UPSTREAM = "live", "kept", "upstream"


class _Asker(NamedTuple):
    """The client of a request, and how many requests are sent before its own."""

    client: Hashable
    ahead: int


class MustWaitError(Exception):
    """The rate of the plan is used up for longer than a client waits.

    Attributes:
        seconds: When to ask again.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            "Too many requests: the plan's rate is used up; try again in "
            f"{seconds:.0f} s."
        )


class ForbiddenError(Exception):
    """A token may not have what it asked for; the message is for the client."""


class Answers:
    """Answers requests of clients.

    Args:
        upstream: Sends the requests.
        live: What was received on the link upstream.
        kept: Finished klines.

    Attributes:
        parser: Parses the bodies.
        counts: How many symbols were answered, by ``live``, ``kept`` and ``upstream``.
        questions: The requests upstream.
    """

    def __init__(
        self,
        upstream: Upstream,
        live: LiveState,
        kept: KeptBars,
    ) -> None:
        self.parser = RequestParser(lambda _: None)
        self.counts: Counter[str] = Counter()
        self._upstream = upstream
        self.questions = Questions(upstream, chunk=upstream.limits.symbols)
        self._live = live
        self._kept = kept
        self._interval = upstream.limits.command_interval
        self._by_market: dict[tuple[str, str], tuple[float, Raw | None]] = {}
        self._lock = asyncio.Lock()

    def now(self) -> float:
        """Return the time of what is answered: the service's, in epoch seconds."""
        return self._upstream.now()

    async def data(
        self, asker: Hashable, token: Token | None, kind: str, body: Row
    ) -> bytes:
        """Return the ``data`` of the reply to a request, as JSON.

        Args:
            asker: The client; clients take turns (see ``questions``).
            token: What the client may have; None: everything.
            kind: ``RI``, ``RS``, ``RD``, ``RT``, ``RK`` or ``RH``.
            body: The request.

        Raises:
            Rejection: The request is malformed.
            ForbiddenError: The token does not allow it.
            MustWaitError: The service cannot be asked for a while.
            QosError: What the request upstream ended with.
        """
        self._upstream.check_current()
        asking = _Asker(asker, self.questions.ahead(asker))
        if kind in ("RK", "RH"):
            requests = self.parser.klines(kind, body)
            if len(requests) > _KLINE_REQUESTS_MAX:
                most = f"more than {_KLINE_REQUESTS_MAX}"
                raise self.parser.violation(f"Parameter error: {most} kline_reqs")
            named = [symbol for one in requests for symbol in one.symbols]
            _check(token, named, Channel.KLINE)
            groups = await _together(
                [self._klines(asking, kind, request) for request in requests]
            )
            rows = [row for group in groups for row in group]
        else:
            symbols = self.parser.symbols(body.get("codes"))
            _check(token, symbols, _CHANNELS.get(kind))
            count = self.parser.count(body) if kind == "RT" else 1
            rows = await self._rows(asking, kind, symbols, count)
        return _array(rows)

    async def by_market(self, token: Token | None, path: str, body: Row) -> bytes:
        """Return the ``data`` of ``/market-calendar`` or ``/product-list``, as JSON."""
        markets = [name.upper() for name in self.parser.markets(body)]
        if any(not _MARKET.fullmatch(market) for market in markets):
            raise self.parser.violation("Parameter error: market")
        _check(token, [f"{market}:-" for market in markets], None)
        asked = bool(self._missing(path, markets))
        if asked:
            async with self._lock:  # One request for all that wait.
                await self._ask_by_market(path, self._missing(path, markets))
        self.counts[_UPSTREAM if asked else _KEPT] += len(markets)
        pairs = [(market, self._by_market[path, market][1]) for market in markets]
        return msgspec.json.encode(
            {name: raw for name, raw in pairs if raw is not None}
        )

    def _missing(self, path: str, markets: Sequence[str]) -> list[str]:
        now = time.monotonic()
        nothing = (-math.inf, None)
        return [
            market
            for market in markets
            if self._by_market.get((path, market), nothing)[0] < now
        ]

    async def _ask_by_market(self, path: str, markets: Sequence[str]) -> None:
        if not markets:
            return
        wait = self._upstream.wait_for_http()
        if wait > _WAIT_MAX:
            raise MustWaitError(wait)
        query = Query(path, "", {"market": list(markets)}, (), _mapping)
        found = await self._upstream.fetch(query)
        until = time.monotonic() + _BY_MARKET_KEPT
        for market in markets:
            self._by_market[path, market] = until, found.get(market)

    async def _rows(
        self, asker: _Asker, kind: str, symbols: Sequence[str], count: int
    ) -> list[bytes]:
        found = {symbol: self._live_rows(kind, symbol, count) for symbol in symbols}
        missing = [symbol for symbol, rows in found.items() if rows is None]
        self.counts[_LIVE] += len(symbols) - len(missing)
        options = (("count", count),) if kind == "RT" else ()
        asked = await self._ask(asker, Ask(kind, options), missing)
        return [row for symbol in symbols for row in found[symbol] or asked[symbol]]

    def _live_rows(self, kind: str, symbol: str, count: int) -> list[bytes] | None:
        channel = _CHANNELS.get(kind)
        # Pushes of US snapshots lack the quotes before and after the regular hours.
        if channel is None or (kind == "RS" and market_of(symbol) == Market.US):
            return None
        topic = Topic(channel, symbol)
        if channel is Channel.TRADE:
            return self._live.trades(topic, count)
        row = self._live.row(topic)
        return None if row is None else [row]

    async def _klines(
        self, asker: _Asker, kind: str, request: KlineRequest
    ) -> list[bytes]:
        """Return one row of ``{"c": symbol, "k": klines}`` for each symbol with any."""
        found: dict[str, list[bytes]] = {}
        for symbol in request.symbols:
            rows = await self._known_klines(kind, symbol, request)
            if rows is not None:
                found[symbol] = rows
        options = {
            "kt": int(request.interval),
            "co": request.limit,
            "a": request.adjust,
        }
        if request.end is not None:
            options["e"] = request.end
        missing = [symbol for symbol in request.symbols if symbol not in found]
        ask = Ask(kind, tuple(options.items()))
        groups = await self._ask(asker, ask, missing)
        for symbol, rows in groups.items():
            if not request.adjust and self._upstream.keeps_klines:
                await self._keep(symbol, request, rows)
        known = [
            b'{"c":%b,"k":%b}' % (msgspec.json.encode(symbol), _array(found[symbol]))
            for symbol in request.symbols
            if symbol in found
        ]
        return [*known, *(row for rows in groups.values() for row in rows)]

    async def _known_klines(
        self, kind: str, symbol: str, request: KlineRequest
    ) -> list[bytes] | None:
        if request.adjust:
            return None
        if kind == "RH" and request.end is not None:
            bars = await asyncio.to_thread(
                self._kept.find, symbol, request.interval, request.limit, request.end
            )
            self.counts[_KEPT] += bars is not None
            return None if bars is None else [bar.row for bar in bars]
        if request.limit > 1:
            return None
        row = self._live.growing(symbol, request.interval, self.now())
        self.counts[_LIVE] += row is not None
        return None if row is None else [row]

    async def _keep(
        self, symbol: str, request: KlineRequest, rows: Sequence[bytes]
    ) -> None:
        try:
            bars = [
                KeptBar(_bar.decode(bar).ts, bytes(bar))
                for row in rows
                for bar in _group.decode(row).k or ()
            ]
        except msgspec.MsgspecError:
            return  # A reply that is not as documented is passed on, and not kept.
        bars.sort(key=lambda bar: bar.timestamp)
        now = self.now()
        await asyncio.to_thread(self._kept.add, symbol, request.interval, bars, now)

    async def _ask(
        self, asker: _Asker, ask: Ask, symbols: Sequence[str]
    ) -> dict[str, list[bytes]]:
        if not symbols:
            return {}
        ahead = asker.ahead * self._interval
        wait = max(ahead, self._upstream.wait())
        if wait > _WAIT_MAX:
            raise MustWaitError(wait)
        self.counts[_UPSTREAM] += len(symbols)
        found = await self.questions.rows(asker.client, ask, symbols)
        return {symbol: [bytes(row) for row in rows] for symbol, rows in found.items()}


class _Bar(msgspec.Struct):
    ts: int


class _Group(msgspec.Struct):
    k: list[Raw] | None = None


_bar = msgspec.json.Decoder(_Bar)
_group = msgspec.json.Decoder(_Group)
_by_market: msgspec.json.Decoder[dict[str, Raw] | None] = msgspec.json.Decoder(
    dict[str, Raw] | None
)


def _mapping(data: bytes, unread: list[Unread]) -> dict[str, Raw]:
    found = _by_market.decode(data) or {}
    return {name.upper(): raw for name, raw in found.items()}


async def _together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results of coroutines; where one fails, the others are cancelled."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _array(rows: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(rows) + b"]"


def _check(
    token: Token | None, symbols: Sequence[str], channel: Channel | None
) -> None:
    refusal = None if token is None else token.refusal(symbols, channel)
    if refusal is not None:
        raise ForbiddenError(refusal)
