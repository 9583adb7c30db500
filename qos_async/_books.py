"""The best level of a side of an order book."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

__all__ = ["best_level"]


class _Level(Protocol):
    @property
    def price(self) -> Any: ...

    @property
    def size(self) -> Any: ...


L = TypeVar("L", bound=_Level)


def best_level(levels: tuple[L, ...]) -> L | None:
    """Return the first level with a price and a size; None without one."""
    # A price limit leaves levels of size zero at the top: there is nothing to trade. In an
    # auction, a price of zero at the top has the orders at any price; where prices are
    # negative, as of oil, zero is one.
    for level in levels:
        if _amount(level.size) and (
            _amount(level.price) or any(_amount(one.price) < 0 for one in levels)
        ):
            return level
    return None


def _amount(number: Any) -> float:
    """Return a number, also of text, which is as it was sent; 0 for none."""
    try:
        return float(number)
    except ValueError:
        return 0.0
