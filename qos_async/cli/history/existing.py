"""The file that ``--update`` extends: what it holds, and its rows as they are."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Self

import msgspec

from qos_async import Interval, Kline, symbols
from qos_async.cli.files import OutputError, check_parquet
from qos_async.cli.history.partial import lock
from qos_async.cli.options import UsageError, file_format
from qos_async.cli.serialize import header
from qos_async.periods import bar_end

__all__ = ["Existing"]

_BATCH = 50_000
_NEARLY = 2
"""A bar that began this many lengths ago is over, also where days have 25 hours."""
_LONGEST = {Interval.DAY: 1, Interval.WEEK: 7, Interval.MONTH: 31, Interval.YEAR: 366}
_DAY = 86_400


class Existing:
    """The bars of a file, locked against other runs of ``--update`` until it is closed.

    Attributes:
        last: The start of the last finished bar of each symbol, in epoch seconds.
        numbers: How Parquet stores them: ``"float"``, ``"decimal"`` or ``"text"``.
        is_cut_off: Whether the last line of CSV or JSON Lines was not whole: it is left out.
    """

    def __init__(self, path: Path, interval: Interval, now: float) -> None:
        """Open the file and read which bars it holds.

        Raises:
            OutputError: If it cannot be read, or holds something else.
            UsageError: If it holds another interval.
            PartError: If another run is extending it.
        """
        self.last: dict[str, int] = {}
        self.numbers: str | None = None
        self.is_cut_off = False
        self._metadata: dict[bytes, bytes] = {}
        self._path, self._interval, self._now = path, interval, now
        self._unfinished: set[int] = set()
        try:
            self._file: IO[bytes] = self._open()
        except OSError as error:
            raise OutputError(f"cannot read {path}: {error.strerror}") from None
        try:
            self._scan()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def check(self, names: Iterable[str], source: str, numbers: str | None) -> None:
        """Check that the bars of a command belong into the file.

        Raises:
            UsageError: If it holds other symbols, other numbers, or is of another server.
        """
        if self.last and self.last.keys().isdisjoint(names):
            raise UsageError(
                f"{self._path} holds {', '.join(self.last)}: name one of these, too, to "
                "have several symbols in it, or another file"
            )
        stored = self.value("source") or source
        if stored != source:
            raise UsageError(
                f"{self._path} holds bars of {stored}, not of {source}: name another file"
            )
        if self.value("adjusted") == "true":
            raise UsageError(
                f"{self._path} holds adjusted bars, which --update cannot extend: fetch "
                "all of them again, with --adjust --force"
            )
        if numbers and numbers != self.numbers:
            raise UsageError(
                f"{self._path} has its numbers as {self.numbers}: add --numbers "
                f"{self.numbers}, or leave it out"
            )

    def value(self, name: str) -> str | None:
        """Return a value of the metadata of Parquet, such as that of ``source``."""
        value = self._metadata.get(f"qos.{name}".encode())
        return None if value is None else value.decode()

    def lines(self) -> Iterator[bytes]:
        """Iterate over the lines of CSV or JSON Lines, without unfinished bars."""
        self._file.seek(0)
        first_row = 1 if file_format(self._path) == ".csv" else 0
        for number, line in enumerate(self._file, -first_row):
            if number not in self._unfinished:
                yield line if line.endswith(b"\n") else line + b"\n"

    def tables(self) -> Iterator[Any]:
        """Iterate over tables of Parquet, without unfinished bars."""
        import pyarrow as pa

        arrow: Any = pa
        number = 0
        for batch in self._parquet().iter_batches(_BATCH):
            rows = range(number, number + batch.num_rows)
            number += batch.num_rows
            table: Any = arrow.Table.from_batches([batch])
            if self._unfinished.isdisjoint(rows):
                yield table
            else:
                yield table.filter([row not in self._unfinished for row in rows])

    def _open(self) -> IO[bytes]:
        while True:
            file = self._path.open("rb")
            try:
                lock(file, self._path)
                opened, named = os.fstat(file.fileno()), self._path.stat()
                if os.path.samestat(opened, named):
                    return file
            except BaseException:
                file.close()
                raise
            file.close()  # Another run has replaced it meanwhile.

    def _scan(self) -> None:
        if file_format(self._path) == ".parquet":
            rows = self._parquet_rows()
        elif file_format(self._path) == ".csv":
            rows = self._csv_rows()
        else:
            rows = self._json_rows()
        count = 0
        try:
            for symbol, start, interval in rows:
                self._add(count, symbol, start, interval)
                count += 1
        except (ValueError, TypeError, KeyError, msgspec.MsgspecError):
            raise self._not_ours(f"row {count + 1} is not a bar") from None

    def _add(self, number: int, symbol: str, start: int, interval: str) -> None:
        if interval != self._interval.short:
            raise UsageError(
                f"{self._path} holds bars of {interval}, not {self._interval.short}: add "
                f"--interval {interval}, or name another file"
            )
        if not self._is_over(symbol, start):
            self._unfinished.add(number)
        elif start > self.last.get(symbol, -1):
            self.last[symbol] = start

    def _is_over(self, symbol: str, start: int) -> bool:
        days = _LONGEST.get(self._interval)
        longest = days * _DAY if days else self._interval * 60
        if start + _NEARLY * longest <= self._now:
            return True
        return bar_end(start, self._interval, symbols.market_of(symbol)) <= self._now

    def _csv_rows(self) -> Iterator[tuple[str, int, str]]:
        reader = csv.DictReader(line.decode() for line in self._whole_lines(1))
        self._check_columns(reader.fieldnames or ())
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(row)
            yield row["symbol"], int(row["timestamp"]), row["interval"]

    def _json_rows(self) -> Iterator[tuple[str, int, str]]:
        decoder = msgspec.json.Decoder(dict[str, Any])
        for number, line in enumerate(self._whole_lines(0)):
            row = decoder.decode(line)
            if not number:
                self._check_columns(row)
            yield row["symbol"], int(row["timestamp"]), row["interval"]

    def _whole_lines(self, first_row: int) -> Iterator[bytes]:
        """Iterate over lines without a last one that was cut off, as by a full disk.

        What is left of it may look like a bar, with a number that lost digits.
        """
        for number, line in enumerate(self._file, -first_row):
            # Of the first line the columns are checked: it may be of another program.
            if line.endswith(b"\n") or number + first_row == 0:
                yield line
            else:
                self._unfinished.add(number)
                self.is_cut_off = True

    def _check_columns(self, names: Iterable[str]) -> None:
        wanted, found = self._names(), list(names)
        if found == self._other_names():
            other = "days or longer" if "date" in found else "less than a day"
            raise UsageError(
                f"{self._path} holds bars of {other}, not {self._interval.short}: name "
                "another --interval, or another file"
            )
        if found != wanted and (found or file_format(self._path) == ".csv"):
            raise self._not_ours(
                f"its columns are {', '.join(found) or 'none'}, not {', '.join(wanted)}"
            )

    def _names(self) -> list[str]:
        return header(Kline, dates=self._interval >= Interval.DAY)

    def _other_names(self) -> list[str]:
        return header(Kline, dates=self._interval < Interval.DAY)

    def _parquet(self) -> Any:
        import pyarrow as pa
        from pyarrow import parquet

        arrow: Any = pa
        self._file.seek(0)
        try:
            return parquet.ParquetFile(self._file)
        except (arrow.ArrowException, OSError):
            raise self._not_ours("it is not Parquet") from None

    def _parquet_rows(self) -> Iterator[tuple[str, int, str]]:
        check_parquet()
        file = self._parquet()
        schema: Any = file.schema_arrow
        self._metadata = dict(schema.metadata or {})
        columns = ["symbol", "time", "interval"]
        if set(columns) <= set(schema.names):
            stored = next(file.iter_batches(1, columns=["interval"]), None)
            words: list[Any] = stored.column(0).to_pylist() if stored else []
            if words and words[0] != self._interval.short:
                self._add(0, "", 0, str(words[0]))
        self._find_numbers(schema)
        for batch in file.iter_batches(_BATCH, columns=columns):
            times = batch.column("time").cast("int64").to_pylist()
            names, words = (batch.column(one).to_pylist() for one in columns[::2])
            for symbol, time, interval in zip(names, times, words, strict=True):
                yield symbol, time // 1_000_000, interval

    def _find_numbers(self, schema: Any) -> None:
        from qos_async.cli.history.output import NUMBERS, parquet_schema

        for name in filter(None, NUMBERS):
            if _fields(parquet_schema(name, self._interval)) == _fields(schema):
                self.numbers = name
                return
        raise self._not_ours(f"its columns are {', '.join(schema.names)}")

    def _not_ours(self, why: str) -> OutputError:
        return OutputError(
            f"{self._path} cannot be extended, {why}: qos history did not write it so; "
            "name another file, or replace this one with --force, without --update"
        )


def _fields(schema: Any) -> list[tuple[str, Any]]:
    # Older versions of pyarrow read the indices of a dictionary with another width.
    types = [getattr(one.type, "value_type", one.type) for one in schema]
    return list(zip(schema.names, types, strict=True))
