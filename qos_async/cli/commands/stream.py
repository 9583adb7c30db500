"""``qos stream``: live ticks, as they come."""

from __future__ import annotations

from argparse import ArgumentParser

from qos_async.cli.asking import add_shape
from qos_async.cli.connecting import Connection, add_connection
from qos_async.cli.values import channel, channel_or_symbols, interval, seconds
from qos_async.enums import Channel, Interval

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]

BRIEF = "live ticks, until Ctrl-C"
ABOUT = """\
Writes ticks as they come, until Ctrl-C or for --seconds: a line each for
people, with --json an object a line, with --csv a row. CHANNEL is snapshots,
trades (if none is named), depth or klines.

examples:
  qos stream trades US:AAPL,TSLA
  qos stream --sim trades CF:BTCUSDT --seconds 5
  qos stream --sim trades depth CF:BTCUSDT --json | head -3
"""
NOTE = """\
stderr tells, in order, what may be missing: links that were lost, gaps, and
ticks that were dropped because whoever reads the output was too slow. It ends
with a summary. A link that is lost is dialled again for as long as it takes;
only the first one must come about at once. Ctrl-C (or SIGTERM) is how this is
meant to end, so the exit code is 0; with --seconds it is 130 (143), since the
time was not over.
"""


class Arguments(Connection):
    """What was asked for."""

    words: list[Channel | tuple[str, ...]]
    channel: list[Channel]
    interval: Interval | None = None
    seconds: float | None = None
    json: bool = False
    csv: bool = False


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.usage = "qos stream [CHANNEL ...] SYMBOL [SYMBOL ...] [options]"
    parser.add_argument(
        "words",
        type=channel_or_symbols,
        nargs="+",
        metavar="CHANNEL or SYMBOL",
        help="such as trades, or US:AAPL,TSLA",
    )
    parser.add_argument(
        "--channel",
        type=channel,
        action="append",
        default=[],
        metavar="C",
        help="the same as CHANNEL; may be repeated",
    )
    parser.add_argument("--interval", type=interval, metavar="I", help="of klines (1m)")
    parser.add_argument(
        "--seconds", type=seconds, metavar="S", help="end after that long"
    )
    add_shape(parser)
    add_connection(parser)


def run(arguments: Arguments) -> int:
    """Write ticks until somebody has enough, and give the exit code."""
    from qos_async.cli import stream  # noqa: PLC0415 - heavy

    return stream.run_stream(arguments)
