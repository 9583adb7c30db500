"""Checks of ``qos doctor PLACE`` for a directory: files, disk and recorder."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path

from qos_async._locks import Lock, LockedError
from qos_async.cli.doctor.report import Check, Report
from qos_async.cli.formatting import plural
from qos_async.cli.info import size_text, span_text
from qos_async.errors import QosError
from qos_async.recordings.summary import DirectorySummary, directory_summary

__all__ = ["check_directory"]

_DAY = 86_400e9
_LEAST_DAYS = 2.0
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_directory(path: Path, report: Report) -> None:
    """Check a recording, and report what is found."""
    try:
        found = directory_summary(path)
    except QosError as error:
        report.add(Check("recording", "failed", str(error)))
        return
    detail = (
        f"{span_text(found.begins_at, found.ends_at)}, {plural(found.files, 'file')}"
    )
    faults = "; ".join(found.faults)
    hint = f"what is damaged is left out when it is read: {faults}" if faults else ""
    report.add(Check("recording", "failed" if faults else "ok", detail, hint))
    folder = path if path.is_dir() else path.parent
    report.add(_recorder(folder, found))
    report.add(_disk(folder, found))
    report.add(_permissions(folder))


def _recorder(folder: Path, found: DirectorySummary) -> Check:
    age = time.time() - found.ends_at / 1e9
    try:
        Lock(folder).release()
    except LockedError:
        return Check(
            "recorder", "ok", f"one writes to it; its last entry is {age:.0f} s old"
        )
    ended = "ended regularly" if found.is_closed else "was killed"
    return Check("recorder", "ok", f"none writes to it now; the last one {ended}")


def _disk(folder: Path, found: DirectorySummary) -> Check:
    free = shutil.disk_usage(folder).free
    daily = found.bytes / max(found.ends_at - found.begins_at, 1) * _DAY
    days = free / max(daily, 1)
    detail = f"{size_text(free)} free; {size_text(daily)} a day while it recorded"
    hint = (
        f"that is enough for {days:.1f} days: make room" if days < _LEAST_DAYS else ""
    )
    return Check("disk", "failed" if hint else "ok", detail, hint)


def _permissions(folder: Path) -> Check:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if os.name == "posix" and mode & _OTHERS:
        hint = f"if that is not wanted: chmod 700 {folder}"
        return Check("permissions", "ok", f"other users may enter it ({mode:o})", hint)
    return Check("permissions", "ok", f"only this user may enter it ({mode:o})")
