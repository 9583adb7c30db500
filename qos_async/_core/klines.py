"""Which klines are over."""

from __future__ import annotations

from typing import Any

from qos_async.models import Kline

__all__ = ["FinishedKlines"]


class FinishedKlines:
    """Turns a stream of growing klines into one of finished klines, each once."""

    def __init__(self) -> None:
        self._growing: dict[tuple[str, int], Kline[Any]] = {}

    def put(self, kline: Kline[Any]) -> Kline[Any] | None:
        """Take a kline in; give the one before it back when that is over.

        A bar is over when one that starts later comes: the server's newest bar is
        unfinished, and only that one.
        """
        key = (kline.symbol, kline.interval)
        newest = self._growing.get(key)
        if newest is not None and kline.timestamp < newest.timestamp:
            return None
        self._growing[key] = kline
        if newest is None or newest.timestamp == kline.timestamp:
            return None
        return newest
