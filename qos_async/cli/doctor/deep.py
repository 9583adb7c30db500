"""``qos doctor --deep``: the survey of the service, as a table, JSON and a bundle."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from msgspec.structs import asdict

from qos_async.cli import exits
from qos_async.cli.client import check_key, open_settings, shared_quota
from qos_async.cli.doctor.report import wrapped
from qos_async.cli.files import OutputError, check_place
from qos_async.cli.options import Options, UsageError
from qos_async.cli.settings import Settings
from qos_async.cli.streams import print_message
from qos_async.survey import Finding, SurveyReport, Target, survey

__all__ = ["deep_check"]

_INDENT = 36


async def deep_check(options: Options) -> int:
    """Run the survey, print it, and return the exit code.

    Raises:
        UsageError: If an address is invalid.
        AuthenticationError: If there is no key.
        OutputError: If the bundle cannot be written.
    """
    bundle = _path(options.bundle)
    if bundle is not None:
        check_place(bundle, force=False)
    async with open_settings(options) as settings:
        for warning in settings.warnings:
            print_message(f"qos: warning: {warning}")
        target = _target(settings)
        try:
            report = await survey(
                target, beyond_plan=options.beyond_plan, progress=_show_progress
            )
        except ValueError as error:
            raise UsageError(str(error)) from None
    _clear_progress()
    if options.json:
        fields = asdict(report)
        del fields["exchanges"]
        print(msgspec.json.encode(fields).decode())
    else:
        _print(report)
    if bundle is not None:
        _write(report, bundle, target.key)
    return _exit_code(report)


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser() if text else None


def _target(settings: Settings) -> Target:
    return Target(
        check_key(settings),
        settings.http_url,
        settings.stream_url,
        "url" if settings.key_in == "url" else "header",
        settings.proxy,
        settings.limits,
        shared_quota(settings),
    )


def _write(report: SurveyReport, bundle: Path, key: str) -> None:
    try:
        report.write_bundle(bundle, key=key)
    except (ValueError, OSError) as error:
        raise OutputError(f"{bundle}: {error}") from None
    print_message(
        f"{bundle}: all exchanges, without the key; attach it to a bug report"
    )


def _exit_code(report: SurveyReport) -> int:
    by_name = {one.name: one for one in report.findings}
    served = by_name.get("HTTP endpoints")
    if served is None or str(served.found).startswith("0 "):
        return exits.FAILED
    return exits.OK


def _print(report: SurveyReport) -> None:
    print(f"qos doctor --deep at {report.at}\n")
    for finding in report.findings:
        print("\n".join(_lines(finding)))
    unknown = sum(one.found is None for one in report.findings)
    print(
        f"\n{len(report.differing)} differ from what this client assumes, "
        f"{unknown} could not be seen"
    )


def _lines(finding: Finding) -> list[str]:
    shown = {True: "as assumed", False: "DIFFERS", None: ""}[finding.as_assumed]
    if finding.found is None:
        shown = "not seen"
    head = f"{shown:<11}{finding.name:<{_INDENT - 12}} "
    value = "" if finding.found is None else f"{_word(finding.found)}: "
    if finding.as_assumed is False:
        value = f"{_word(finding.found)}, not {_word(finding.assumed)}: "
    lines = wrapped(head, f"{value}{finding.detail}", _INDENT)
    if finding.effect:
        lines += wrapped(" " * _INDENT, f"-> {finding.effect}", _INDENT)
    return lines


def _word(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _clear_progress() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
