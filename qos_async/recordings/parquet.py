"""Parquet conversion of recordings, for polars, duckdb, pandas and others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from qos_async import frames
from qos_async._core.wire import FrameDecoder
from qos_async._locks import Lock, LockedError
from qos_async._paths import user_path
from qos_async.errors import DecodeError
from qos_async.models import CHANNELS
from qos_async.recordings.files import SUFFIX, RecordingError, files_in
from qos_async.recordings.format import Entry, load_zstd
from qos_async.recordings.reading import contents, in_order, read_files

__all__ = ["Converted", "convert"]

# Bytes of frames that are held at most. As objects they take up to ten times as much;
# a book of 20 levels a side has twenty times the bytes of a trade.
_MAX_PENDING = 250_000
_UNFINISHED = ".unfinished"
_DAY = 86_400 * 1_000_000_000


class Converted(Struct, frozen=True, kw_only=True):
    """Summary of a conversion.

    Attributes:
        rows: The number of rows by channel: snapshot, trade, depth, kline.
        files: The Parquet files.
        unreadable: The number of frames that could not be read.
        faults: A message for each damaged part of the recording.
        unknown: The number of entries of kinds that this version does not know.
    """

    rows: dict[str, int]
    files: tuple[Path, ...]
    unreadable: int
    faults: tuple[str, ...]
    unknown: int = 0


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
    name and place when it is complete: until then it is in the directory
    ``.OUT.unfinished`` beside ``OUT``, which the next conversion empties.

    Args:
        path: A recording's directory, or one of its files.
        out: The output directory; created if missing. ``~`` is the home directory.
        numbers: The type of prices, sizes and volumes: ``float``; ``Decimal`` for
            decimal128(38, 18), in which no digit is lost; or ``str``.

    Raises:
        RecordingError: If there is no recording, it is empty, ``out`` is not writable, or
            another conversion writes to it.
        ModuleNotFoundError: Without pyarrow or a zstandard library; the message has the
            command to install it.
        ValueError: For an unknown type of numbers, a number that does not fit, or a path
            that cannot be one.

    Example:
        >>> convert("recordings", "parquet").rows
        {'trade': 86400}
        >>> polars.read_parquet("parquet/channel=trade/**/*.parquet")
        >>> duckdb.sql("from read_parquet('parquet/channel=trade/**/*.parquet')")
        >>> pandas.read_parquet("parquet/channel=trade")
    """
    if numbers not in (float, Decimal, str):
        raise ValueError(f"numbers must be one of float, Decimal, str, not {numbers!r}")
    place = user_path("out", out)
    found = contents(path)
    rows: Counter[str] = Counter()
    written: list[Path] = []
    unreadable = 0
    try:
        with _workplace(place) as unfinished:
            library, files = load_zstd(), files_in(path)
            for file in [one.file for one in in_order(files, library) if not one.fault]:
                entries = read_files([file], library, alone=len(files) == 1)
                with _Partitions(place, unfinished, file.name, numbers) as partitions:
                    unreadable += partitions.fill(entries)
                rows += partitions.rows
                written += partitions.files
    except OSError as exc:
        raise RecordingError(f"cannot write to {place}: {exc.strerror or exc}") from exc
    return Converted(
        rows={str(channel): count for channel, count in rows.items()},
        files=tuple(written),
        unreadable=unreadable,
        faults=found.faults,
        unknown=found.unknown,
    )


@contextmanager
def _workplace(out: Path) -> Generator[Path]:
    """Return an empty directory for files that are not complete, of this call alone.

    Raises:
        RecordingError: If another conversion has it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise RecordingError(f"{out} is a file: expected a directory") from None
    place = _beside(out)
    while True:
        place.mkdir(exist_ok=True)
        try:
            lock = Lock(place)
        except LockedError:
            raise RecordingError(
                f"another conversion writes to {out}: wait for it, or use another "
                "directory"
            ) from None
        if place.exists():  # Else that of a conversion that has just ended was locked.
            break
        lock.release()
    try:
        for leftover in place.glob("*.part"):
            leftover.unlink()
        yield place
    finally:
        with suppress(OSError):
            place.rmdir()
        lock.release()


def _beside(out: Path) -> Path:
    """Return a place for a directory on the disk of ``out``: beside it, if that can be.

    Within it, polars refuses to read the whole of ``out`` while it exists.
    """
    whole = out.resolve()
    parent = whole.parent
    same_disk = parent.stat().st_dev == whole.stat().st_dev
    if parent != whole and same_disk and os.access(parent, os.W_OK | os.X_OK):
        return parent / f".{whole.name}{_UNFINISHED}"
    return whole / _UNFINISHED


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

    def __init__(self, out: Path, unfinished: Path, source: str, numbers: Any) -> None:
        self.rows: Counter[str] = Counter()
        self.files: list[Path] = []
        self._out, self._unfinished = out, unfinished
        self._name, self._numbers = source.removesuffix(SUFFIX), numbers
        self._pending: dict[_Key, list[Any]] = {}
        self._pending_bytes: Counter[_Key] = Counter()
        self._files_by_key: dict[_Key, _PartitionFile] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with ExitStack() as closing:  # Close all of them, even if one raises.
            for table in self._files_by_key.values():
                closing.callback(table.close, whole=kind is None)
        self.files += [table.path for table in self._files_by_key.values()]

    def fill(self, entries: Iterable[Entry]) -> int:
        """Write the ticks of a file; return the number of unreadable frames."""
        unreadable = held = 0
        for tick, size in _ticks(entries, self._numbers):
            if tick is None:
                unreadable += 1
                continue
            key = _Key(type(tick), tick.received_at // _DAY)
            self._pending.setdefault(key, []).append(tick)
            self._pending_bytes[key] += size
            held += size
            if held > _MAX_PENDING:
                [(largest, most)] = self._pending_bytes.most_common(1)
                self._write(largest)
                held -= most
        for key in list(self._pending):
            self._write(key)
        return unreadable

    def _write(self, key: _Key) -> None:
        rows = self._pending.pop(key)
        del self._pending_bytes[key]
        table = self._files_by_key.get(key)
        if table is None:
            schema = frames.schema(key.kind, numbers=self._numbers)
            table = self._files_by_key[key] = self._create(key, schema)
        table.write(frames.to_arrow(rows, numbers=self._numbers, kind=key.kind))
        self.rows[CHANNELS[key.kind]] += len(rows)

    def _create(self, key: _Key, schema: Any) -> _PartitionFile:
        channel = CHANNELS[key.kind]
        date = datetime.fromtimestamp(key.day * 86_400, UTC).date()
        folder = self._out / f"channel={channel}" / f"date={date}"
        draft = self._unfinished / f"{channel}-{date}-{self._name}.part"
        return _PartitionFile(folder / f"{self._name}.parquet", draft, schema)


class _PartitionFile:
    """A Parquet file that gets its name when it is complete."""

    def __init__(self, path: Path, draft: Path, schema: Any) -> None:
        from pyarrow import parquet  # noqa: PLC0415 - an extra

        self.path = path
        self._draft = draft
        # pyarrow takes only paths that are Unicode.
        self._file = draft.open("wb")
        try:
            self._writer: Any = parquet.ParquetWriter(
                self._file, schema, compression="zstd"
            )
        except BaseException:
            self._file.close()
            self._remove()
            raise

    def write(self, table: Any) -> None:
        """Write rows."""
        self._writer.write_table(table)

    def close(self, *, whole: bool) -> None:
        """Close the file; rename it if it is complete, else remove it."""
        try:
            with self._file:
                try:
                    self._writer.close()
                finally:  # After an error it would try again when it is freed.
                    self._writer.is_open = False
                self._file.flush()
                if whole:
                    os.fsync(self._file.fileno())
            if whole:
                # Not before: some readers raise for a directory without a file.
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._draft.replace(self.path)
        except OSError:
            if whole:  # Otherwise a more specific error is being raised.
                raise
        finally:
            self._remove()

    def _remove(self) -> None:
        # The second is where earlier versions left what a killed conversion had begun.
        for leftover in (self._draft, self.path.with_suffix(".unfinished")):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def _read(reader: FrameDecoder[Any], frame: bytes) -> Any:
    try:
        return reader.push(frame)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return reader.read(frame)


def _ticks(entries: Iterable[Entry], numbers: type[Any]) -> Iterator[tuple[Any, int]]:
    """Yield the tick of each push, None if unreadable, and the size of the frame."""
    reader: FrameDecoder[Any] = FrameDecoder(numbers)
    for entry in entries:
        if entry.kind != "frame":
            continue
        size = len(entry.frame)
        try:
            tick = _read(reader, entry.frame)
        except DecodeError:
            yield None, size
            continue
        if type(tick) in CHANNELS:
            force_setattr(tick, "received_at", entry.at)
            force_setattr(tick, "recovered", False)
            yield tick, size
