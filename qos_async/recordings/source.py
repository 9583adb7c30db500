"""The seam between logs of entries and the clients that play them.

A log is a directory, read once or followed while it grows, or a stream of messages. It is
an ``EntrySource``; ``Timeline`` turns its entries into events of links, and
``ReplayTransport`` plays these to a client. Nothing else knows where entries come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Protocol, TypeAlias

from msgspec import Struct

from qos_async._io.transport import EndOfStream
from qos_async.recordings.format import Entry
from qos_async.recordings.last_values import Row
from qos_async.topics import Topic, WireTopic

__all__ = [
    "CaughtUp",
    "EndOfSlice",
    "EntrySource",
    "Opening",
    "ReadWhole",
    "Resume",
    "Start",
]

Start: TypeAlias = str | datetime | None
"""Where to begin: None for what comes from now on, ``"first"``, a time, or a place."""


class EndOfSlice(EndOfStream):
    """The entries that follow are in another slice: outages go on there."""


class CaughtUp(Struct, frozen=True):
    """An event beside those of a timeline: what follows is new since the opening.

    Attributes:
        at: The time of the entry before, in ns since the epoch.
        elapsed: The same, in ns since the recording began.
    """

    at: int
    elapsed: int


class Resume(Struct, frozen=True):
    """Where a consumer was: what comes before has been handled.

    Attributes:
        place: A place, as of a tick; empty for no place.
        inclusive: Whether what is at that place is still to be handled.
        at: The time there, in nanoseconds since the epoch.
        sequence: In a stream: the first message that may still be to be handled; 0 if
            that is not known.
    """

    place: str = ""
    inclusive: bool = False
    at: int = 0
    sequence: int = 0

    def is_past(self, place: str) -> bool:
        """Whether what is at a place has been handled."""
        return place < self.place or (place == self.place and not self.inclusive)

    def is_before(self, place: str) -> bool:
        """Whether all that follows a place is still to be handled."""
        return not self.is_past(place)


class Opening(Struct, frozen=True, kw_only=True):
    """What is known of a log when it is opened.

    Attributes:
        topics: All topics that were ever subscribed, as far as is known.
        begins_at: The time of the first entry, in nanoseconds since the epoch; 0 if there
            is no entry.
        ends_at: The time of the last one; None for a log that grows.
        elapsed: The nanoseconds from the first entry to the last by a clock that is never
            set; None if they are not known.
        faults: A message for each damaged part.
        unknown: The number of entries of kinds that this version does not know.
        before: The entries before the start that make up the state there: the link, the
            topics, the outages that have not ended, and the last values. They are passed
            over without a tick.
        resume: Ticks that are past it are passed over, too: an entry may have several.
    """

    topics: frozenset[Topic] = frozenset()
    begins_at: int = 0
    ends_at: int | None = None
    elapsed: int | None = None
    faults: tuple[str, ...] = ()
    unknown: int = 0
    before: Iterable[Entry] = ()
    resume: Resume = Resume()


class EntrySource(Protocol):
    """A log, read from a start on."""

    async def open(self) -> Opening:
        """Open the log at its start.

        Raises:
            RecordingError: If there is no log, or its start cannot be kept.
        """
        ...

    async def read(self) -> Sequence[Entry]:
        """Return the next entries, at least one, in order; wait for new ones.

        A task that waits here may be cancelled; no entry is lost by that.

        Raises:
            EndOfStream: At the end of a log that does not grow; ``EndOfSlice`` where
                more follows.
            RecordingError: If the log cannot be read.
        """
        ...

    @property
    def live(self) -> bool:
        """Whether all that was in the log when it was opened has been returned."""
        ...

    @property
    def current(self) -> bool:
        """Whether new entries are returned as they are added: it can be read, and has been.

        After a broker was away, that is once what was added meanwhile has been returned.
        """
        ...

    @property
    def position(self) -> int:
        """The number of the next message that is read from a stream; 0 if not known."""
        ...

    def want(self, topics: AbstractSet[WireTopic]) -> None:
        """Set the topics whose pushes are needed; those of others may be left out."""
        ...

    async def rows(self, operation: str, body: Row) -> Sequence[Row] | None:
        """Return the rows of a reply from what the log has stored.

        None if the values that were read so far are to be used.

        Raises:
            RecordingError: If the log cannot be read.
        """
        ...

    async def aclose(self) -> None:
        """Close the log. May be called more than once."""
        ...


class ReadWhole:
    """The part of an ``EntrySource`` that only a stream that grows has."""

    @property
    def position(self) -> int:
        """Return 0: it is not known."""
        return 0

    def want(self, topics: AbstractSet[WireTopic]) -> None:
        """Do nothing: the entries of all topics are read."""

    async def rows(self, operation: str, body: Row) -> None:
        """Return None: the values that were read are used."""
