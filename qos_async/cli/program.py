"""From the words on the command line to an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from qos_async.cli import exits
from qos_async.cli.arguments import parse
from qos_async.cli.commands import COMMANDS

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``qos``; the exit codes are in ``qos --help``.

    Args:
        argv: The words after the program's name; those of this process by default.
    """
    try:
        code = _run(argv)
        if sys.stdout is not None:  # None under pythonw, or after ``>&-``.
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read (``head``, say) has had enough: that is no failure.
        _discard_output()
        return exits.OK
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except OSError as error:
        print(f"qos: {error.strerror or error}", file=sys.stderr)
        _discard_output()
        return exits.FAILED
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = parse(argv)
    except SystemExit as wanted:  # How argparse ends after --help and wrong words.
        return wanted.code if isinstance(wanted.code, int) else exits.USAGE
    return COMMANDS[arguments.command].run(arguments)


def _discard_output() -> None:
    """Let what is still buffered go nowhere, or Python complains when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    finally:
        os.close(nowhere)
