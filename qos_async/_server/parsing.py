"""Parsing of commands and requests, as a server receives them (chapters 4 and 5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeGuard, cast

import msgspec
from aiohttp import web

from qos_async.config import KLINES_MAX, TRADES_MAX
from qos_async.enums import Interval
from qos_async.periods import FAR_FUTURE
from qos_async.symbols import split

__all__ = [
    "OPERATIONS",
    "KlineRequest",
    "Rejection",
    "RequestParser",
    "Row",
    "as_list",
    "as_row",
    "encode",
    "find_key",
    "json_response",
    "parse_json",
    "try_later",
]

Row: TypeAlias = dict[str, Any]
"""One JSON object, as on the wire."""

OPERATIONS = {
    "/instrument-info": "RI",
    "/snapshot": "RS",
    "/depth": "RD",
    "/trade": "RT",
    "/kline": "RK",
    "/history": "RH",
}
"""The operation of each path: what one can ask over HTTP and over the websocket."""

encode = msgspec.json.encode


def parse_json(raw: bytes) -> Any:
    """Return decoded JSON, or the bytes unchanged if they cannot be decoded."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw


def as_row(value: Any) -> Row | None:
    """Return the value if it is a JSON object, else None."""
    return cast("Row", value) if isinstance(value, dict) else None


def as_list(value: Any) -> list[Any]:
    """Return the value if it is a JSON array, else an empty list."""
    return value if _is_list(value) else []


def find_key(request: web.Request) -> tuple[str | None, str | None]:
    """Return the key and where it was: ``"header"``, ``"url"`` or None."""
    if "key" in request.headers:
        return request.headers["key"], "header"
    if "key" in request.query:
        return request.query["key"], "url"
    return None, None


def json_response(
    content: Row, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a response with a JSON body."""
    return web.Response(
        status=status,
        body=encode(content),
        headers=headers,
        content_type="application/json",
    )


def try_later(status: int, message: str, seconds: float) -> web.Response:
    """Return a response that asks to come back after some seconds."""
    headers = {"Retry-After": str(math.ceil(seconds))}
    return json_response({"msg": message}, status=status, headers=headers)


class Rejection(Exception):  # noqa: N818
    """A rejected command or request; the message becomes ``msg``."""


class KlineRequest(NamedTuple):
    """One item of ``kline_reqs``: klines of an interval, up to an end."""

    symbols: list[str]
    interval: Interval
    limit: int
    end: int | None
    adjust: int


class RequestParser:
    """Parses bodies; what no client should send raises ``Rejection``.

    Args:
        on_violation: Called with the message of each ``Rejection``.
    """

    def __init__(self, on_violation: Callable[[str], None]) -> None:
        self._on_violation = on_violation

    def symbols(self, codes: Any) -> list[str]:
        """Return the canonical symbols that a list of entries names, each once, in order."""
        found = self._split(codes)
        if len(found) != len(set(found)):
            self._on_violation(f"a symbol twice in one command: {codes}")
            found = list(dict.fromkeys(found))
        return found

    def interval(self, value: Any) -> Interval:
        """Return the interval of a ``kt``: a number of section 2.1."""
        interval = Interval(value) if type(value) is int else Interval.UNKNOWN
        if interval is Interval.UNKNOWN:
            raise self.violation(f"Parameter error: kt {value!r}")
        return interval

    def count(self, body: Row) -> int:
        """Return the number of trades that are asked for."""
        count = body.get("count", 1)
        if type(count) is not int or not 1 <= count <= TRADES_MAX:
            raise self.violation(
                f"Parameter error: count {count!r} is not 1-{TRADES_MAX}"
            )
        return count

    def klines(self, operation: str, body: Row) -> list[KlineRequest]:
        """Return the items of ``kline_reqs``; ``operation`` is ``RK`` or ``RH``."""
        items = as_list(body.get("kline_reqs"))
        rows = [row for row in map(as_row, items) if row is not None]
        if not rows or len(rows) < len(items):
            raise self.violation("Parameter error: kline_reqs")
        return [self._kline_request(operation, row) for row in rows]

    def markets(self, body: Row) -> list[str]:
        """Return the markets that a request names."""
        markets = [str(name) for name in as_list(body.get("market"))]
        if not markets:
            raise self.violation("Parameter error: market")
        return markets

    def violation(self, message: str) -> Rejection:
        """Report a violation; return the exception to raise."""
        self._on_violation(message)
        return Rejection(message)

    def _kline_request(self, operation: str, item: Row) -> KlineRequest:
        symbols = self._split([item.get("c")])
        count = item.get("co")
        if type(count) is not int or not 1 <= count <= KLINES_MAX:
            raise self.violation(f"Parameter error: co {count!r} is not 1-{KLINES_MAX}")
        adjust = item.get("a", 0)
        if adjust not in (0, 1):
            raise self.violation("Parameter error: a")
        end = item.get("e") if operation == "RH" else None
        if operation == "RH" and (type(end) is not int or abs(end) >= FAR_FUTURE):
            raise self.violation(f"Parameter error: e {end!r}")
        return KlineRequest(symbols, self.interval(item.get("kt")), count, end, adjust)

    def _split(self, codes: Any) -> list[str]:
        entries = as_list(codes)
        if not entries:
            raise self.violation("Parameter error: codes")
        try:
            return [symbol for entry in entries for symbol in _split_entry(entry)]
        except ValueError as exc:
            raise self.violation(f"Parameter error: {exc}") from None


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _split_entry(entry: Any) -> list[str]:
    # One call for each code: split() drops duplicates, which are violations here.
    market, _, codes = str(entry).partition(":")
    return [split(f"{market}:{code}")[0] for code in codes.split(",")]
