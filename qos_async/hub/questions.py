"""Questions upstream: one-off requests of all clients, merged and in fair turn.

The plan allows few requests. So a symbol that is being asked for is asked for once,
symbols of several clients that ask the same share one request, and the clients take
turns: one that asks for a hundred symbols does not delay one that asks for one.

Of a hub with tokens, a client is a token, however many connections it has. Without, it is
a websocket. Over HTTP, where a program may open a connection for each request, it is an
address and a key together: programs that flood a hub over HTTP delay no websocket, and
not each other if each has a key of its own, of which any will do.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol

import msgspec
from anyio import CancelScope
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


class _Question:
    """One symbol that is being asked for.

    Attributes:
        answer: Done with its rows.
        waiting: How many calls of ``rows`` wait for it.
        queues: The clients in whose queue it is; empty once it is being asked.
    """

    __slots__ = ("answer", "ask", "queues", "symbol", "waiting")

    def __init__(self, ask: Ask, symbol: str) -> None:
        self.ask = ask
        self.symbol = symbol
        self.answer: asyncio.Future[list[Raw]]
        self.answer = asyncio.get_running_loop().create_future()
        # An error that no client waits for any more is not reported.
        self.answer.add_done_callback(_retrieve)
        self.waiting = 0
        self.queues: set[Hashable] = set()

    def settle(self, found: Mapping[str, list[Raw]] | QosError) -> None:
        """Set its answer, unless it has one."""
        if self.answer.done():
            return
        if isinstance(found, QosError):
            self.answer.set_exception(found)
        else:
            self.answer.set_result(list(found.get(self.symbol, ())))


class Questions:
    """The questions that wait for the service, by client.

    What no client waits for any more is not asked: each request costs the plan's rate.

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
        self._queues: OrderedDict[Hashable, dict[_Question, None]] = OrderedDict()
        self._open: dict[tuple[Ask, str], _Question] = {}
        self._sending: list[_Question] = []
        self._scope: CancelScope | None = None
        self._ready = asyncio.Event()
        self._error: QosError | None = None

    def ahead(self, client: Hashable) -> int:
        """Return how many requests another question of a client would wait for, at most.

        Of another client it waits for no more requests than it has turns itself.
        """
        own = self._requests(client)
        others = (self._requests(name) for name in self._queues if name != client)
        return own + sum(min(count, own + 1) for count in others)

    def _requests(self, client: Hashable) -> int:
        asks = Counter(one.ask for one in self._queues.get(client, ()))
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
        questions = [self._join(client, ask, symbol) for symbol in symbols]
        self._ready.set()
        try:
            # Shielded: another client may wait for the same answer.
            return {one.symbol: await asyncio.shield(one.answer) for one in questions}
        finally:
            for one in questions:
                self._leave(one)

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        while True:
            await self._ready.wait()
            taken = self._next()
            if not taken:
                self._ready.clear()
                continue
            self._sending = taken
            with CancelScope() as self._scope:
                try:
                    await self._fetch(taken)
                except Exception as exc:  # noqa: BLE001 - the other questions go on
                    _log.exception("this is a bug in qos_async; please report it")
                    self._settle(taken, QosError(f"internal error: {exc!r}"))
            self._sending = []

    async def _fetch(self, questions: list[_Question]) -> None:
        for one in questions:
            if not one.waiting:
                self._close(one)
        questions = [one for one in questions if one.waiting]
        if not questions:
            return
        self.sent += 1
        symbols = [one.symbol for one in questions]
        try:
            found = await self._sender.fetch(questions[0].ask.query(symbols))
        except QosError as exc:
            rejected = isinstance(exc, RejectedError) and not isinstance(
                exc, LimitError
            )
            if not rejected or len(questions) == 1:
                self._settle(questions, exc)
                return
            # One of them, of perhaps another client, spoils the request for all.
            middle = len(questions) // 2
            await self._fetch(questions[:middle])
            await self._fetch(questions[middle:])
        else:
            self._settle(questions, found)

    def fail(self, error: QosError) -> None:
        """End every question, and every later one, with an error."""
        self._error = error
        self._queues.clear()
        self._settle(list(self._open.values()), error)

    def _join(self, client: Hashable, ask: Ask, symbol: str) -> _Question:
        question = self._open.get((ask, symbol))
        if question is None:
            question = self._open[ask, symbol] = _Question(ask, symbol)
        question.waiting += 1
        if question not in self._sending:
            # In the queue of each: a client does not wait for the turn of another.
            self._queues.setdefault(client, {})[question] = None
            question.queues.add(client)
        return question

    def _leave(self, question: _Question) -> None:
        question.waiting -= 1
        if question.waiting or question.answer.done():
            return
        if question not in self._sending:
            self._close(question)
        elif not any(one.waiting and not one.answer.done() for one in self._sending):
            for one in self._sending:
                self._close(one)
            self._sending = []
            assert self._scope is not None
            self._scope.cancel()

    def _close(self, question: _Question) -> None:
        """Forget a question; the next client that asks the same asks anew."""
        self._unqueue(question)
        key = question.ask, question.symbol
        if self._open.get(key) is question:
            del self._open[key]

    def _unqueue(self, question: _Question) -> None:
        for client in question.queues:
            queue = self._queues.get(client, {})
            queue.pop(question, None)
            if not queue:
                self._queues.pop(client, None)
        question.queues.clear()

    def _next(self) -> list[_Question]:
        """Take the questions of the next request: the next client's, and all that fit."""
        if not self._queues:
            return []
        client, queue = next(iter(self._queues.items()))
        self._queues.move_to_end(client)
        ask = next(iter(queue)).ask
        # The client whose turn it is fills the request first, then the others.
        everything = chain(queue, *self._queues.values())
        same = dict.fromkeys(one for one in everything if one.ask == ask)
        taken = list(islice(same, self._chunk))
        for one in taken:
            self._unqueue(one)
        return taken

    def _settle(
        self,
        questions: Iterable[_Question],
        found: Mapping[str, list[Raw]] | QosError,
    ) -> None:
        for one in questions:
            self._close(one)
            one.settle(found)


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
