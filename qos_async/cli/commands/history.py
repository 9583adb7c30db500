"""``qos history``: klines of the past, into a file."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from qos_async.cli.connecting import Connection, add_connection
from qos_async.cli.moments import Moment
from qos_async.cli.values import interval, moment, one_symbol, output
from qos_async.enums import Interval

__all__ = ["ABOUT", "BRIEF", "NOTE", "Arguments", "add_arguments", "run"]

BRIEF = "klines of the past, into a Parquet, CSV or JSON Lines file"
ABOUT = """\
Pages back through the history of a symbol, as fast as the plan allows, and
writes one file: ascending, no bar twice, without the newest bar while that
still grows. Says where bars are missing although the market was open.

Stopped by Ctrl-C, by an outage or by a crash, the same command goes on where it
was: until all is there, the pages are kept beside the output, in FILE.part.

examples:
  qos history CF:BTCUSDT --interval 1m --from 2025-01-01 -o btc.parquet
  qos history US:AAPL --interval 1d --from 2015-01-01 --adjust -o aapl.csv
  qos history --sim CF:ETHUSDT --interval 1m --from 2d -o eth.jsonl
"""
NOTE = """\
times: a day (2025-01-31), in the market's own time zone: New York for US, Hong
Kong for HK, Shanghai for SH and SZ, UTC for all others; it begins at midnight,
and --to takes the whole of it. Or a time with a zone (2025-01-31T09:30Z,
2025-01-31T17:30+08:00). Or a span back from now (90m, 12h, 2d, 4w).

CSV and JSON Lines hold numbers as sent, exact, under the names that qos klines
--csv and --json give them. Parquet needs pyarrow:
pip install 'qos-async[arrow]'

Of stocks, holes are looked for in regular sessions. Holidays are known where
the package exchange_calendars is: pip install 'qos-async[calendars]'

Where the server ignores --to, as it was seen to do in 2024, its newest bars are
written, that is told, and the exit code is 1.
"""


class Arguments(Connection):
    """What was asked for."""

    symbol: str
    interval: Interval
    since: Moment
    until: Moment | None = None
    output: Path
    adjust: bool = False
    numbers: str | None = None
    force: bool = False
    all_holes: bool = False


def add_arguments(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    add = parser.add_argument
    add("symbol", type=one_symbol, metavar="SYMBOL", help="such as US:AAPL")
    add(
        "--interval",
        type=interval,
        required=True,
        metavar="I",
        help="1m 5m 15m 30m 1h 2h 4h 1d 1w 1M 1y",
    )
    add(
        "--from", dest="since", type=moment, required=True, metavar="TIME", help="start"
    )
    add("--to", dest="until", type=moment, metavar="TIME", help="end (now)")
    add(
        "-o",
        "--output",
        type=output(".parquet", ".csv", ".jsonl"),
        required=True,
        metavar="FILE",
        help="where to; its suffix says how: .parquet, .csv or .jsonl",
    )
    add("--adjust", action="store_true", help="for dividends and splits")
    add(
        "--numbers",
        choices=("float", "decimal", "text"),
        help="of Parquet: fast, or exact (float)",
    )
    add("--force", action="store_true", help="replace FILE, and a leftover of another")
    add("--all-holes", action="store_true", help="name every hole, not the 20 longest")
    add_connection(parser)


def run(arguments: Arguments) -> int:
    """Fetch, write, tell, and give the exit code."""
    from qos_async.cli.history import run as history  # noqa: PLC0415 - heavy

    return history.run_history(arguments)
