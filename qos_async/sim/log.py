"""Server log: what the simulator received and pushed, for tests to inspect."""

from __future__ import annotations

from collections import Counter
from typing import Any

from msgspec import Struct, field

__all__ = ["ReceivedFrame", "ReceivedRequest", "ServerLog"]


class ReceivedFrame(Struct, frozen=True):
    """One frame that a client sent.

    Attributes:
        at: Time of arrival, in seconds of the loop's clock.
        link: The number of the websocket, from 1 in the order of opening.
        type: The field ``type``; empty if it could not be read.
        body: The decoded frame, or the bytes if it could not be decoded.
    """

    at: float
    link: int
    type: str
    body: Any


class ReceivedRequest(Struct, frozen=True):
    """One HTTP request, or one attempt to open a websocket.

    Attributes:
        at: Time of arrival, in seconds of the loop's clock.
        path: Such as ``"/snapshot"`` or ``"/ws"``.
        body: The decoded body, or its bytes if it could not be decoded.
        key_in: ``"header"``, ``"url"``, or None without a key.
    """

    at: float
    path: str
    body: Any
    key_in: str | None


class ServerLog(Struct):
    """Everything received, in order; violations of protocol or plan; pushes by letter."""

    frames: list[ReceivedFrame] = []
    requests: list[ReceivedRequest] = []
    violations: list[str] = []
    pushed: Counter[str] = field(default_factory=Counter[str])
