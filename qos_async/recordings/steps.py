"""A recording as a server's day: links that open, carry frames, and are lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from msgspec import Struct

from qos_async.recordings.lines import Entry

__all__ = ["FramesReceived", "LinkLost", "LinkOpened", "TimelineEvent", "timeline"]

_SILENCE = 35_000_000_000
"""Nanoseconds. A heartbeat is answered at least that often: who hears nothing for
longer was not there."""


class LinkOpened(Struct, frozen=True):
    """A link is open."""

    at: int


class FramesReceived(Struct, frozen=True):
    """Frames came together."""

    at: int
    frames: list[bytes]


class LinkLost(Struct, frozen=True):
    """The link is lost, or what came over it."""

    at: int
    reason: str


TimelineEvent: TypeAlias = LinkOpened | FramesReceived | LinkLost


def timeline(entries: Iterable[Entry]) -> Iterator[TimelineEvent]:
    """Turn entries into steps: each link opens, carries frames, and is lost.

    Where the recording has a hole although the link was open (frames that were dropped,
    a process that was killed, a machine that slept) the link is lost and open again, so
    that whoever reads is told of it.
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
    def __init__(self) -> None:
        self._is_open = False
        self._last_frame_at = 0
        self._run = ""
        self._number = -1

    def on_frames(self, at: int) -> Iterator[TimelineEvent]:
        """Take note of frames that come now."""
        if not self._is_open:
            yield self._open(at)
        elif at - self._last_frame_at > _SILENCE:
            lull = (at - self._last_frame_at) / 1e9
            yield from self._gap(at, f"nothing was recorded for {lull:.0f} s")
        self._last_frame_at = at

    def on_entry(self, entry: Entry) -> Iterator[TimelineEvent]:
        """Take note of anything else."""
        match entry.kind:
            case "begun":
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
            yield from self._lose("the recording stopped, and began again later")
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
