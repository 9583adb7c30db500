"""The program ``qos``. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``qos``; the exit codes are in ``qos --help``.

    Args:
        argv: The words after the program's name; those of this process by default.
    """
    try:  # Ctrl-C may come while this is being imported.
        from qos_async.cli import program  # noqa: PLC0415
    except KeyboardInterrupt:
        return _INTERRUPTED
    return program.main(argv)
