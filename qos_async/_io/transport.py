"""Transport interface: protocols of transport and socket, errors, metric labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Protocol, runtime_checkable

from qos_async._core.notices import Gap, Interrupted
from qos_async.errors import ConnectError, TransportError
from qos_async.topics import Topic

__all__ = [
    "RECORDING_ENDED",
    "RECORDING_ENDED_REASON",
    "DialError",
    "DisconnectReason",
    "EndOfStream",
    "FrameObserver",
    "LinkClosed",
    "Socket",
    "Transport",
    "close_label",
    "missing_reason",
    "missing_seconds",
    "status_label",
]

# Close codes by RFC 6455, section 7.4: standard, of libraries, for private use.
_STANDARD = range(1000, 1016)
_LIBRARIES = range(3000, 4000)
_PRIVATE = range(4000, 5000)
_STATUSES = frozenset(HTTPStatus)


class Transport(Protocol):
    """Opens links."""

    async def dial(self) -> Socket:
        """Open one link.

        Raises:
            DialError: If the network failed or the server did not open a websocket.
            AuthenticationError: If the server rejected the key.
        """
        ...


class Socket(Protocol):
    """An open link that carries whole frames."""

    async def receive(self) -> Sequence[bytes]:
        """Wait for and return the next frames: those that arrived together, in order.

        Raises:
            LinkClosed: When the link has ended.
            EndOfStream: When no frame can follow, on this link or another.
        """
        ...

    def set_sync_handler(
        self,
        handler: Callable[[Sequence[bytes]], None],
        on_error: Callable[[BaseException], None],
        /,
    ) -> None:
        """Hand frames over as they arrive, without waking the task in ``receive``.

        Only while ``receive`` is awaited, and in order. A socket may still return any
        frames from ``receive``; one without such a way does nothing here.

        Args:
            handler: Processes frames.
            on_error: Gets what ``handler`` raises.
        """
        ...

    async def send(self, frame: bytes) -> None:
        """Send a text frame.

        Raises:
            TransportError: If it could not be sent in time.
        """
        ...

    async def close(self, *, graceful: bool) -> None:
        """Close the connection: with a close frame if ``graceful``, else at once.

        Never raises.
        """
        ...


@runtime_checkable
class FrameObserver(Protocol):
    """Observes the frames and the life of links; ``qos_async.Recorder`` is one.

    All methods but ``aclose`` are called synchronously, some inside ``data_received``:
    they must not block. One that is also a ``DialGate`` decides when links are opened.
    """

    def attach(self, redact: Callable[[str], str]) -> None:
        """Attach to a client, whose key ``redact`` removes from text.

        Raises:
            ValueError: If it is attached to another client.
        """
        ...

    def opened(self) -> None:
        """Record that a link was opened."""
        ...

    def frames(self, frames: Sequence[bytes], size: int, *, plain: bool) -> None:
        """Record frames that arrived together, just now.

        Args:
            frames: The frames; the sequence is not changed afterwards.
            size: The bytes of all frames.
            plain: Whether all of them are known to be valid JSON.
        """
        ...

    def lost(self, reason: str) -> None:
        """Record that the link was lost."""
        ...

    def subscribed(self, topics: Iterable[Topic]) -> None:
        """Record that the server acknowledged subscriptions."""
        ...

    def unsubscribed(self, topics: Collection[Topic]) -> None:
        """Record that topics lost their last subscriber; ``topics`` may be empty."""
        ...

    def rejected(self, topics: Iterable[Topic], message: str) -> None:
        """Record that the server rejected subscriptions for good."""
        ...

    def suspect(self, outage: Interrupted, *, left: int) -> None:
        """Record that the ticks of a topic are held back from now on, after an outage.

        Args:
            outage: The outage, also one that began with the loss of the link.
            left: How many of the frames observed last are delivered later.
        """
        ...

    def fetched(
        self, gap: Gap, rows: Sequence[Any], omitted: Sequence[int], *, left: int
    ) -> None:
        """Record the end of an outage; no ticks of the topic are held back any more.

        Args:
            gap: The gap, as subscriptions get it.
            rows: The recovered ticks, in order: those that were fetched, and the numbers
                of those that were pushed, among the ticks of the topic held back.
            omitted: The numbers of ticks held back that are not delivered.
            left: As of ``suspect``.
        """
        ...

    async def aclose(self) -> None:
        """Finish, as the client is closed. May be called more than once."""
        ...


class DisconnectReason(StrEnum):
    """Labels of links that ended or failed to open without a code or a status."""

    SILENCE = "silence"
    SEND = "send"
    LEASE = "lease"
    BROKEN = "broken"
    PROTOCOL = "protocol"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    REDIRECT = "redirect"
    KEY = "key refused"
    OTHER = "other"


class DialError(ConnectError):
    """A link could not be opened.

    Attributes:
        retry_after: Seconds that the server asked to wait; 0 if it did not.
        is_permanent: Whether another attempt is pointless or unsafe.
        untrusted: Whether the server's certificate could not be verified.
        label: The metric label of the reason.
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


class LinkClosed(TransportError):  # noqa: N818 - an event, not always an error
    """A link ended.

    Attributes:
        code: The server's close code; None if there was no close frame.
        label: The metric label of the reason; by default that of the code.
        missing: For how many seconds ticks may be missing already: a hub reports it.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        label: str | None = None,
        missing: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.missing = missing
        self.label = close_label(code) if label is None else label


RECORDING_ENDED = 4390
"""The close code of a replay server at the end of its recording: no link can follow."""

RECORDING_ENDED_REASON = "the recording has ended"
"""The reason sent with it: another server may use the same code for something else."""


class EndOfStream(Exception):  # noqa: N818 - an event, not an error
    """No more frames on this link or any other: a replay has reached its end."""


_MISSING = re.compile(r"\bticks of the last (\d{1,6}) s may be missing\b")


def missing_reason(seconds: int) -> str:
    """Return the words of a close reason for ticks that are missing for some seconds.

    A hub replies to heartbeats while its own link is dead, so that its clients cannot
    know since when: the reason has the length, as clocks may differ.
    """
    return f"ticks of the last {seconds} s may be missing"


def missing_seconds(reason: str) -> float:
    """Return the seconds that ``missing_reason`` put into a close reason; else 0."""
    found = _MISSING.search(reason)
    return float(found[1]) if found else 0.0


def close_label(code: int | None) -> str:
    """Return the metric label of a link that ended with a close code, or without one.

    Labels are from a fixed set, so that a server cannot create any number of them.
    """
    if code is None:
        return DisconnectReason.BROKEN
    if code in _STANDARD:
        return f"close {code}"
    if code in _LIBRARIES:
        return "close 3xxx"
    return "close 4xxx" if code in _PRIVATE else "close other"


def status_label(status: int) -> str:
    """Return the metric label of a handshake that was rejected with an HTTP status."""
    return f"http {status}" if status in _STATUSES else "http other"
