"""``qos sim``: the simulator alone."""

from __future__ import annotations

import asyncio
import errno
import sys
from contextlib import AsyncExitStack

from qos_async.cli import exits
from qos_async.cli.commands.sim import Arguments
from qos_async.cli.ending import end_on_sigterm
from qos_async.sim import Simulator

__all__ = ["run_sim"]

_GLANCE = 0.2


class _PortError(Exception):
    """The port cannot be had; the sentence says what to type instead."""


def run_sim(arguments: Arguments) -> int:
    """Serve until somebody has enough; that is how this is meant to end."""
    sim = Simulator(port=arguments.port, seed=arguments.seed, speed=arguments.speed)
    try:
        asyncio.run(_serve(sim, arguments.port))
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
    except _PortError as error:
        print(f"qos sim: {error}", file=sys.stderr)
        return exits.FAILED
    print(
        f"\n{len(sim.frames)} frames and {len(sim.requests)} requests came in, "
        f"{len(sim.violations)} breaches of the protocol",
        file=sys.stderr,
    )
    return exits.OK


async def _serve(sim: Simulator, port: int) -> None:
    end_on_sigterm()
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(sim)
        except OSError as error:
            raise _PortError(_problem(error, port)) from None
        print("listening; Ctrl-C stops it. For the client:", file=sys.stderr)
        print(f"export QOS_HTTP_URL={sim.http_url}")
        print(f"export QOS_STREAM_URL={sim.stream_url}")
        print(f"export QOS_API_KEY={sim.key}", flush=True)
        told = 0
        while True:
            await asyncio.sleep(_GLANCE)
            for breach in sim.violations[told:]:
                print(f"breach: {breach}", file=sys.stderr)
            told = len(sim.violations)


def _problem(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} is in use: choose another with --port, "
            "or let --port 0 find a free one"
        )
    if isinstance(error, PermissionError):
        return f"port {port} is not yours to use: choose one above 1023 with --port"
    return f"cannot listen on port {port}: {error.strerror or error}"
