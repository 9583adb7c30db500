"""Command ``qos chart``."""

from __future__ import annotations

from qos_async.cli.charts.command import (
    ABOUT,
    BRIEF,
    NOTE,
    Arguments,
    add_arguments,
    run,
)

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]
