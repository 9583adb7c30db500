"""Tables of ticks: a directory for each channel and day, complete files only."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, Self

from msgspec import Struct

from qos_async import frames
from qos_async._locks import Lock, LockedError
from qos_async.models import CHANNELS
from qos_async.recordings.files import RecordingError

__all__ = [
    "ParquetTables",
    "Partitions",
    "PushedRow",
    "TableFormat",
    "TableWriter",
    "workplace",
]

# Bytes of frames that are held at most. As objects they take up to ten times as much;
# a book of 20 levels a side has twenty times the bytes of a trade.
_MAX_PENDING = 250_000
_UNFINISHED = ".unfinished"
_TRADING_DATE = "trading_date"
_DAY = 86_400 * 1_000_000_000


class TableWriter(Protocol):
    """Writes the ticks of one class to a file."""

    def write(self, ticks: Sequence[Any]) -> None:
        """Write rows."""
        ...

    def close(self) -> None:
        """Write what is left, and leave the file open."""
        ...


class TableFormat(Protocol):
    """A format of tables: Parquet here, CSV in the command line."""

    @property
    def suffix(self) -> str:
        """The end of the names of files, with its dot."""
        ...

    def open(
        self, file: IO[bytes], kind: type[Struct], numbers: Any, *, dates: bool
    ) -> TableWriter:
        """Return a writer for a class of ticks; with ``dates``, klines have theirs."""
        ...


class PushedRow(NamedTuple):
    """A tick, None if it is unreadable, the size of its push, and its time of receipt."""

    tick: Any
    size: int
    at: int


@contextmanager
def workplace(out: Path) -> Generator[Path]:
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


class Partitions:
    """The tables of one file of a recording.

    Attributes:
        rows: The number of rows written, by channel.
        files: The complete files.
    """

    def __init__(
        self,
        out: Path,
        unfinished: Path,
        name: str,
        numbers: Any,
        tables: TableFormat,
        *,
        dates: bool,
    ) -> None:
        self.rows: Counter[str] = Counter()
        self.files: list[Path] = []
        self._out, self._unfinished = out, unfinished
        self._name, self._numbers, self._tables = name, numbers, tables
        self._dates = dates
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

    def fill(self, rows: Iterable[PushedRow]) -> int:
        """Write ticks; return the number of unreadable frames."""
        unreadable = held = 0
        for tick, size, at in rows:
            if tick is None:
                unreadable += 1
                continue
            key = _Key(type(tick), at // _DAY)
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
            table = self._files_by_key[key] = self._create(key)
        table.write(rows)
        self.rows[CHANNELS[key.kind]] += len(rows)

    def _create(self, key: _Key) -> _PartitionFile:
        channel = CHANNELS[key.kind]
        date = datetime.fromtimestamp(key.day * 86_400, UTC).date()
        folder = self._out / f"channel={channel}" / f"date={date}"
        draft = self._unfinished / f"{channel}-{date}-{self._name}.part"
        path = folder / f"{self._name}{self._tables.suffix}"
        opened = partial(
            self._tables.open, kind=key.kind, numbers=self._numbers, dates=self._dates
        )
        return _PartitionFile(path, draft, opened)


class ParquetTables:
    """The format of Parquet."""

    suffix = ".parquet"

    def open(
        self, file: IO[bytes], kind: type[Struct], numbers: Any, *, dates: bool
    ) -> TableWriter:
        """Return a writer for a class of ticks; with ``dates``, klines have theirs."""
        return _ParquetWriter(file, kind, numbers, dates=dates)


class _ParquetWriter:
    """A ``TableWriter`` of pyarrow."""

    def __init__(
        self, file: IO[bytes], kind: type[Struct], numbers: Any, *, dates: bool
    ) -> None:
        self._kind, self._numbers, self._dates = kind, numbers, dates
        schema = self._table([]).schema  # Its error has the remedy.
        from pyarrow import parquet  # noqa: PLC0415 - an extra

        self._writer: Any = parquet.ParquetWriter(file, schema, compression="zstd")

    def write(self, ticks: Sequence[Any]) -> None:
        """Write rows."""
        self._writer.write_table(self._table(ticks))

    def _table(self, ticks: Sequence[Any]) -> Any:
        table = frames.to_arrow(
            ticks, numbers=self._numbers, kind=self._kind, live=True, dates=self._dates
        )
        # Readers give each row the date of its directory, or refuse a second one.
        return table.rename_columns(
            [_TRADING_DATE if name == "date" else name for name in table.column_names]
        )

    def close(self) -> None:
        """Write the end of the file."""
        try:
            self._writer.close()
        finally:  # After an error it would try again when it is freed.
            self._writer.is_open = False


class _PartitionFile:
    """A file that gets its name when it is complete."""

    def __init__(
        self, path: Path, draft: Path, open_table: Callable[[IO[bytes]], TableWriter]
    ) -> None:
        self.path = path
        self._draft = draft
        # pyarrow takes only paths that are Unicode.
        self._file = draft.open("wb")
        try:
            self._writer = open_table(self._file)
        except BaseException:
            self._file.close()
            self._remove()
            raise

    def write(self, ticks: Sequence[Any]) -> None:
        """Write rows."""
        self._writer.write(ticks)

    def close(self, *, whole: bool) -> None:
        """Close the file; rename it if it is complete, else remove it."""
        try:
            with self._file:
                self._writer.close()
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
