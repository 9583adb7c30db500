"""The command-line program ``qos``.

``main`` parses and runs; ``commands`` lists the commands. A command is one module, or one
package where it is large: its arguments, its help and its ``run``. Shared by them:
``options`` (argparse), ``settings`` (configuration), ``client`` (a client, and how a run
ends), ``tables``, ``serialize``, ``formatting`` and ``files`` (output).

Modules that define a command are imported for every ``qos --help``, so what is slow to
import (asyncio, msgspec, the client) is imported in their functions.
"""

from __future__ import annotations

from qos_async.cli.main import main, program

__all__ = ["main", "program"]
