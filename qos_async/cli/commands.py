"""The table of all commands."""

from __future__ import annotations

from qos_async.cli import demo, fetch, hub, record, sim, stream
from qos_async.cli.charts import command as chart
from qos_async.cli.doctor import command as doctor
from qos_async.cli.history import command as history
from qos_async.cli.options import Command
from qos_async.cli.watch import command as watch

__all__ = ["COMMANDS"]

COMMANDS: dict[str, Command] = {
    "demo": demo.COMMAND,
    "sim": sim.COMMAND,
    "hub": hub.COMMAND,
    **fetch.COMMANDS,
    "history": history.COMMAND,
    "chart": chart.COMMAND,
    "stream": stream.COMMAND,
    "record": record.RECORD,
    "replay": record.REPLAY,
    "convert": record.CONVERT,
    "watch": watch.COMMAND,
    "doctor": doctor.COMMAND,
}
"""In the order of ``qos --help``."""
