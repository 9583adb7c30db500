"""HTTP errors: classifies responses, and maps aiohttp's exceptions to the library's.

No exception of aiohttp goes beyond this module, and of its text only a few words do.
``repr`` and ``args`` of some show the request's headers with the key in them, and the
text of others shows the password of a proxy.
"""

from __future__ import annotations

from typing import Any, TypeVar

import aiohttp
import msgspec
from aiohttp.http_exceptions import PayloadEncodingError
from msgspec import Raw, Struct
from yarl import URL

from qos_async._core.decoding import quote_bare_words
from qos_async._core.queries import Query
from qos_async._core.rows import Unread
from qos_async._core.sanitize import (
    error_from_message,
    excerpt,
    is_about_pace,
    means_later,
    printable,
)
from qos_async._io.aiohttp_session import NoFreeConnectionError
from qos_async._io.retry import Outcome, Retry
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
    "redirect_message",
]

T = TypeVar("T")

NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)
"""Exceptions after which no byte of the request was sent."""

UNTRUSTED = (
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ServerFingerprintMismatch,
)
"""Exceptions after which the server's identity was not verified."""

# OpenSSL's reasons for: no TLS on this port, or nothing newer than TLS 1.1.
_NO_TLS = frozenset(
    [
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "UNSUPPORTED_PROTOCOL",
        "WRONG_SSL_VERSION",
        "TLSV1_ALERT_PROTOCOL_VERSION",
    ]
)

_REDIRECT = 300
_BAD_REQUEST = 400
_KEY_REJECTED = (401, 403)
_TOO_FAST = 429
_SERVER_ERROR = 500
# Request timeout, as of a load balancer; too early (RFC 8470).
_TEMPORARY = (408, 425, _TOO_FAST)


class HttpResponse(Struct, frozen=True):
    """The response to one attempt.

    Attributes:
        status: The HTTP status.
        body: The body, decompressed; None if it is larger than ``BODY_MAX``.
        retry_after: The ``Retry-After`` header in seconds, if there was one.
        clock_ahead: Seconds by which its ``Date`` is ahead; None without one.
    """

    status: int
    body: bytes | None
    retry_after: float | None = None
    clock_ahead: float | None = None


def classify_response(
    query: Query[T], reply: HttpResponse, secret: Secret
) -> Outcome[T]:
    """Return the outcome of an attempt that got a response.

    1. A redirect or an oversized body is an error.
    2. The service sends JSON with a ``msg``, possibly with any status; a gateway in
       front of it sends HTML with a status. So a ``msg`` other than "OK" is the error
       text (section 4.0), and only without one does the status decide.
    3. A response that should have a ``msg`` and has none was cut, or is of a gateway.
    4. Some statuses, and texts such as "too frequent", mean that the same request may
       succeed later, unless the text is about the key.
    """
    status = reply.status
    if _REDIRECT <= status < _BAD_REQUEST:
        redirected = redirect_message(query.path, f"HTTP {status}", "http_url")
        return Outcome(error=ConnectError(redirected))
    if reply.body is None:
        return Outcome(error=DecodeError(f"{query.path}: the response is too large"))
    envelope = _parse_envelope(reply.body)
    if status < _REDIRECT:
        if envelope is None:
            error = _unreadable_response(query.path, reply.body, secret)
            return Outcome(error=error, retry=Retry.GARBLED)
        if envelope.msg == "OK":
            return _decode_data(query, bytes(envelope.data), secret)
    text = secret.redact(envelope.msg) if envelope and envelope.msg != "OK" else None
    rejection = _rejection(query, status, text)
    retry = Retry.NEVER
    if not isinstance(rejection, AuthenticationError):
        retry = _retry(query, status, text or "")
    return Outcome(error=rejection, retry=retry, retry_after=reply.retry_after)


def map_exception(
    exc: Exception,
    path: str,
    url: URL,
    timing: Timing,
    secret: Secret,
) -> Outcome[Any]:
    """Return the outcome of an attempt that raised an exception.

    An exception that is neither aiohttp's nor the operating system's means that the
    request could not be built; this is not retried.
    """
    where = f"{path}: {url.origin()}"
    detail = printable(secret.redact(_detail(exc)))
    unreached = _connect_error(exc, detail, timing)
    if unreached is not None:
        text, transient = unreached
        retry = Retry.NETWORK if transient else Retry.NEVER
        return Outcome(error=ConnectError(f"{where} {text}"), retry=retry)
    if isinstance(exc, TimeoutError):
        text = f"{path}: no response within {timing.request_timeout:g} s"
        return Outcome(error=RequestTimeoutError(text), retry=Retry.NETWORK)
    if _has_damaged_body(exc):
        text = f"{path}: the body of the response is damaged or was cut"
        return Outcome(error=TransportError(text), retry=Retry.NETWORK)
    if not isinstance(exc, (aiohttp.ClientError, OSError)):
        text = f"{where} cannot be sent a request: {detail}"
        return Outcome(error=ConnectError(text))
    text = f"{path}: the connection broke: {detail}"
    return Outcome(error=TransportError(text), retry=Retry.NETWORK)


def _has_damaged_body(exc: Exception) -> bool:
    # Where the body arrives with the headers, aiohttp reports one that is not of the
    # announced encoding like headers that are no HTTP: only the cause differs, and for
    # a chunk only the first line of the parser's text; the others quote the server.
    if isinstance(exc.__cause__, PayloadEncodingError):
        return True
    text = exc.message if isinstance(exc, aiohttp.ClientResponseError) else ""
    return "chunk" in text.partition("\n")[0]


def redirect_message(path: str, status: str, option: str) -> str:
    """Return the text of the error for a redirect; ``option`` names Client's option."""
    return (
        f"{path}: the server redirects ({status}), which is not followed, so that the "
        f"API key is sent to no other address: set {option} to the new address"
    )


class _Envelope(Struct):
    msg: str
    data: Raw = Raw(b"null")


_envelopes = msgspec.json.Decoder(_Envelope)


def _parse_envelope(body: bytes) -> _Envelope | None:
    try:
        return _envelopes.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        quoted = quote_bare_words(body)
        return None if quoted is None else _parse_envelope(quoted)


def _decode_data(query: Query[T], data: bytes, secret: Secret) -> Outcome[T]:
    unread: list[Unread] = []
    try:
        value = query.read(data, unread)
        return Outcome(value=value, unread=tuple(unread))
    except DecodeError as exc:
        reason = str(exc)
    shown = f": {excerpt(data, secret.redact)}" if "(" in reason else ""
    return Outcome(error=DecodeError(f"{query.path}: {secret.redact(reason)}{shown}"))


def _retry(query: Query[Any], status: int, text: str) -> Retry:
    if status == _TOO_FAST or is_about_pace(text):
        return Retry.PACE
    later = _is_temporary(status) or means_later(text, query.symbols)
    return Retry.BUSY if later else Retry.NEVER


def _is_temporary(status: int) -> bool:
    return status in _TEMPORARY or status >= _SERVER_ERROR


def _rejection(query: Query[Any], status: int, text: str | None) -> QosError:
    path = query.path
    if text is None:
        symbols = query.symbols if len(query.symbols) == 1 else ()
        return _error_from_status(path, status, symbols)
    error = error_from_message(text, operation=path, requested=query.symbols)
    if not isinstance(error, RejectedError) or isinstance(error, LimitError):
        return error
    if status in _KEY_REJECTED:
        return AuthenticationError(_key_error(path, status, error.message))
    if status == _TOO_FAST:
        return LimitError(error.message, operation=path, symbols=error.symbols)
    return error


def _error_from_status(path: str, status: int, symbols: tuple[str, ...]) -> QosError:
    if status in _KEY_REJECTED:
        return AuthenticationError(_key_error(path, status, "no reason given"))
    if status != _TOO_FAST and _is_temporary(status):
        return TransportError(f"{path}: HTTP {status}")
    kind = LimitError if status == _TOO_FAST else RejectedError
    return kind(f"HTTP {status}", operation=path, symbols=symbols)


def _key_error(path: str, status: int, text: str) -> str:
    return (
        f"{path}: the server rejected the API key (HTTP {status}: {text}); check that it "
        "is complete and has not expired"
    )


def _unreadable_response(path: str, body: bytes, secret: Secret) -> DecodeError:
    shown = excerpt(body, secret.redact)
    return DecodeError(f"{path}: the response is not JSON with a msg: {shown}")


def _connect_error(
    exc: Exception, detail: str, timing: Timing
) -> tuple[str, bool] | None:
    """Return why the service was not reached, and whether to retry; None if it was."""
    match exc:
        # Before ClientConnectorError, which some of these are too.
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch():
            return _tls_error(exc, detail)
        case aiohttp.ClientHttpProxyError():
            text = f"is behind a proxy that answered HTTP {exc.status}"
            return text, _is_temporary(exc.status)
        case aiohttp.ConnectionTimeoutError():
            text = f"did not connect within {timing.connect_timeout:g} s"
            if isinstance(exc, NoFreeConnectionError):
                text += f", {exc}"
            return text, True
        case aiohttp.ClientConnectorError():
            return f"cannot be reached: {detail}", True
        case aiohttp.ClientResponseError() | aiohttp.InvalidURL() if (
            not _has_damaged_body(exc)
        ):
            return f"does not speak HTTP: {detail}", False
        case _:
            return None


def _tls_error(exc: Exception, detail: str) -> tuple[str, bool]:
    if isinstance(exc, UNTRUSTED):
        advice = (
            "check the address and this machine's clock, or pass as ssl an SSLContext "
            "or a Fingerprint for its certificate"
        )
        return f"cannot be trusted, TLS failed: {detail}; {advice}", False
    cause = getattr(exc, "os_error", None)
    if getattr(cause, "reason", None) in _NO_TLS:
        advice = "check the address and its port"
        return f"does not speak TLS 1.2 or later: {detail}; {advice}", False
    # Retried, as a load balancer that restarts sends alerts too.
    return f"cannot be reached, TLS failed: {detail}", True


def _detail(exc: Exception) -> str:
    # Only the operating system's text: str() of aiohttp's exceptions shows headers, or
    # the address of a proxy.
    cause = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc
    text = cause.strerror if isinstance(cause, OSError) else None
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__
