"""What may be typed, checked here, with sentences that say what to do."""

from __future__ import annotations

import math
import sys
from argparse import (
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Sequence
from typing import Any

from qos_async import __version__
from qos_async.cli.exits import USAGE

__all__ = ["Arguments", "parse"]

_SPEED_MAX = 100.0
_PORT_MAX = 65535

_ABOUT = """\
QOS market data (qos.hk), tried out on this machine.

examples:
  qos demo                  the whole story in 15 seconds; no key, no network
  qos sim --port 8765       a QOS server of your own
"""
_EXITS = """\
exit codes:
  0    done; also when whoever reads the output has had enough
  1    failed; a sentence says why
  2    wrong arguments
  130  stopped with Ctrl-C before the end (143: with SIGTERM)
"""
_DEMO = """\
Starts a simulated QOS server, watches ten symbols of every market on four channels
(snapshot, trade, depth, kline), cuts the link once on the way so that one sees it
heal, and sums up. A terminal gets a live table (pip install 'qos-async[cli]'),
everything else gets a line a tick.

examples:
  qos demo
  qos demo --seconds 60 --speed 5
  qos demo --json 2>/dev/null | head -3
"""
_DEMO_NOTE = """\
The plan allows one command a second, so it takes about four seconds until all four
channels are live, and as long again after the cut. Runs under 12 seconds are simulated
with a faster plan and wait less before dialling again: the whole story still fits.

With --json, stdout has one object a tick and nothing else; gaps, moves of the link and
the summary go to stderr, an object a line.
"""
_SIM = """\
Runs the simulated QOS server alone, on this machine only, until Ctrl-C. It enforces
the free plan and tells of every breach of the protocol on stderr. What it prints on
stdout, a shell can take as it is.

examples:
  qos sim
  qos sim --port 8765 --speed 10
"""


class Arguments(Namespace):
    """What was asked for; the options of the other command are at their defaults."""

    command: str | None
    seconds: float = 15.0
    seed: int = 1
    speed: float = 1.0
    json: bool = False
    plain: bool = False
    port: int = 0


def parse(argv: Sequence[str] | None = None) -> Arguments:
    """Read the command line.

    Raises:
        SystemExit: After ``--help`` or ``--version`` with 0, for a mistake with 2.
    """
    parser = _parser("qos", _ABOUT, _EXITS)
    parser.add_argument("--version", action="version", version=f"qos {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands"
    )
    _add_demo(commands)
    _add_sim(commands)
    arguments = parser.parse_args(argv, Arguments())
    if arguments.command is None:
        parser.print_help(sys.stderr)
        raise SystemExit(USAGE)
    return arguments


def _add_demo(commands: Any) -> None:
    demo = _command(commands, "demo", "the main job on a simulated market", _DEMO)
    demo.epilog = _DEMO_NOTE
    demo.add_argument(
        "--seconds",
        type=_seconds,
        default=15.0,
        metavar="S",
        help="how long to run (15)",
    )
    shape = demo.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object a tick")
    shape.add_argument(
        "--plain", action="store_true", help="lines, even if this is a terminal"
    )
    _add_market(demo)


def _add_sim(commands: Any) -> None:
    sim = _command(commands, "sim", "run the simulated server alone", _SIM)
    sim.add_argument(
        "--port", type=_port, default=0, help="0, the default, takes a free one"
    )
    _add_market(sim)


def _add_market(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=_seed, default=1, metavar="N", help="another market (1)"
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        metavar="X",
        help=f"market seconds in a second, up to {_SPEED_MAX:g} (1)",
    )


def _command(commands: Any, name: str, brief: str, about: str) -> ArgumentParser:
    parser: ArgumentParser = commands.add_parser(
        name,
        help=brief,
        description=about,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def _parser(name: str, about: str, note: str) -> ArgumentParser:
    return ArgumentParser(
        name,
        description=about,
        epilog=note,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _seconds(text: str) -> float:
    seconds = _number(text)
    if not 0 < seconds < math.inf:
        raise ArgumentTypeError(
            f"{text!r} is not a number of seconds above 0: try --seconds 15"
        )
    return seconds


def _speed(text: str) -> float:
    speed = _number(text)
    if not 0 < speed <= _SPEED_MAX:
        raise ArgumentTypeError(
            f"{text!r} is not a speed above 0 and up to {_SPEED_MAX:g}: "
            "1 is real time, --speed 10 is ten times as fast"
        )
    return speed


def _seed(text: str) -> int:
    seed = _whole(text)
    if seed is None or seed < 0:
        raise ArgumentTypeError(
            f"{text!r} is not a whole number from 0: each one, such as --seed 7, "
            "draws another market"
        )
    return seed


def _port(text: str) -> int:
    port = _whole(text)
    if port is None or not 0 <= port <= _PORT_MAX:
        raise ArgumentTypeError(
            f"{text!r} is not a port from 0 to {_PORT_MAX}: try --port 8765, "
            "or --port 0 for any free one"
        )
    return port


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
