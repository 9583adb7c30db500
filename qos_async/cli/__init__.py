"""The program ``qos``. Nothing heavy is imported before a command needs it."""

from qos_async.cli.program import main

__all__ = ["main"]
