"""The file that all bars end in: written beside it, and renamed when it is whole."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import IO, Any

import msgspec

from qos_async import Kline, __version__
from qos_async.cli.files import whole_file
from qos_async.cli.history.part import Request
from qos_async.cli.moments import iso
from qos_async.cli.rows import as_json, csv_lines, fields, header

__all__ = ["check", "write"]

Pages = Iterable[list[Kline[str]]]

_NUMBERS: dict[str | None, Any] = {
    None: float,
    "float": float,
    "decimal": Decimal,
    "text": str,
}
_ROW_GROUP = 50_000
_LIVE = ("received_at", "recovered")


def check(output: Path) -> None:
    """Fail early where a package is missing.

    Raises:
        ModuleNotFoundError: The sentence says what to install.
    """
    if output.suffix == ".parquet":
        _schema(None)


def write(output: Path, pages: Pages, request: Request, numbers: str | None) -> None:
    """Write all bars, ascending.

    Args:
        output: Where; its suffix says how.
        pages: Oldest first.
        request: What they are; Parquet keeps it as metadata.
        numbers: Of Parquet: ``"float"``, ``"decimal"`` or ``"text"``.

    Raises:
        OutputError: If there is no room, say; what was there before is as it was.
        ValueError: If a number does not fit.
    """
    kinds: dict[str, Callable[[IO[bytes]], None]] = {
        ".csv": lambda file: _csv(file, pages),
        ".jsonl": lambda file: _jsonl(file, pages),
        ".parquet": lambda file: _parquet(file, pages, request, numbers),
    }
    with whole_file(output) as file:
        kinds[output.suffix](file)


def _csv(file: IO[bytes], pages: Pages) -> None:
    names = header(Kline)
    file.write((",".join(names) + "\n").encode())
    for page in pages:
        file.write(csv_lines(names, map(fields, page)).encode())


def _jsonl(file: IO[bytes], pages: Pages) -> None:
    for page in pages:
        file.write("".join(f"{as_json(fields(bar))}\n" for bar in page).encode())


def _parquet(
    file: IO[bytes], pages: Pages, request: Request, numbers: str | None
) -> None:
    from qos_async.frames import to_arrow  # noqa: PLC0415 - heavy

    parquet: Any = importlib.import_module("pyarrow.parquet")  # An extra, untyped.
    schema = _schema(numbers).with_metadata(_about(request))
    of = _NUMBERS[numbers]
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for bars in _grouped(pages):
            table = to_arrow(bars, numbers=of).drop_columns(_LIVE)
            writer.write_table(table.replace_schema_metadata(schema.metadata))


def _schema(numbers: str | None) -> Any:
    from qos_async.frames import schema  # noqa: PLC0415 - heavy

    found: Any = schema(Kline, numbers=_NUMBERS[numbers])
    for name in _LIVE:
        found = found.remove(found.get_field_index(name))
    return found


def _about(request: Request) -> dict[str, str]:
    """Tell where the bars come from, under names that do not change."""
    told = {
        "symbol": request.symbol,
        "interval": request.interval,
        "adjusted": str(request.adjusted).lower(),
        "from": iso(request.start),
        "to": iso(request.end),
        "source": request.source,
        "writer": f"qos-async {__version__}",
    }
    return {
        **{f"qos.{name}": value for name, value in told.items()},
        "qos": msgspec.json.encode(told).decode(),
    }


def _grouped(pages: Pages) -> Iterator[list[Kline[str]]]:
    """Join pages into row groups of a size that is quick to read."""
    group: list[Kline[str]] = []
    for bar in chain.from_iterable(pages):
        group.append(bar)
        if len(group) == _ROW_GROUP:
            yield group
            group = []
    if group:
        yield group
