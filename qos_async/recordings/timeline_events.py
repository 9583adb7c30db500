"""Events of a timeline: what happens to the link of a recording, and to its topics."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from qos_async.recordings.format import Entry
from qos_async.topics import Topic

__all__ = [
    "LEFT_INDEX",
    "FramesReceived",
    "LinkLost",
    "LinkOpened",
    "TimelineEvent",
    "TopicRecovered",
    "TopicSuspect",
]

LEFT_INDEX = 90_000
"""The index, in the end of an outage, of frames that were stored before it and follow."""


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
    """Frames were received together; the times are as of ``LinkOpened``.

    Attributes:
        at: A time.
        elapsed: A time.
        entries: The entries of the frames.
        gaps: Whether the recording has each gap, also those after unreadable frames.
    """

    at: int
    elapsed: int
    entries: list[Entry]
    gaps: bool = False


class LinkLost(Struct, frozen=True):
    """The link was lost, or frames of it were; the times are as of ``LinkOpened``.

    Attributes:
        at: A time.
        elapsed: A time.
        reason: Why.
        awaited: The topics for which ``TopicRecovered`` follows; the others have a gap
            that ends when the link is open again.
    """

    at: int
    elapsed: int
    reason: str
    awaited: frozenset[Topic] = frozenset()


class TopicSuspect(Struct, frozen=True):
    """A topic may have missed something; ``TopicRecovered`` follows.

    Attributes:
        at: A time.
        elapsed: A time.
        topic: The topic.
        reason: Why.
        since: When the outage began, in ns since the epoch.
    """

    at: int
    elapsed: int
    topic: Topic
    reason: str
    since: int


class TopicRecovered(Struct, frozen=True):
    """The outage of a topic has ended.

    Attributes:
        at: A time.
        elapsed: A time.
        topic: The topic.
        entry: The entry ``"fetched"``; None if the recording lacks it.
        held: The frames of the topic since the outage began.
        skipped: How many frames of the outage are not in ``held``: they were delivered
            before it was known, or are before the start.
        following: How many of ``held``, at its end, came after the outage.
        place: The entry with which it ended: its ticks have the places of that, so that
            places ascend in the order of delivery. None if they keep their own.
        index: How many ticks of other topics have places of that entry, before these.
    """

    at: int
    elapsed: int
    topic: Topic
    entry: Entry | None
    held: list[Entry]
    skipped: int = 0
    following: int = 0
    place: Entry | None = None
    index: int = 0

    @property
    def last_index(self) -> int:
        """The index of the last of its ticks in ``place``, or a later one."""
        rows = 0 if self.entry is None else len(self.entry.rows)
        return self.index + rows + len(self.held)


TimelineEvent: TypeAlias = (
    LinkOpened | FramesReceived | LinkLost | TopicSuspect | TopicRecovered
)
