"""What is asked, over HTTP or the stream, read strictly and answered from the market.

A question names its symbols in ``codes`` or ``kline_reqs``. What the server is known
to refuse raises ``Refusal``; what a client should not have sent at all goes to
``breaches`` as well, in words.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from qos_async.config import Limits
from qos_async.enums import Interval
from qos_async.sim.instruments import Row
from qos_async.sim.reading import as_list, as_row
from qos_async.sim.source import MarketData
from qos_async.sim.variants import Variants
from qos_async.symbols import split

__all__ = ["Rejection", "RequestHandler"]

_MAX_TRADES = 50
_MAX_KLINES = 1000
_OPERATIONS = {
    "/instrument-info": "RI",
    "/snapshot": "RS",
    "/depth": "RD",
    "/trade": "RT",
    "/kline": "RK",
    "/history": "RH",
}


class Rejection(Exception):  # noqa: N818
    """The server says no; the message goes into ``msg``."""


class KlineRequest(NamedTuple):
    """One item of ``kline_reqs``: bars of an interval, up to an end."""

    interval: Interval
    bars: int
    end: float | None


class RequestHandler:
    """Reads and answers the questions of one simulator."""

    def __init__(
        self,
        market: MarketData,
        plan: Limits,
        variants: Variants,
        seed: int,
        breaches: list[str],
        *,
        refused: Mapping[str, str],
    ) -> None:
        self._violations = breaches
        self._market = market
        self._plan = plan
        self._variants = variants
        self._rejected_symbols = refused
        self._rng = random.Random(f"{seed}:order")

    def handle(self, operation: str, body: Row, now: float) -> list[Row]:
        """Answer one question with the rows of ``data``, in an order of its own.

        ``operation`` is ``RI``, ``RS``, ``RD``, ``RT``, ``RK``, ``RH`` or its path.

        Raises:
            Refusal: If the question is malformed or over the plan.
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
        asked = list(rows)
        self._rng.shuffle(rows)
        if rows == asked:
            rows.reverse()
        return [row for group in rows for row in group if row]

    def handle_by_market(self, path: str, body: Row, now: float) -> dict[str, Any]:
        """Answer ``/market-calendar`` or ``/product-list``: market → its list.

        Raises:
            Refusal: If ``market`` is not a list of text.
        """
        markets = [str(name) for name in as_list(body.get("market"))]
        if not markets:
            raise self._violation("Parameter error: market")
        if path == "/product-list":
            answers = {name: self._market.products(name) for name in markets}
            return {name: rows for name, rows in answers.items() if rows}
        return {name: self._market.calendar(name, now) for name in markets}

    def parse_symbols(self, codes: Any) -> list[str]:
        """Read a list of entries into canonical symbols the market knows, in order.

        Raises:
            Refusal: If an entry is malformed, or by the variants of too many and of
                unknown symbols.
        """
        found = self._split_codes(codes)
        if len(found) != len(set(found)):
            self._violations.append(f"a symbol twice in one command: {codes}")
            found = list(dict.fromkeys(found))
        return self.known(self.within_limit(found, len(found)))

    def within_limit(self, symbols: list[str], total: int) -> list[str]:
        """Take the symbols if ``total`` of them are within the plan, else refuse or cut.

        Raises:
            Refusal: By the variant ``too_many_symbols``.
        """
        excess = total - self._plan.symbols
        if excess <= 0:
            return symbols
        self._violations.append(f"{total} symbols, the plan has {self._plan.symbols}")
        if self._variants.too_many_symbols == "refuse":
            raise Rejection(f"Exceeded the limit of {self._plan.symbols} products.")
        return symbols[:-excess]

    def known(self, symbols: list[str]) -> list[str]:
        """Leave unknown symbols out, or refuse because of them.

        Raises:
            Refusal: By the variant ``unknown_symbol``.
        """
        unknown = [one for one in symbols if not self._market.knows(one)]
        if unknown and self._variants.unknown_symbol == "refuse":
            raise Rejection(f"Unknown code: {','.join(unknown)}")
        return [symbol for symbol in symbols if symbol not in unknown]

    def check_allowed(self, symbols: list[str]) -> list[str]:
        """Pass symbols on that no fault refuses.

        Raises:
            Refusal: Because of the others.
        """
        refused = [symbol for symbol in symbols if symbol in self._rejected_symbols]
        if refused:
            raise Rejection(
                f"{self._rejected_symbols[refused[0]]}: {','.join(refused)}"
            )
        return symbols

    def parse_interval(self, value: Any) -> Interval:
        """Read ``kt``.

        Raises:
            Refusal: If it is not a number of section 2.1.
        """
        interval = Interval(value) if type(value) is int else Interval.UNKNOWN
        if interval is Interval.UNKNOWN:
            raise self._violation(f"Parameter error: kt {value!r}")
        return interval

    def _rows(self, operation: str, symbol: str, count: int, now: float) -> list[Row]:
        match operation:
            case "RI":
                return [self._market.info(symbol)]
            case "RS":
                return [self._market.snapshot(symbol, now)]
            case "RD":
                return [self._market.depth(symbol, now)]
            case _:
                rows = self._market.trades(symbol, now, count)
                newest_first = self._variants.trades_newest_first
                return self.with_number_type(rows[::-1] if newest_first else rows)

    def with_number_type(self, rows: list[Row]) -> list[Row]:
        """Give trades the number type of the variant ``json_numbers``."""
        if not self._variants.json_numbers:
            return rows
        return [{**row, "p": float(row["p"]), "v": _number(row["v"])} for row in rows]

    def _kline_rows(self, operation: str, body: Row, now: float) -> list[list[Row]]:
        spans = [
            (self._split_codes([one.get("c")]), self._kline_request(operation, one))
            for one in self._kline_items(body.get("kline_reqs"))
        ]
        named = list(dict.fromkeys(one for symbols, _ in spans for one in symbols))
        allowed = self.known(self.within_limit(self.check_allowed(named), len(named)))
        return [
            [{"c": symbol, "k": bars}]
            for symbols, span in spans
            for symbol in symbols
            if symbol in allowed and (bars := self._klines(symbol, span, now))
        ]

    def _kline_items(self, requests: Any) -> list[Row]:
        rows = [as_row(one) for one in as_list(requests)]
        known = [row for row in rows if row is not None]
        if not known or len(known) < len(rows):
            raise self._violation("Parameter error: kline_reqs")
        return known

    def _klines(self, symbol: str, span: KlineRequest, now: float) -> list[Row]:
        return self._market.klines(symbol, span.interval, span.bars, now, end=span.end)

    def _kline_request(self, operation: str, request: Row) -> KlineRequest:
        count = request.get("co")
        if type(count) is not int or not 1 <= count <= _MAX_KLINES:
            raise self._violation(
                f"Parameter error: co {count!r} is not 1-{_MAX_KLINES}"
            )
        if request.get("a", 0) not in (0, 1):
            raise self._violation("Parameter error: a")
        end = request.get("e") if operation == "RH" else None
        if operation == "RH" and type(end) is not int:
            raise self._violation(f"Parameter error: e {end!r}")
        if self._variants.history_ignores_end:
            end = None
        return KlineRequest(self.parse_interval(request.get("kt")), count, end)

    def _count(self, body: Row) -> int:
        count = body.get("count", 1)
        if type(count) is not int or not 1 <= count <= _MAX_TRADES:
            raise self._violation(f"Parameter error: count {count!r} is not 1-50")
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
    # One call for each code: split() would fold what is named twice.
    market, _, codes = str(entry).partition(":")
    return [split(f"{market}:{code}")[0] for code in codes.split(",")]


def _number(text: str) -> float | int:
    return float(text) if "." in text else int(text)
