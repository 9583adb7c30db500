"""Command ``qos demo``."""

from __future__ import annotations

from qos_async.cli.demo import (
    ABOUT,
    BRIEF,
    NOTE,
    Arguments,
    add_arguments,
    run,
)

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]
