"""Alerts of ``qos watch``: prices that are reported once, when they are crossed."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from qos_async._printable import printable
from qos_async.symbols import canonical

__all__ = ["Alert", "Alerts", "parse_alert", "parse_price"]

_MOST_DIGITS = 20


class Alert(NamedTuple):
    """A price of a symbol; as text, as in the configuration: ``US:AAPL 250.5``."""

    symbol: str
    price: Decimal

    def __str__(self) -> str:
        return f"{self.symbol} {self.price:f}"


def parse_price(text: str) -> Decimal:
    """Return a price.

    Raises:
        ValueError: If it is not a number.
    """
    try:
        price = Decimal(text.strip())
    except InvalidOperation:
        price = Decimal("nan")
    if not price.is_finite() or abs(price.adjusted()) > _MOST_DIGITS:
        raise ValueError(
            f"{printable(text)!r} is not a price: type a number like 250.5"
        )
    return price


def parse_alert(text: str) -> Alert:
    """Return the alert of a text such as ``US:AAPL 250.5``.

    Raises:
        ValueError: If it is not a symbol and a price.
    """
    symbol, _, price = text.strip().partition(" ")
    if not price:
        raise ValueError(
            f'{printable(text)!r} is not a symbol and a price, such as "US:AAPL 250.5"'
        )
    return Alert(canonical(symbol), parse_price(price))


class Alerts:
    """The alerts that wait for their price.

    Attributes:
        count: How many have been reported.
    """

    def __init__(self, alerts: Iterable[Alert] = ()) -> None:
        self._waiting = list(dict.fromkeys(alerts))
        self.count = 0

    @property
    def waiting(self) -> tuple[Alert, ...]:
        """Those whose price was not crossed yet, in order."""
        return tuple(self._waiting)

    def add(self, alert: Alert) -> None:
        """Wait for a price; it may be there already."""
        if alert not in self._waiting:
            self._waiting.append(alert)

    def remove(self, symbol: str) -> None:
        """Remove those of a symbol."""
        self._waiting = [one for one in self._waiting if one.symbol != symbol]

    def take_crossed(self, symbol: str, before: Decimal, now: Decimal) -> list[Alert]:
        """Remove and return those that a move of the price has reached or crossed."""
        low, high = min(before, now), max(before, now)
        crossed = [
            one
            for one in self._waiting
            if one.symbol == symbol and low <= one.price <= high and one.price != before
        ]
        if crossed:
            self._waiting = [one for one in self._waiting if one not in crossed]
            self.count += len(crossed)
        return crossed
