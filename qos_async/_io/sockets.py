"""What the stream needs of a network: links to dial, and how they fail and end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from qos_async._io import causes
from qos_async.errors import ConnectError, TransportError

__all__ = ["DialError", "EndOfStream", "LinkClosed", "Socket", "Transport"]


class DialError(ConnectError):
    """A link could not be opened.

    Attributes:
        retry_after: Seconds the server asked to wait.
        final: Whether trying again is pointless or unsafe.
        distrusted: Whether that is because the server could not prove who it is.
        cause: Why, in a word of ``causes``.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float = 0.0,
        final: bool = False,
        distrusted: bool = False,
        cause: str = causes.UNREACHABLE,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.is_permanent = final
        self.untrusted = distrusted
        self.cause = cause


class LinkClosed(TransportError):  # noqa: N818 - an ending, not always a fault
    """A link ended.

    Attributes:
        code: The server's close code; None if the connection just ended.
        cause: Why, in a word of ``causes``; by default as the code says.
    """

    def __init__(
        self, message: str, *, code: int | None = None, cause: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.cause = causes.closed(code) if cause is None else cause


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
            take: Tells whether it has taken them.
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
