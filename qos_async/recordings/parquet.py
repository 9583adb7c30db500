"""Parquet conversion of recordings, for polars, duckdb, pandas and others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from qos_async import frames
from qos_async._core.wire import FrameDecoder
from qos_async.errors import DecodeError
from qos_async.models import CHANNELS
from qos_async.recordings.files import SUFFIX, RecordingError, files_in
from qos_async.recordings.reading import contents, read

__all__ = ["Converted", "convert"]

_ROWS = 50_000
_DAY = 86_400 * 1_000_000_000


class Converted(Struct, frozen=True, kw_only=True):
    """Summary of a conversion.

    Attributes:
        rows: The number of rows by channel: snapshot, trade, depth, kline.
        files: The Parquet files.
        unreadable: The number of frames that could not be read.
        faults: A message for each damaged file of the recording.
    """

    rows: dict[str, int]
    files: tuple[Path, ...]
    unreadable: int
    faults: tuple[str, ...]


def convert(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    numbers: type[float | Decimal | str] = float,
) -> Converted:
    """Write the ticks of a recording as partitioned Parquet, one row per tick.

    Files are named ``OUT/channel=trade/date=2025-01-02/….parquet``: a directory for each
    channel and each day, UTC, on which ticks were received; in it a file for each file of
    the recording. Columns are those of ``qos_async.frames``. A second conversion replaces
    the files of the first; more files of a recording can be added later. A file gets its
    name when it is complete.

    Args:
        path: A recording's directory, or one of its files.
        out: The output directory; created if missing.
        numbers: The type of prices, sizes and volumes: ``float``; ``Decimal`` for
            decimal128(38, 18), in which no digit is lost; or ``str``.

    Raises:
        RecordingError: If there is no recording, it is empty, or ``out`` is not writable.
        ModuleNotFoundError: Without pyarrow or a zstandard library; the message has the
            command to install it.
        ValueError: For an unknown type of numbers, or a number that does not fit.

    Example:
        >>> convert("recordings", "parquet").rows
        {'trade': 86400}
        >>> polars.read_parquet("parquet/channel=trade/**/*.parquet")
        >>> duckdb.sql("from read_parquet('parquet/channel=trade/**/*.parquet')")
        >>> pandas.read_parquet("parquet/channel=trade")
    """
    if numbers not in (float, Decimal, str):
        raise ValueError(f"numbers must be one of float, Decimal, str, not {numbers!r}")
    faults = contents(path).faults
    rows: Counter[str] = Counter()
    written: list[Path] = []
    unreadable = 0
    try:
        for file in files_in(path):
            with _Partitions(Path(out), file, numbers) as partitions:
                unreadable += partitions.fill()
            rows += partitions.rows
            written += partitions.files
    except OSError as exc:
        raise RecordingError(f"cannot write to {out}: {exc.strerror or exc}") from exc
    return Converted(
        rows={str(channel): count for channel, count in rows.items()},
        files=tuple(written),
        unreadable=unreadable,
        faults=faults,
    )


class _Key(NamedTuple):
    """A partition: a class of ticks, and a day since the epoch."""

    kind: type[Struct]
    day: int


class _Partitions:
    """The Parquet files of one file of a recording.

    Attributes:
        rows: The number of rows written, by channel.
        files: The complete files.
    """

    def __init__(self, out: Path, source: Path, numbers: Any) -> None:
        self.rows: Counter[str] = Counter()
        self.files: list[Path] = []
        self._out, self._source, self._numbers = out, source, numbers
        self._pending: dict[_Key, list[Any]] = {}
        self._files_by_key: dict[_Key, _PartitionFile] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with ExitStack() as closing:  # Close all of them, even if one raises.
            for table in self._files_by_key.values():
                closing.callback(table.close, whole=kind is None)
        self.files += [table.path for table in self._files_by_key.values()]

    def fill(self) -> int:
        """Write all ticks; return the number of unreadable frames."""
        unreadable = 0
        for tick in _ticks(self._source, self._numbers):
            if tick is None:
                unreadable += 1
                continue
            key = _Key(type(tick), tick.received_at // _DAY)
            rows = self._pending.setdefault(key, [])
            rows.append(tick)
            if len(rows) >= _ROWS:
                self._write(key)
        for key in list(self._pending):
            self._write(key)
        return unreadable

    def _write(self, key: _Key) -> None:
        rows = self._pending.pop(key)
        table = self._files_by_key.get(key)
        if table is None:
            path = self._path(key)
            schema = frames.schema(key.kind, numbers=self._numbers)
            table = self._files_by_key[key] = _PartitionFile(path, schema)
        table.write(frames.to_arrow(rows, numbers=self._numbers, kind=key.kind))
        self.rows[CHANNELS[key.kind]] += len(rows)

    def _path(self, key: _Key) -> Path:
        date = datetime.fromtimestamp(key.day * 86_400, UTC).date()
        folder = self._out / f"channel={CHANNELS[key.kind]}" / f"date={date}"
        return folder / f"{self._source.name.removesuffix(SUFFIX)}.parquet"


class _PartitionFile:
    """A Parquet file that gets its name when it is complete."""

    def __init__(self, path: Path, schema: Any) -> None:
        from pyarrow import parquet  # noqa: PLC0415 - an extra

        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._unfinished = path.with_suffix(".unfinished")
        try:
            self._writer: Any = parquet.ParquetWriter(
                self._unfinished, schema, compression="zstd"
            )
        except BaseException:
            self._remove()
            raise

    def write(self, table: Any) -> None:
        """Write rows."""
        self._writer.write_table(table)

    def close(self, *, whole: bool) -> None:
        """Close the file; rename it if it is complete, else remove it."""
        try:
            self._writer.close()
            if whole:
                self._unfinished.replace(self.path)
        except OSError:
            if whole:  # Otherwise a more specific error is being raised.
                raise
        finally:
            self._remove()

    def _remove(self) -> None:
        with suppress(OSError):
            self._unfinished.unlink(missing_ok=True)


def _read(reader: FrameDecoder[Any], frame: bytes) -> Any:
    try:
        return reader.push(frame)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return reader.read(frame)


def _ticks(file: Path, numbers: type[Any]) -> Iterator[Any]:
    """Yield the tick of each push; None for an unreadable frame."""
    reader: FrameDecoder[Any] = FrameDecoder(numbers)
    for entry in read(file):
        if entry.kind != "frame":
            continue
        try:
            tick = _read(reader, entry.frame)
        except DecodeError:
            yield None
            continue
        if type(tick) in CHANNELS:
            force_setattr(tick, "received_at", entry.at)
            force_setattr(tick, "recovered", False)
            yield tick
