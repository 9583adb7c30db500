"""Errors of the broker, each with the remedy in its message."""

from __future__ import annotations

from qos_async.recordings.files import RecordingError

__all__ = [
    "BrokerAuthenticationError",
    "BrokerBusyError",
    "BrokerError",
    "BrokerReplyError",
    "BrokerUnavailableError",
    "FencedError",
    "MissingNatsError",
    "WrongRevisionError",
]


class BrokerError(RecordingError):
    """The broker, a NATS server with JetStream, cannot do what was asked."""


class MissingNatsError(BrokerError, ModuleNotFoundError):
    """The client library of NATS is not installed."""


class BrokerUnavailableError(BrokerError):
    """The broker cannot be reached or did not reply; the same call may succeed later."""


class BrokerBusyError(BrokerUnavailableError):
    """Too many bytes wait to be sent: the broker or the network is too slow."""


class BrokerAuthenticationError(BrokerError):
    """The broker refuses the credentials, or TLS is not as demanded; never retried."""


class BrokerReplyError(BrokerError):
    """JetStream refused a request.

    Attributes:
        code: The number of the error in JetStream, such as 10071; 0 without one.
        description: The text of the server.
    """

    def __init__(self, message: str, *, code: int = 0, description: str = "") -> None:
        self.code = code
        self.description = description
        super().__init__(message)


class FencedError(BrokerError):
    """The epoch of a recorder is over: nothing that it sends is stored any more.

    Attributes:
        fence: The payload of the newest fence; None if the stream has lost the epoch,
            as after a store was set back: then a holder of the lease claims a new one.
    """

    def __init__(self, message: str, *, fence: bytes | None = None) -> None:
        self.fence = fence
        super().__init__(message)


class WrongRevisionError(BrokerReplyError):
    """The last message of the subject is not the one that a write expected."""
