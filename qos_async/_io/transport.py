"""What the stream needs of a network: links to dial, and how they fail and end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Protocol, runtime_checkable

from qos_async.errors import ConnectError, TransportError
from qos_async.topics import Topic

__all__ = [
    "DialError",
    "DisconnectReason",
    "EndOfStream",
    "FrameObserver",
    "LinkClosed",
    "Socket",
    "Transport",
    "close_label",
    "status_label",
]


class DisconnectReason(StrEnum):
    """Why a link ended or could not be opened, where no code or status says it."""

    SILENCE = "silence"
    SEND = "send"
    BROKEN = "broken"
    PROTOCOL = "protocol"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    REDIRECT = "redirect"
    KEY = "key refused"
    OTHER = "other"


_STANDARD = range(1000, 1016)
_LIBRARIES = range(3000, 4000)
_PRIVATE = range(4000, 5000)
_STATUSES = frozenset(HTTPStatus)


def close_label(code: int | None) -> str:
    """Return the label of a link that ended with a close code; None if without one."""
    if code is None:
        return DisconnectReason.BROKEN
    if code in _STANDARD:
        return f"close {code}"
    if code in _LIBRARIES:
        return "close 3xxx"
    return "close 4xxx" if code in _PRIVATE else "close other"


def status_label(status: int) -> str:
    """Return the label of a handshake that was answered with an HTTP status."""
    return f"http {status}" if status in _STATUSES else "http other"


class DialError(ConnectError):
    """A link could not be opened.

    Attributes:
        retry_after: Seconds the server asked to wait.
        is_permanent: Whether trying again is pointless or unsafe.
        untrusted: Whether that is because the server could not prove who it is.
        label: Why, in a word of ``causes``.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float = 0.0,
        is_permanent: bool = False,
        untrusted: bool = False,
        label: str = DisconnectReason.UNREACHABLE,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.is_permanent = is_permanent
        self.untrusted = untrusted
        self.label = label


class LinkClosed(TransportError):  # noqa: N818 - an ending, not always a fault
    """A link ended.

    Attributes:
        code: The server's close code; None if the connection just ended.
        label: Why, in a word of ``causes``; by default as the code says.
    """

    def __init__(
        self, message: str, *, code: int | None = None, label: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.label = close_label(code) if label is None else label


class EndOfStream(Exception):  # noqa: N818 - an ending, and no fault at all
    """There is nothing to come any more, and no other link: all may end well."""


class Socket(Protocol):
    """An open link that carries whole frames."""

    async def receive(self) -> Sequence[bytes]:
        """Wait for the next frames, one at least: what has come together, in order.

        Raises:
            LinkClosed: When there is none to come.
            Ended: When there never will be.
        """
        ...

    def set_sync_handler(self, handler: Callable[[Sequence[bytes]], bool]) -> None:
        """Offer frames as they come to somebody who takes them without waiting.

        Only while ``receive`` is awaited, and in order. Frames that are not taken come
        from there, and so may all: a socket that knows no shorter way does nothing.

        Args:
            handler: Tells whether it has taken them.
        """
        ...

    async def send(self, frame: bytes) -> None:
        """Send a text frame.

        Raises:
            TransportError: If it could not be sent in time.
        """
        ...

    async def close(self, *, graceful: bool) -> None:
        """Be rid of the connection, after a goodbye if ``polite``; never raises."""
        ...


class Transport(Protocol):
    """Something that opens links."""

    async def dial(self) -> Socket:
        """Open one link.

        Raises:
            DialError: If the network failed or the server would not have it.
            AuthenticationError: If the server refused the key.
        """
        ...


@runtime_checkable
class FrameObserver(Protocol):
    """Is told what comes over the links. Called synchronously; never waits.

    ``qos_async.Recorder`` is one.
    """

    def attach(self, redact: Callable[[str], str]) -> None:
        """Belong to a client from now on; ``redact`` hides its key.

        Raises:
            ValueError: If it belongs to another.
        """
        ...

    def opened(self) -> None:
        """Hear that a link was opened."""
        ...

    def frames(self, frames: Sequence[bytes], size: int, *, plain: bool) -> None:
        """Hear what came together, just now.

        Args:
            frames: What; it does not change any more.
            size: Bytes of all of them.
            plain: Whether all are surely JSON.
        """
        ...

    def lost(self, reason: str) -> None:
        """Hear that the link was lost."""
        ...

    def subscribed(self, topics: Iterable[Topic]) -> None:
        """Hear what the server agreed to."""
        ...

    def unsubscribed(self, topics: Collection[Topic]) -> None:
        """Hear what nobody wants any more; there may be nothing."""
        ...

    async def aclose(self) -> None:
        """Be done: the client is closed. May be called again."""
        ...
