"""``qos doctor``: everything that stands between a user and their ticks."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from functools import partial
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
from qos_async.cli import exits
from qos_async.cli.checks import Check, Report, milliseconds, password_of
from qos_async.cli.commands.doctor import Arguments
from qos_async.cli.connecting import UsageError, make_client, reach, run_async
from qos_async.cli.probes import endpoints, probe
from qos_async.cli.settings import Settings, SettingsError, bare, config_path

__all__ = ["run_doctor"]

_SYMBOL = "CF:BTCUSDT"
"""Traded around the clock; if the server does not know it, it says so just as fast."""
_PATIENCE = 15.0
_TIMING = Timing(connect_timeout=5.0, request_timeout=5.0, close_timeout=0.5)
_PACKAGES = ("aiohttp", "msgspec", "anyio", "tenacity")
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "WSS_PROXY", "WS_PROXY", "ALL_PROXY")
_SET_PROXY = "set QOS_PROXY or --proxy to http://HOST:PORT"
_AFAR = 2.0


def run_doctor(arguments: Arguments) -> int:
    """Look at everything, tell it, and give the exit code."""
    return run_async(partial(_examine, arguments))


async def _examine(arguments: Arguments) -> int:
    report = Report(json=arguments.json)
    report.tell(Check("versions", "ok", _versions()))
    try:
        async with reach(arguments) as settings:
            report.tell(_configuration(arguments, settings))
            await _follow_the_way(settings, report)
    except SettingsError as error:
        hint = "correct it; the rest was looked at as if the file were empty"
        report.tell(Check("configuration", "failed", str(error), hint))
        async with reach(arguments, file=False) as settings:
            await _follow_the_way(settings, report)
    if report.key_refused:
        return exits.KEY_REFUSED
    return exits.FAILED if report.failed else exits.OK


async def _follow_the_way(settings: Settings, report: Report) -> None:
    report.hide(settings.key, password_of(settings.proxy))
    report.tell(_plan(settings.limits))
    report.tell(_proxies(settings))
    try:
        make_client(replace(settings, key="any"))
    except UsageError as error:
        report.tell(Check("addresses", "failed", str(error)))
        return
    for endpoint in endpoints(settings):
        await probe(endpoint, report.tell)
    try:
        client = make_client(settings, timing=_TIMING)
    except AuthenticationError as error:
        for name in ("http", "websocket", "clock"):
            report.tell(Check(name, "skipped", "there is no key to ask with"))
        report.key_refused = True
        report.tell(Check("key", "failed", str(error)))
        return
    async with client:
        await _ask(client, settings, report)


async def _ask(client: Client[Any], settings: Settings, report: Report) -> None:
    origin, proxy = settings.origins["key"], settings.proxy
    over_http = await _over_http(client, report, proxy=proxy)
    over_stream = await _over_stream(
        client, report, key_is_good=over_http is True, proxy=proxy
    )
    report.tell(_clock(client))
    if over_http or over_stream:
        report.tell(Check("key", "ok", f"accepted; it came from {origin}"))
    elif over_http is None and over_stream is None:
        report.tell(Check("key", "skipped", f"nobody was asked; it came from {origin}"))
    else:
        report.key_refused = True
        hint = "see that it is whole and has not expired; only its owner can renew it"
        report.tell(Check("key", "failed", f"refused; it came from {origin}", hint))


async def _over_http(
    client: Client[Any], report: Report, *, proxy: str | None
) -> bool | None:
    """Ask once; give whether the key is good, None if that cannot be told."""
    begun_at = time.monotonic()
    try:
        async with asyncio.timeout(_PATIENCE):
            await client.fetch_snapshots(_SYMBOL)
    except (QosError, TimeoutError) as error:
        report.tell(_failure("http", error, proxy))
        return _verdict(error)
    took = milliseconds(time.monotonic() - begun_at)
    report.tell(Check("http", "ok", f"a question was answered in {took}"))
    return True


async def _over_stream(
    client: Client[Any], report: Report, *, key_is_good: bool, proxy: str | None
) -> bool | None:
    begun_at = time.monotonic()
    try:
        async with asyncio.timeout(_PATIENCE):
            await client.connect()
            opened_at = time.monotonic()
            await client.fetch_snapshots(_SYMBOL, via="stream")
            answered_at = time.monotonic()
            async with client.watch_snapshots(_SYMBOL):
                pass  # The yes tells the server's time.
    except (QosError, TimeoutError) as error:
        failure = _failure("websocket", error, proxy)
        if key_is_good and isinstance(error, AuthenticationError):
            hint = "the key is good over HTTP: does another program hold the plan's "
            failure = replace(failure, hint=f"{hint}only connection?")
        report.tell(failure)
        return _verdict(error)
    opened = milliseconds(opened_at - begun_at)
    trip = milliseconds(answered_at - opened_at - client.stats.command_wait_max)
    says = f"opened in {opened}, a question was answered in {trip}"
    report.tell(Check("websocket", "ok", says))
    return True


def _failure(name: str, error: Exception, proxy: str | None) -> Check:
    match error:
        case AuthenticationError():
            hint = "see the key, below"
        case LimitError():
            hint = "the plan allows no more: wait a minute, and stop other programs"
        case RejectedError():
            hint = "the service was reached and said no"
        case ConnectError() if proxy and "proxy that answered" in str(error):
            hint = _about_the_proxy(str(error))
        case QosError():
            hint = "see what failed above; if nothing did, try again in a minute"
        case _:
            return Check(name, "failed", f"no answer within {_PATIENCE:g} s")
    return Check(name, "failed", str(error), hint)


def _about_the_proxy(words: str) -> str:
    if "HTTP 407" in words:
        return (
            "the proxy wants a user and a password, or other ones: set QOS_PROXY to "
            "http://USER:PASSWORD@HOST:PORT"
        )
    return (
        "that was the proxy, not the service: ask whoever runs it to let this address "
        "through, or leave the proxy out"
    )


def _verdict(error: Exception) -> bool | None:
    if isinstance(error, AuthenticationError):
        return False
    return True if isinstance(error, RejectedError) else None


def _clock(client: Client[Any]) -> Check:
    offset, error = client.stats.clock_offset, client.stats.clock_error
    if offset is None or error is None:
        return Check("clock", "skipped", "the server did not tell its time")
    side = "ahead of" if offset >= 0 else "behind"
    says = (
        f"the server's is {abs(offset):.2f} s {side} ours, give or take {error:.2f} s"
    )
    if abs(offset) - error > _AFAR:
        hint = "let this machine set its clock by the network (NTP)"
        return Check("clock", "failed", says, hint)
    return Check("clock", "ok", says)


def _versions() -> str:
    packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"qos-async {__version__}, {python}, {packages}; {system}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(unknown)"


def _configuration(arguments: Arguments, settings: Settings) -> Check:
    if arguments.sim:
        return Check("configuration", "ok", "a simulated server on this machine")
    path = config_path()
    there = "read" if path.exists() else "not there, which is fine"
    told = sorted({f"{name} from {at}" for name, at in settings.origins.items()})
    says = f"{path} is {there}; {', '.join(told) or 'nothing is set'}"
    return Check("configuration", "ok", says, "; ".join(settings.warnings))


def _plan(limits: Limits) -> Check:
    return Check(
        "plan",
        "ok",
        f"as configured: {limits.symbols} symbols, {limits.http_requests} HTTP requests "
        f"in {limits.http_period:g} s, {limits.connections} connection, "
        f"{limits.command_interval:g} s between commands",
    )


def _proxies(settings: Settings) -> Check:
    if settings.proxy:
        where, origin = bare(settings.proxy), settings.origins["proxy"]
        if "://" not in settings.proxy:
            says = f"{where} has no scheme; it came from {origin}"
            return Check("proxy", "failed", says, f"write http://{where}")
        return Check("proxy", "ok", f"{where} is used; it came from {origin}")
    names = [name for one in _PROXIES for name in (one, one.lower())]
    found = [f"{n}={bare(os.environ[n])}" for n in names if os.environ.get(n)]
    if not found:
        return Check("proxy", "ok", "none")
    says = f"{', '.join(found)} in the environment, not used"
    return Check("proxy", "ok", says, f"if it is needed, {_SET_PROXY}")
