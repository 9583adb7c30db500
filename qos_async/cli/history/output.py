"""The output of a download: Parquet, CSV or JSON Lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import msgspec

from qos_async import Interval, Kline, __version__
from qos_async.cli.files import check_parquet, whole_file
from qos_async.cli.history.existing import Existing
from qos_async.cli.history.partial import Request
from qos_async.cli.options import file_format
from qos_async.cli.serialize import csv_lines, fields, header, json_line
from qos_async.cli.times import iso

__all__ = ["NUMBERS", "check", "parquet_schema", "write"]

NUMBERS: dict[str | None, Any] = {
    None: float,
    "float": float,
    "decimal": Decimal,
    "text": str,
}
"""The types that Parquet has numbers in, by the words of ``--numbers``."""
_ROW_GROUP = 50_000
"""Rows of Parquet that are quick to read together."""


def check(output: Path) -> None:
    """Check that the package for the format is installed.

    Raises:
        CommandError: The message says what to install.
    """
    if file_format(output) == ".parquet":
        check_parquet()


def write(
    output: Path,
    pages: Iterable[list[Kline[str]]],
    request: Request,
    numbers: str | None,
    existing: Existing | None = None,
) -> None:
    """Write all bars, ascending, after those of an existing file.

    Args:
        output: The file; its suffix is the format.
        pages: Oldest first.
        request: What they are; metadata of Parquet.
        numbers: Of Parquet: ``"float"``, ``"decimal"`` or ``"text"``.
        existing: What the file holds, which stays as it is.

    Raises:
        OutputError: If it cannot be written; an existing file stays as it was.
        ValueError: If a number does not fit.
    """
    with whole_file(output) as file:
        if file_format(output) == ".parquet":
            _write_parquet(file, pages, request, numbers, existing)
            return
        names = header(Kline, dates=request.length >= Interval.DAY)
        if existing is not None:
            file.writelines(existing.lines())
        elif file_format(output) == ".csv":
            file.write(f"{','.join(names)}\n".encode())
        for page in pages:
            rows = map(fields, page)
            text = (
                csv_lines(names, rows)
                if file_format(output) == ".csv"
                else "".join(map(json_line, rows))
            )
            file.write(text.encode())


def _write_parquet(
    file: IO[bytes],
    pages: Iterable[list[Kline[str]]],
    request: Request,
    numbers: str | None,
    existing: Existing | None,
) -> None:
    from pyarrow import parquet

    from qos_async.frames import to_arrow

    if existing is not None:
        numbers = existing.numbers
    metadata = _metadata(request, existing.value("from") if existing else None)
    schema = parquet_schema(numbers, request.length).with_metadata(metadata)
    writer: Any = parquet.ParquetWriter(file, schema, compression="zstd")
    with writer:
        for table in existing.tables() if existing is not None else ():
            writer.write_table(table.cast(schema))
        for bars in _row_groups(pages):
            table = to_arrow(bars, numbers=NUMBERS[numbers])
            writer.write_table(table.cast(schema))


def parquet_schema(numbers: str | None, length: Interval) -> Any:
    """Return the columns of Parquet."""
    from qos_async.frames import schema

    dates = length >= Interval.DAY
    return schema(Kline, numbers=NUMBERS[numbers], live=False, dates=dates)


def _metadata(request: Request, since: str | None) -> dict[str, str]:
    """Return where the bars come from, under names that do not change."""
    values = {
        "symbol": request.symbol,
        "interval": request.interval,
        "adjusted": str(request.adjusted).lower(),
        "from": since or iso(request.start),
        "to": iso(request.end),
        "source": request.source,
        "writer": f"qos-async {__version__}",
    }
    return {
        **{f"qos.{name}": value for name, value in values.items()},
        "qos": msgspec.json.encode(values).decode(),
    }


def _row_groups(pages: Iterable[list[Kline[str]]]) -> Iterator[list[Kline[str]]]:
    bars = chain.from_iterable(pages)
    while group := list(islice(bars, _ROW_GROUP)):
        yield group
