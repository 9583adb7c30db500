"""``qos doctor``: the command, and the order of the checks."""

from __future__ import annotations

from argparse import ArgumentParser
from functools import partial
from typing import TYPE_CHECKING

from qos_async.cli import exits
from qos_async.cli.options import Command, Options, add_connection

if TYPE_CHECKING:  # Slow to import.
    from qos_async.cli.doctor.report import Report
    from qos_async.cli.settings import Settings

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object per check")
    add_connection(parser)


def _run(options: Options) -> int:
    """Run all checks, and return the exit code."""
    from qos_async.cli.client import run_async

    return run_async(partial(_check, options))


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

examples:
  qos doctor
  qos doctor --sim
  qos doctor --json | grep failed
""",
    """\
It costs one HTTP request, and takes the plan's websocket connection for a few
seconds: another program with the same key may lose it. With --json, each check
is an object on a line of its own. The exit code is 0 if all checks pass, 1 if
one failed, 3 if the key is missing or refused.
""",
    _add_arguments,
    _run,
)
