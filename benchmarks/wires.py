"""Wire formats of the server: that of QOS, and those of the competitors.

Each frame has one equal trade: symbol, price, size, second (or millisecond), side, and
the other required fields of that wire. A wire replies to commands just enough for an
unmodified client to subscribe and receive.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

__all__ = ["WIRES", "Wire", "frame", "stamped_trade", "symbols", "trade"]

_TEXT, _BINARY = 0x81, 0x82
_PRICES = 100


def frame(payload: bytes, head: int = _TEXT) -> bytes:
    """Return a payload as one unmasked, uncompressed websocket frame."""
    size = len(payload)
    if size <= 125:
        return struct.pack("!BB", head, size) + payload
    if size <= 0xFFFF:
        return struct.pack("!BBH", head, 126, size) + payload
    return struct.pack("!BBQ", head, 127, size) + payload


def symbols(count: int) -> list[str]:
    """Return symbols."""
    return ["US:TSLA", *(f"US:S{number:05}" for number in range(1, count))]


def trade(symbol: str, cents: int, size: int = 100) -> bytes:
    """Return one trade as QOS sends it."""
    return (
        f'{{"tp":"T","c":"{symbol}","p":"{cents // 100}.{cents % 100:02}",'
        f'"v":"{size}","ts":1741960243,"d":1}}'
    ).encode()


def stamped_trade() -> bytes:
    """Return a trade whose size is the machine's monotonic time, in nanoseconds."""
    return frame(trade("US:TSLA", 24639, time.monotonic_ns()))


class Wire:
    """The wire format of one server.

    Attributes:
        hello: The frames that it sends first.
        frames: The frames that it then sends over and over, ready for the socket.
    """

    hello: tuple[bytes, ...] = ()

    def __init__(self, count: int) -> None:
        self.frames = [
            frame(self.payload(index, 24600 + index % _PRICES))
            for index in range(max(count, _PRICES))
        ]

    def payload(self, index: int, cents: int) -> bytes:
        """Return one trade."""
        raise NotImplementedError

    def answer(self, message: bytes) -> tuple[list[bytes], bool]:
        """Return the replies to a message, and whether the client has subscribed."""
        raise NotImplementedError


class _Qos(Wire):
    def __init__(self, count: int) -> None:
        self._names = symbols(count)
        super().__init__(count)

    def payload(self, index: int, cents: int) -> bytes:
        return trade(self._names[index % len(self._names)], cents)

    def answer(self, message: bytes) -> tuple[list[bytes], bool]:
        request = msgspec.json.decode(message)
        kind: str = request["type"]
        reply: dict[str, Any] = {"type": kind, "msg": "OK", "time": int(time.time())}
        if kind.startswith("R"):
            reply["data"] = []
        if "reqid" in request:
            reply["reqid"] = request["reqid"]
        return [frame(msgspec.json.encode(reply))], kind == "T"


def _text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _price(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}000000"


class _Binance(Wire):
    """As python-binance and ccxt read it; the URL of a stream subscribes already."""

    def payload(self, index: int, cents: int) -> bytes:
        return _text(
            {
                "e": "trade",
                "E": 1741960243123,
                "s": "BTCUSDT",
                "t": index,
                "p": _price(cents),
                "q": "1.00000000",
                "T": 1741960243122,
                "m": False,
                "M": True,
            }
        )

    def answer(self, message: bytes) -> tuple[list[bytes], bool]:
        request = json.loads(message)
        return [frame(_text({"result": None, "id": request["id"]}))], True


class _BinanceStream(_Binance):
    """As cryptofeed reads it: combined streams of aggregate trades."""

    def payload(self, index: int, cents: int) -> bytes:
        data = {
            "e": "aggTrade",
            "E": 1741960243123,
            "s": "BTCUSDT",
            "a": index,
            "p": _price(cents),
            "q": "1.00000000",
            "f": index,
            "l": index,
            "T": 1741960243122,
            "m": False,
            "M": True,
        }
        return _text({"stream": "btcusdt@aggTrade", "data": data})


class _Massive(Wire):
    hello = (
        frame(_text([{"ev": "status", "status": "connected", "message": "hello"}])),
    )

    def payload(self, index: int, cents: int) -> bytes:
        trade = {
            "ev": "T",
            "sym": "TSLA",
            "x": 4,
            "i": str(index),
            "z": 3,
            "p": cents / 100,
            "s": 100,
            "c": [0],
            "t": 1741960243122,
            "q": index,
        }
        return _text([trade])

    def answer(self, message: bytes) -> tuple[list[bytes], bool]:
        is_login = json.loads(message)["action"] == "auth"
        status = "auth_success" if is_login else "success"
        reply = [{"ev": "status", "status": status, "message": "as you like"}]
        return [frame(_text(reply))], not is_login


def _pack(value: Any) -> bytes:
    return frame(msgspec.msgpack.encode(value), _BINARY)


class _Alpaca(Wire):
    """A wire of msgpack."""

    hello = (_pack([{"T": "success", "msg": "connected"}]),)

    def __init__(self, count: int) -> None:
        self.frames = [
            frame(self.payload(index, 24600 + index), _BINARY)
            for index in range(_PRICES)
        ]

    def payload(self, index: int, cents: int) -> bytes:
        trade = {
            "T": "t",
            "S": "TSLA",
            "i": index,
            "x": "D",
            "p": cents / 100,
            "s": 100,
            "c": ["@"],
            "z": "C",
            "t": datetime.fromtimestamp(1741960243.122, UTC),
        }
        return msgspec.msgpack.encode([trade])

    def answer(self, message: bytes) -> tuple[list[bytes], bool]:
        if msgspec.msgpack.decode(message)["action"] == "auth":
            return [_pack([{"T": "success", "msg": "authenticated"}])], False
        return [_pack([{"T": "subscription", "trades": ["TSLA"]}])], True


WIRES: dict[str, Callable[[int], Wire]] = {
    "qos": _Qos,
    "binance": _Binance,
    "binance-stream": _BinanceStream,
    "massive": _Massive,
    "alpaca": _Alpaca,
}
"""By the name in a ``Plan``."""
