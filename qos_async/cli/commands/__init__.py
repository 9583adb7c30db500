"""The table of all commands."""

from __future__ import annotations

from qos_async.cli import fetch, record, sim, stream
from qos_async.cli.commands import chart, demo, watch
from qos_async.cli.doctor import command as doctor
from qos_async.cli.history import command as history
from qos_async.cli.options import Command

__all__ = ["COMMANDS"]

_DEMO, _CHART, _WATCH = (
    Command(one.BRIEF, one.ABOUT, one.NOTE, one.add_arguments, one.run)
    for one in (demo, chart, watch)
)

COMMANDS: dict[str, Command] = {
    "demo": _DEMO,
    "sim": sim.COMMAND,
    **fetch.COMMANDS,
    "history": history.COMMAND,
    "chart": _CHART,
    "stream": stream.COMMAND,
    "record": record.RECORD,
    "replay": record.REPLAY,
    "convert": record.CONVERT,
    "watch": _WATCH,
    "doctor": doctor.COMMAND,
}
"""In the order of ``qos --help``."""
