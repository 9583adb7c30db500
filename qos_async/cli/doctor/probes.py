"""Probes of a server: name resolution, TCP, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from qos_async.cli.doctor.report import Check, Emit, milliseconds
from qos_async.cli.settings import Settings
from qos_async.config import HTTP_URL, STREAM_URL

__all__ = ["Endpoint", "endpoints", "probe"]

_TIMEOUT = 5.0
_EXPIRES_SOON = 14
"""Days."""
_DAY = 86_400
_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}

_PROXY = "this is the proxy: check that it runs, and its address"
_OUT = "if a proxy is required here, set it with QOS_PROXY or --proxy"


class Endpoint(NamedTuple):
    """Where to connect.

    Attributes:
        host: A name or an address.
        port: Its port.
        secure: Whether to use TLS.
        proxy: Whether it is a proxy.
    """

    host: str
    port: int
    secure: bool
    proxy: bool = False


def endpoints(settings: Settings) -> list[Endpoint]:
    """Return what must be reached, each once; behind a proxy, only the proxy."""
    if settings.proxy:
        return [_endpoint(settings.proxy)._replace(proxy=True)]
    urls = (settings.http_url or HTTP_URL, settings.stream_url or STREAM_URL)
    return list(dict.fromkeys(map(_endpoint, urls)))


async def probe(endpoint: Endpoint, emit: Emit) -> None:
    """Resolve the name, connect, and do the TLS handshake, until one fails."""
    where = f"{endpoint.host}:{endpoint.port}"
    if not await _resolve(endpoint, emit):
        emit(Check("tcp", "skipped", f"{where} has no address"))
    elif not await _connect(endpoint, where, emit):
        emit(Check("tls", "skipped", f"{where} cannot be reached"))
    elif endpoint.secure:
        await _handshake(endpoint, where, emit)
    elif endpoint.proxy:
        emit(Check("tls", "skipped", f"goes through the proxy http://{where}"))
    else:
        emit(Check("tls", "skipped", f"{where}: its URL is http or ws, without TLS"))


async def _resolve(endpoint: Endpoint, emit: Emit) -> bool:
    loop, started_at = asyncio.get_running_loop(), time.monotonic()
    try:
        async with asyncio.timeout(_TIMEOUT):
            found = await loop.getaddrinfo(
                endpoint.host, endpoint.port, type=socket.SOCK_STREAM
            )
    except (OSError, UnicodeError) as error:  # TimeoutError is one, too.
        emit(
            Check(
                "name",
                "failed",
                f"{endpoint.host}: {_reason(error)}",
                "check that this machine is online, that its DNS works, and that the "
                "address is right",
            )
        )
        return False
    addresses = ", ".join(dict.fromkeys(str(one[4][0]) for one in found))
    took = milliseconds(time.monotonic() - started_at)
    emit(Check("name", "ok", f"{endpoint.host} is {addresses}, in {took}"))
    return True


async def _connect(endpoint: Endpoint, where: str, emit: Emit) -> bool:
    started_at = time.monotonic()
    try:
        await _open(endpoint, None)
    except OSError as error:
        hint = (
            "nothing listens there, or a firewall rejects it"
            if isinstance(error, ConnectionRefusedError)
            else "a firewall or the network in between may block it"
        )
        out = _PROXY if endpoint.proxy else _OUT
        emit(Check("tcp", "failed", f"{where}: {_reason(error)}", f"{hint}: {out}"))
        return False
    took = milliseconds(time.monotonic() - started_at)
    emit(Check("tcp", "ok", f"{where} connected in {took}"))
    return True


async def _handshake(endpoint: Endpoint, where: str, emit: Emit) -> None:
    started_at = time.monotonic()
    try:
        tls = await _open(endpoint, ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        emit(
            Check(
                "tls",
                "failed",
                f"{where}: {error.verify_message}",
                "check that this machine's clock is right, and that no proxy or virus "
                "scanner intercepts its TLS connections",
            )
        )
    except OSError as error:
        hint = "check the address and its port"
        emit(Check("tls", "failed", f"{where}: {_reason(error)}", hint))
    else:
        took = milliseconds(time.monotonic() - started_at)
        emit(_certificate(tls, where, took))


def _certificate(tls: Any, where: str, took: str) -> Check:
    shown: dict[str, Any] = tls.getpeercert()
    issuer = {name: text for part in shown["issuer"] for name, text in part}
    by = issuer.get("organizationName") or issuer.get("commonName", "unknown")
    left = (ssl.cert_time_to_seconds(shown["notAfter"]) - time.time()) / _DAY
    detail = f"{where} uses {tls.version()} after {took}; certificate by {by}, "
    hint = (
        "it is about to expire: report that to the service"
        if left < _EXPIRES_SOON
        else ""
    )
    return Check("tls", "ok", f"{detail}{left:.0f} days left", hint)


async def _open(endpoint: Endpoint, context: ssl.SSLContext | None) -> Any:
    """Connect, close, and return the TLS object."""
    async with asyncio.timeout(_TIMEOUT):
        _, writer = await asyncio.open_connection(
            endpoint.host, endpoint.port, ssl=context
        )
    try:
        return writer.get_extra_info("ssl_object")
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _endpoint(url: str) -> Endpoint:
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    return Endpoint(parts.hostname or "", port, parts.scheme in ("https", "wss"))


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no response within {_TIMEOUT:g} s"
    return str(getattr(error, "strerror", None) or type(error).__name__)
