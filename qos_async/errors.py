"""Exceptions of this library.

Text of the server in messages is escaped and truncated, and the API key redacted.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AuthenticationError",
    "ClosedError",
    "ConnectError",
    "DecodeError",
    "LaggedError",
    "LimitError",
    "QosError",
    "RejectedError",
    "RequestError",
    "RequestTimeoutError",
    "TransportError",
]


_SHOWN = 10
"""Symbols that a message lists; the error has all of them."""


class QosError(Exception):
    """Base class of every error raised by qos_async.

    Attributes:
        partial: Raised by a ``fetch_*`` method for symbols: the ``Result`` of the
            requests that succeeded before the one that failed; empty if that was the
            first. Its ``missing`` is about those requests only. Else None.
    """

    partial: Any = None


class TransportError(QosError):
    """The network failed; the same call may succeed later."""


class ConnectError(TransportError):
    """The server could not be reached, or is not the service."""


class AuthenticationError(QosError):
    """The API key is missing, rejected or expired; never retried."""


class RequestError(QosError):
    """One request failed; the client and its link are not affected."""


class RejectedError(RequestError):
    """The server rejected a request or a subscription.

    Attributes:
        message: The message of the server.
        operation: The operation: an HTTP path such as ``/snapshot``, or a websocket
            command such as ``T`` (document, chapters 4 and 5).
        symbols: The rejected symbols, in canonical form: those that the message names,
            or the only one of the request; else empty.
    """

    def __init__(
        self, message: str, *, operation: str = "", symbols: tuple[str, ...] = ()
    ) -> None:
        self.message = message
        self.operation = operation
        self.symbols = symbols
        super().__init__(message)

    def __str__(self) -> str:
        shown = ", ".join(self.symbols[:_SHOWN])
        more = len(self.symbols) - _SHOWN
        about = f" {shown}{f' and {more} more' if more > 0 else ''}" if shown else ""
        head = f"{self.operation}{about}".strip()
        return f"{head}: {self.message}" if head else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.message,), dict(self.__dict__))


class LimitError(RejectedError):
    """A limit of the plan was exceeded: of symbols, connections or rate."""


class RequestTimeoutError(RequestError, TimeoutError):
    """No reply was received in time."""


class DecodeError(QosError):
    """A reply of the server cannot be decoded."""


class LaggedError(QosError):
    """The consumer was too slow for its ``Strict`` buffer."""


class ClosedError(QosError):
    """The client or the subscription was used after it was closed."""
