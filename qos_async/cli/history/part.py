"""The pages fetched so far, kept beside the output so that nothing is asked for twice.

JSON lines, only ever appended to: the request, then a line a page, newest page first,
then why there are no more. A line is written whole or is cut off by the next reader.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import msgspec
from msgspec import Struct

from qos_async import Interval, Kline
from qos_async.cli.moments import local_time
from qos_async.cli.wording import many

__all__ = ["Part", "PartError", "Request", "part_path"]

Row = tuple[int, str, str, str, str, str | None]
"""Start, open, high, low, close and volume of a bar, numbers as sent."""


class PartError(Exception):
    """The pages of an earlier run cannot be gone on with; the sentence says why."""


class Request(Struct, frozen=True, kw_only=True, tag_field="qos", tag="history 1"):
    """What is fetched.

    Attributes:
        symbol: Canonical.
        interval: Such as ``"1m"``.
        adjusted: For dividends and splits.
        source: Who answers: an address, or ``"simulator"``.
        asked: From when to when, as typed; these two are compared by the next run.
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
        """Tell whether it was typed the same; times back from now have moved on."""
        moved = {"start": other.start, "end": other.end}
        return msgspec.structs.replace(self, **moved) == other

    def __str__(self) -> str:
        since, until = self.asked
        kind = ", adjusted" if self.adjusted else ""
        to = f" to {until}" if until else ""
        return f"{self.symbol} {self.interval}{kind} from {since}{to} ({self.source})"


class _Line(Struct, omit_defaults=True):
    """A line after the first: a page, or the end."""

    bars: list[Row] | None = None
    ended: str | None = None


class _Page(NamedTuple):
    """Where a page is in the file."""

    offset: int
    length: int


_request = msgspec.json.Decoder(Request)
_line = msgspec.json.Decoder(_Line)
_encode = msgspec.json.Encoder().encode


def part_path(output: Path) -> Path:
    """Name the file beside an output."""
    return output.with_name(f"{output.name}.part")


class Part:
    """The file; opening it reads what an earlier run has left, and locks it.

    Attributes:
        path: Where it is.
        request: Of the run that began it.
        count: How many bars there are.
        oldest: The start of the oldest of them; None if there is none.
        newest: The start of the newest.
        ended: Why there are no more pages; None while there may be.
        found: How many bars an earlier run has left.
    """

    def __init__(self, path: Path, request: Request, *, anew: bool = False) -> None:
        """Open it, or begin it.

        Args:
            path: Where.
            request: What is to be fetched.
            anew: Whether pages of another request may be thrown away.

        Raises:
            PartError: If it has pages of another request, or is something else, or
                somebody is writing to it.
            OSError: If it cannot be made or read.
        """
        self.path, self.request = path, request
        self.count = 0
        self.oldest: int | None = None
        self.newest: int | None = None
        self.ended: str | None = None
        self._pages: list[_Page] = []
        self._size = 0
        self._file: IO[bytes] = path.open("a+b")
        try:
            _lock(self._file, path)
            self._read(anew)
        except BaseException:
            self._file.close()
            raise
        self.found = self.count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it; nothing in it: remove it."""
        self._file.close()
        if not self._pages:
            self.path.unlink(missing_ok=True)

    def add(self, bars: Sequence[Kline[str]]) -> None:
        """Keep a page, ascending, all of it older than what there is.

        Raises:
            OSError: If it cannot be written.
        """
        rows: list[Row] = [
            (bar.timestamp, bar.open, bar.high, bar.low, bar.close, bar.volume)
            for bar in bars
        ]
        self._take(rows, self._append(_encode(_Line(bars=rows)) + b"\n"))

    def finish(self, why: str) -> None:
        """Keep that there are no more pages."""
        self._append(_encode(_Line(ended=why)) + b"\n")
        self.ended = why

    def pages(self) -> Iterator[list[Kline[str]]]:
        """Read all pages again, the oldest first."""
        for page in reversed(self._pages):
            self._file.seek(page.offset)
            line = _line.decode(self._file.read(page.length))
            yield list(self._klines(line.bars or ()))

    def remove(self) -> None:
        """Delete it: it is no longer needed."""
        self.path.unlink(missing_ok=True)

    def _klines(self, rows: Iterable[Row]) -> Iterator[Kline[str]]:
        symbol, interval = self.request.symbol, self.request.length
        for at, first, high, low, last, volume in rows:
            yield Kline(
                symbol=symbol,
                interval=interval,
                timestamp=at,
                open=first,
                high=high,
                low=low,
                close=last,
                volume=volume,
            )

    def _append(self, line: bytes) -> _Page:
        page = _Page(self._size, len(line))
        rest = memoryview(line)
        while rest:  # Not buffered: what has failed once must not fail at the end, too.
            rest = rest[os.write(self._file.fileno(), rest) :]
        os.fsync(self._file.fileno())
        self._size += len(line)
        return page

    def _take(self, rows: list[Row], page: _Page) -> None:
        self._pages.append(page)
        self.count += len(rows)
        self.oldest = rows[0][0]
        if self.newest is None:
            self.newest = rows[-1][0]

    def _read(self, anew: bool) -> None:  # noqa: FBT001 - private
        self._file.seek(0)
        first = self._file.readline()
        if not first.endswith(b"\n"):  # Nothing yet, or killed while it was begun.
            if first and not b'{"qos":"history'.startswith(first[:15]):
                raise self._foreign()
            self._begin()
            return
        try:
            found = _request.decode(first)
        except msgspec.MsgspecError:
            raise self._foreign() from None
        if self.request.same(found):
            self.request = found
            self._size = len(first)
            self._read_pages()
        elif anew:
            self._begin()
        else:
            raise PartError(
                f"{self.path} is an unfinished download of {found}: finish that with "
                "the same arguments, or add --force to throw it away"
            )

    def _begin(self) -> None:
        self._file.truncate(0)
        self._size = 0
        self._append(_encode(self.request) + b"\n")

    def _read_pages(self) -> None:
        """Read lines as long as they are whole and right; cut the rest off."""
        for raw in self._file:
            line = self._checked(raw)
            if line is None:
                break
            if line.bars:
                self._take(line.bars, _Page(self._size, len(raw)))
            self.ended = line.ended
            self._size += len(raw)
        self._file.truncate(self._size)

    def _checked(self, raw: bytes) -> _Line | None:
        """Decode a line; None if it is broken, or is not what comes next."""
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

    def _foreign(self) -> PartError:
        return PartError(
            f"{self.path} is in the way, and no download of qos history: move it away"
        )

    def reached(self) -> str:
        """Say how far back it reaches, for people."""
        if self.oldest is None:
            return "nothing yet"
        back = local_time(self.oldest, self.request.symbol, self.request.length)
        return f"{many(self.count, 'bar')} back to {back}"


def _lock(file: IO[bytes], path: Path) -> None:
    """Keep a second run out, where the system can."""
    try:
        import fcntl  # noqa: PLC0415 - Windows has none
    except ImportError:
        return
    locks: Any = fcntl
    try:
        locks.flock(file, locks.LOCK_EX | locks.LOCK_NB)
    except BlockingIOError:
        raise PartError(
            f"another qos history is writing {path}: let it finish, or stop it"
        ) from None
