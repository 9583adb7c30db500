"""``qos replay``: serves a recording as if it were live."""

from __future__ import annotations

import math
from argparse import ArgumentParser
from functools import partial
from typing import TYPE_CHECKING

from qos_async.cli import exits
from qos_async.cli.convert import report_unknown
from qos_async.cli.display import Display, add_tz, resolve_display
from qos_async.cli.options import (
    Command,
    Options,
    UsageError,
    add_place,
    add_slice,
    port,
    slice_of,
    speed,
)
from qos_async.cli.sim import PortError, listening
from qos_async.cli.streams import print_message

if TYPE_CHECKING:  # Slow to import.
    from qos_async.recordings.replay_server import ReplayServer

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add_place(parser)
    add(
        "--speed",
        type=partial(speed, maximum=math.inf),
        default=1.0,
        metavar="X",
        help="times real time (1)",
    )
    add_slice(parser)
    add("--port", type=port, default=0, help="0, the default, takes a free one")
    add_tz(parser, "of messages; terminal: local, else UTC")


def _run(options: Options) -> int:
    """Serve until the recording ends."""
    from qos_async.cli.client import run_async

    code = run_async(partial(_replay, options))
    stopped = code in (exits.INTERRUPTED, exits.TERMINATED)
    return exits.OK if stopped else code


async def _replay(options: Options) -> None:
    from qos_async.recordings.replay_server import ReplayServer

    start, end = slice_of(options)
    server = ReplayServer(
        options.place, speed=options.speed, start=start, end=end, port=options.port
    )
    try:
        async with listening(server, options.port):
            await _serve(server, resolve_display(options, on_stderr=True))
    except PortError as error:
        raise UsageError(str(error)) from None


async def _serve(server: ReplayServer, display: Display) -> None:
    from qos_async.cli.formatting import iso_time

    found = server.contents
    for fault in found.faults:
        print_message(f"damaged: {fault}")
    report_unknown(found.unknown)
    length = found.elapsed
    if length is None:
        length = max((found.ends_at or 0) - found.begins_at, 0)
    seconds = length / 1e9
    names = ", ".join(sorted(map(str, found.topics)))
    if found.begins_at:
        begins = display.time(found.begins_at / 1e9)
        print_message(f"recorded from {iso_time(begins, display.zone())} on")
    print_message(f"{seconds:.0f} s of {names}; starts at the first subscription")
    await server.ended.wait()
    await server.close_ended()
    print_message(
        f"the recording has ended; {sum(server.pushed.values())} pushes were sent"
    )


COMMAND = Command(
    "serve a recording, as if it were live",
    """\
Runs a QOS server on this machine that plays a recording or a stream to clients
in any language. It starts at the first subscription, and stops at the end of
the recording, or with Ctrl-C. The lines on stdout set the environment of a
client; a shell can evaluate them.

examples:
  qos record --sim CF:BTCUSDT --seconds 5 -o recordings
  qos replay recordings --port 8765
  qos replay recordings --speed 10
  qos replay nats://host:4222/QOS --from 2025-01-31T14:30Z
""",
    """\
Pushes are sent as they were received, byte for byte. Requests for snapshots,
depth, trades and klines are answered from what was pushed until then. Where the
link was lost or the file is damaged, the server cuts its links, and waits up to
ten seconds for a client to reconnect. At the end it closes them with code 4390,
at which clients of this package end, too. In Python, without a server:
qos_async.replay.
""",
    _add_arguments,
    _run,
)
