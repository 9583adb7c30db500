"""What the simulator has seen and said: what tests look at."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from msgspec import Struct, field

__all__ = ["ReceivedFrame", "ReceivedRequest", "ServerLog", "WireTopic"]


class WireTopic(NamedTuple):
    """A topic as the server knows it; equal to the plain tuple.

    Attributes:
        letter: ``S``, ``T``, ``D`` or ``K``.
        symbol: Canonical.
        kt: The interval's number; None but for ``K``.
    """

    letter: str
    symbol: str
    kt: int | None = None


class ReceivedFrame(Struct, frozen=True):
    """One frame a client sent.

    Attributes:
        at: When it arrived, in seconds of the loop's clock.
        link: The number of the websocket, from 1 in the order of their opening.
        type: The field ``type``; empty if it could not be read.
        body: The decoded frame, or the bytes if it could not be read.
    """

    at: float
    link: int
    type: str
    body: Any


class ReceivedRequest(Struct, frozen=True):
    """One HTTP request, or one attempt to open a websocket.

    Attributes:
        at: When it arrived, in seconds of the loop's clock.
        path: Such as ``"/snapshot"`` or ``"/ws"``.
        body: The decoded body, or its bytes if it could not be read.
        key_in: ``"header"``, ``"url"``, or None without a key.
    """

    at: float
    path: str
    body: Any
    key_in: str | None


class ServerLog(Struct):
    """Everything that happened, in order."""

    frames: list[ReceivedFrame] = []
    requests: list[ReceivedRequest] = []
    violations: list[str] = []
    pushed: Counter[str] = field(default_factory=Counter[str])
