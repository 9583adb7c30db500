"""The output of a download: Parquet, CSV or JSON Lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import msgspec

from qos_async import Kline, __version__
from qos_async.cli.files import OutputError, whole_file
from qos_async.cli.history.partial import Request
from qos_async.cli.options import file_format
from qos_async.cli.serialize import csv_lines, fields, header, json_line
from qos_async.cli.times import iso

__all__ = ["check", "write"]

_NUMBERS: dict[str | None, Any] = {
    None: float,
    "float": float,
    "decimal": Decimal,
    "text": str,
}
_ROW_GROUP = 50_000
"""Rows of Parquet that are quick to read together."""
_LIVE = ("received_at", "recovered")


def check(output: Path) -> None:
    """Check that the package for the format is installed.

    Raises:
        OutputError: The message says what to install.
    """
    if file_format(output) == ".parquet":
        try:
            _schema(None)
        except ModuleNotFoundError as error:
            raise OutputError(str(error)) from None


def write(
    output: Path,
    pages: Iterable[list[Kline[str]]],
    request: Request,
    numbers: str | None,
) -> None:
    """Write all bars, ascending.

    Args:
        output: The file; its suffix is the format.
        pages: Oldest first.
        request: What they are; metadata of Parquet.
        numbers: Of Parquet: ``"float"``, ``"decimal"`` or ``"text"``.

    Raises:
        OutputError: If it cannot be written; an existing file stays as it was.
        ValueError: If a number does not fit.
    """
    with whole_file(output) as file:
        if file_format(output) == ".parquet":
            _write_parquet(file, pages, request, numbers)
            return
        names = header(Kline)
        if file_format(output) == ".csv":
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
) -> None:
    from pyarrow import parquet

    from qos_async.frames import to_arrow

    schema = _schema(numbers).with_metadata(_metadata(request))
    writer: Any = parquet.ParquetWriter(file, schema, compression="zstd")
    with writer:
        for bars in _row_groups(pages):
            table = to_arrow(bars, numbers=_NUMBERS[numbers]).drop_columns(_LIVE)
            writer.write_table(table.replace_schema_metadata(schema.metadata))


def _schema(numbers: str | None) -> Any:
    from qos_async.frames import schema

    found: Any = schema(Kline, numbers=_NUMBERS[numbers])
    for name in _LIVE:
        found = found.remove(found.get_field_index(name))
    return found


def _metadata(request: Request) -> dict[str, str]:
    """Return where the bars come from, under names that do not change."""
    values = {
        "symbol": request.symbol,
        "interval": request.interval,
        "adjusted": str(request.adjusted).lower(),
        "from": iso(request.start),
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
