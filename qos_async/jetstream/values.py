"""Replies of a follower, from the last messages of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec

from qos_async._core.wire import symbols_in
from qos_async.jetstream.direct import (
    StoredPush,
    last_of_subjects,
    newest_of_subject,
)
from qos_async.jetstream.messages import decode_pushes, decode_stamp
from qos_async.jetstream.subjects import topic_subject
from qos_async.jetstream.wire import Wire
from qos_async.recordings.last_values import LastValues, Row, push_header
from qos_async.topics import WireTopic

__all__ = ["StreamValues"]

_KLINE_PUSHES = 1000
"""The messages of a kline topic that are read for its last bars."""


class StreamValues:
    """The values that a stream remembers.

    Args:
        wire: The connection.
        stream: The stream.
    """

    def __init__(self, wire: Wire, stream: str) -> None:
        self._wire, self._stream = wire, stream

    async def rows(self, operation: str, body: Row) -> list[Row] | None:
        """Return the rows of a reply; None for what is not among the last values.

        Raises:
            BrokerError: If the broker cannot be asked.
        """
        match operation:
            case "RS" | "RD":
                return await self._last(operation[1], symbols_in(body))
            case "RT":
                return await self._trades(symbols_in(body), body.get("count", 1))
            case "RK":
                return [
                    row for one in body["kline_reqs"] for row in await self._bars(one)
                ]
            case _:
                return None

    async def _last(self, letter: str, symbols: Iterable[str]) -> list[Row]:
        topics = {self._subject(letter, symbol): symbol for symbol in symbols}
        found = await last_of_subjects(self._wire, self._stream, topics)
        values = _values(found)
        return [
            row for symbol in topics.values() for row in values.last(letter, symbol)
        ]

    async def _trades(self, symbols: Iterable[str], count: int) -> list[Row]:
        rows: list[Row] = []
        for symbol in symbols:
            subject = self._subject("T", symbol)
            found = await newest_of_subject(self._wire, self._stream, subject, count)
            rows += _values(found, trades=count).trades(symbol, count)
        return rows

    async def _bars(self, request: Row) -> list[Row]:
        symbol, kt, count = request["c"], request["kt"], request["co"]
        subject = self._subject("K", symbol, kt)
        pushes = 1 if count == 1 else _KLINE_PUSHES
        found = await newest_of_subject(self._wire, self._stream, subject, pushes)
        bars = _values(found).klines(symbol, kt, count)
        return [{"c": symbol, "k": bars}] if bars else []

    def _subject(self, letter: str, symbol: str, kt: int | None = None) -> str:
        return topic_subject(self._stream, WireTopic(letter, symbol, kt))


def _values(messages: Iterable[StoredPush], trades: int = 1) -> LastValues:
    values = LastValues(trades=trades)
    for push in _pushes(messages):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            header = push_header(push)
            if header is not None:
                msgspec.json.decode(push, type=dict[str, msgspec.Raw])
                values.record(push, header)
    return values


def _pushes(messages: Iterable[StoredPush]) -> Iterator[bytes]:
    for message in messages:
        with suppress(ValueError):
            if decode_stamp(message.headers) is not None:
                yield from decode_pushes(message.data)
