"""The table of all commands."""

from __future__ import annotations

from qos_async.cli import (
    archive,
    completion,
    convert,
    demo,
    fetch,
    hub,
    info,
    login,
    replay,
    search,
    sim,
    stream,
)
from qos_async.cli.charts import command as chart
from qos_async.cli.doctor import command as doctor
from qos_async.cli.history import command as history
from qos_async.cli.options import Command
from qos_async.cli.record import command as record
from qos_async.cli.watch import command as watch

__all__ = ["COMMANDS"]

COMMANDS: dict[str, Command] = {
    "demo": demo.COMMAND,
    "sim": sim.COMMAND,
    "hub": hub.COMMAND,
    **fetch.COMMANDS,
    "search": search.COMMAND,
    "history": history.COMMAND,
    "chart": chart.COMMAND,
    "stream": stream.COMMAND,
    "record": record.COMMAND,
    "info": info.COMMAND,
    "replay": replay.COMMAND,
    "convert": convert.COMMAND,
    "archive": archive.COMMAND,
    "watch": watch.COMMAND,
    "login": login.COMMAND,
    "doctor": doctor.COMMAND,
    "completion": completion.COMMAND,
}
"""In the order of ``qos --help``."""
