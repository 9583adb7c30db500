"""What ``qos watch`` keeps in the configuration, when asked: the table ``[watch]``."""

from __future__ import annotations

from pathlib import Path

from qos_async.cli.key_file import write_table
from qos_async.cli.options import CommandError
from qos_async.cli.settings import config_path
from qos_async.cli.watch.model import Model

__all__ = ["save"]


def save(model: Model, *, light: bool) -> Path:
    """Write symbols, interval, order, alerts and theme; return the path of the file.

    Raises:
        CommandError: If it cannot be written.
    """
    path = config_path()
    if path is None:
        raise CommandError("there is no home directory to write the configuration to")
    entries: dict[str, str | list[str]] = {
        "symbols": list(model.symbols),
        "interval": str(model.interval),
        "sort": model.rows.sort,
        "alerts": [str(alert) for alert in model.alerts.waiting],
        "theme": "light" if light else "dark",
    }
    write_table(path, "watch", entries)
    return path
