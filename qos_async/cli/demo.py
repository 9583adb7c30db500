"""Command ``qos demo``: arguments, choice of the view, exit code.

Slow imports are inside functions: ``qos --help`` imports this module.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import TYPE_CHECKING

from qos_async.cli import exits
from qos_async.cli.display import add_red_up, add_tz, resolve_display
from qos_async.cli.options import Command, Options, add_market, seconds
from qos_async.cli.streams import print_message
from qos_async.cli.watch.command import missing_terminal, missing_textual

if TYPE_CHECKING:  # Slow to import.
    from qos_async.cli.demo_run import View
    from qos_async.cli.run_stats import RunStats
    from qos_async.cli.scenario import Scenario

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--seconds",
        type=seconds,
        default=15.0,
        metavar="S",
        help="length of the run (15)",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument(
        "--json", action="store_true", help="one JSON object for each tick"
    )
    shape.add_argument("--plain", action="store_true", help="lines, even on a terminal")
    add_tz(parser)
    add_red_up(parser)
    add_market(parser)


def _run(options: Options) -> int:
    """Play the scenario, show its summary, and return the exit code."""
    from qos_async.cli.client import run_async
    from qos_async.cli.demo_run import play
    from qos_async.cli.run_stats import RunStats
    from qos_async.cli.scenario import Scenario

    scenario = Scenario(seconds=options.seconds, seed=options.seed, speed=options.speed)
    stats = RunStats(scenario.topics)
    view = _choose_view(options, scenario, stats)
    started_at = time.monotonic()
    code = run_async(lambda: play(scenario, stats, view))
    view.summarize(time.monotonic() - started_at)
    return code or (exits.FAILED if stats.violations else exits.OK)


def _choose_view(options: Options, scenario: Scenario, stats: RunStats) -> View:
    """Return the screen for a terminal that can show it, otherwise lines."""
    from qos_async.cli.demo_run import PlainView, ScreenView
    from qos_async.cli.stderr_report import JsonView

    if options.json:
        return JsonView(stats)
    display = resolve_display(options)
    if options.plain or missing_terminal():
        return PlainView(stats, display)
    problem = missing_textual()
    if problem:
        print_message(f"qos: no screen, because {problem}")
        return PlainView(stats, display)
    return ScreenView(scenario, stats, display)


COMMAND = Command(
    "the client at work on a simulated market, with an outage",
    """\
Starts a simulated QOS server, subscribes four channels (snapshot, trade,
depth, kline) of ten symbols, cuts the link once to show how it recovers, and
prints a summary. On a terminal it shows the screen of qos watch (pip install
'qos-async[cli]'), elsewhere a line for each tick.

examples:
  qos demo
  qos demo --seconds 60 --speed 5
  qos demo --json 2>/dev/null | head -3
""",
    """\
The plan allows one command a second, so it takes about four seconds until all
four channels are live, and as long again after the outage. Runs under 12
seconds have a faster plan and shorter waits before reconnecting, so that
everything still fits.

With --json, stdout has one object for each tick and nothing else; gaps, states
of the link and the summary go to stderr, one object a line.

The exit code is 0 if the client kept to the protocol, 1 if not.
""",
    _add_arguments,
    _run,
)
