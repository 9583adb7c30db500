"""Recordings of either kind as sources that do not grow, whole or a part of them."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace

from qos_async._clock import epoch_ns
from qos_async._io.transport import EndOfStream
from qos_async._paths import user_path
from qos_async.recordings.directory import DirectorySource
from qos_async.recordings.files import RecordingError
from qos_async.recordings.format import Entry
from qos_async.recordings.source import (
    EndOfSlice,
    EntrySource,
    Opening,
    ReadWhole,
    Start,
)
from qos_async.recordings.streams import is_stream, shown_place, stream_source

__all__ = [
    "SlicedSource",
    "check_bound",
    "is_directory_place",
    "open_entries",
    "recorded_source",
]

# An archive of a stream has the places of the stream, which begin with 13 digits.
is_directory_place = re.compile(r"\d{13,16}\.[^.]+\.\d+\.\d{10}\.\d{5}").fullmatch
# Recorders of a stream, and clocks that are set, are not in the order of their times.
_DISORDER = 60_000_000_000


def recorded_source(
    place: str | os.PathLike[str],
    start: Start = None,
    end: str | datetime | None = None,
    *,
    packed: bool = False,
) -> tuple[EntrySource, str]:
    """Return the entries of a recording up to its present end, and its place for messages.

    Args:
        place: A directory, one of its files, or a stream.
        start: None for the first entry; else see ``replay``.
        end: None for the last one; else see ``replay``.
        packed: Whether the pushes of a message of a stream may be one entry.

    Raises:
        ValueError: If one of them is malformed.
    """
    streams = is_stream(place)
    check_bound("start", start, stream=streams)
    check_bound("end", end, stream=streams)
    source: EntrySource
    shown: Path | str
    if streams:
        shown = shown_place(place)
        begin = "first" if start is None else start
        is_packed = packed and end is None  # A place may be within a message.
        source = stream_source(os.fspath(place), begin, packed=is_packed)
    else:
        shown = user_path("path", place)
        source = DirectorySource(shown, None if start == "first" else start)
    if end is not None:
        source = SlicedSource(source, end, str(shown))
    return source, str(shown)


def check_bound(name: str, bound: object, *, stream: bool) -> None:
    """Check a start or an end.

    Raises:
        ValueError: If it is neither a time nor a place.
    """
    if bound is None or (name == "start" and bound == "first"):
        return
    if isinstance(bound, datetime):
        if bound.utcoffset() is None:
            raise ValueError(
                f"{name}={bound!r} has no time zone: use datetime.now(UTC), or give it one "
                "with .replace(tzinfo=ZoneInfo(...))"
            )
        return
    # Those of streams are checked with the stream.
    if isinstance(bound, str) and (stream or is_directory_place(bound)):
        return
    choices = 'None, "first"' if name == "start" else "None"
    raise ValueError(
        f"{name} must be {choices}, an aware datetime, or a place such as tick.place, not "
        f"{bound!r}"
    )


@contextmanager
def open_entries(source: EntrySource) -> Generator[tuple[Opening, Iterator[Entry]]]:
    """Open a source without an event loop; return what is known of it, and its entries.

    Raises:
        RuntimeError: Within an event loop.
    """

    def entries() -> Iterator[Entry]:
        with suppress(EndOfStream):
            while True:
                yield from runner.run(_next(source))

    if _is_in_loop():
        raise RuntimeError(
            "this waits for a recording: within an event loop, call it in a thread, with "
            "asyncio.to_thread"
        )
    with asyncio.Runner() as runner:
        try:
            yield runner.run(_open(source)), entries()
        finally:
            runner.run(_close(source))


def _is_in_loop() -> bool:
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return True
    return False


# A runner takes coroutines only.


async def _open(source: EntrySource) -> Opening:
    return await source.open()


async def _next(source: EntrySource) -> Sequence[Entry]:
    return await source.read()


async def _close(source: EntrySource) -> None:
    await source.aclose()


class SlicedSource(ReadWhole):
    """An ``EntrySource`` that ends before another one.

    Args:
        source: The other one, which does not grow.
        end: The time from which entries are left out, or the place of the last one.
        shown: The place of the recording, for messages.
    """

    def __init__(self, source: EntrySource, end: str | datetime, shown: str) -> None:
        self._source, self._shown = source, shown
        self._at = epoch_ns(end) if isinstance(end, datetime) else None
        self._place = "" if isinstance(end, datetime) else end
        # Places of one recorder, or of one directory, are in order.
        parts = self._place.split(".")
        self._prefix = ".".join(parts[:2]) if is_stream(shown) else ""
        self._origin = self._place.rsplit(".", 2)[0]
        self._seen_origin = self._has_ended = self._has_more = False

    async def open(self) -> Opening:
        """Open it; see ``EntrySource``."""
        opening = await self._source.open()
        if self._at is None or opening.ends_at is None:
            return opening
        return replace(opening, ends_at=min(opening.ends_at, self._at), elapsed=None)

    async def read(self) -> Sequence[Entry]:
        """Return the next entries; see ``EntrySource``."""
        entries: list[Entry] = []
        while not entries:
            if self._has_ended:
                raise EndOfSlice("the slice has ended")
            try:
                found = await self._source.read()
            except EndOfStream:
                self._check_end()
                if self._has_more:
                    raise EndOfSlice("the slice has ended") from None
                raise
            entries = self._before_end(found)
            if self._has_ended:
                self._check_end()
        return entries

    def _check_end(self) -> None:
        if self._place and not self._seen_origin:
            raise RecordingError(
                f"the place {self._place} is not in {self._shown}: it is of another "
                "recording, or is not kept any more"
            )

    def _before_end(self, found: Iterable[Entry]) -> list[Entry]:
        entries: list[Entry] = []
        for entry in found:
            if self._at is not None:
                self._has_ended = entry.at >= self._at + _DISORDER
                is_in = entry.at < self._at
            else:
                is_in = self._is_before_place(entry)
            if is_in:
                entries.append(entry)
            else:
                self._has_more = True
            if self._has_ended:
                break
        return entries

    def _is_before_place(self, entry: Entry) -> bool:
        """Whether it is not behind the end; see whether it is the end, or behind."""
        if not entry.origin.startswith(self._prefix) or not entry.origin:
            return True
        self._seen_origin = self._seen_origin or entry.origin == self._origin
        place = entry.place
        self._has_ended = place >= self._place
        return place <= self._place

    @property
    def current(self) -> bool:
        """See ``EntrySource``."""
        return self._source.current

    @property
    def live(self) -> bool:
        """Whether all entries have been returned."""
        return self._has_ended or self._source.live

    async def aclose(self) -> None:
        """Close it."""
        await self._source.aclose()
