"""What an HTTP answer means: by its ``msg`` first, by its status second."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from qos_async._core.queries import Query
from qos_async._core.text import excerpt, refusal
from qos_async._io.retry import Outcome
from qos_async._io.secret import Secret
from qos_async.errors import (
    AuthenticationError,
    ConnectError,
    DecodeError,
    LimitError,
    QosError,
    RejectedError,
    TransportError,
)

__all__ = ["Reply", "verdict"]

T = TypeVar("T")

_REDIRECT = 300
_BAD_REQUEST = 400
_KEY_REFUSED = (401, 403)
_TOO_FAST = 429
_SERVER_ERROR = 500


class Reply(Struct, frozen=True):
    """What came back from one attempt.

    Attributes:
        status: The HTTP status.
        body: Decompressed; None if it was too large to be read.
        retry_after: Seconds, if the server sent that header.
    """

    status: int
    body: bytes | None
    retry_after: float | None = None


class _Envelope(Struct):
    msg: str
    data: Raw = Raw(b"null")


_envelopes = msgspec.json.Decoder(_Envelope)


def verdict(query: Query[T], reply: Reply, secret: Secret) -> Outcome[T]:
    """Judge one answer.

    A gateway answers with HTML and a status, the service with a ``msg`` and, it seems,
    any status: so whatever has a ``msg`` other than OK is a refusal in the server's own
    words. Statuses from 500 and 429 are worth another try in any case, except where
    the words are about the key.
    """
    status = reply.status
    if _REDIRECT <= status < _BAD_REQUEST:
        return Outcome(error=_moved(query.path, status))
    if reply.body is None:
        return Outcome(error=DecodeError(f"{query.path}: the answer is too large"))
    envelope = _open(reply.body)
    if status < _REDIRECT:
        if envelope is None:
            return Outcome(error=_unreadable(query.path, reply.body, secret))
        if envelope.msg == "OK":
            return _read(query, bytes(envelope.data), secret)
    words = secret.redact(envelope.msg) if envelope and envelope.msg != "OK" else None
    error = _refused(query, status, words)
    temporary = status == _TOO_FAST or status >= _SERVER_ERROR
    return Outcome(
        error=error,
        transient=temporary and not isinstance(error, AuthenticationError),
        retry_after=reply.retry_after,
    )


def _open(body: bytes) -> _Envelope | None:
    try:
        return _envelopes.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _read(query: Query[T], data: bytes, secret: Secret) -> Outcome[T]:
    try:
        return Outcome(value=query.read(data))
    except DecodeError as exc:
        reason = str(exc)
    shown = excerpt(data, secret.redact) if "(" in reason else ""
    return Outcome(error=DecodeError(f"{query.path}: {secret.redact(reason)}{shown}"))


def _refused(query: Query[Any], status: int, words: str | None) -> QosError:
    path = query.path
    symbols = query.symbols if len(query.symbols) == 1 else ()
    if words is None:
        return _by_status(path, status, symbols)
    error = refusal(words, operation=path, symbols=symbols, asked=query.symbols)
    if type(error) is not RejectedError:
        return error
    if status in _KEY_REFUSED:
        return AuthenticationError(_about_the_key(path, status, error.message))
    if status == _TOO_FAST:
        return LimitError(error.message, operation=path, symbols=symbols)
    return error


def _by_status(path: str, status: int, symbols: tuple[str, ...]) -> QosError:
    if status in _KEY_REFUSED:
        return AuthenticationError(_about_the_key(path, status, "no reason given"))
    if status >= _SERVER_ERROR:
        return TransportError(f"{path}: HTTP {status}")
    kind = LimitError if status == _TOO_FAST else RejectedError
    return kind(f"HTTP {status}", operation=path, symbols=symbols)


def _about_the_key(path: str, status: int, words: str) -> str:
    return (
        f"{path}: the server refused the API key (HTTP {status}: {words}); "
        "see QOS_API_KEY, or the key argument of Client"
    )


def _moved(path: str, status: int) -> ConnectError:
    return ConnectError(
        f"{path}: the server redirects (HTTP {status}), which is not followed, so that "
        "the API key stays where it was sent: set http_url to the new address"
    )


def _unreadable(path: str, body: bytes, secret: Secret) -> DecodeError:
    shown = excerpt(body, secret.redact)
    return DecodeError(f"{path}: the answer is not what the document says: {shown}")
