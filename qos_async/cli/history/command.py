"""``qos history``: the command; fetches pages, writes the output, reports on it."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from functools import partial
from typing import TYPE_CHECKING

from qos_async.cli import exits
from qos_async.cli.files import OutputError, check_place
from qos_async.cli.options import (
    Command,
    CommandError,
    Options,
    UsageError,
    add_connection,
    add_interval,
    file_format,
    output_file,
    symbol,
    time_span,
    time_spec,
)
from qos_async.cli.streams import print_message
from qos_async.cli.times import TIMES, iso

if TYPE_CHECKING:  # Slow to import.
    from qos_async.cli.history.partial import PartialDownload, Request

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("symbol", type=symbol, metavar="SYMBOL", help="such as US:AAPL")
    add_interval(parser)
    add(
        "--from",
        dest="since",
        type=time_spec,
        required=True,
        metavar="TIME",
        help="start",
    )
    add("--to", dest="until", type=time_spec, metavar="TIME", help="end (now)")
    add(
        "-o",
        "--output",
        type=output_file(".parquet", ".csv", ".jsonl"),
        required=True,
        metavar="FILE",
        help="where to; the suffix is the format: .parquet, .csv or .jsonl",
    )
    add("--adjust", action="store_true", help="for dividends and splits")
    add(
        "--numbers",
        choices=("float", "decimal", "text"),
        help="of Parquet: fast, or exact (float)",
    )
    add("--force", action="store_true", help="replace FILE and a leftover .FILE.part")
    add("--all-holes", action="store_true", help="list every hole, not the 20 longest")
    add_connection(parser)


def _run(options: Options) -> int:
    """Fetch, write, report, and return the exit code."""
    from qos_async.cli.history.partial import PartialDownload, part_path

    path = part_path(options.output)
    request = _request(options, time.time())
    _check(options)
    with PartialDownload(path, request, anew=options.force) as part:
        try:
            return _download(options, part)
        except CommandError as error:
            return error.report()
        finally:
            if part.count and path.exists():
                _print(
                    f"stopped: {part.progress_text()} kept in {path}; the same command "
                    "resumes there"
                )


def _download(options: Options, part: PartialDownload) -> int:
    from qos_async.cli.client import run_async

    if part.resumed_from and not part.ended:
        span = f"{iso(part.request.start)} to {iso(part.request.end)}"
        _print(f"resuming {part.path}: {part.progress_text()}, of {span}")
    if not part.ended:
        code = run_async(partial(_fetch, options, part))
        if code:
            return code
    return _finish(options, part)


async def _fetch(options: Options, part: PartialDownload) -> int:
    from qos_async.cli.client import open_client
    from qos_async.cli.history.paging import page_back
    from qos_async.cli.history.progress import make_progress
    from qos_async.cli.history.report import explain_empty
    from qos_async.cli.settings import resolve

    limits = resolve(options).limits
    async with open_client(options, numbers=str) as client:
        with make_progress(part, limits) as progress:
            await page_back(client, part, progress)
        if part.count:
            return exits.OK
        symbol = part.request.symbol
        known = not (await client.fetch_instruments(symbol)).missing
    return _print(explain_empty(part, known=known), exits.FAILED)


def _finish(options: Options, part: PartialDownload) -> int:
    from qos_async.cli.history.output import write
    from qos_async.cli.history.paging import IGNORED
    from qos_async.cli.history.report import summarize

    output = options.output
    try:
        write(output, part.pages(), part.request, options.numbers)
    except ValueError as error:
        raise OutputError(
            f"cannot write {output}: {error}: try --numbers text"
        ) from None
    print_message(*summarize(part, output, all_holes=options.all_holes))
    part.remove()
    return exits.FAILED if part.ended == IGNORED else exits.OK


def _request(options: Options, now: float) -> Request:
    """Return what to fetch.

    Raises:
        UsageError: If there is no time between from and to.
    """
    from qos_async.cli.history.partial import Request
    from qos_async.cli.settings import server_label

    start, end = time_span(options, now)
    assert start is not None, "--from is required"
    since, until = options.since, options.until
    return Request(
        symbol=options.symbol,
        interval=options.interval.short,
        adjusted=options.adjust,
        source=server_label(options),
        asked=(since.text, until and until.text),
        start=start,
        end=end,
    )


def _check(options: Options) -> None:
    """Check what can fail without a request.

    Raises:
        OutputError: If the output cannot be written there, or a package is missing.
        UsageError: If an option does not apply to the format.
    """
    from qos_async.cli.history.output import check

    output = options.output
    check_place(output, force=options.force)
    if options.numbers and file_format(output) != ".parquet":
        raise UsageError(
            f"--numbers is about Parquet: in {file_format(output)} they are exact, as sent"
        )
    check(output)


def _print(message: str, code: int = exits.OK) -> int:
    print_message(f"qos: {message}")
    return code


COMMAND = Command(
    "klines of the past, into a Parquet, CSV or JSON Lines file",
    """\
Pages back through the history of a symbol, as fast as the plan allows, and
writes one file: ascending, no bar twice, without the newest bar while it is
unfinished. Lists where bars are missing although the market was open.

After Ctrl-C, an outage or a crash, the same command resumes where it stopped:
until the download is complete, its pages are kept beside the output, in
.FILE.part.

examples:
  qos history CF:BTCUSDT --interval 1m --from 2025-01-01 -o btc.parquet
  qos history US:AAPL --interval 1d --from 2015-01-01 --adjust -o aapl.csv
  qos history --sim CF:ETHUSDT --interval 1m --from 2d -o eth.jsonl
""",
    f"""\
{TIMES}

CSV and JSON Lines hold numbers as sent, exact, under the names of qos klines
--csv and --json. Parquet needs pyarrow: pip install 'qos-async[arrow]'

For stocks, only regular sessions are checked for holes. Holidays are known if
the package exchange_calendars is installed: pip install 'qos-async[calendars]'

Where the server ignores --to, as it was seen to do in 2024, its newest bars are
written, with a message, and the exit code is 1.
""",
    _add_arguments,
    _run,
)
