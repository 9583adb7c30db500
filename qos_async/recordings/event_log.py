"""Events of a source of entries, read as they are played."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import TypeAlias

from qos_async._core.wire import LETTERS
from qos_async._io.notifier import Notifier
from qos_async._io.transport import EndOfStream
from qos_async.enums import Channel
from qos_async.recordings.format import Entry
from qos_async.recordings.last_values import (
    LastValues,
    Row,
    push_header,
    reply_rows,
)
from qos_async.recordings.replay_clock import ReplayClock
from qos_async.recordings.replay_timeline import Timeline
from qos_async.recordings.source import CaughtUp, EndOfSlice, EntrySource, Opening
from qos_async.recordings.timeline_events import (
    FramesReceived,
    LinkLost,
    TimelineEvent,
    TopicRecovered,
)
from qos_async.topics import Topic, WireTopic

__all__ = ["EventLog", "LogEvent", "record_loss", "record_recovered"]

LogEvent: TypeAlias = TimelineEvent | CaughtUp
"""An event of a timeline, or the end of what there was when a log was opened."""

_CHANNELS = frozenset(LETTERS.values())
# Entries of a directory between frames received together and what moves some of them.
_AMID = frozenset(
    ("frame", "suspect", "fetched", "subscribed", "unsubscribed", "rejected", "unknown")
)


class EventLog:
    """The events of a source, read when the ones before were played.

    Attributes:
        grows: Whether entries may be added.
        topics: The topics that were recorded, as far as is known.
        last: The last entry before the start, if there is one.
        was_live: Whether all that was there at the opening has been read.
    """

    def __init__(self, source: EntrySource, clock: ReplayClock) -> None:
        self.grows = False
        self.topics: set[Topic] = set()
        self.last: Entry | None = None
        self._source = source
        self._clock = clock
        self._timeline = Timeline()
        self._events: deque[LogEvent] = deque()
        self._has_ended = self.was_live = False
        self._reading: asyncio.Task[None] | None = None
        self._other: Notifier | None = None
        self._error: Exception | None = None

    @property
    def position(self) -> int:
        """The number of the next message of a stream, if all before was played; else 0."""
        is_reading = self._reading is not None and not self._reading.done()
        return self._source.position if is_reading and not self._events else 0

    def want(self, topics: AbstractSet[WireTopic]) -> None:
        """Set the topics whose pushes are needed."""
        self._source.want(topics)

    async def rows(
        self, values: LastValues, operation: str, body: Row
    ) -> Sequence[Row]:
        """Return the rows of a reply: from the source, or from these values."""
        found = await self._source.rows(operation, body)
        return reply_rows(values, operation, body) if found is None else found

    def fail(self, error: Exception) -> None:
        """Let the next event be an error."""
        self._error = error
        self._on_read()

    async def open(self, values: LastValues) -> Opening:
        """Open the source; record the values before its start."""
        opening = await self._source.open()
        self.grows = opening.ends_at is None
        self.topics.update(opening.topics)
        last = await asyncio.to_thread(self._pass_over, opening, values)
        self.last = last
        if last is None:
            self._clock.start(opening.begins_at)
        else:
            self._clock.start(last.at, last.elapsed)
        self._events += self._timeline.resume()
        self.was_live = self.grows and self._source.live
        if not self.grows:
            with suppress(EndOfStream):  # A part of a recording may have none.
                await self.next()  # The time goes on up to the first event.
        return opening

    def _pass_over(self, opening: Opening, values: LastValues) -> Entry | None:
        entry, timeline = None, self._timeline
        for entry in opening.before:
            if entry.kind != "frame":
                self._track(entry)
            for event in timeline.add(entry):
                _record_values(event, values)
        # What follows may move frames that were received before it behind the start.
        amid = entry is not None and entry.origin and entry.kind in _AMID
        if not (amid and opening.resume.place):
            for event in timeline.flush():
                _record_values(event, values)
        return entry

    def _track(self, entry: Entry) -> None:
        """Track which topics are recorded."""
        if entry.kind in ("started", "subscribed"):
            self.topics.update(entry.topics)
        elif entry.kind == "rejected":
            self.topics.difference_update(entry.topics)

    async def aclose(self) -> None:
        """Close the source."""
        try:
            if self._reading is not None:
                self._reading.cancel()
                await asyncio.wait([self._reading])
        finally:
            await self._source.aclose()

    @property
    def is_current(self) -> bool:
        """Whether new entries come as they are added."""
        return self._source.current

    @property
    def first(self) -> LogEvent:
        """The next event, which was waited for."""
        return self._events[0]

    @property
    def upcoming(self) -> LogEvent | None:
        """The next event, if it has been read."""
        return self._events[0] if self._events else None

    async def next(self, other: Notifier | None = None) -> LogEvent | None:
        """Wait for the next event and return it; None if ``other`` was notified before.

        Raises:
            EndOfStream: After the last one.
        """
        while not self._events:
            if self._error is not None:
                raise self._error
            if self._has_ended:
                raise EndOfStream("the recording has ended")
            if not self.grows:
                await self._read()
            elif not await self._wait_read(other):
                return None
        self._clock.expect(self._events[0].elapsed)
        return self._events[0]

    async def _wait_read(self, other: Notifier | None) -> bool:
        """Wait until entries were read; return False if ``other`` was notified before."""
        self._other = other
        if self._reading is None:
            # It goes on while the link replies, and so is no part of this call.
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._on_read)
        if other is None:
            await asyncio.wait([self._reading])
        elif not self._reading.done():
            await other.wait()
        if not self._reading.done():
            return self._error is not None
        reading, self._reading = self._reading, None
        reading.result()
        return True

    def _on_read(self, _: asyncio.Task[None] | None = None) -> None:
        if self._other is not None:
            self._other.notify_all()

    def advance(self) -> None:
        """Remove the next event: it was played."""
        self._events.popleft()
        if self._events:
            self._clock.expect(self._events[0].elapsed)

    async def _read(self) -> None:
        timeline = self._timeline
        try:
            entries = await self._source.read()
        except EndOfSlice:
            self._has_ended = True
            self._events += timeline.flush()
            return
        except EndOfStream:
            self._has_ended = True
            self._events += timeline.end()
            return
        for entry in entries:
            if entry.kind != "frame":
                self._track(entry)
            self._events += timeline.add(entry)
        if self.grows:
            self._events += timeline.flush()
            if self._source.live and not self.was_live:
                self.was_live = True
                self._events.append(CaughtUp(entries[-1].at, entries[-1].elapsed))


def _record_values(event: LogEvent, values: LastValues) -> None:
    """Record the pushes of an event, those held back or fetched included."""
    match event:
        case FramesReceived():
            for entry in event.entries:
                if entry.topic is None:
                    _record(values, [entry.frame])
                else:
                    values.record_all(entry.topic, entry.pushes)
        case TopicRecovered():
            rows = () if event.entry is None else event.entry.rows
            pushes = [row for row in rows if isinstance(row, bytes)]
            pushes += [entry.frame for entry in event.held]
            record_recovered(event, pushes, values)
        case LinkLost():
            record_loss(event, values)
        case _:
            pass


def record_loss(event: LinkLost, values: LastValues) -> None:
    """Forget the last trades of topics that have a gap which nothing fills.

    Else a reply with the last trades would have a hole that nothing shows.
    """
    values.forget_trades(but={topic.symbol for topic in event.awaited})


def record_recovered(
    event: TopicRecovered, pushes: Iterable[bytes], values: LastValues
) -> None:
    """Record the pushes of the end of an outage; the last trades have no hole after it."""
    symbol, status = event.topic.symbol, "unfilled"
    if event.entry is not None:
        status = event.entry.status
    is_trade = event.topic.channel is Channel.TRADE
    if is_trade and status != "filled":
        values.forget_trades(symbol)
    _record(values, pushes)
    if is_trade and status == "unverified":  # It may be anywhere.
        values.forget_trades(symbol)


def _record(values: LastValues, pushes: Iterable[bytes]) -> None:
    for push in pushes:
        header = push_header(push)
        if header is not None and header.tp in _CHANNELS:
            values.record(push, header)
