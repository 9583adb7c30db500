"""``qos sim``: the simulated server alone."""

from __future__ import annotations

import errno
from argparse import ArgumentParser
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from qos_async.cli import exits
from qos_async.cli.options import Command, Options, add_market, market_hours, port
from qos_async.cli.streams import print_message

if TYPE_CHECKING:  # Slow to import.
    from qos_async.recordings.replay_server import ReplayServer
    from qos_async.sim import Simulator

__all__ = ["COMMAND", "PortError", "listening", "port_error"]

_POLL_INTERVAL = 0.2


class PortError(OSError):
    """The server cannot listen on its port; the message says what to type instead."""


@asynccontextmanager
async def listening(
    server: Simulator | ReplayServer, port: int
) -> AsyncGenerator[None]:
    """Run a server, and print its addresses and its key as lines for a shell.

    Raises:
        PortError: If it cannot listen on the port.
    """
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(server)
        except OSError as error:  # Of the server alone: not of printing, below.
            raise PortError(port_error(error, port)) from None
        print(f"export QOS_HTTP_URL={server.http_url}")
        print(f"export QOS_STREAM_URL={server.stream_url}")
        print(f"export QOS_API_KEY={server.key}", flush=True)
        yield


def port_error(error: OSError, port: int) -> str:
    """Return the message for a server that cannot listen on a port."""
    other = "choose another with --port, or let --port 0 find a free one"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: {other}"
    if isinstance(error, PermissionError):
        return f"port {port} needs more rights: choose one above 1023 with --port"
    return f"cannot listen on port {port} ({error.strerror or error}): {other}"


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=port, default=0, help="0, the default, takes a free one"
    )
    add_market(parser)
    parser.add_argument(
        "--hours",
        type=market_hours,
        default="always",
        metavar="H",
        help="always: markets trade at any time, the default; real: in their hours only",
    )


def _run(options: Options) -> int:
    """Serve until Ctrl-C, SIGTERM or SIGHUP, which is the regular end."""
    from qos_async.cli.client import run_async
    from qos_async.sim import Simulator

    sim = Simulator(
        port=options.port,
        seed=options.seed,
        speed=options.speed,
        market_hours=options.hours,
    )
    run_async(partial(_serve, sim, options.port))
    print_message(
        "",
        f"{len(sim.frames)} frames and {len(sim.requests)} requests received, "
        f"{len(sim.violations)} violations of the protocol",
    )
    return exits.OK


async def _serve(sim: Simulator, port: int) -> None:
    import asyncio

    async with listening(sim, port):
        print_message("listening; Ctrl-C stops it")
        reported = 0
        while True:
            await asyncio.sleep(_POLL_INTERVAL)
            for violation in sim.violations[reported:]:
                print_message(f"violation: {violation}")
            reported = len(sim.violations)


COMMAND = Command(
    "run the simulated server alone",
    """\
Runs the simulated QOS server alone, on this machine only, until Ctrl-C. It
enforces the free plan and reports every violation of the protocol on stderr.
The lines on stdout set the environment of a client; a shell can evaluate them.

examples:
  qos sim
  qos sim --port 8765 --speed 10
  qos sim --hours real
""",
    "",
    _add_arguments,
    _run,
)
