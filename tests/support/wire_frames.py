"""Frames of a server, and a ``StreamProtocol`` that receives them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from qos_async._core.protocol import StreamProtocol
from qos_async._core.stats import Counters
from qos_async.config import Limits, Timing
from qos_async.topics import Topic

__all__ = [
    "PUSHES",
    "SAMPLES",
    "ack",
    "decoded",
    "encoded",
    "new_protocol",
    "rejection",
    "sample",
    "topics",
    "trades",
]

SAMPLES = Path(__file__).parent.parent / "samples"

PUSHES: dict[str, dict[str, Any]] = {
    "S": {
        "tp": "S",
        "c": "US:AAPL",
        "lp": "1.50",
        "yp": "1.10",
        "o": "1.20",
        "h": "1.60",
        "l": "1.00",
        "v": "100",
        "t": "147479220.1710000038",
        "ts": 1741960243,
        "s": 0,
        "tt": 3,
    },
    "T": {
        "tp": "T",
        "c": "US:AAPL",
        "p": "1.50",
        "v": "100",
        "ts": 1741960243,
        "d": 1,
    },
    "D": {
        "tp": "D",
        "c": "US:AAPL",
        "b": [{"p": "1.40", "v": "7"}],
        "a": [{"p": "1.60", "v": "8"}],
        "ts": 1741960243,
    },
    "K": {
        "tp": "K",
        "c": "US:AAPL",
        "o": "1.20",
        "h": "1.60",
        "l": "1.00",
        "cl": "1.50",
        "v": "100",
        "kt": 1001,
        "ts": 1741960243,
    },
}


def sample(name: str) -> Any:
    """Return one of the document's examples as JSON."""
    return json.loads((SAMPLES / f"{name}.json").read_text())


def encoded(message: Any) -> bytes:
    """Return a message as a frame."""
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")


def decoded(frame: bytes | None) -> dict[str, Any]:
    """Return a frame that the protocol sent as JSON."""
    assert frame is not None, "nothing was sent"
    message: dict[str, Any] = json.loads(frame)
    return message


ACKED_AT = 1741960243


def ack(frame: bytes | None, **more: Any) -> bytes:
    """Return the acknowledgement of a frame."""
    return _reply(decoded(frame), "OK", more)


def rejection(frame: bytes | None, msg: str = "no such code", **more: Any) -> bytes:
    """Return the rejection of a frame."""
    return _reply(decoded(frame), msg, more)


def _reply(command: dict[str, Any], msg: str, more: dict[str, Any]) -> bytes:
    reply = {"type": command["type"], "msg": msg, "time": ACKED_AT}
    if "reqid" in command:
        reply["reqid"] = command["reqid"]
    reply |= more
    return encoded({k: v for k, v in reply.items() if v is not ...})


def topics(channel: str, *symbols: str, interval: str | None = None) -> list[Topic]:
    """Return topics of one channel."""
    return [Topic(channel, symbol, interval) for symbol in symbols]


def trades(*symbols: str) -> list[Topic]:
    """Return trade topics."""
    return topics("trade", *symbols)


def new_protocol(
    *, up: bool = True, pace: float = 1.0, fresh: bool = False, **timing: float
) -> StreamProtocol[Decimal]:
    """Return a protocol, with a link that came up at 0.

    Unless it is ``fresh``, a server has replied to it before.
    """
    protocol = StreamProtocol(
        Decimal,
        limits=Limits(command_interval=pace),
        timing=Timing(**timing),
        stats=Counters(),
    )
    if not fresh:  # A reply would set the pace, and the counters.
        protocol.scheduler._unanswered = 2
    if up:
        protocol.link_up(0.0)
    return protocol
