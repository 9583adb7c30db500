"""aiohttp's exceptions as outcomes: the one seam at which they end.

Nothing of them goes further than a few words. They hold the request's headers with
the key in them, and their text may hold a proxy's password.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from yarl import URL

from qos_async._core.text import printable
from qos_async._io.retry import Outcome
from qos_async._io.secret import Secret
from qos_async.config import Timing
from qos_async.errors import ConnectError, RequestTimeoutError, TransportError

__all__ = ["NOT_SENT", "UNTRUSTED", "map_exception"]

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
_SERVER_ERROR = 500


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
