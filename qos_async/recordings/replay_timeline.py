"""Timeline of a replay: link events, and the last values pushed for each topic."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw, Struct

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
    """A link was opened."""

    at: int


class FramesReceived(Struct, frozen=True):
    """Frames were received together."""

    at: int
    frames: list[bytes]


class LinkLost(Struct, frozen=True):
    """The link was lost, or frames of it were."""

    at: int
    reason: str


TimelineEvent: TypeAlias = LinkOpened | FramesReceived | LinkLost


def timeline(entries: Iterable[Entry]) -> Iterator[TimelineEvent]:
    """Yield the entries of a recording as events of links.

    Where the recording has a gap although the link was open (dropped frames, a killed
    process, a suspended machine) the link is lost and opened again, so that subscribers
    receive a ``Gap``.
    """
    links = _LinkTracker()
    at, together = 0, list[bytes]()
    for entry in entries:
        if together and (entry.kind != "frame" or entry.at != at):
            yield FramesReceived(at, together)
            together = []
        if entry.kind != "frame":
            yield from links.on_entry(entry)
            continue
        if entry.at != at:
            yield from links.on_frames(entry.at)
        at = entry.at
        together.append(entry.frame)
    if together:
        yield FramesReceived(at, together)


class _LinkTracker:
    """Tracks whether the recorded link is open, entry by entry."""

    def __init__(self) -> None:
        self._is_open = False
        self._last_frame_at = 0
        self._run = ""
        self._number = -1

    def on_frames(self, at: int) -> Iterator[TimelineEvent]:
        """Return the events that frames at this time imply."""
        if not self._is_open:
            yield self._open(at)
        elif at - self._last_frame_at > _SILENCE:
            silence = (at - self._last_frame_at) / 1e9
            yield from self._gap(at, f"nothing was recorded for {silence:.0f} s")
        self._last_frame_at = at

    def on_entry(self, entry: Entry) -> Iterator[TimelineEvent]:
        """Return the events that any other entry implies."""
        match entry.kind:
            case "started":
                yield from self._on_started(entry)
            case "opened":
                yield from self._lose("the link was lost")
                yield self._open(entry.at)
            case "lost":
                yield from self._lose(entry.reason, entry.at)
            case "closed":
                yield from self._lose("the recording was closed", entry.at)
            case "dropped":
                why = f"{entry.count} frames were not recorded: the disk was too slow"
                yield from self._gap(entry.at, why)
            case "damaged":
                yield from self._lose(f"the recording is damaged: {entry.reason}")
            case _:
                pass

    def _on_started(self, entry: Entry) -> Iterator[TimelineEvent]:
        follows = (self._run, self._number + 1) == (entry.run, entry.number)
        self._run, self._number = entry.run, entry.number
        if not follows:
            yield from self._lose("the recording was interrupted")
        if entry.link and not self._is_open:
            yield self._open(entry.at)

    def _open(self, at: int) -> LinkOpened:
        self._is_open, self._last_frame_at = True, at
        return LinkOpened(at)

    def _lose(self, reason: str, at: int = 0) -> Iterator[TimelineEvent]:
        if self._is_open:
            self._is_open = False
            yield LinkLost(max(at, self._last_frame_at), reason)

    def _gap(self, at: int, reason: str) -> Iterator[TimelineEvent]:
        if self._is_open:
            yield LinkLost(self._last_frame_at, reason)
            yield LinkOpened(at)


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
        return None


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
