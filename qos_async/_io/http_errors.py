"""aiohttp's exceptions as outcomes: the one seam at which they end.

Nothing of them goes further than a few words. They hold the request's headers with
the key in them, and their text may hold a proxy's password.
"""

from __future__ import annotations

from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Raw, Struct
from yarl import URL

from qos_async._core.queries import Query
from qos_async._core.sanitize import error_from_message, excerpt, printable
from qos_async._io.retry import Outcome
from qos_async._io.secret import Secret
from qos_async.config import Timing
from qos_async.errors import (
    AuthenticationError,
    ConnectError,
    DecodeError,
    LimitError,
    QosError,
    RejectedError,
    RequestTimeoutError,
    TransportError,
)

__all__ = [
    "NOT_SENT",
    "UNTRUSTED",
    "HttpResponse",
    "classify_response",
    "map_exception",
]

NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)
"""With these, no byte of the request has left."""

UNTRUSTED = (
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ServerFingerprintMismatch,
)
"""With these, the server could not prove who it is."""

# As OpenSSL names them: plain text on the port, or nothing newer than TLS 1.1.
_NO_TLS = frozenset(
    [
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "UNSUPPORTED_PROTOCOL",
        "WRONG_SSL_VERSION",
        "TLSV1_ALERT_PROTOCOL_VERSION",
    ]
)


def map_exception(
    exc: Exception,
    path: str,
    url: URL,
    timing: Timing,
    secret: Secret,
) -> Outcome[Any]:
    """Say what an exception of aiohttp means for the one who asked.

    Whatever is neither aiohttp's nor the operating system's is a question that could
    not even be put; another try would not change that.
    """
    where = f"{path}: {url.origin()}"
    words = printable(secret.redact(_detail(exc)))
    unreached = _connect_error(exc, words, timing)
    if unreached is not None:
        text, again = unreached
        return Outcome(error=ConnectError(f"{where} {text}"), transient=again)
    if isinstance(exc, TimeoutError):
        late = f"{path}: no answer within {timing.request_timeout:g} s"
        return Outcome(error=RequestTimeoutError(late), transient=True)
    if not isinstance(exc, (aiohttp.ClientError, OSError)):
        return Outcome(error=ConnectError(f"{where} cannot be asked: {words}"))
    broken = f"{path}: the connection broke: {words}"
    return Outcome(error=TransportError(broken), transient=True)


def _connect_error(
    exc: Exception, words: str, timing: Timing
) -> tuple[str, bool] | None:
    """Say why the service was not reached, and whether it may be in a while."""
    match exc:
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch():
            return _tls_error(exc, words)  # OSErrors too: so these come first.
        case aiohttp.ClientHttpProxyError():
            return f"is behind a proxy that answered HTTP {exc.status}", _is_transient(
                exc
            )
        case aiohttp.ConnectionTimeoutError():
            return f"did not connect within {timing.connect_timeout:g} s", True
        case aiohttp.ClientConnectorError():
            return f"cannot be reached: {words}", True
        case aiohttp.ClientResponseError() | aiohttp.InvalidURL():
            return f"does not speak HTTP: {words}", False
        case _:
            return None


def _tls_error(exc: Exception, words: str) -> tuple[str, bool]:
    if isinstance(exc, UNTRUSTED):
        advice = (
            "see that the address and this machine's clock are right, or pass as ssl "
            "an SSLContext or a Fingerprint for its certificate"
        )
        return f"cannot be trusted, TLS failed: {words}; {advice}", False
    cause = getattr(exc, "os_error", None)
    if getattr(cause, "reason", None) in _NO_TLS:
        advice = "see that the address and its port are right"
        return f"does not speak TLS 1.2 or later: {words}; {advice}", False
    # An alert may come from a load balancer that restarts.
    return f"cannot be reached, TLS failed: {words}", True


def _is_transient(exc: aiohttp.ClientHttpProxyError) -> bool:
    return exc.status >= _SERVER_ERROR


def _detail(exc: Exception) -> str:
    # Only the operating system's words: str() of the others shows headers or proxies.
    cause = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc
    said = cause.strerror if isinstance(cause, OSError) else None
    return f"{type(exc).__name__}: {said}" if said else type(exc).__name__


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
