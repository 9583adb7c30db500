"""Checks of ``qos doctor``: configuration, proxy, HTTP, websocket, clock and key."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from msgspec.structs import replace

from qos_async import (
    AuthenticationError,
    Client,
    ConnectError,
    LimitError,
    Limits,
    QosError,
    RejectedError,
    Timing,
    __version__,
)
from qos_async.cli.client import make_client
from qos_async.cli.doctor.report import Check, Report, milliseconds
from qos_async.cli.options import Options, UsageError
from qos_async.cli.settings import Settings, config_path, is_file_at, origin_only

__all__ = [
    "TIMING",
    "address_error",
    "configuration",
    "plan",
    "proxy",
    "service",
    "versions",
]

TIMING = Timing(connect_timeout=5.0, request_timeout=5.0, close_timeout=0.5)
_TIMEOUT = 15.0
_SYMBOL = "CF:BTCUSDT"
"""Trades around the clock; a server that does not know it rejects it just as fast."""
_MAX_CLOCK_SKEW = 2.0
_PACKAGES = ("aiohttp", "msgspec", "anyio", "tenacity")
_PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "WSS_PROXY", "WS_PROXY", "ALL_PROXY")


def versions(*more: str) -> Check:
    """Return the versions of everything involved, and of other packages."""
    packages = ", ".join(f"{name} {_version(name)}" for name in (*_PACKAGES, *more))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    detail = f"qos-async {__version__}, {python}, {packages}; {system}"
    return Check("versions", "ok", detail)


def configuration(options: Options, settings: Settings) -> Check:
    """Return where each setting came from."""
    if options.sim:
        return Check("configuration", "ok", "a simulated server on this machine")
    path = config_path()
    if path is None:
        place = "there is no home directory, and so no file"
    elif is_file_at(path):
        place = f"{path} is read"
    else:
        place = f"{path} is absent, which is fine"
    origins = sorted({f"{name} from {at}" for name, at in settings.origins.items()})
    detail = f"{place}; {', '.join(origins) or 'nothing is set'}"
    return Check("configuration", "ok", detail, "; ".join(settings.warnings))


def plan(limits: Limits) -> Check:
    """Return the limits that the client keeps."""
    return Check(
        "plan",
        "ok",
        f"as configured: {limits.symbols} symbols, {limits.http_requests} HTTP requests "
        f"in {limits.http_period:g} s, {limits.connections} connection, "
        f"{limits.command_interval:g} s between commands",
    )


def proxy(settings: Settings) -> Check:
    """Check the proxy's address, and look for proxies that are not used."""
    if settings.proxy:
        where, origin = origin_only(settings.proxy), settings.origins["proxy"]
        if "://" not in settings.proxy:
            detail = f"{where} has no scheme; it came from {origin}"
            return Check("proxy", "failed", detail, f"write http://{where}")
        return Check("proxy", "ok", f"{where} is used; it came from {origin}")
    names = [name for one in _PROXY_VARIABLES for name in (one, one.lower())]
    found = [f"{n}={origin_only(os.environ[n])}" for n in names if os.environ.get(n)]
    if not found:
        return Check("proxy", "ok", "none")
    detail = f"{', '.join(found)} in the environment, not used"
    hint = "if it is needed, set QOS_PROXY or --proxy to http://HOST:PORT"
    return Check("proxy", "ok", detail, hint)


def address_error(settings: Settings) -> str:
    """Return why the client does not accept its addresses; empty if it does."""
    try:
        make_client(replace(settings, key="any"))
    except UsageError as error:
        return str(error)
    return ""


async def service(client: Client[Any], settings: Settings, report: Report) -> None:
    """Check HTTP, the websocket, the clock and the key."""
    over_http = await _check_http(client, settings, report)
    over_stream = await _check_websocket(
        client, settings, report, key_is_good=over_http is True
    )
    report.add(_clock(client))
    origin = settings.origins["key"]
    if over_http or over_stream:
        report.add(Check("key", "ok", f"accepted; it came from {origin}"))
    elif over_http is None and over_stream is None:
        detail = f"the service was not reached; it came from {origin}"
        report.add(Check("key", "skipped", detail))
    else:
        report.key_refused = True
        hint = (
            "check that it is complete and has not expired; only its owner can renew it"
        )
        report.add(Check("key", "failed", f"refused; it came from {origin}", hint))


async def _check_http(
    client: Client[Any], settings: Settings, report: Report
) -> bool | None:
    """Send one request; return whether the key is good, None if that is unknown."""
    started_at = time.monotonic()
    try:
        async with asyncio.timeout(_TIMEOUT):
            await client.fetch_snapshots(_SYMBOL)
    except (QosError, TimeoutError) as error:
        report.add(_failure("http", error, settings.proxy))
        return _is_key_good(error)
    took = milliseconds(time.monotonic() - started_at)
    report.add(Check("http", "ok", f"response to a request in {took}"))
    return True


async def _check_websocket(
    client: Client[Any], settings: Settings, report: Report, *, key_is_good: bool
) -> bool | None:
    """As ``_check_http``, over the websocket."""
    started_at = time.monotonic()
    try:
        async with asyncio.timeout(_TIMEOUT):
            await client.connect()
            opened_at = time.monotonic()
            await client.fetch_snapshots(_SYMBOL, via="stream")
            replied_at = time.monotonic()
            async with client.watch_snapshots(_SYMBOL):
                pass  # The acknowledgement holds the server's time.
    except (QosError, TimeoutError) as error:
        failure = _failure("websocket", error, settings.proxy)
        if key_is_good and isinstance(error, AuthenticationError):
            hint = "the key works over HTTP: does another program use the plan's only "
            failure = replace(failure, hint=f"{hint}connection?")
        report.add(failure)
        return _is_key_good(error)
    opened = milliseconds(opened_at - started_at)
    trip = milliseconds(replied_at - opened_at - client.stats.command_wait_max)
    detail = f"opened in {opened}, reply to a request in {trip}"
    report.add(Check("websocket", "ok", detail))
    return True


def _failure(name: str, error: Exception, proxy: str | None) -> Check:
    match error:
        case AuthenticationError():
            hint = "see the key, below"
        case LimitError():
            hint = "the plan allows no more: wait a minute, and stop other programs"
        case RejectedError():
            hint = "the service was reached and rejected the request"
        case ConnectError() if proxy and "proxy that answered" in str(error):
            hint = _proxy_hint(str(error))
        case QosError():
            hint = "see what failed above; if nothing did, try again in a minute"
        case _:
            return Check(name, "failed", f"no response within {_TIMEOUT:g} s")
    return Check(name, "failed", str(error), hint)


def _proxy_hint(message: str) -> str:
    if "HTTP 407" in message:
        return (
            "the proxy requires a user and a password, or other ones: set QOS_PROXY to "
            "http://USER:PASSWORD@HOST:PORT"
        )
    return (
        "this was the proxy, not the service: ask its administrator to allow this "
        "address, or connect without the proxy"
    )


def _is_key_good(error: Exception) -> bool | None:
    if isinstance(error, AuthenticationError):
        return False
    return True if isinstance(error, RejectedError) else None


def _clock(client: Client[Any]) -> Check:
    offset, error = client.stats.clock_offset, client.stats.clock_error
    if offset is None or error is None:
        return Check("clock", "skipped", "the server did not send its time")
    side = "ahead of" if offset >= 0 else "behind"
    detail = (
        f"the server's is {abs(offset):.2f} s {side} ours, give or take {error:.2f} s"
    )
    if abs(offset) - error > _MAX_CLOCK_SKEW:
        hint = "synchronise this machine's clock over the network (NTP)"
        return Check("clock", "failed", detail, hint)
    return Check("clock", "ok", detail)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(unknown)"
