"""Requests: the plan's rates, and replies from the market data.

A request names its symbols in ``codes`` or ``kline_reqs``. What the real server is known
to reject raises ``Rejection``; what a client should never send is a violation as well.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Mapping
from typing import Any

from qos_async._server.parsing import (
    OPERATIONS,
    KlineRequest,
    Rejection,
    RequestParser,
)
from qos_async.config import Limits
from qos_async.sim.source import MarketData, Row
from qos_async.sim.variants import Variants

__all__ = ["RequestHandler", "UsageMeter"]

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


class RequestHandler:
    """Produces the replies to requests.

    Args:
        data: The data to reply with.
        plan: The limits to enforce.
        variants: The choices where the real server's behaviour is unknown.
        seed: Seed of the order of rows in a reply.
        violations: Receives a message for each request that no client should send.
        rejected_symbols: The message for each symbol that is rejected, see ``Faults``.

    Attributes:
        parser: Parses the requests.
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
        self.parser = RequestParser(violations.append)
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
        operation = OPERATIONS.get(operation, operation)
        if operation in ("RK", "RH"):
            rows = self._kline_rows(operation, body, now)
        else:
            count = self.parser.count(body) if operation == "RT" else 0
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
        markets = self.parser.markets(body)
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
        found = self.parser.symbols(codes)
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
        requests = self.parser.klines(operation, body)
        named = list(dict.fromkeys(name for one in requests for name in one.symbols))
        allowed = self._known(self.within_limit(self.check_allowed(named), len(named)))
        return [
            [{"c": symbol, "k": klines}]
            for request in requests
            for symbol in request.symbols
            if symbol in allowed and (klines := self._klines(symbol, request, now))
        ]

    def _klines(self, symbol: str, request: KlineRequest, now: float) -> list[Row]:
        end = None if self._variants.history_ignores_end else request.end
        return self._data.klines(symbol, request.interval, request.limit, now, end=end)


def _number(text: str) -> float | int:
    return float(text) if "." in text else int(text)
