"""Checks of ``qos doctor PLACE`` for a stream: servers, disk, settings, lease, followers."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from qos_async.cli.doctor.report import Check, Report, milliseconds
from qos_async.cli.formatting import plural
from qos_async.cli.info import size_text
from qos_async.jetstream.api import store
from qos_async.jetstream.errors import (
    BrokerError,
    BrokerReplyError,
    WrongRevisionError,
)
from qos_async.jetstream.lease import LeaseRecord, bucket_of
from qos_async.jetstream.places import ServerAddress, StreamPlace
from qos_async.jetstream.pull import Pull
from qos_async.jetstream.session import CLUSTER
from qos_async.jetstream.streams import (
    StreamInfo,
    StreamOptions,
    differences,
    stream_info,
)
from qos_async.jetstream.summary import consumer_lags, lease_records, recorder_names
from qos_async.jetstream.wire import Wire

__all__ = ["check_stream"]

_TIMEOUT = 5.0
_MONITOR = 8222
_DAY = 86_400
_MAX_SYNC = 1.0
_MAX_LAG = 10_000
_LONGEST_WATCH = 10.0
_NEVER = 1 << 62
"""A revision that no subject has: a write that expects it is refused, not stored."""

_MEMBERS = (
    "it can lose stored messages when nodes are added or removed (Jepsen on 2.12.1): "
    "upgrade to 2.14 or later"
)
_FENCE = "it cannot fence recorders by subject: upgrade to 2.14 or later"
# Versions from the first one on, up to the second one, are bad.
_BAD_SERVERS = (((0, 0, 0), (2, 11, 0), _FENCE), ((2, 12, 0), (2, 12, 3), _MEMBERS))
_LOSES_STREAMS = (2, 10, 23)
_FAST = (2, 14, 0)


async def check_stream(place: StreamPlace, monitor: str | None, report: Report) -> None:
    """Check a stream, and report what is found."""
    report.redact(place.credentials.password, place.credentials.token)
    for server in place.servers:
        await _server(place, server, report)
    pages = await _monitors(place, monitor)
    for check in _flush_interval(pages):
        report.add(check)
    async with Wire(place, name="qos-async doctor") as wire:
        try:
            await wire.connect(_TIMEOUT)
            info = await stream_info(wire, place.stream)
        except BrokerError as error:
            report.add(Check("stream", "failed", str(error)))
            return
        if info is None:
            hint = f"a recorder creates it: qos record ... -o {place}"
            detail = f"{place.stream} does not exist"
            report.add(Check("stream", "failed", detail, hint))
            return
        for check in _stream(place, info, pages):
            report.add(check)
        has_leases = await _has_leases(wire, place)
        await _leases(wire, place, report, has_leases=has_leases)
        await _consumers(wire, place, info, report)
        for check in await _permissions(wire, place, has_leases=has_leases):
            report.add(check)


async def _server(place: StreamPlace, server: ServerAddress, report: Report) -> None:
    """Check that a server can be reached, and its version."""
    one = place._replace(servers=(server,))
    began_at = time.monotonic()
    async with Wire(one, name="qos-async doctor") as wire:
        try:
            await wire.connect(_TIMEOUT)
        except BrokerError as error:
            report.add(Check("server", "failed", str(error)))
            return
        took = milliseconds(time.monotonic() - began_at)
        said = wire.server
        name, text = said.get("server_name") or "?", str(said.get("version") or "?")
        secure = "TLS" if place.tls else "no TLS"
        cluster = said.get("cluster")
        where = f", cluster {cluster}" if cluster else ""
        detail = f"{server}: {name}, nats-server {text}{where}, {secure}, in {took}"
        problem, hint = _version_problem(text)
        text = f"{detail}{problem}"
        report.add(Check("server", "failed" if problem else "ok", text, hint))


def _version_problem(text: str) -> tuple[str, str]:
    """Return what is wrong with a version, and what to do; both may be empty."""
    numbers = tuple(int(n) for n in text.partition("-")[0].split(".") if n.isdigit())
    if not numbers:
        return "", ""
    if numbers < _LOSES_STREAMS:
        return ": a known bad server", (
            "it can lose whole streams when nodes are killed (before 2.10.23): upgrade to "
            "2.14 or later"
        )
    for first, good, why in _BAD_SERVERS:
        if first <= numbers < good:
            return ": a known bad server", why
    if numbers < _FAST:
        return "", "recorders are slower before 2.14"
    return "", ""


# What the monitoring port of a server shows, and no client can ask


async def _monitors(
    place: StreamPlace, monitor: str | None
) -> dict[str, dict[str, Any]]:
    """Return ``varz`` of each server that shows it, by its address."""
    urls = [monitor] if monitor else [_monitor_url(one) for one in place.servers]
    found = await asyncio.gather(*(asyncio.to_thread(_varz, url) for url in urls))
    return {url: page for url, page in zip(urls, found, strict=True) if page}


def _monitor_url(server: ServerAddress) -> str:
    return f"http://{server._replace(port=_MONITOR)}"


def _varz(url: str) -> dict[str, Any]:
    address = f"{url.rstrip('/')}/varz"
    with suppress(OSError, ValueError, http.client.HTTPException):
        with urllib.request.urlopen(address, timeout=2) as reply:  # noqa: S310 - of the user
            found: dict[str, Any] = json.load(reply)
        return found if isinstance(found.get("jetstream"), dict) else {}
    return {}


def _flush_interval(pages: dict[str, dict[str, Any]]) -> Iterator[Check]:
    if not pages:
        hint = (
            'only the monitoring port shows it: start the server with http: "127.0.0.1:8222"'
            ", and pass --monitor http://HOST:PORT if it is another one"
        )
        yield Check("flush interval", "skipped", "not visible", hint)
    for url, page in pages.items():
        config: dict[str, Any] = page["jetstream"].get("config") or {}
        if config.get("sync_always"):
            yield Check("flush interval", "ok", f"{url}: after each write")
            continue
        seconds = (config.get("sync_interval") or 0) / 1e9
        detail = f"{url}: {seconds:g} s, which a power loss of the node loses"
        hint = (
            ""
            if seconds <= _MAX_SYNC
            else (
                'jetstream { sync_interval: "1s" } costs nothing measurable; always is the '
                "only one that survives the loss of power of most nodes"
            )
        )
        yield Check("flush interval", "ok" if not hint else "failed", detail, hint)


# The stream


def _stream(
    place: StreamPlace, info: StreamInfo, pages: dict[str, dict[str, Any]]
) -> Iterator[Check]:
    config, state = info.config, info.state
    size = "no limit" if config.max_bytes < 0 else size_text(config.max_bytes)
    detail = (
        f"{plural(state.messages, 'message')}, {size_text(state.bytes)} of {size}, "
        f"{plural(config.num_replicas, 'replica')}"
    )
    replicas = CLUSTER if len(place.servers) >= CLUSTER else 1
    found = differences(place.stream, info, StreamOptions(replicas=replicas))
    yield Check("stream", "failed" if found else "ok", detail, "; ".join(found))
    if info.cluster is not None and config.num_replicas > 1:
        behind = [one.name for one in info.cluster.replicas if not one.current]
        detail = f"{info.cluster.leader or 'no node'} leads"
        hint = f"these are behind or gone: {', '.join(behind)}" if behind else ""
        bad = bool(behind) or not info.cluster.leader
        yield Check("nodes", "failed" if bad else "ok", detail, hint)
    yield _growth(info)
    for url, page in pages.items():
        yield from _disk(url, page["jetstream"], info)


def _growth(info: StreamInfo) -> Check:
    state, config = info.state, info.config
    seconds = (state.last_ts - state.first_ts).total_seconds()
    if not state.messages or seconds <= 0:
        return Check(
            "retention", "skipped", "it has too few messages to see its growth"
        )
    daily = state.bytes / seconds * _DAY
    age = f"{config.max_age / 1e9 / _DAY:g} days" if config.max_age else "any age"
    kept = (
        f"{config.max_bytes / daily:.1f} days of that"
        if config.max_bytes > 0
        else "all"
    )
    return Check(
        "retention",
        "ok",
        f"{size_text(daily)} a day lately; it keeps {kept}, of {age}",
    )


def _disk(url: str, page: dict[str, Any], info: StreamInfo) -> Iterator[Check]:
    config: dict[str, Any] = page.get("config") or {}
    stats: dict[str, Any] = page.get("stats") or {}
    most: int = config.get("max_storage") or 0
    used: int = stats.get("storage") or 0
    reserved: int = stats.get("reserved_storage") or 0
    detail = f"{url}: JetStream may use {size_text(most)}, and stores {size_text(used)}"
    hint = ""
    if reserved > most:
        hint = (
            f"its streams may grow to {size_text(reserved)}: lower max_bytes, or raise "
            "max_file_store"
        )
    left = max(info.config.max_bytes - info.state.bytes, 0)
    with suppress(OSError, TypeError):
        folder = Path(config["store_dir"]) if config.get("store_dir") else None
        if folder is not None and folder.is_dir():  # On this machine.
            free = shutil.disk_usage(folder).free
            detail += f"; {size_text(free)} of the disk are free"
            if free < left:
                hint = (
                    f"the stream may grow by {size_text(left)}, more than that: make room, "
                    "or lower its max_bytes"
                )
    yield Check("disk", "failed" if hint else "ok", detail, hint)


# Those who write and read


async def _has_leases(wire: Wire, place: StreamPlace) -> bool | None:
    """Return whether there is a bucket of leases; None if this user may not see that."""
    try:
        return await stream_info(wire, f"KV_{bucket_of(place.stream)}") is not None
    except BrokerError:
        return None


async def _leases(
    wire: Wire, place: StreamPlace, report: Report, *, has_leases: bool | None
) -> None:
    names = await recorder_names(wire, place.stream)
    if not names:
        detail = "no recorder has written to it yet"
        hint = f"start one: qos record US:AAPL -o {place}"
        report.add(Check("recorders", "failed", detail, hint))
        return
    before = await lease_records(wire, place.stream, names)
    held = {name: one for name, one in before.items() if one.token}
    longest = max((one.seconds for one in held.values()), default=0.0)
    if held:  # It is renewed every fifth of its duration.
        await asyncio.sleep(min(longest / 2, _LONGEST_WATCH))
    after = await lease_records(wire, place.stream, held)
    for name in names:
        if name in before or has_leases is not None:
            report.add(_lease(name, before.get(name), after.get(name)))
        else:
            detail = f"{name}: this user may not see whether it has one"
            report.add(Check("lease", "skipped", detail))


def _lease(name: str, before: LeaseRecord | None, after: LeaseRecord | None) -> Check:
    if before is None:
        detail = f"{name}: no recorder of this name has taken one yet"
        hint = "without one no standby takes over: qos record --lease 10"
        return Check("lease", "ok", detail, hint)
    if not before.token:
        hint = "no recorder of this name runs: start one"
        return Check("lease", "failed", f"{name}: released", hint)
    holder = f"{name}: {before.host} pid {before.pid}, {before.seconds:g} s"
    if after is not None and after != before:
        return Check("lease", "ok", f"{holder}, renewed while this ran")
    hint = "its holder is gone or cannot reach the broker; a standby takes over"
    return Check("lease", "failed", f"{holder}, not renewed while this ran", hint)


async def _consumers(
    wire: Wire, place: StreamPlace, info: StreamInfo, report: Report
) -> None:
    lags = await consumer_lags(wire, place.stream)
    if not lags:
        report.add(Check("followers", "ok", "none reads now"))
        return
    slowest = max(lags, key=lambda name: lags[name])
    detail = f"{plural(len(lags), 'consumer')}, at most {lags[slowest]} messages behind"
    hint = ""
    if lags[slowest] > _MAX_LAG:
        share = lags[slowest] / max(info.state.messages, 1)
        hint = (
            f"{slowest} has {share:.0%} of the stream before it: it is too slow, or new"
        )
    report.add(Check("followers", "failed" if hint else "ok", detail, hint))


async def _permissions(
    wire: Wire, place: StreamPlace, *, has_leases: bool | None
) -> list[Check]:
    """Return what this user may do, found without storing anything."""
    stream, bucket = place.stream, bucket_of(place.stream)
    may_record = await _may_store(wire, f"{stream}.link.doctor-check")
    pull = Pull(wire, stream, filters=[f"{stream}.link.doctor-check"])
    follows = ""
    try:
        await pull.start()
    except BrokerError as error:
        follows = str(error)
    finally:
        await pull.aclose()
    allowed = {"follow": not follows, "record": may_record}
    if has_leases is not False:  # Without a bucket nothing replies, also if it may.
        may_lease = await _may_store(wire, f"$KV.{bucket}.doctor-check")
        allowed["take leases"] = may_lease
    yes = ", ".join(name for name, may in allowed.items() if may) or "do nothing"
    no = ", ".join(name for name, may in allowed.items() if not may)
    detail = f"this user may {yes}" + (f", and not {no}" if no else "")
    hint = "" if not follows else f"to follow: {follows}"
    return [Check("permissions", "failed" if follows else "ok", detail, hint)]


async def _may_store(wire: Wire, subject: str) -> bool:
    try:
        await store(wire, subject, b"", revision=_NEVER, timeout=1.0)
    except WrongRevisionError:
        return True
    except BrokerReplyError:
        return True  # It has arrived, and was refused for another reason.
    except BrokerError:
        return False
    return True
