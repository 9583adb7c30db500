"""The command-line program ``qos``.

``command_line`` parses and runs; ``commands`` lists the commands. A command is one module, or one
package where it is large: its arguments, its help and its ``run``. Shared by them:
``options`` (argparse), ``settings`` (configuration), ``client`` (a client, and how a run
ends), ``tables``, ``serialize``, ``formatting`` and ``files`` (output).

Modules that define a command are imported for every ``qos --help``, so what is slow to
import (asyncio, msgspec, the client) is imported in their functions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from qos_async.cli import exits
from qos_async.cli.signals import (
    Terminated,
    ignore_signals,
    on_termination,
    terminate,
)

__all__ = ["main", "program"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``qos`` and return the exit code; ``qos --help`` lists them.

    Args:
        argv: The arguments after the program's name; those of this process by default.
    """
    try:
        # Imported here, so that Ctrl-C during the import is caught, too.
        from qos_async.cli import command_line

        return command_line.run(argv)
    except KeyboardInterrupt:
        return exits.INTERRUPTED


def program() -> NoReturn:
    """Run ``qos`` as a program: exit with the code of ``main``."""
    try:
        with on_termination(terminate):
            code = main()
            # The run is over, and its exit code shall not change. Within the block, so that
            # no signal comes between the handlers of the run and this.
            ignore_signals()
    except KeyboardInterrupt:
        code = exits.INTERRUPTED
    except Terminated:
        code = exits.TERMINATED
    sys.exit(code)
