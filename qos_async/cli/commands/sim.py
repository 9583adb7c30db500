"""``qos sim``: the simulator alone."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from qos_async.cli.values import add_market, port

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]

BRIEF = "run the simulated server alone"
ABOUT = """\
Runs the simulated QOS server alone, on this machine only, until Ctrl-C. It enforces
the free plan and tells of every breach of the protocol on stderr. What it prints on
stdout, a shell can take as it is.

examples:
  qos sim
  qos sim --port 8765 --speed 10
"""
NOTE = ""


class Arguments(Namespace):
    """What was asked for."""

    port: int = 0
    seed: int = 1
    speed: float = 1.0


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument(
        "--port", type=port, default=0, help="0, the default, takes a free one"
    )
    add_market(parser)


def run(arguments: Arguments) -> int:
    """Serve until somebody has enough, and give the exit code."""
    from qos_async.cli import simulate  # noqa: PLC0415 - heavy

    return simulate.run_sim(arguments)
