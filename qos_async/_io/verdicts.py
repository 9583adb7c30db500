"""What an HTTP answer means: by its ``msg`` first, by its status second."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from qos_async._core.queries import Query
from qos_async._core.text import error_from_message, excerpt
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

__all__ = ["HttpResponse", "classify_response"]

T = TypeVar("T")

_REDIRECT = 300
_BAD_REQUEST = 400
_KEY_REFUSED = (401, 403)
_TOO_FAST = 429
_SERVER_ERROR = 500


class HttpResponse(Struct, frozen=True):
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


def classify_response(
    query: Query[T], reply: HttpResponse, secret: Secret
) -> Outcome[T]:
    """Judge one answer.

    A gateway answers with HTML and a status, the service with a ``msg`` and, it seems,
    any status: so whatever has a ``msg`` other than OK is a refusal in the server's own
    words. Statuses from 500 and 429 are worth another try in any case, except where
    the words are about the key.
    """
    status = reply.status
    if _REDIRECT <= status < _BAD_REQUEST:
        return Outcome(error=_redirect_error(query.path, status))
    if reply.body is None:
        return Outcome(error=DecodeError(f"{query.path}: the answer is too large"))
    envelope = _parse_envelope(reply.body)
    if status < _REDIRECT:
        if envelope is None:
            return Outcome(error=_unreadable_response(query.path, reply.body, secret))
        if envelope.msg == "OK":
            return _decode_data(query, bytes(envelope.data), secret)
    words = secret.redact(envelope.msg) if envelope and envelope.msg != "OK" else None
    error = _rejection(query, status, words)
    temporary = status == _TOO_FAST or status >= _SERVER_ERROR
    return Outcome(
        error=error,
        transient=temporary and not isinstance(error, AuthenticationError),
        retry_after=reply.retry_after,
    )


def _parse_envelope(body: bytes) -> _Envelope | None:
    try:
        return _envelopes.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _decode_data(query: Query[T], data: bytes, secret: Secret) -> Outcome[T]:
    try:
        return Outcome(value=query.read(data))
    except DecodeError as exc:
        reason = str(exc)
    shown = excerpt(data, secret.redact) if "(" in reason else ""
    return Outcome(error=DecodeError(f"{query.path}: {secret.redact(reason)}{shown}"))


def _rejection(query: Query[Any], status: int, words: str | None) -> QosError:
    path = query.path
    symbols = query.symbols if len(query.symbols) == 1 else ()
    if words is None:
        return _error_from_status(path, status, symbols)
    error = error_from_message(
        words, operation=path, symbols=symbols, requested=query.symbols
    )
    if type(error) is not RejectedError:
        return error
    if status in _KEY_REFUSED:
        return AuthenticationError(_key_error(path, status, error.message))
    if status == _TOO_FAST:
        return LimitError(error.message, operation=path, symbols=symbols)
    return error


def _error_from_status(path: str, status: int, symbols: tuple[str, ...]) -> QosError:
    if status in _KEY_REFUSED:
        return AuthenticationError(_key_error(path, status, "no reason given"))
    if status >= _SERVER_ERROR:
        return TransportError(f"{path}: HTTP {status}")
    kind = LimitError if status == _TOO_FAST else RejectedError
    return kind(f"HTTP {status}", operation=path, symbols=symbols)


def _key_error(path: str, status: int, words: str) -> str:
    return (
        f"{path}: the server refused the API key (HTTP {status}: {words}); "
        "see QOS_API_KEY, or the key argument of Client"
    )


def _redirect_error(path: str, status: int) -> ConnectError:
    return ConnectError(
        f"{path}: the server redirects (HTTP {status}), which is not followed, so that "
        "the API key stays where it was sent: set http_url to the new address"
    )


def _unreadable_response(path: str, body: bytes, secret: Secret) -> DecodeError:
    shown = excerpt(body, secret.redact)
    return DecodeError(f"{path}: the answer is not what the document says: {shown}")
