"""Requests: the plan's rates, strict parsing, and replies from the market data.

A request names its symbols in ``codes`` or ``kline_reqs``. What the real server is known
to reject raises ``Rejection``; what a client should never send is a violation as well.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard, cast

import msgspec

from qos_async.config import KLINES_MAX, TRADES_MAX, Limits
from qos_async.enums import Interval
from qos_async.sim.source import MarketData, Row
from qos_async.sim.variants import Variants
from qos_async.symbols import split

__all__ = [
    "Rejection",
    "RequestHandler",
    "UsageMeter",
    "as_list",
    "as_row",
    "encode",
    "parse_json",
]

encode = msgspec.json.encode

_OPERATIONS = {
    "/instrument-info": "RI",
    "/snapshot": "RS",
    "/depth": "RD",
    "/trade": "RT",
    "/kline": "RK",
    "/history": "RH",
}
_TOLERANCE = 0.001  # Seconds, for the resolution of clocks and timers.


class UsageMeter:
    """Usage of one key, over all its links and requests."""

    def __init__(self, plan: Limits) -> None:
        self._plan = plan
        self._frame_at = -math.inf
        self._requests: deque[float] = deque()

    def count_frame(self, now: float) -> float | None:
        """Count a frame; return the seconds since the previous one if that is too soon."""
        gap, self._frame_at = now - self._frame_at, now
        return gap if gap < self._plan.command_interval - _TOLERANCE else None

    def allow_request(self, now: float) -> bool:
        """Count an HTTP request and return True, or False if the quota is used up.

        Rejected requests do not count.
        """
        while self._requests and self._requests[0] <= now - self._plan.http_period:
            self._requests.popleft()
        if len(self._requests) >= self._plan.http_requests:
            return False
        self._requests.append(now)
        return True


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


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


class Rejection(Exception):  # noqa: N818
    """A rejected command or request; the message becomes ``msg``."""


class KlineRequest(NamedTuple):
    """One item of ``kline_reqs``: klines of an interval, up to an end."""

    interval: Interval
    limit: int
    end: float | None


class RequestHandler:
    """Parses requests and produces their replies.

    Args:
        data: The data to reply with.
        plan: The limits to enforce.
        variants: The choices where the real server's behaviour is unknown.
        seed: Seed of the order of rows in a reply.
        violations: Receives a message for each request that no client should send.
        rejected_symbols: The message for each symbol that is rejected, see ``Faults``.
    """

    def __init__(
        self,
        data: MarketData,
        plan: Limits,
        variants: Variants,
        seed: int,
        violations: list[str],
        *,
        rejected_symbols: Mapping[str, str],
    ) -> None:
        self._violations = violations
        self._data = data
        self._plan = plan
        self._variants = variants
        self._rejected_symbols = rejected_symbols
        self._rng = random.Random(f"{seed}:order")

    def handle(self, operation: str, body: Row, now: float) -> list[Row]:
        """Return the rows of ``data`` for a request, never in the order of the request.

        ``operation`` is ``RI``, ``RS``, ``RD``, ``RT``, ``RK``, ``RH`` or its path.

        Raises:
            Rejection: If the request is malformed or exceeds the plan.
        """
        operation = _OPERATIONS.get(operation, operation)
        if operation in ("RK", "RH"):
            rows = self._kline_rows(operation, body, now)
        else:
            count = self._count(body) if operation == "RT" else 0
            rows = [
                self._rows(operation, symbol, count, now)
                for symbol in self.check_allowed(self.parse_symbols(body.get("codes")))
            ]
        in_order = list(rows)
        self._rng.shuffle(rows)
        if rows == in_order:
            rows.reverse()
        return [row for group in rows for row in group if row]

    def handle_by_market(self, path: str, body: Row, now: float) -> dict[str, Any]:
        """Return the ``data`` of ``/market-calendar`` or ``/product-list``, by market.

        Raises:
            Rejection: If ``market`` is not a list of text.
        """
        markets = [str(name) for name in as_list(body.get("market"))]
        if not markets:
            raise self._violation("Parameter error: market")
        if path == "/product-list":
            products = {name: self._data.products(name) for name in markets}
            return {name: rows for name, rows in products.items() if rows}
        return {name: self._data.calendar(name, now) for name in markets}

    def parse_symbols(self, codes: Any) -> list[str]:
        """Return the known canonical symbols that a list of entries names, in order.

        Raises:
            Rejection: For a malformed entry; for too many or unknown symbols, by
                variant.
        """
        found = self._split_codes(codes)
        if len(found) != len(set(found)):
            self._violations.append(f"a symbol twice in one command: {codes}")
            found = list(dict.fromkeys(found))
        return self._known(self.within_limit(found, len(found)))

    def within_limit(self, symbols: list[str], total: int) -> list[str]:
        """Return the symbols of a command after which the plan counts ``total``.

        Those above the limit are rejected or cut off.

        Raises:
            Rejection: By the variant ``too_many_symbols``.
        """
        excess = total - self._plan.symbols
        if excess <= 0:
            return symbols
        self._violations.append(f"{total} symbols, the plan has {self._plan.symbols}")
        if self._variants.too_many_symbols == "refuse":
            raise Rejection(f"Exceeded the limit of {self._plan.symbols} products.")
        return symbols[:-excess]

    def check_allowed(self, symbols: list[str]) -> list[str]:
        """Return the symbols unchanged.

        Raises:
            Rejection: If a fault rejects one of them.
        """
        rejected = [symbol for symbol in symbols if symbol in self._rejected_symbols]
        if rejected:
            raise Rejection(
                f"{self._rejected_symbols[rejected[0]]}: {','.join(rejected)}"
            )
        return symbols

    def parse_interval(self, value: Any) -> Interval:
        """Return the interval of a ``kt``.

        Raises:
            Rejection: If it is not a number of section 2.1.
        """
        interval = Interval(value) if type(value) is int else Interval.UNKNOWN
        if interval is Interval.UNKNOWN:
            raise self._violation(f"Parameter error: kt {value!r}")
        return interval

    def _known(self, symbols: list[str]) -> list[str]:
        """Return the symbols that exist.

        Raises:
            Rejection: By the variant ``unknown_symbol``.
        """
        unknown = [one for one in symbols if not self._data.knows(one)]
        if unknown and self._variants.unknown_symbol == "refuse":
            raise Rejection(f"Unknown code: {','.join(unknown)}")
        return [symbol for symbol in symbols if symbol not in unknown]

    def _rows(self, operation: str, symbol: str, count: int, now: float) -> list[Row]:
        match operation:
            case "RI":
                return [self._data.info(symbol)]
            case "RS":
                return [self._data.snapshot(symbol, now)]
            case "RD":
                return [self._data.depth(symbol, now)]
            case _:
                rows = self._data.trades(symbol, now, count)
                newest_first = self._variants.trades_newest_first
                return self.with_number_type(rows[::-1] if newest_first else rows)

    def with_number_type(self, rows: list[Row]) -> list[Row]:
        """Return trades with prices and sizes of the type of the variant ``json_numbers``."""
        if not self._variants.json_numbers:
            return rows
        return [{**row, "p": float(row["p"]), "v": _number(row["v"])} for row in rows]

    def _kline_rows(self, operation: str, body: Row, now: float) -> list[list[Row]]:
        requests = [
            (self._split_codes([one.get("c")]), self._kline_request(operation, one))
            for one in self._kline_items(body.get("kline_reqs"))
        ]
        named = list(dict.fromkeys(one for symbols, _ in requests for one in symbols))
        allowed = self._known(self.within_limit(self.check_allowed(named), len(named)))
        return [
            [{"c": symbol, "k": klines}]
            for symbols, request in requests
            for symbol in symbols
            if symbol in allowed and (klines := self._klines(symbol, request, now))
        ]

    def _kline_items(self, value: Any) -> list[Row]:
        rows = [as_row(one) for one in as_list(value)]
        known = [row for row in rows if row is not None]
        if not known or len(known) < len(rows):
            raise self._violation("Parameter error: kline_reqs")
        return known

    def _klines(self, symbol: str, request: KlineRequest, now: float) -> list[Row]:
        return self._data.klines(
            symbol, request.interval, request.limit, now, end=request.end
        )

    def _kline_request(self, operation: str, item: Row) -> KlineRequest:
        count = item.get("co")
        if type(count) is not int or not 1 <= count <= KLINES_MAX:
            raise self._violation(
                f"Parameter error: co {count!r} is not 1-{KLINES_MAX}"
            )
        if item.get("a", 0) not in (0, 1):
            raise self._violation("Parameter error: a")
        end = item.get("e") if operation == "RH" else None
        if operation == "RH" and type(end) is not int:
            raise self._violation(f"Parameter error: e {end!r}")
        if self._variants.history_ignores_end:
            end = None
        return KlineRequest(self.parse_interval(item.get("kt")), count, end)

    def _count(self, body: Row) -> int:
        count = body.get("count", 1)
        if type(count) is not int or not 1 <= count <= TRADES_MAX:
            raise self._violation(
                f"Parameter error: count {count!r} is not 1-{TRADES_MAX}"
            )
        return count

    def _split_codes(self, codes: Any) -> list[str]:
        entries = as_list(codes)
        if not entries:
            raise self._violation("Parameter error: codes")
        try:
            return [symbol for entry in entries for symbol in _split_entry(entry)]
        except ValueError as exc:
            raise self._violation(f"Parameter error: {exc}") from None

    def _violation(self, message: str) -> Rejection:
        self._violations.append(message)
        return Rejection(message)


def _split_entry(entry: Any) -> list[str]:
    # One call for each code: split() drops duplicates, which are violations here.
    market, _, codes = str(entry).partition(":")
    return [split(f"{market}:{code}")[0] for code in codes.split(",")]


def _number(text: str) -> float | int:
    return float(text) if "." in text else int(text)
