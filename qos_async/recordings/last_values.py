"""Last values pushed for each topic, as rows of replies."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw, Struct

from qos_async._core.decoding import quote_bare_words
from qos_async._core.wire import symbols_in
from qos_async.config import KLINES_MAX, TRADES_MAX
from qos_async.symbols import canonical, split
from qos_async.topics import WireTopic

__all__ = ["LastValues", "PushHeader", "Row", "push_header", "reply_rows"]

Row: TypeAlias = dict[str, Any]


class PushHeader(Struct):
    """The fields of a push that identify it."""

    tp: str | None = None
    c: str = ""
    kt: int | None = None
    ts: int = 0

    @property
    def topic(self) -> WireTopic:
        """The topic of the push."""
        kt = self.kt if self.tp == "K" else None
        return WireTopic(self.tp or "", _canonical(self.c), kt)


_header_decoder = msgspec.json.Decoder(PushHeader, strict=False)
_row_decoder = msgspec.json.Decoder(dict[str, Raw])


def push_header(frame: bytes) -> PushHeader | None:
    """Return the header of a frame, or None if it is unreadable."""
    try:
        return _header_decoder.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        quoted = quote_bare_words(frame)
        return None if quoted is None else push_header(quoted)


@lru_cache(maxsize=10_000)
def _canonical(symbol: str) -> str:
    try:
        return canonical(symbol)
    except ValueError:
        return symbol


class LastValues:
    """Keeps the last pushes of each topic, and returns them as rows of a reply.

    Numbers keep the digits that were received.

    Args:
        trades: How many trades of each symbol are kept.
    """

    def __init__(self, *, trades: int = TRADES_MAX) -> None:
        self._kept_trades = trades
        self._last: dict[WireTopic, bytes] = {}
        self._trades: dict[str, deque[bytes]] = {}
        self._klines: dict[WireTopic, dict[int, bytes]] = {}

    def record(self, frame: bytes, header: PushHeader) -> WireTopic:
        """Keep a push, and return its topic."""
        topic = header.topic
        if topic.letter == "K":
            self._record_kline(topic, frame, header.ts)
        else:
            self.record_all(topic, (frame,))
        return topic

    def record_all(self, topic: WireTopic, pushes: Sequence[bytes]) -> None:
        """Keep pushes of one topic."""
        match topic.letter:
            case "T":
                kept = self._trades.get(topic.symbol)
                if kept is None:
                    kept = self._trades[topic.symbol] = deque(maxlen=self._kept_trades)
                kept.extend(pushes)
            case "K":
                for push in pushes:
                    if (header := push_header(push)) is not None:
                        self._record_kline(topic, push, header.ts)
            case _:
                self._last[topic] = pushes[-1]

    def _record_kline(self, topic: WireTopic, frame: bytes, ts: int) -> None:
        klines = self._klines.setdefault(topic, {})
        klines[ts] = frame
        if len(klines) > KLINES_MAX:
            del klines[next(iter(klines))]

    def forget_trades(
        self, symbol: str | None = None, *, but: Collection[str] = ()
    ) -> None:
        """Forget the last trades of a symbol, or of all but some."""
        if symbol is not None:
            self._trades.pop(symbol, None)
            return
        self._trades = {one: self._trades[one] for one in but if one in self._trades}

    def last(self, letter: str, symbol: str) -> list[Row]:
        """Return the last snapshot (``S``) or book (``D``), or an empty list."""
        frame = self._last.get(WireTopic(letter, symbol))
        return [] if frame is None else [_row(frame)]

    def trades(self, symbol: str, count: int) -> list[Row]:
        """Return the last trades, oldest first."""
        kept = self._trades.get(symbol, ())
        newest = list(islice(reversed(kept), count))
        return [_row(frame) for frame in reversed(newest)]

    def klines(
        self, symbol: str, kt: int, count: int, *, end: float | None = None
    ) -> list[Row]:
        """Return the last klines, ascending; with ``end``, those that start by then."""
        kept = self._klines.get(WireTopic("K", symbol, kt), {})
        known = sorted(ts for ts in kept if end is None or ts <= end)
        return [_row(kept[ts]) for ts in known[-count:]]


def _row(frame: bytes) -> Row:
    row: Row = dict(_row_decoder.decode(frame))
    row.pop("tp", None)
    return row


def reply_rows(values: LastValues, operation: str, body: Row) -> list[Row]:
    """Return the rows of a reply from the last values; what is missing is left out."""
    symbols = symbols_in(body)
    match operation:
        case "RS" | "RD":
            found = [values.last(operation[1], symbol) for symbol in symbols]
        case "RT":
            count = body.get("count", 1)
            found = [values.trades(symbol, count) for symbol in symbols]
        case "RK" | "RH":
            found = [_kline_rows(values, one) for one in body["kline_reqs"]]
        case _:
            found = []
    return [row for rows in found for row in rows]


def _kline_rows(values: LastValues, request: Row) -> list[Row]:
    found = [
        (
            symbol,
            values.klines(symbol, request["kt"], request["co"], end=request.get("e")),
        )
        for symbol in split(request["c"])
    ]
    return [{"c": symbol, "k": klines} for symbol, klines in found if klines]
