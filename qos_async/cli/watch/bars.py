"""The klines of one interval, by symbol."""

from __future__ import annotations

from collections.abc import Iterable

from qos_async import Kline

__all__ = ["Bars"]

_KEPT = 1000


class Bars:
    """The newest thousand klines of each symbol, in order."""

    def __init__(self) -> None:
        self._bars: dict[str, dict[int, Kline]] = {}

    def put(self, kline: Kline) -> None:
        """Take in a kline as it is now; those of the past may come late."""
        bars = self._bars.setdefault(kline.symbol, {})
        late = bool(bars) and kline.timestamp < next(reversed(bars))
        bars[kline.timestamp] = kline
        if late:
            self._bars[kline.symbol] = dict(sorted(bars.items()))
        if len(bars) > _KEPT:
            del self._bars[kline.symbol][min(bars)]

    def fill(self, symbol: str, klines: Iterable[Kline]) -> None:
        """Take in klines of the past; what was pushed is newer, and stays."""
        pushed = self._bars.get(symbol, {})
        both = {kline.timestamp: kline for kline in klines} | pushed
        self._bars[symbol] = dict(sorted(both.items())[-_KEPT:])

    def of(self, symbol: str) -> list[Kline]:
        """Give a symbol's klines, oldest first."""
        return list(self._bars.get(symbol, {}).values())
