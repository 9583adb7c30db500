"""``qos doctor``: the command, and the order of the checks."""

from __future__ import annotations

from argparse import ArgumentParser
from functools import partial
from typing import TYPE_CHECKING

from qos_async.cli import exits
from qos_async.cli.options import (
    Command,
    Options,
    UsageError,
    add_connection,
    place,
)

if TYPE_CHECKING:  # Slow to import.
    from qos_async.cli.doctor.report import Report
    from qos_async.cli.settings import Settings

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "place",
        nargs="?",
        type=place,
        metavar="PLACE",
        help="a recording, or a stream: nats://host:4222/STREAM; without it, the service",
    )
    add(
        "--monitor",
        metavar="URL",
        help="of a stream: the monitoring port of its server (http://HOST:8222)",
    )
    add(
        "--json",
        action="store_true",
        help="one JSON object per check; with --deep, one",
    )
    add(
        "--deep",
        action="store_true",
        help="what the service does where its documentation is silent (two minutes)",
    )
    add(
        "--bundle",
        metavar="FILE",
        help="with --deep: all exchanges, without the key, for a bug report",
    )
    add(
        "--beyond-plan",
        action="store_true",
        help="with --deep: also send what the plan forbids",
    )
    add_connection(parser)


def _run(options: Options) -> int:
    """Run all checks, and return the exit code."""
    from qos_async.cli.client import run_async

    if options.deep:
        from qos_async.cli.doctor.deep import deep_check

        return run_async(partial(deep_check, options))
    if options.bundle or options.beyond_plan:
        raise UsageError("--bundle and --beyond-plan belong to --deep: add it")
    check = _check if options.place is None else _check_place
    return run_async(partial(check, options))


async def _check_place(options: Options) -> int:
    """Check a recording or a stream."""
    from pathlib import Path

    from qos_async.cli.doctor import checks
    from qos_async.cli.doctor.report import Report

    report = Report(json=options.json)
    report.add(checks.versions("nats-py", "backports.zstd"))
    if isinstance(options.place, Path):
        from qos_async.cli.doctor.directories import check_directory

        check_directory(options.place, report)
    else:
        from qos_async.cli.doctor.streams import check_stream
        from qos_async.jetstream.places import parse_place

        await check_stream(parse_place(options.place), options.monitor, report)
    return exits.FAILED if report.failed else exits.OK


async def _check(options: Options) -> int:
    from qos_async.cli.client import open_settings
    from qos_async.cli.doctor import checks
    from qos_async.cli.doctor.report import Check, Report
    from qos_async.cli.settings import SettingsError

    report = Report(json=options.json)
    report.add(checks.versions())
    try:
        async with open_settings(options) as settings:
            report.add(checks.configuration(options, settings))
            await _check_connection(settings, report)
    except SettingsError as error:
        hint = "correct it; the other checks ran as if the file were empty"
        report.add(Check("configuration", "failed", str(error), hint))
        async with open_settings(options, read_file=False) as settings:
            await _check_connection(settings, report)
    if report.key_refused:
        return exits.KEY_REFUSED
    return exits.FAILED if report.failed else exits.OK


async def _check_connection(settings: Settings, report: Report) -> None:
    from qos_async import AuthenticationError
    from qos_async.cli.client import make_client
    from qos_async.cli.doctor import checks
    from qos_async.cli.doctor.probes import endpoints, probe
    from qos_async.cli.doctor.report import Check, password_of

    report.redact(settings.key, password_of(settings.proxy))
    report.add(checks.plan(settings.limits))
    report.add(checks.proxy(settings))
    if problem := checks.address_error(settings):
        report.add(Check("addresses", "failed", problem))
        return
    for endpoint in endpoints(settings):
        await probe(endpoint, report.add)
    try:
        client = make_client(settings, timing=checks.TIMING)
    except AuthenticationError as error:
        for name in ("http", "websocket", "clock"):
            report.add(Check(name, "skipped", "needs a key"))
        report.key_refused = True
        report.add(Check("key", "failed", str(error)))
        return
    async with client:
        await checks.service(client, settings, report)


COMMAND = Command(
    "find out what does not work, and why",
    """\
Checks the configuration, name resolution, TCP, TLS, the key, one round trip
over HTTP and one over the websocket, and the clock, with advice for each that
fails. The report has no secrets in it: no key, no password, no user name, no
home directory. Paste it as it is into a bug report.

With a PLACE: the versions of its servers, how often they flush, the settings of
the stream and the disk under it, leases, followers, and what this user may do
there; of a directory the files, the disk and its recorder.

examples:
  qos doctor
  qos doctor --sim
  qos doctor --json | grep failed
  qos doctor nats://n1:4222,nats://n2:4222,nats://n3:4222/QOS
  qos doctor --deep --bundle service.json
""",
    """\
It costs one HTTP request, and takes the plan's websocket connection for a few
seconds: another program with the same key may lose it. With a PLACE nothing is
stored, and the key is not used. With --json, each check is an object on a line
of its own.

With --deep it asks the service instead what it does where its documentation is
silent: each endpoint and each request of the websocket once, each channel for a
minute, within the default plan. The table says what that means for this client;
with --json it is one object, whose "variants" make a simulator behave like the
service: Simulator(variants=Variants.load("report.json")). --beyond-plan adds one
symbol too many, two frames at once, a second connection and 40 s without a
heartbeat: the service may close links of other programs with this key.

The exit code is 0 if all checks pass, 1 if one failed, 3 if the key is missing
or refused.
""",
    _add_arguments,
    _run,
)
