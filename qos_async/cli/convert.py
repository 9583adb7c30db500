"""``qos convert``: recordings as tables."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import qos_async as qos
from qos_async._wording import plural
from qos_async.cli import exits
from qos_async.cli.display import Display, add_tz, resolve_display
from qos_async.cli.files import check_parquet
from qos_async.cli.options import (
    Command,
    CommandError,
    Options,
    UsageError,
    add_place,
    add_slice,
    any_path,
    file_format,
    slice_of,
    symbol_list,
)
from qos_async.cli.streams import print_message

if TYPE_CHECKING:  # Slow to import.
    from qos_async.recordings import Converted

__all__ = ["COMMAND", "convert_all", "report_unknown"]

_OF_FILES = (".parquet", ".csv", ".jsonl")
_TRADING_DATE = "trading_date"
"""The name of the column ``date``, as in Parquet: the directories have taken it."""


def _add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add_place(parser)
    add(
        *("-o", "--output"),
        type=_directory,
        required=True,
        metavar="OUT",
        help="the directory to write into",
    )
    add("--csv", action="store_true", help="CSV instead of Parquet")
    add(
        "--symbols",
        type=symbol_list,
        action="append",
        default=[],
        metavar="S",
        help="only these, such as US:AAPL,TSLA; may be repeated",
    )
    add_slice(parser)
    add(
        "--numbers",
        choices=("float", "decimal", "text"),
        help="decimal loses no digit (float; in CSV all are as received)",
    )
    add_tz(parser, "UTC; of the column time, with --csv")


def _directory(text: str) -> Path:
    """Parse the directory of the output; the name of a file is a mistake."""
    path = any_path(text)
    if file_format(path) in _OF_FILES and not path.is_dir():
        raise ArgumentTypeError(
            f"{text!r} looks like a file, and OUT is a directory, with files for each "
            f"channel and day: try -o {path.with_suffix('')}"
        )
    return path


def _run(options: Options) -> int:
    """Convert, and print a summary."""
    from decimal import Decimal

    numbers: Any = {"float": float, "decimal": Decimal, "text": str, None: float}
    start, end = slice_of(options)
    more: dict[str, Any] = {
        "symbols": [one for names in options.symbols for one in names],
        "start": start,
        "end": end,
        "numbers": numbers[options.numbers],
    }
    if options.csv:
        if options.numbers is not None:
            raise UsageError("CSV has all digits as received: leave out --numbers")
        display = resolve_display(options).for_programs
        more |= {"numbers": str, "tables": _CsvTables(display)}
    elif options.tz is not None:
        raise UsageError(
            "times in Parquet are points in time, in UTC: --tz is for --csv"
        )
    else:
        check_parquet()
    return convert_all([options.place], options.output, **more)


def convert_all(paths: Sequence[Path | str], out: Path, **options: Any) -> int:
    """Convert without an event loop, which would keep signals waiting."""
    from qos_async.cli.client import report_error
    from qos_async.recordings import convert

    for path in paths:
        try:
            _report(convert(path, out, **options), out)
        except qos.QosError as error:
            return report_error(error)
        except ModuleNotFoundError as error:
            raise CommandError(str(error)) from None
        except ValueError as error:
            raise CommandError(f"{error}: try --numbers text") from None
    return exits.OK


def _report(converted: Converted, out: Path) -> None:
    for fault in converted.faults:
        print_message(f"damaged: {fault}")
    report_unknown(converted.unknown)
    if converted.absent:
        print_message(
            f"{', '.join(converted.absent)}: the recording has no such symbol"
        )
    if converted.unreadable:
        print_message(f"skipped {plural(converted.unreadable, 'unreadable frame')}")
    rows = ", ".join(f"{count} {channel}" for channel, count in converted.rows.items())
    print_message(
        f"{rows or 'no'} rows, {plural(len(converted.files), 'file')}, in {out}"
    )


def report_unknown(count: int) -> None:
    """Print that a newer version is needed for some entries."""
    if count:
        entries = "entry" if count == 1 else "entries"
        print_message(
            f"skipped {count} {entries} that a newer qos-async wrote: to have them, pip "
            "install --upgrade qos-async"
        )


class _CsvTables:
    """The format of CSV, with the columns of ``qos stream --csv``."""

    suffix = ".csv"

    def __init__(self, display: Display) -> None:
        self._display = display

    def open(
        self, file: IO[bytes], kind: type[Any], numbers: Any, *, dates: bool
    ) -> _CsvWriter:
        """Return a writer for a class of ticks; with ``dates``, klines have theirs."""
        from qos_async.cli.serialize import header

        names = header(kind, live=True, dates=dates and kind is qos.Kline)
        return _CsvWriter(file, names, self._display)


class _CsvWriter:
    """Writes ticks of one class as rows, those of a book as a row for each level."""

    def __init__(self, file: IO[bytes], names: list[str], display: Display) -> None:
        self._file, self._names, self._display = file, names, display
        shown = [_TRADING_DATE if name == "date" else name for name in names]
        file.write(f"{','.join(shown)}\n".encode())

    def write(self, ticks: Sequence[Any]) -> None:
        """Write rows."""
        from qos_async.cli.serialize import csv_lines, table_rows

        rows = (
            row
            for tick in ticks
            for row in table_rows(tick, live=True, display=self._display)
        )
        self._file.write(csv_lines(self._names, rows).encode())

    def close(self) -> None:
        """Do nothing: nothing is held back."""


COMMAND = Command(
    "convert a recording to Parquet or CSV",
    """\
Writes a recording or a stream as Parquet or CSV, a row per tick, in a directory
for each channel and each day (UTC) on which ticks were received:
OUT/channel=trade/date=2025-01-02/.

examples:
  qos record --sim CF:BTCUSDT --seconds 5 -o recordings
  qos convert recordings -o parquet
  qos convert recordings -o csv --csv --symbols US:AAPL --from yesterday
  qos convert nats://host:4222/QOS -o parquet --from 2h
  python -c "import polars; print(polars.read_parquet('parquet/channel=trade/**/*.parquet'))"
""",
    """\
--from and --to are times of receipt: a day in UTC, a time, or a span back from
now. Running it again replaces its output: of a stream, which forgets its
oldest messages, the days that it has; qos archive keeps what is there.
Files are moved into place when they are complete, so nothing half written is
ever in OUT: until then they are beside it, in .OUT.unfinished. Damaged parts of
a recording are reported and skipped. A recording that has none of --symbols is
an error, which names those that it has.
""",
    _add_arguments,
    _run,
)
