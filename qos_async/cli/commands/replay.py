"""``qos replay``: a recording as a server."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace

from qos_async.cli.values import port

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]

BRIEF = "serve a recording, as if it were live"
ABOUT = """\
Runs a QOS server on this machine that plays a recording to any client, in any language.
It begins when somebody subscribes, and ends with the recording, or with Ctrl-C. What it
prints on stdout, a shell can take as it is.

examples:
  qos record --sim CF:BTCUSDT --seconds 5 -o recordings
  qos replay recordings --port 8765
  qos replay recordings --speed 10
"""
NOTE = """\
Pushes go out as they came, to the byte. Snapshots, depth, trades and klines can be asked
for, as far as they were pushed until then. Where the link was lost it cuts its links, and
waits up to ten seconds for a client to come back. In Python, without a server:
qos_async.replay.
"""


class Arguments(Namespace):
    """What was asked for."""

    path: str
    port: int = 0
    speed: float = 1.0


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add = parser.add_argument
    add("path", metavar="DIR", help="a recording, or one of its files")
    add("--speed", type=_speed, default=1.0, metavar="X", help="times real time (1)")
    add("--port", type=port, default=0, help="0, the default, takes a free one")


def run(arguments: Arguments) -> int:
    """Serve until the recording ends, and give the exit code."""
    from qos_async.cli import recording  # noqa: PLC0415 - heavy

    return recording.run_replay(arguments)


def _speed(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(
            f"{text!r} is not a speed above 0: 1 is real time, "
            "--speed 10 is ten times as fast"
        )
    return value
