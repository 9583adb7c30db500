"""``qos convert``: a recording as Parquet."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]

BRIEF = "turn a recording into Parquet"
ABOUT = """\
Writes what was recorded as Parquet, a row a tick, in a directory for each channel and
each day (UTC) on which ticks were received: OUT/channel=trade/date=2025-01-02/.

examples:
  qos record --sim CF:BTCUSDT --seconds 5 -o recordings
  qos convert recordings -o parquet
  python -c "import polars; print(polars.read_parquet('parquet/channel=trade/**/*.parquet'))"
"""
NOTE = """\
Done again, it replaces what it made. A file is there when it is whole, so Ctrl-C leaves
no broken one. What a crash left half written of the recording is told, and passed over.
"""


class Arguments(Namespace):
    """What was asked for."""

    path: str
    output: str
    numbers: str = "float"


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add = parser.add_argument
    add("path", metavar="DIR", help="a recording, or one of its files")
    add("-o", "--output", required=True, metavar="OUT", help="where to")
    add(
        "--numbers",
        choices=("float", "decimal", "text"),
        default="float",
        help="decimal loses no digit (float)",
    )


def run(arguments: Arguments) -> int:
    """Convert, and give the exit code."""
    from qos_async.cli import recording  # noqa: PLC0415 - heavy

    return recording.run_convert(arguments)
