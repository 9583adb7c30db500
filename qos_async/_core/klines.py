"""Which klines are over."""

from __future__ import annotations

from typing import Any

from qos_async.models import Kline

__all__ = ["KlineFinalizer"]


class KlineFinalizer:
    """Turns a stream of growing klines into one of finished klines, each once."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], Kline[Any]] = {}

    def forget(self, symbol: str, interval: int) -> None:
        """Drop a growing kline: what it became was not seen, so it is never given."""
        self._open.pop((symbol, interval), None)

    def push(self, kline: Kline[Any]) -> Kline[Any] | None:
        """Take a kline in; give the one before it back when that is over.

        A bar is over when one that starts later comes: the server's newest bar is
        unfinished, and only that one.
        """
        key = (kline.symbol, kline.interval)
        newest = self._open.get(key)
        if newest is not None and kline.timestamp < newest.timestamp:
            return None
        self._open[key] = kline
        if newest is None or newest.timestamp == kline.timestamp:
            return None
        return newest
