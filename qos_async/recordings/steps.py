"""A recording as a server's day: links that open, carry frames, and are lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from msgspec import Struct

from qos_async.recordings.lines import Entry

__all__ = ["Frames", "Lost", "Opened", "Step", "steps"]

_SILENCE = 35_000_000_000
"""Nanoseconds. A heartbeat is answered at least that often: who hears nothing for
longer was not there."""


class Opened(Struct, frozen=True):
    """A link is open."""

    at: int


class Frames(Struct, frozen=True):
    """Frames came together."""

    at: int
    frames: list[bytes]


class Lost(Struct, frozen=True):
    """The link is lost, or what came over it."""

    at: int
    reason: str


Step: TypeAlias = Opened | Frames | Lost


def steps(entries: Iterable[Entry]) -> Iterator[Step]:
    """Turn entries into steps: each link opens, carries frames, and is lost.

    Where the recording has a hole although the link was open (frames that were dropped,
    a process that was killed, a machine that slept) the link is lost and open again, so
    that whoever reads is told of it.
    """
    links = _Links()
    at, together = 0, list[bytes]()
    for entry in entries:
        if together and (entry.kind != "frame" or entry.at != at):
            yield Frames(at, together)
            together = []
        if entry.kind != "frame":
            yield from links.read(entry)
            continue
        if entry.at != at:
            yield from links.heard(entry.at)
        at = entry.at
        together.append(entry.frame)
    if together:
        yield Frames(at, together)


class _Links:
    def __init__(self) -> None:
        self._is_open = False
        self._heard_at = 0
        self._run = ""
        self._number = -1

    def heard(self, at: int) -> Iterator[Step]:
        """Take note of frames that come now."""
        if not self._is_open:
            yield self._open(at)
        elif at - self._heard_at > _SILENCE:
            lull = (at - self._heard_at) / 1e9
            yield from self._hole(at, f"nothing was recorded for {lull:.0f} s")
        self._heard_at = at

    def read(self, entry: Entry) -> Iterator[Step]:
        """Take note of anything else."""
        match entry.kind:
            case "begun":
                yield from self._begun(entry)
            case "opened":
                yield from self._lose("the link was lost")
                yield self._open(entry.at)
            case "lost":
                yield from self._lose(entry.reason, entry.at)
            case "closed":
                yield from self._lose("the recording was closed", entry.at)
            case "dropped":
                why = f"{entry.count} frames were not recorded: the disk was too slow"
                yield from self._hole(entry.at, why)
            case "damaged":
                yield from self._lose(f"the recording is damaged: {entry.reason}")
            case _:
                pass

    def _begun(self, entry: Entry) -> Iterator[Step]:
        follows = (self._run, self._number + 1) == (entry.run, entry.number)
        self._run, self._number = entry.run, entry.number
        if not follows:
            yield from self._lose("the recording stopped, and began again later")
        if entry.link and not self._is_open:
            yield self._open(entry.at)

    def _open(self, at: int) -> Opened:
        self._is_open, self._heard_at = True, at
        return Opened(at)

    def _lose(self, reason: str, at: int = 0) -> Iterator[Step]:
        if self._is_open:
            self._is_open = False
            yield Lost(max(at, self._heard_at), reason)

    def _hole(self, at: int, reason: str) -> Iterator[Step]:
        if self._is_open:
            yield Lost(self._heard_at, reason)
            yield Opened(at)
