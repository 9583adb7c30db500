"""``qos demo``: the main job on the embedded simulator."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from qos_async.cli.options import add_market, seconds

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]

BRIEF = "the main job on a simulated market"
ABOUT = """\
Starts a simulated QOS server, watches ten symbols of every market on four channels
(snapshot, trade, depth, kline), cuts the link once on the way so that one sees it
heal, and sums up. A terminal gets a live table (pip install 'qos-async[cli]'),
everything else gets a line a tick.

examples:
  qos demo
  qos demo --seconds 60 --speed 5
  qos demo --json 2>/dev/null | head -3
"""
NOTE = """\
The plan allows one command a second, so it takes about four seconds until all four
channels are live, and as long again after the cut. Runs under 12 seconds are simulated
with a faster plan and wait less before dialling again: the whole story still fits.

With --json, stdout has one object a tick and nothing else; gaps, moves of the link and
the summary go to stderr, an object a line.
"""


class Arguments(Namespace):
    """What was asked for."""

    seconds: float = 15.0
    seed: int = 1
    speed: float = 1.0
    json: bool = False
    plain: bool = False


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument(
        "--seconds",
        type=seconds,
        default=15.0,
        metavar="S",
        help="how long to run (15)",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object a tick")
    shape.add_argument(
        "--plain", action="store_true", help="lines, even if this is a terminal"
    )
    add_market(parser)


def run(arguments: Arguments) -> int:
    """Play the demo, sum it up, and give the exit code."""
    from qos_async.cli import demo

    return demo.run_demo(arguments)
