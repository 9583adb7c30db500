"""Questions upstream: one-off requests of all clients, merged and in fair turn.

The plan allows few requests. So a symbol that is being asked for is asked for once,
symbols of several clients that ask the same share one request, and the clients take
turns: one that asks for a hundred symbols does not delay one that asks for one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Raw, Struct

from qos_async._core.queries import Query
from qos_async._core.rows import Unread
from qos_async.errors import DecodeError, LimitError, QosError, RejectedError
from qos_async.symbols import canonical, pack

__all__ = ["Ask", "Questions", "Sender", "rows_by_symbol"]

_log = logging.getLogger("qos_async.hub")

_PATHS = {
    "RI": "/instrument-info",
    "RS": "/snapshot",
    "RD": "/depth",
    "RT": "/trade",
    "RK": "/kline",
    "RH": "/history",
}


class Ask(NamedTuple):
    """What is asked, without the symbols: two of these that are equal share a request.

    Attributes:
        operation: ``RI``, ``RS``, ``RD``, ``RT``, ``RK`` or ``RH``.
        options: Its parameters, such as ``count``, or those of each ``kline_reqs``.
    """

    operation: str
    options: tuple[tuple[str, int], ...] = ()

    def query(self, symbols: Iterable[str]) -> Query[dict[str, list[Raw]]]:
        """Return the query for some symbols; its result has the rows as received."""
        symbols = tuple(symbols)
        if self.operation in ("RK", "RH"):
            body: dict[str, Any] = {
                "kline_reqs": [
                    {"c": entry, **dict(self.options)} for entry in pack(symbols)
                ]
            }
        else:
            body = {"codes": pack(symbols), **dict(self.options)}
        path = _PATHS[self.operation]
        return Query(path, self.operation, body, symbols, rows_by_symbol)


class Sender(Protocol):
    """Sends queries upstream."""

    async def fetch(self, query: Query[Any]) -> Any:
        """Send a query and return its result."""
        ...


class _Question(NamedTuple):
    ask: Ask
    symbol: str


class Questions:
    """The questions that wait for the service, by client.

    Args:
        sender: Sends them, one request at a time.
        chunk: The most symbols in one request.

    Attributes:
        sent: The number of requests that were sent.
    """

    def __init__(self, sender: Sender, *, chunk: int) -> None:
        self.sent = 0
        self._sender = sender
        self._chunk = chunk
        self._waiting: OrderedDict[Hashable, deque[_Question]] = OrderedDict()
        self._answers: dict[_Question, asyncio.Future[list[Raw]]] = {}
        self._ready = asyncio.Event()
        self._error: QosError | None = None

    @property
    def ahead(self) -> int:
        """How many requests a question would wait for now, at most."""
        asks: dict[Ask, int] = {}
        for questions in self._waiting.values():
            for one in questions:
                asks[one.ask] = asks.get(one.ask, 0) + 1
        return sum(-(-count // self._chunk) for count in asks.values())

    async def rows(
        self, client: Hashable, ask: Ask, symbols: Iterable[str]
    ) -> dict[str, list[Raw]]:
        """Return the rows of each symbol, as the service sends them; an absent one has none.

        Raises:
            QosError: What the request ended with.
        """
        if self._error is not None:
            raise self._error
        answers: dict[str, asyncio.Future[list[Raw]]] = {}
        for symbol in symbols:
            question = _Question(ask, symbol)
            answer = self._answers.get(question)
            if answer is None:
                answer = asyncio.get_running_loop().create_future()
                # An error that no client waits for any more is not reported.
                answer.add_done_callback(_retrieve)
                self._answers[question] = answer
                self._waiting.setdefault(client, deque()).append(question)
            answers[symbol] = answer
        self._ready.set()
        # Shielded: another client may wait for the same answer.
        return {
            symbol: await asyncio.shield(answer) for symbol, answer in answers.items()
        }

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            await self._ready.wait()
            ask, symbols = self._next()
            if not symbols:
                self._ready.clear()
                continue
            try:
                await self._fetch(ask, symbols)
            except Exception as exc:  # noqa: BLE001 - the other questions go on
                _log.exception("this is a bug in qos_async; please report it")
                self._settle(ask, symbols, QosError(f"internal error: {exc!r}"))

    async def _fetch(self, ask: Ask, symbols: list[str]) -> None:
        self.sent += 1
        try:
            found = await self._sender.fetch(ask.query(symbols))
        except QosError as exc:
            rejected = isinstance(exc, RejectedError) and not isinstance(
                exc, LimitError
            )
            if not rejected or len(symbols) == 1:
                self._settle(ask, symbols, exc)
                return
            # One of them, of perhaps another client, spoils the request for all.
            middle = len(symbols) // 2
            await self._fetch(ask, symbols[:middle])
            await self._fetch(ask, symbols[middle:])
        else:
            self._settle(ask, symbols, found)

    def fail(self, error: QosError) -> None:
        """End every question, and every later one, with an error."""
        self._error = error
        self._waiting.clear()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)
        self._answers.clear()

    def _next(self) -> tuple[Ask, list[str]]:
        """Take the symbols of the next request: the next client's, and all that fit."""
        if not self._waiting:
            return Ask(""), []
        client, questions = next(iter(self._waiting.items()))
        self._waiting.move_to_end(client)
        ask = questions[0].ask
        symbols: list[str] = []
        # The client whose turn it is fills the request first, then the others.
        for name in [client, *(name for name in self._waiting if name != client)]:
            kept: deque[_Question] = deque()
            for one in self._waiting[name]:
                if one.ask == ask and len(symbols) < self._chunk:
                    symbols.append(one.symbol)
                else:
                    kept.append(one)
            if kept:
                self._waiting[name] = kept
            else:
                del self._waiting[name]
        return ask, symbols

    def _settle(
        self, ask: Ask, symbols: list[str], found: Mapping[str, list[Raw]] | QosError
    ) -> None:
        for symbol in symbols:
            answer = self._answers.pop(_Question(ask, symbol), None)
            if answer is None or answer.done():
                continue
            if isinstance(found, QosError):
                answer.set_exception(found)
            else:
                answer.set_result(list(found.get(symbol, ())))


class _Row(Struct):
    c: str


_rows: msgspec.json.Decoder[list[Raw] | None] = msgspec.json.Decoder(list[Raw] | None)
_row = msgspec.json.Decoder(_Row)


def rows_by_symbol(data: bytes, unread: list[Unread]) -> dict[str, list[Raw]]:
    """Return ``{canonical symbol: rows}`` from the ``data`` of a reply, bytes unchanged.

    Rows that name no symbol are left out, and appended to ``unread``.

    Raises:
        DecodeError: If it is not a list, or no row names a symbol.
    """
    found: dict[str, list[Raw]] = {}
    try:
        rows = _rows.decode(data) or []
    except msgspec.MsgspecError:
        raise DecodeError("cannot decode a reply (it is not a list of rows)") from None
    for row in rows:
        try:
            found.setdefault(canonical(_row.decode(row).c), []).append(row)
        except (msgspec.MsgspecError, ValueError):
            unread.append(Unread("", "", bytes(row), lost=True))
    if rows and not found:
        raise DecodeError("cannot decode the rows of a reply (none names a symbol)")
    return found


def _retrieve(answer: asyncio.Future[list[Raw]]) -> None:
    if not answer.cancelled():
        answer.exception()
