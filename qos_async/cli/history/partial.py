"""The file of pages fetched so far, kept beside the output until it is complete.

JSON lines, only ever appended to: the request, then a line per page, newest page first,
then the reason why there are no more. An incomplete line is cut off at the next start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Self

import msgspec
from msgspec import Struct

from qos_async import Interval, Kline
from qos_async.cli.display import IN_UTC
from qos_async.cli.formatting import plural
from qos_async.cli.options import CommandError
from qos_async.cli.times import local_time

__all__ = ["PartError", "PartialDownload", "Request", "lock", "part_path"]

Row = tuple[int, str, str, str, str, str | None]
"""Start, open, high, low, close and volume of a bar, numbers as sent."""


class PartError(CommandError):
    """The file cannot be used or written; the message says why."""


class Request(Struct, frozen=True, kw_only=True, tag_field="qos", tag="history 1"):
    """What is fetched.

    Attributes:
        symbol: Canonical.
        interval: Such as ``"1m"``.
        adjusted: For dividends and splits.
        source: The server: an address, or ``"simulator"``.
        asked: From and to as typed; the next run compares these.
        start: The first bar starts then or later, in epoch seconds.
        end: The last bar starts before, and is over by then if that was in the future.
    """

    symbol: str
    interval: str
    adjusted: bool
    source: str
    asked: tuple[str, str | None]
    start: int
    end: int

    @property
    def length(self) -> Interval:
        """The interval."""
        return Interval.parse(self.interval)

    def same(self, other: Request) -> bool:
        """Return whether it was typed the same: spans back from now move on."""
        moved = {"start": other.start, "end": other.end}
        return msgspec.structs.replace(self, **moved) == other

    def __str__(self) -> str:
        since, until = self.asked
        kind = ", adjusted" if self.adjusted else ""
        to = f" to {until}" if until else ""
        return f"{self.symbol} {self.interval}{kind} from {since}{to} ({self.source})"


class _PartLine(Struct, omit_defaults=True):
    """A line after the first: a page, or the end."""

    bars: list[Row] | None = None
    ended: str | None = None


_request = msgspec.json.Decoder(Request)
_line = msgspec.json.Decoder(_PartLine)
_encode = msgspec.json.Encoder().encode


def part_path(output: Path, symbol: str | None = None) -> Path:
    """Return the path of the file beside an output, also if an earlier version wrote it.

    Readers of a directory of Parquet files skip names that begin with a dot.

    Args:
        output: The file.
        symbol: Of the pages, where they are only a part of it.
    """
    if symbol:
        name = re.sub(r"[^\w.-]", "_", symbol)
        return output.with_name(f".{output.name}.{name}.part")
    hidden = output.with_name(f".{output.name}.part")
    earlier = output.with_name(f"{output.name}.part")
    return earlier if earlier.exists() and not hidden.exists() else hidden


class PartialDownload:
    """The file; opening it locks it and reads the pages of an earlier run.

    Attributes:
        path: Its path.
        request: Of the run that created it.
        count: The number of bars.
        oldest: The start of the oldest one; None without bars.
        newest: The start of the newest one.
        ended: Why there are no more pages; None while there may be.
        resumed_from: The number of bars of an earlier run.
        display: The time zone of messages.
    """

    def __init__(self, path: Path, request: Request, *, anew: bool = False) -> None:
        """Open or create the file.

        Args:
            path: Where.
            request: What to fetch.
            anew: Whether pages of another request may be discarded.

        Raises:
            PartError: If it holds another request, or something else, or is locked, or
                cannot be created.
        """
        self.path, self.request = path, request
        self.display = IN_UTC
        self.count = 0
        self.oldest: int | None = None
        self.newest: int | None = None
        self.ended: str | None = None
        self._offsets: list[int] = []
        self._size = 0
        try:
            self._file: IO[bytes] = path.open("a+b")
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            lock(self._file, path)
            self._read(anew=anew)
        except BaseException:
            self._file.close()
            raise
        self.resumed_from = self.count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file; remove it if it has no pages."""
        self._file.close()
        if not self._offsets:
            self.remove()

    def add(self, bars: Sequence[Kline[str]]) -> None:
        """Append a page, ascending, entirely older than the ones before.

        Raises:
            PartError: If it cannot be written.
        """
        rows: list[Row] = [
            (bar.timestamp, bar.open, bar.high, bar.low, bar.close, bar.volume)
            for bar in bars
        ]
        offset = self._size
        self._append(_PartLine(bars=rows))
        self._index_page(rows, offset)

    def move_end(self, end: int) -> None:
        """Set the end of the request, as long as there is no page.

        Raises:
            PartError: If it cannot be written.
        """
        if end > self.request.start:
            self.request = msgspec.structs.replace(self.request, end=end)
            self._create()

    def finish(self, reason: str) -> None:
        """Append that there are no more pages."""
        self._append(_PartLine(ended=reason))
        self.ended = reason

    def pages(self) -> Iterator[list[Kline[str]]]:
        """Iterate over all pages, the oldest first."""
        for offset in reversed(self._offsets):
            self._file.seek(offset)
            rows = _line.decode(self._file.readline()).bars or ()
            yield list(map(self._kline, rows))

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def progress_text(self) -> str:
        """Return how far back the pages reach, for people."""
        if self.oldest is None:
            return "nothing yet"
        back = self.local_time(self.oldest)
        return f"{plural(self.count, 'bar')} back to {back}"

    def local_time(self, timestamp: float) -> str:
        """Format the start of a bar, for people."""
        symbol = self.request.symbol
        zone = self.display.zone(symbol)
        return local_time(timestamp, symbol, self.request.length, zone)

    def _kline(self, row: Row) -> Kline[str]:
        return Kline(
            symbol=self.request.symbol,
            interval=self.request.length,
            timestamp=row[0],
            open=row[1],
            high=row[2],
            low=row[3],
            close=row[4],
            volume=row[5],
        )

    def _append(self, record: Struct) -> None:
        line = _encode(record) + b"\n"
        rest = memoryview(line)
        try:
            while rest:  # Unbuffered: a failed write must not fail again at the close.
                rest = rest[os.write(self._file.fileno(), rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from None
        self._size += len(line)

    def _index_page(self, rows: list[Row], offset: int) -> None:
        self._offsets.append(offset)
        self.count += len(rows)
        self.oldest = rows[0][0]
        if self.newest is None:
            self.newest = rows[-1][0]

    def _read(self, *, anew: bool) -> None:
        self._file.seek(0)
        first = self._file.readline()
        if not first.endswith(b"\n"):  # New, or killed while it was created.
            if first and not b'{"qos":"history'.startswith(first[:15]):
                raise self._not_ours()
            self._create()
            return
        try:
            found = _request.decode(first)
        except msgspec.MsgspecError:
            raise self._not_ours() from None
        if self.request.same(found):
            self.request = found
            self._size = len(first)
            self._read_pages()
        elif anew:
            self._create()
        else:
            raise PartError(
                f"{self.path} is an unfinished download of {found}: finish it with the "
                "same arguments, or add --force to discard it"
            )

    def _create(self) -> None:
        self._file.truncate(0)
        self._size = 0
        self._append(self.request)

    def _read_pages(self) -> None:
        """Read lines while they are complete and valid; cut the rest off."""
        for raw in self._file:
            line = self._checked(raw)
            if line is None:
                break
            if line.bars:
                self._index_page(line.bars, self._size)
            self.ended = line.ended
            self._size += len(raw)
        self._file.truncate(self._size)

    def _checked(self, raw: bytes) -> _PartLine | None:
        """Decode a line; None if it is invalid, or does not continue the one before."""
        try:
            line = _line.decode(raw)
        except msgspec.MsgspecError:
            return None
        if not raw.endswith(b"\n") or self.ended or not (line.bars or line.ended):
            return None
        before = self.request.end if self.oldest is None else self.oldest
        for row in reversed(line.bars or ()):
            if not self.request.start <= row[0] < before:
                return None
            before = row[0]
        return line

    def _unwritable(self, error: OSError) -> PartError:
        return PartError(f"cannot write {self.path}: {error.strerror}")

    def _not_ours(self) -> PartError:
        return PartError(
            f"{self.path} is in the way: it is not a download of qos history; move it"
        )


def lock(file: IO[bytes], path: Path) -> None:
    """Lock out a second run, where the system can."""
    try:
        import fcntl
    except ImportError:  # On Windows.
        return
    locks: Any = fcntl
    try:
        locks.flock(file, locks.LOCK_EX | locks.LOCK_NB)
    except BlockingIOError:
        raise PartError(
            f"another qos history is writing {path}: wait for it, or stop it"
        ) from None
