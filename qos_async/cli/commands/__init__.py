"""The commands: what each takes and says, a light module a command.

What does the work is imported by ``run``, when the command is known to be wanted:
``qos --help`` and mistakes are told at once.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any, Protocol

from qos_async.cli.commands import demo, sim

__all__ = ["COMMANDS", "Command"]


class Command(Protocol):
    """What a module of this package offers."""

    BRIEF: str
    """A line, for the list of all commands."""
    ABOUT: str
    """What it does, with examples."""
    NOTE: str
    """What else one may want to know; at the end, may be empty."""

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
}
"""In the order of ``qos --help``."""
