"""Every exception this library raises.

Text that came from the server is escaped and cut before it gets here, and the
API key appears in none of them.
"""

from __future__ import annotations

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


class QosError(Exception):
    """Base class of every error raised by qos_async."""


class TransportError(QosError):
    """The network failed; the same call may succeed later."""


class ConnectError(TransportError):
    """The server could not be reached, or what answered is not the service."""


class AuthenticationError(QosError):
    """The API key is missing, refused or expired. Only its owner can fix that."""


class RequestError(QosError):
    """One request failed; the client and its link are fine."""


class RejectedError(RequestError):
    """The server understood and said no.

    Attributes:
        message: The server's own words.
        operation: What was asked: an HTTP path such as ``/snapshot``, or a
            websocket command such as ``T`` (document, chapters 4 and 5).
        symbols: The symbols that were refused, in canonical form; empty where
            the refusal names none.
    """

    def __init__(
        self, message: str, *, operation: str = "", symbols: tuple[str, ...] = ()
    ) -> None:
        self.message = message
        self.operation = operation
        self.symbols = symbols
        super().__init__(message)

    def __str__(self) -> str:
        about = f" {', '.join(self.symbols)}" if self.symbols else ""
        head = f"{self.operation}{about}".strip()
        return f"{head}: {self.message}" if head else self.message

    def __reduce__(self) -> tuple[object, ...]:
        state = {"operation": self.operation, "symbols": self.symbols}
        return (type(self), (self.message,), state)


class LimitError(RejectedError):
    """The plan does not allow this, or not this fast."""


class RequestTimeoutError(RequestError, TimeoutError):
    """No answer came in time."""


class DecodeError(QosError):
    """The server sent an answer that nobody can read."""


class LaggedError(QosError):
    """This reader was too slow for its ``Strict`` buffer."""


class ClosedError(QosError):
    """The client or the subscription was used after it was closed."""
