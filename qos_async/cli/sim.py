"""``qos sim``: the simulated server alone, or for a program that it runs."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from argparse import ArgumentParser
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from qos_async._printable import printable
from qos_async._wording import did_you_mean, plural
from qos_async.cli import exits
from qos_async.cli.options import (
    Command,
    CommandError,
    Options,
    add_market,
    market_hours,
    port,
)
from qos_async.cli.signals import on_termination
from qos_async.cli.streams import print_message

if TYPE_CHECKING:  # Slow to import.
    from asyncio.subprocess import Process

    from qos_async.recordings.replay_server import ReplayServer
    from qos_async.sim import Simulator

__all__ = ["COMMAND", "PortError", "listening", "port_error"]

_POLL_INTERVAL = 0.2
_END_TIMEOUT = 10.0
"""Seconds that a program has to end after Ctrl-C, and again after SIGTERM."""


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
    async with _entered(server, port):
        for name, value in _environment(server).items():
            print(f"export {name}={value}")
        print(end="", flush=True)
        yield


@asynccontextmanager
async def _entered(server: Simulator | ReplayServer, port: int) -> AsyncGenerator[None]:
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(server)
        except OSError as error:  # Of the server alone: not of the body.
            raise PortError(port_error(error, port)) from None
        yield


def _environment(server: Simulator | ReplayServer) -> dict[str, str]:
    """Return the environment of a client of a server."""
    return {
        "QOS_HTTP_URL": server.http_url,
        "QOS_STREAM_URL": server.stream_url,
        "QOS_API_KEY": server.key,
    }


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
    parser.add_argument(
        "program",
        nargs="*",
        metavar="-- COMMAND",
        help="a program to run with this server: it ends with the program",
    )


def _run(options: Options) -> int:
    """Serve until Ctrl-C, SIGTERM or SIGHUP, which is the regular end.

    With a program: until it ends; the exit code is then that of the program.
    """
    from qos_async.cli.client import run_async
    from qos_async.sim import Simulator

    sim = Simulator(
        port=options.port,
        seed=options.seed,
        speed=options.speed,
        market_hours=options.hours,
    )
    job: Callable[[], Coroutine[Any, Any, int | None]]
    if options.program:
        if shutil.which(options.program[0]) is None:
            raise _cannot_run(
                options.program,
                f"there is no such program{_by_python(options.program)}",
            )
        job = partial(_run_program, sim, options.port, options.program)
    else:
        job = partial(_serve, sim, options.port)
    code = run_async(job)
    print_message(
        "",
        f"{plural(len(sim.frames), 'frame')} and {plural(len(sim.requests), 'request')} "
        f"received, {plural(len(sim.violations), 'violation')} of the protocol",
    )
    return code if options.program else exits.OK


async def _serve(sim: Simulator, port: int) -> None:
    import asyncio

    from qos_async.cli.sim_keys import SimKeys, pressed_keys

    async with listening(sim, port):
        print_message("listening; Ctrl-C stops it")
        keys = SimKeys(sim)
        report = asyncio.create_task(_report_violations(sim))
        try:
            with pressed_keys(keys.press):
                await keys.quit.wait()
        finally:
            keys.close()
            report.cancel()


async def _report_violations(sim: Simulator) -> NoReturn:
    import asyncio

    reported = 0
    while True:
        await asyncio.sleep(_POLL_INTERVAL)
        for violation in sim.violations[reported:]:
            print_message(f"violation: {violation}")
        reported = len(sim.violations)


async def _run_program(sim: Simulator, port: int, program: list[str]) -> int:
    """Run a program with the server as its service, and return its exit code."""
    import asyncio

    async with _entered(sim, port):
        try:
            process = await asyncio.create_subprocess_exec(
                *program, env=os.environ | _environment(sim)
            )
        except OSError as error:
            raise _cannot_run(program, error.strerror or str(error)) from None
        report = asyncio.create_task(_report_violations(sim))
        try:
            with on_termination(partial(_end, process.terminate)):
                code = await _wait(process)
        finally:
            report.cancel()
        # As shells have it: 128 and the number of the signal that ended it.
        return code if code >= 0 else 128 - code


async def _wait(process: Process) -> int:
    """Return the exit code of a program; after Ctrl-C, which it gets too, let it end."""
    import asyncio

    try:
        return await process.wait()
    except asyncio.CancelledError:
        for end in (process.terminate, process.kill):
            with suppress(TimeoutError):
                async with asyncio.timeout(_END_TIMEOUT):
                    return await process.wait()
            _end(end)
        return await process.wait()


def _end(end: Callable[[], None]) -> None:
    with suppress(ProcessLookupError):  # It has ended.
        end()


def _by_python(program: list[str]) -> str:
    """Return the command that runs a script of Python; empty for anything else."""
    if not program[0].endswith(".py"):
        return ""
    return did_you_mean(f"qos sim -- python {printable(shlex.join(program))}")


def _cannot_run(program: list[str], why: str) -> CommandError:
    return CommandError(f"cannot run {printable(program[0])}: {why}")


COMMAND = Command(
    "run the simulated server alone",
    """\
Runs the simulated QOS server alone, on this machine only, until Ctrl-C. It
enforces the free plan and reports every violation of the protocol on stderr.
The lines on stdout set the environment of a client; a shell can evaluate them.

On a terminal, keys cause faults: c cuts the links, o is an outage of 30 s, k
expires the key, m sends nothing more (o, k, m again: the end of it); q quits.

With a command after --, it runs that program with this environment instead,
stops when the program ends, and exits with its code.

examples:
  qos sim -- python bot.py
  qos sim
  qos sim --port 8765 --speed 10
  qos sim --hours real
""",
    "",
    _add_arguments,
    _run,
)
