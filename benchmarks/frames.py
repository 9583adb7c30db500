"""Frames to decode, in the form of recorded ones, and their decoding by qos_async."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from qos_async._core.queries import Queries
from qos_async._core.wire import FrameDecoder, Reply

__all__ = ["FRAMES", "TYPES", "reader"]

TYPES: dict[str, type[Any]] = {"Decimal": Decimal, "float": float, "str": str}


def _snapshot(symbol: str) -> dict[str, Any]:
    return {
        "c": symbol,
        "lp": "25.92",
        "yp": "26.15",
        "o": "26.19",
        "h": "26.19",
        "l": "25.62",
        "ts": 1731650869,
        "v": "694420",
        "t": "1793887058.1234567",
        "s": 0,
    }


def _side(step: str, levels: int = 20) -> list[dict[str, str]]:
    best = Decimal("83504.10")
    return [
        {"p": str(best + Decimal(step) * rung), "v": f"{rung}.{rung:03}"}
        for rung in range(1, levels + 1)
    ]


_SHAPES: dict[str, dict[str, Any]] = {
    "trade": {
        "tp": "T",
        "c": "US:TSLA",
        "p": "246.39",
        "v": "100",
        "ts": 1741960243,
        "d": 1,
    },
    "snapshot": {"tp": "S", **_snapshot("SH:600938")},
    "depth 20+20": {
        "tp": "D",
        "c": "CF:BTCUSDT",
        "b": _side("-0.10"),
        "a": _side("0.10"),
        "ts": 1741960347,
    },
    "kline": {
        "tp": "K",
        "c": "CF:BTCUSDT",
        "o": "81085.50",
        "cl": "83504.10",
        "h": "83856.00",
        "l": "80772.00",
        "v": "103162.630",
        "ts": 1741910400,
        "kt": 1001,
    },
    "reply of 10": {
        "type": "RS",
        "msg": "OK",
        "reqid": 1,
        "data": [_snapshot(f"SH:60093{digit}") for digit in range(10)],
    },
}
FRAMES = {
    name: json.dumps(shape, separators=(",", ":")).encode()
    for name, shape in _SHAPES.items()
}


def reader(record: str, data: bytes, numbers: type[Any]) -> Callable[[], Any]:
    """Read ``data`` as the client does: pushes in one step, replies in two."""
    frames: FrameDecoder[Any] = FrameDecoder(numbers)
    if record != "reply of 10":
        return lambda: frames.push(data)
    symbols = [f"SH:60093{digit}" for digit in range(10)]
    [query] = Queries[Any](numbers, chunk=10).snapshots(symbols)

    def read() -> Any:
        reply = frames.read(data)
        assert isinstance(reply, Reply)
        return query.read(bytes(reply.data))

    return read
