"""The commands: what each takes and says, a light module a command.

What does the work is imported by ``run``, when the command is known to be wanted:
``qos --help`` and mistakes are told at once.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any, Protocol

from qos_async.cli.commands import (
    calendar,
    chart,
    convert,
    demo,
    depth,
    doctor,
    history,
    instruments,
    klines,
    products,
    record,
    replay,
    sim,
    snapshot,
    stream,
    trades,
    watch,
)

__all__ = ["COMMANDS", "Command"]


class Command(Protocol):
    """What a module of this package offers."""

    @property
    def BRIEF(self) -> str:  # noqa: N802 - a constant of the module
        """A line, for the list of all commands."""
        ...

    @property
    def ABOUT(self) -> str:  # noqa: N802
        """What it does, with examples."""
        ...

    @property
    def NOTE(self) -> str:  # noqa: N802
        """What else one may want to know; at the end, may be empty."""
        ...

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Say what may be typed."""
        ...

    def run(self, arguments: Any) -> int:
        """Do it, and give the exit code.

        Args:
            arguments: The namespace that holds what ``add_arguments`` asked for.
        """
        ...


COMMANDS: dict[str, Command] = {
    "demo": demo,
    "sim": sim,
    "snapshot": snapshot,
    "depth": depth,
    "trades": trades,
    "klines": klines,
    "instruments": instruments,
    "products": products,
    "calendar": calendar,
    "history": history,
    "chart": chart,
    "stream": stream,
    "record": record,
    "replay": replay,
    "convert": convert,
    "watch": watch,
    "doctor": doctor,
}
"""In the order of ``qos --help``."""
