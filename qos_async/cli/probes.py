"""The way to a server, step by step: its name, a connection, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from qos_async.cli.checks import Check, Tell, milliseconds
from qos_async.cli.settings import Settings
from qos_async.config import HTTP_URL, STREAM_URL

__all__ = ["Endpoint", "endpoints", "probe"]

_PATIENCE = 5.0
_SOON = 14
_DAY = 86_400
_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}


class Endpoint(NamedTuple):
    """Where to connect.

    Attributes:
        host: A name or an address.
        port: Of it.
        secure: Whether it speaks TLS.
        proxy: Whether it stands between.
    """

    host: str
    port: int
    secure: bool
    proxy: bool = False


def endpoints(settings: Settings) -> list[Endpoint]:
    """Give what must be reached, each once; behind a proxy, that one alone."""
    if settings.proxy:
        return [_endpoint(settings.proxy)._replace(proxy=True)]
    urls = (settings.http_url or HTTP_URL, settings.stream_url or STREAM_URL)
    return list(dict.fromkeys(map(_endpoint, urls)))


async def probe(endpoint: Endpoint, tell: Tell) -> None:
    """Look up, connect, and shake hands, as far as that goes."""
    where = f"{endpoint.host}:{endpoint.port}"
    if not await _resolve(endpoint, tell):
        tell(Check("tcp", "skipped", f"{where} has no address"))
    elif not await _connect(endpoint, where, tell):
        tell(Check("tls", "skipped", f"{where} cannot be reached"))
    elif endpoint.secure:
        await _shake_hands(endpoint, where, tell)
    elif endpoint.proxy:
        tell(Check("tls", "skipped", f"it is spoken through the proxy http://{where}"))
    else:
        tell(Check("tls", "skipped", f"{where} is addressed without TLS"))


async def _resolve(endpoint: Endpoint, tell: Tell) -> bool:
    loop, begun_at = asyncio.get_running_loop(), time.monotonic()
    try:
        async with asyncio.timeout(_PATIENCE):
            found = await loop.getaddrinfo(
                endpoint.host, endpoint.port, type=socket.SOCK_STREAM
            )
    except (OSError, UnicodeError) as error:  # TimeoutError is one, too.
        tell(
            Check(
                "name",
                "failed",
                f"{endpoint.host}: {_words(error)}",
                "see that this machine is online, that its DNS answers, and that the "
                "address is right",
            )
        )
        return False
    addresses = ", ".join(dict.fromkeys(str(one[4][0]) for one in found))
    took = milliseconds(time.monotonic() - begun_at)
    tell(Check("name", "ok", f"{endpoint.host} is {addresses}, in {took}"))
    return True


async def _connect(endpoint: Endpoint, where: str, tell: Tell) -> bool:
    begun_at = time.monotonic()
    try:
        await _open(endpoint, None)
    except OSError as error:
        hint = (
            "nothing listens there, or a firewall says no"
            if isinstance(error, ConnectionRefusedError)
            else "a firewall or the network in between may not let it through"
        )
        out = _PROXY if endpoint.proxy else _OUT
        tell(Check("tcp", "failed", f"{where}: {_words(error)}", f"{hint}: {out}"))
        return False
    took = milliseconds(time.monotonic() - begun_at)
    tell(Check("tcp", "ok", f"{where} connected in {took}"))
    return True


async def _shake_hands(endpoint: Endpoint, where: str, tell: Tell) -> None:
    begun_at = time.monotonic()
    try:
        tls = await _open(endpoint, ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        tell(
            Check(
                "tls",
                "failed",
                f"{where}: {error.verify_message}",
                "see that this machine's clock is right, and that no proxy or virus "
                "scanner opens its TLS connections",
            )
        )
    except OSError as error:
        hint = "see that the address and its port are right"
        tell(Check("tls", "failed", f"{where}: {_words(error)}", hint))
    else:
        took = milliseconds(time.monotonic() - begun_at)
        tell(_certificate(tls, where, took))


def _certificate(tls: Any, where: str, took: str) -> Check:
    shown: dict[str, Any] = tls.getpeercert()
    issuer = {name: text for part in shown["issuer"] for name, text in part}
    by = issuer.get("organizationName") or issuer.get("commonName", "nobody")
    left = (ssl.cert_time_to_seconds(shown["notAfter"]) - time.time()) / _DAY
    says = f"{where} speaks {tls.version()} after {took}; certificate by {by}, "
    hint = "it is about to expire: tell the service" if left < _SOON else ""
    return Check("tls", "ok", f"{says}{left:.0f} days left", hint)


async def _open(endpoint: Endpoint, context: ssl.SSLContext | None) -> Any:
    """Connect and hang up; give what there is to know about TLS."""
    async with asyncio.timeout(_PATIENCE):
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


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_PATIENCE:g} s"
    return str(getattr(error, "strerror", None) or type(error).__name__)


_PROXY = "this is the proxy: see that it runs, and that its address is right"
_OUT = "if only a proxy leads out, name it with QOS_PROXY or --proxy"
