"""``qos record``: everything that comes over the stream, into files."""

from __future__ import annotations

from argparse import ArgumentParser

from qos_async.cli.commands import stream
from qos_async.cli.connecting import add_connection
from qos_async.cli.values import channel, channel_or_symbols, interval, seconds

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]

BRIEF = "write what comes into files, until Ctrl-C"
ABOUT = """\
Writes everything that comes over the stream into files of a directory, with the time at
which it came, until Ctrl-C or for --seconds. Outages go into the files, the key never
does. CHANNEL is snapshots, trades (if none is named), depth or klines.

examples:
  qos record trades depth US:AAPL,TSLA -o recordings
  qos record --sim CF:BTCUSDT --seconds 5 -o recordings
  qos record --sim CF:BTCUSDT --seconds 5 -o recordings --to parquet
"""
NOTE = """\
Files are JSON lines, compressed with zstandard; a new one begins each hour. They are
whole after every second, so Ctrl-C, or even a crash, loses next to nothing. Files that
are there already are left alone. With --to parquet there is a directory parquet beside
them at the end. Play them with qos replay; see qos convert, too. A full disk ends it
with exit code 1. Ctrl-C (or SIGTERM) is how this is meant to end, so the exit code is 0;
with --seconds it is 130 (143), since the time was not over.
"""


class Arguments(stream.Arguments):
    """What was asked for."""

    output: str
    to: str = "jsonl"


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.usage = "qos record [CHANNEL ...] SYMBOL [SYMBOL ...] -o DIR [options]"
    add = parser.add_argument
    add(
        "words",
        type=channel_or_symbols,
        nargs="+",
        metavar="CHANNEL or SYMBOL",
        help="such as trades, or US:AAPL,TSLA",
    )
    add(
        "--channel",
        type=channel,
        action="append",
        default=[],
        metavar="C",
        help="the same as CHANNEL; may be repeated",
    )
    add("--interval", type=interval, metavar="I", help="of klines (1m)")
    add("-o", "--output", required=True, metavar="DIR", help="where to")
    add(
        "--to",
        choices=("jsonl", "parquet"),
        default="jsonl",
        help="parquet: convert what was recorded at the end, too",
    )
    add("--seconds", type=seconds, metavar="S", help="end after that long")
    parser.set_defaults(csv=False, json=False)
    add_connection(parser)


def run(arguments: Arguments) -> int:
    """Record until somebody has enough, and give the exit code."""
    from qos_async.cli import recording  # noqa: PLC0415 - heavy

    return recording.run_record(arguments)
