"""Timeline of a replay: link events, and the last values pushed for each topic."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Raw, Struct

from qos_async._core.decoding import quote_bare_words
from qos_async.config import KLINES_MAX, TRADES_MAX
from qos_async.recordings.format import Entry
from qos_async.symbols import canonical
from qos_async.topics import WireTopic

__all__ = [
    "FramesReceived",
    "LastValues",
    "LinkLost",
    "LinkOpened",
    "PushHeader",
    "Row",
    "TimelineEvent",
    "push_header",
    "timeline",
]

# Nanoseconds. Heartbeats are at most 30 s apart and each is answered: a recording without
# a frame for longer has a gap, although it does not say so.
_SILENCE = 35_000_000_000


class LinkOpened(Struct, frozen=True):
    """A link was opened.

    Attributes:
        at: The time, in ns since the epoch; not before that of the loss before it, even
            if the clock was set back.
        elapsed: Nanoseconds since the recording began; never less than of the event before.
    """

    at: int
    elapsed: int


class FramesReceived(Struct, frozen=True):
    """Frames were received together; the times are as of ``LinkOpened``."""

    at: int
    elapsed: int
    frames: list[bytes]


class LinkLost(Struct, frozen=True):
    """The link was lost, or frames of it were; the times are as of ``LinkOpened``."""

    at: int
    elapsed: int
    reason: str


TimelineEvent: TypeAlias = LinkOpened | FramesReceived | LinkLost


def timeline(entries: Iterable[Entry]) -> Iterator[TimelineEvent]:
    """Yield the entries of a recording as events of links.

    Where the recording has a gap although the link was open (dropped frames, a killed
    process, a suspended machine) the link is lost and opened again, so that subscribers
    receive a ``Gap``.
    """
    links = _LinkTracker()
    first: Entry | None = None
    together = list[bytes]()
    for entry in entries:
        if first is not None and (entry.kind != "frame" or entry.at != first.at):
            yield FramesReceived(first.at, first.elapsed, together)
            first = None
        if entry.kind != "frame":
            yield from links.on_entry(entry)
            continue
        if first is None:
            yield from links.on_frames(entry)
            first, together = entry, []
        together.append(entry.frame)
    if first is not None:
        yield FramesReceived(first.at, first.elapsed, together)


class _Moment(NamedTuple):
    """The times of an entry."""

    at: int
    elapsed: int

    def after(self, other: _Moment) -> _Moment:
        """Return this, as far from another as it was: the wall clock may be set."""
        return _Moment(other.at + self.elapsed - other.elapsed, self.elapsed)


class _LinkTracker:
    """Tracks whether the recorded link is open, entry by entry."""

    def __init__(self) -> None:
        self._is_open = False
        self._last_frame = _Moment(0, 0)
        self._lost: _Moment | None = None
        self._run = ""
        self._number = -1

    def on_frames(self, entry: Entry) -> Iterator[TimelineEvent]:
        """Return the events that the first of frames received together implies."""
        moment = _Moment(entry.at, entry.elapsed)
        silence = moment.elapsed - self._last_frame.elapsed
        if not self._is_open:
            yield self._open(moment)
        elif silence > _SILENCE:
            why = f"nothing was recorded for {silence / 1e9:.0f} s"
            yield from self._gap(moment, why)
        self._last_frame = moment

    def on_entry(self, entry: Entry) -> Iterator[TimelineEvent]:
        """Return the events that any other entry implies."""
        moment = _Moment(entry.at, entry.elapsed)
        match entry.kind:
            case "started":
                yield from self._on_started(entry, moment)
            case "opened":
                yield from self._lose("the link was lost")
                yield self._open(moment)
            case "lost":
                yield from self._lose(entry.reason, moment)
            case "closed":
                yield from self._lose("the recording was closed", moment)
            case "dropped":
                why = f"{entry.count} frames were not recorded: the disk was too slow"
                yield from self._gap(moment, why)
            case "damaged":
                yield from self._lose(f"the recording is damaged: {entry.reason}")
            case _:
                pass

    def _on_started(self, entry: Entry, moment: _Moment) -> Iterator[TimelineEvent]:
        follows = (self._run, self._number + 1) == (entry.run, entry.number)
        self._run, self._number = entry.run, entry.number
        if not follows:
            yield from self._lose("the recording was interrupted")
        if entry.link and not self._is_open:
            yield self._open(moment)

    def _open(self, moment: _Moment) -> LinkOpened:
        if self._lost is not None:
            opened = LinkOpened(*moment.after(self._lost))
        else:
            opened = LinkOpened(*moment)
        self._is_open, self._last_frame = True, moment
        return opened

    def _lose(
        self, reason: str, moment: _Moment | None = None
    ) -> Iterator[TimelineEvent]:
        if self._is_open:
            self._is_open = False
            last = self._last_frame
            self._lost = last if moment is None else moment.after(last)
            yield LinkLost(*self._lost, reason)

    def _gap(self, moment: _Moment, reason: str) -> Iterator[TimelineEvent]:
        if self._is_open:
            yield from self._lose(reason)
            yield self._open(moment)


Row: TypeAlias = dict[str, Any]


class PushHeader(Struct):
    """The fields of a push that identify it."""

    tp: str | None = None
    c: str = ""
    kt: int | None = None
    ts: int = 0

    @property
    def topic(self) -> WireTopic:
        """The topic of the push."""
        kt = self.kt if self.tp == "K" else None
        return WireTopic(self.tp or "", _canonical(self.c), kt)


_header_decoder = msgspec.json.Decoder(PushHeader, strict=False)
_row_decoder = msgspec.json.Decoder(dict[str, Raw])


def push_header(frame: bytes) -> PushHeader | None:
    """Return the header of a frame, or None if it is unreadable."""
    try:
        return _header_decoder.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        quoted = quote_bare_words(frame)
        return None if quoted is None else push_header(quoted)


@lru_cache(maxsize=10_000)
def _canonical(symbol: str) -> str:
    try:
        return canonical(symbol)
    except ValueError:
        return symbol


class LastValues:
    """Keeps the last pushes of each topic, and returns them as rows of a reply.

    Numbers keep the digits that were received.
    """

    def __init__(self) -> None:
        self._last: dict[WireTopic, bytes] = {}
        self._trades: dict[str, deque[bytes]] = {}
        self._klines: dict[WireTopic, dict[int, bytes]] = {}

    def record(self, frame: bytes, header: PushHeader) -> None:
        """Keep a push."""
        topic = header.topic
        match topic.letter:
            case "T":
                kept = self._trades.get(topic.symbol)
                if kept is None:
                    kept = self._trades[topic.symbol] = deque(maxlen=TRADES_MAX)
                kept.append(frame)
            case "K":
                klines = self._klines.setdefault(topic, {})
                klines[header.ts] = frame
                if len(klines) > KLINES_MAX:
                    del klines[next(iter(klines))]
            case _:
                self._last[topic] = frame

    def last(self, letter: str, symbol: str) -> list[Row]:
        """Return the last snapshot (``S``) or book (``D``), or an empty list."""
        frame = self._last.get(WireTopic(letter, symbol))
        return [] if frame is None else [_row(frame)]

    def trades(self, symbol: str, count: int) -> list[Row]:
        """Return the last trades, oldest first."""
        kept = self._trades.get(symbol, ())
        newest = list(islice(reversed(kept), count))
        return [_row(frame) for frame in reversed(newest)]

    def klines(
        self, symbol: str, kt: int, count: int, *, end: float | None = None
    ) -> list[Row]:
        """Return the last klines, ascending; with ``end``, those that start by then."""
        kept = self._klines.get(WireTopic("K", symbol, kt), {})
        known = sorted(ts for ts in kept if end is None or ts <= end)
        return [_row(kept[ts]) for ts in known[-count:]]


def _row(frame: bytes) -> Row:
    row: Row = dict(_row_decoder.decode(frame))
    row.pop("tp", None)
    return row
