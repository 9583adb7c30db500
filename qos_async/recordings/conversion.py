"""Conversion of recordings to tables, for polars, duckdb, pandas and others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from qos_async._clock import epoch_ns
from qos_async._core.recovery.trades import Echoes
from qos_async._core.wire import FrameDecoder
from qos_async._paths import user_path
from qos_async.enums import Interval
from qos_async.errors import DecodeError
from qos_async.models import CHANNELS, Trade
from qos_async.recordings.contents import contents
from qos_async.recordings.files import SUFFIX, RecordingError, files_in
from qos_async.recordings.format import Entry, load_zstd
from qos_async.recordings.parquet import (
    ParquetTables,
    Partitions,
    PushedRow,
    TableFormat,
    workplace,
)
from qos_async.recordings.reading import in_order, read_files
from qos_async.recordings.slices import check_bound, open_entries, recorded_source
from qos_async.recordings.streams import is_stream
from qos_async.symbols import split
from qos_async.topics import Topic

__all__ = ["Converted", "convert"]

_FAR = 1 << 63  # Nanoseconds.
_SHOWN = 8


class Converted(Struct, frozen=True, kw_only=True):
    """Summary of a conversion.

    Attributes:
        rows: The number of rows by channel: snapshot, trade, depth, kline.
        files: The Parquet files.
        unreadable: The number of frames that could not be read.
        faults: A message for each damaged part of the recording.
        unknown: The number of entries of kinds that this version does not know.
        absent: The symbols of those that were named which the recording does not have.
    """

    rows: dict[str, int]
    files: tuple[Path, ...]
    unreadable: int
    faults: tuple[str, ...]
    unknown: int = 0
    absent: tuple[str, ...] = ()


def convert(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    numbers: type[float | Decimal | str] = float,
    symbols: str | Iterable[str] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    tables: TableFormat | None = None,
) -> Converted:
    """Write the ticks of a recording as partitioned Parquet, one row per tick.

    Files are named ``OUT/channel=trade/date=2025-01-02/….parquet``: a directory for each
    channel and each day, UTC, on which ticks were received; in it a file for each file of
    the recording. Columns are those of ``qos_async.frames``; where the recording has
    klines of a day or longer, all klines have a column ``trading_date``: their ``date``,
    a name that the directories have taken. A second conversion replaces
    the files of the first; more files of a recording can be added later. What was fetched
    after an outage has rows with ``recovered``, without ``received_at``. A file gets its
    name and place when it is complete: until then it is in the directory
    ``.OUT.unfinished`` beside ``OUT``, which the next conversion empties.

    Args:
        path: A recording's directory, one of its files, or a stream,
            ``"nats://host:4222/STREAM"``, up to its present end: its files are named after
            it. Within an event loop, call this in a thread.
        out: The output directory; created if missing. ``~`` is the home directory.
        numbers: The type of prices, sizes and volumes: ``float``; ``Decimal`` for
            decimal128(38, 18), in which no digit is lost; or ``str``.
        symbols: Only these; all of them by default.
        start: Only what was received, or fetched, from then on.
        end: Only what was received before.
        tables: Another format than Parquet.

    Raises:
        RecordingError: If there is no recording, it is empty or has none of the symbols,
            ``out`` is not writable, or another conversion writes to it.
        ModuleNotFoundError: Without pyarrow or a zstandard library; the message has the
            command to install it.
        ValueError: For an unknown type of numbers, a number that does not fit, malformed
            symbols, a time without a zone, or a path that cannot be one.

    Example:
        >>> convert("recordings", "parquet").rows
        {'trade': 86400}
        >>> polars.read_parquet("parquet/channel=trade/**/*.parquet")
        >>> duckdb.sql("from read_parquet('parquet/channel=trade/**/*.parquet')")
        >>> pandas.read_parquet("parquet/channel=trade")
    """
    if numbers not in (float, Decimal, str):
        raise ValueError(f"numbers must be one of float, Decimal, str, not {numbers!r}")
    check_bound("start", start, stream=False)
    check_bound("end", end, stream=False)
    only = split(symbols) if symbols else ()
    part = _Slice(frozenset(only), _ns(start, 0), _ns(end, _FAR))
    place = user_path("out", out)
    read = _read_stream if is_stream(path) else _read_directory
    conversion = _Conversion(place, numbers, tables or ParquetTables(), part)
    try:
        with closing(read(path, conversion, start, end)) as parts:
            first = next(parts, None)  # If it fails, no directory is made.
            with workplace(place) as unfinished:
                for name, entries in chain([first] if first else [], parts):
                    conversion.add(name, entries, unfinished)
    except OSError as exc:
        raise RecordingError(f"cannot write to {place}: {exc.strerror or exc}") from exc
    return conversion.summary()


def _ns(time: datetime | None, default: int) -> int:
    return default if time is None else epoch_ns(time)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


_Files: TypeAlias = Generator[tuple[str, Iterable[Entry]]]


def _read_directory(
    path: str | os.PathLike[str], conversion: _Conversion, *_: object
) -> _Files:
    """Yield the names of the files of a recording, and their entries."""
    found = contents(path)
    conversion.faults += found.faults
    conversion.unknown = found.unknown
    conversion.begin(str(path), found.topics)
    library, files = load_zstd(), files_in(path)
    for file in [one.file for one in in_order(files, library) if not one.fault]:
        name = file.name.removesuffix(SUFFIX)
        yield name, read_files([file], library, alone=len(files) == 1)


def _read_stream(
    place: str | os.PathLike[str],
    conversion: _Conversion,
    start: datetime | None,
    end: datetime | None,
) -> _Files:
    """Yield the name of a stream, and its entries, read while they are converted."""
    source, shown = recorded_source(place, start, end)

    def with_faults(entries: Iterator[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if entry.kind in ("damaged", "missing"):
                conversion.faults.append(entry.reason)
            yield entry

    with open_entries(source) as (opening, entries):
        conversion.begin(shown, opening.topics)
        yield shown.rpartition("/")[2], with_faults(entries)


def _has_days(topics: Iterable[Topic]) -> bool:
    return any((topic.interval or 0) >= Interval.DAY for topic in topics)


class _Slice(NamedTuple):
    """What of a recording is converted: symbols, all if empty, and times."""

    symbols: frozenset[str]
    start: int
    end: int

    def has(self, row: PushedRow) -> bool:
        """Whether a row is in it; an unreadable one may be of any symbol."""
        if not self.start <= row.at < self.end:
            return False
        return row.tick is None or not self.symbols or row.tick.symbol in self.symbols


class _Conversion:
    """A conversion, file by file.

    Attributes:
        faults: A message for each damaged part.
        unknown: The number of entries that were skipped.
        absent: The symbols that the recording does not have.
        dates: Whether klines have a column with their trading date.
    """

    def __init__(
        self, out: Path, numbers: Any, tables: TableFormat, part: _Slice
    ) -> None:
        self.faults: list[str] = []
        self.unknown = 0
        self.absent: tuple[str, ...] = ()
        self.dates = False
        self._out, self._numbers, self._tables, self._part = out, numbers, tables, part
        self._rows: Counter[str] = Counter()
        self._files: list[Path] = []
        self._unreadable = 0

    def begin(self, shown: str, topics: Collection[Topic]) -> None:
        """Take the topics of the recording.

        Raises:
            RecordingError: If it has none of the symbols that were named.
        """
        self.dates = _has_days(topics)
        wanted, found = self._part.symbols, {topic.symbol for topic in topics}
        self.absent = tuple(sorted(wanted - found))
        if wanted and wanted.isdisjoint(found):
            raise RecordingError(
                f"{shown} has no {_some(self.absent)}: its symbols are "
                f"{_some(sorted(found)) or 'none'}"
            )

    def add(self, name: str, entries: Iterable[Entry], unfinished: Path) -> None:
        """Write the ticks of a file of the recording."""
        with Partitions(
            self._out,
            unfinished,
            name,
            self._numbers,
            self._tables,
            dates=self.dates,
        ) as partitions:
            rows = filter(self._part.has, _ticks(entries, self._numbers))
            self._unreadable += partitions.fill(rows)
        self._rows += partitions.rows
        self._files += partitions.files

    def summary(self) -> Converted:
        """Return what was written."""
        return Converted(
            rows={str(channel): count for channel, count in self._rows.items()},
            files=tuple(self._files),
            unreadable=self._unreadable,
            faults=tuple(self.faults),
            unknown=self.unknown,
            absent=self.absent,
        )


def _read(reader: FrameDecoder[Any], frame: bytes) -> Any:
    try:
        return reader.push(frame)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return reader.read(frame)


def _ticks(entries: Iterable[Entry], numbers: type[Any]) -> Iterator[PushedRow]:
    """Yield the pushed ticks, and those that were fetched after an outage."""
    reader: FrameDecoder[Any] = FrameDecoder(numbers)
    echoes: dict[Topic, Echoes] = {}
    for entry in entries:
        if entry.kind == "frame":
            row = _row(reader, entry.frame, entry.at)
            if row is not None and not (echoes and _is_echo(row.tick, echoes)):
                yield row
        elif entry.kind == "fetched":
            pushes = [push for push in entry.rows if isinstance(push, bytes)]
            rows = [_row(reader, push, entry.at, fetched=True) for push in pushes]
            found = [row for row in rows if row is not None]
            yield from found
            trades = [row.tick for row in found if type(row.tick) is Trade]
            if trades:
                echoes[entry.topics[0]] = Echoes(trades)


def _row(
    reader: FrameDecoder[Any], push: bytes, at: int, *, fetched: bool = False
) -> PushedRow | None:
    size = len(push)
    try:
        tick = _read(reader, push)
    except DecodeError:
        return PushedRow(None, size, at)
    if type(tick) not in CHANNELS:
        return None
    # As of a live client: 0 for what was fetched.
    force_setattr(tick, "received_at", 0 if fetched else at)
    force_setattr(tick, "recovered", fetched)
    return PushedRow(tick, size, at)


def _is_echo(tick: Any, echoes: dict[Topic, Echoes]) -> bool:
    """Return whether a tick was fetched before it was pushed, as in ``Recovery``."""
    found = echoes.get(tick.topic) if type(tick) is Trade else None
    if found is None:
        return False
    echoed = found.matches(tick)
    if not found:
        del echoes[tick.topic]
    return echoed
