"""``qos history``: the command; fetches pages, writes the output, reports on it."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from pathlib import Path

from qos_async.cli import exits
from qos_async.cli.display import add_tz, resolve_display
from qos_async.cli.files import check_place
from qos_async.cli.history.targets import output_pattern, words_of_symbols
from qos_async.cli.options import (
    Command,
    CommandError,
    Options,
    UsageError,
    add_connection,
    add_interval,
    file_format,
    time_spec,
)
from qos_async.cli.streams import print_message
from qos_async.cli.times import TIMES

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "symbols",
        type=words_of_symbols,
        nargs="+",
        metavar="SYMBOL",
        help="such as US:AAPL, or @FILE with one symbol a line, and # comments",
    )
    add_interval(parser)
    add(
        "--from",
        dest="since",
        type=time_spec,
        metavar="TIME",
        help="start; with --update, of a symbol that is not in the file yet",
    )
    add("--to", dest="until", type=time_spec, metavar="TIME", help="end (now)")
    add(
        "-o",
        "--output",
        type=output_pattern,
        required=True,
        metavar="FILE",
        help="where to; the suffix is the format: .parquet, .csv or .jsonl. "
        "One file a symbol: {symbol}.csv, or DIR/ for Parquet",
    )
    add(
        "--update", action="store_true", help="append what is new to FILE, or create it"
    )
    add("--adjust", action="store_true", help="for dividends and splits")
    add(
        "--numbers",
        choices=("float", "decimal", "text"),
        help="of Parquet: fast, or exact (float)",
    )
    add("--force", action="store_true", help="replace FILE and a leftover .FILE.part")
    add("--all-holes", action="store_true", help="list every hole, not the 20 longest")
    add_tz(parser, "of messages; terminal: local, else UTC")
    add_connection(parser)


def _run(options: Options) -> int:
    """Fetch, write, report, and return the exit code."""
    from qos_async.cli.history.targets import by_file, make_directory

    _check_update(options)
    files = by_file((one for group in options.symbols for one in group), options.output)
    make_directory(options.output)
    for path in files:
        _check(options, path)
    code = exits.OK
    for path, names in files.items():
        one = Options(**{**vars(options), "output": path})
        try:
            ended = _run_file(one, names)
        except CommandError as error:
            ended = error.report()
        if ended in (exits.INTERRUPTED, exits.TERMINATED, exits.KEY_REFUSED):
            return ended
        code = code or ended
    return code


def _check_update(options: Options) -> None:
    if not options.update:
        if options.since is None:
            raise UsageError(
                "add --from, such as --from 2024-01-01, where the file should begin"
            )
    elif options.force:
        raise UsageError("--force replaces a file, and --update extends it: take one")
    elif options.adjust:
        raise UsageError(
            "--update cannot extend adjusted bars, because each dividend and split changes "
            "those before it: fetch all of them again, with --force"
        )


def _run_file(options: Options, names: list[str]) -> int:
    """Download one file, or what is new in it."""
    from qos_async.cli.history.existing import Existing
    from qos_async.cli.history.jobs import run_jobs
    from qos_async.cli.settings import server_label

    now, display = time.time(), resolve_display(options, on_stderr=True)
    if not (options.update and options.output.exists()):
        return run_jobs(options, names, None, now, display)
    with Existing(options.output, options.interval, now) as existing:
        existing.check(names, server_label(options), options.numbers)
        if existing.is_cut_off:
            print_message(
                f"{options.output}: the last line is cut off: its bar counts as missing"
            )
        return run_jobs(options, names, existing, now, display)


def _check(options: Options, output: Path) -> None:
    """Check what can fail without a request.

    Raises:
        OutputError: If the output cannot be written there, or a package is missing.
        UsageError: If an option does not apply to the format.
    """
    from qos_async.cli.history.output import check

    advice = "--update extends it, --force replaces it"
    check_place(output, force=options.force or options.update, advice=advice)
    if options.numbers and file_format(output) != ".parquet":
        raise UsageError(
            f"--numbers is about Parquet: in {file_format(output)} they are exact, as sent"
        )
    check(output)


COMMAND = Command(
    "klines of the past, into Parquet, CSV or JSON Lines",
    """\
Pages back through the history of symbols, as fast as the plan allows, and
writes one file for all, or one a symbol: ascending, no bar twice, without the
newest bar while it is unfinished. Lists where bars are missing although the
market was open. With --update, a second run appends what is new.

After Ctrl-C, an outage or a crash, the same command resumes where it stopped:
until the download is complete, its pages are kept beside the output, in
.FILE.part.

examples:
  qos history CF:BTCUSDT --interval 1m --from 2025-01-01 -o btc.parquet
  qos history US:AAPL --interval 1d --from 2015-01-01 --adjust -o aapl.csv
  qos history --sim CF:ETHUSDT --interval 1m --from 2d -o eth.jsonl
  qos history US:AAPL HK:700 -i 1d --from 2020-01-01 -o 'bars/{symbol}.csv'
  qos history CF:BTCUSDT,ETHUSDT -i 1h --from 2024-01-01 --update -o bars/
""",
    f"""\
{TIMES}

Times in files are in UTC; bars of days and longer have their date, too, in the
market's own time zone. CSV and JSON Lines hold numbers as sent, exact, under the
names of qos klines --csv and --json. Parquet needs pyarrow: pip install
'qos-async[cli]'

In Parquet the date is a date, not a time. pandas reads it as Python objects:
bars["date"] = pandas.to_datetime(bars["date"]) makes it datetime64, or
read_parquet(FILE, dtype_backend="pyarrow") keeps it a date, with .dt.

For stocks, only regular sessions are checked for holes. Holidays are known if
the package exchange_calendars is installed: pip install 'qos-async[calendars]'

With --update, an existing file gets the bars after its last finished one, and
--from is that of symbols that it does not have yet. Its interval and its columns
stay; it is replaced as a whole, when the new one is complete. In a file of
several symbols, each update is a block of rows a symbol. What is missing
between the last bar and the new ones is listed. Adjusted bars cannot be
extended. In the name of a file, {{symbol}} of CF:BTCUSDT is CF_BTCUSDT.

Where the server ignores --to, as it was seen to do in 2024, its newest bars are
written, with a message, and the exit code is 1.
""",
    _add_arguments,
    _run,
)
