"""A stream as a log of entries: replayed once, or followed while it grows."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack

from msgspec.structs import force_setattr

from qos_async._clock import epoch_ns
from qos_async._core.wire import known_topic
from qos_async._io.transport import EndOfStream
from qos_async.jetstream.durables import StreamDurable
from qos_async.jetstream.feed import Feed, Placed
from qos_async.jetstream.messages import Stamp, decode_link, decode_pushes
from qos_async.jetstream.order import Accepted
from qos_async.jetstream.outage import StoreOutage, StreamClock
from qos_async.jetstream.places import StreamPlace
from qos_async.jetstream.pull import PulledMessage
from qos_async.jetstream.recorder_links import RecorderLinks
from qos_async.jetstream.silence import LeaseWatch
from qos_async.jetstream.start import (
    Begin,
    find_start,
    links_before,
    outages_before,
)
from qos_async.jetstream.streams import StreamInfo, stored_topics
from qos_async.jetstream.subjects import topic_of
from qos_async.jetstream.values import StreamValues
from qos_async.jetstream.wanted import Wanted
from qos_async.jetstream.wire import Wire
from qos_async.recordings.files import RecordingError
from qos_async.recordings.format import Entry
from qos_async.recordings.last_values import Row
from qos_async.recordings.source import Opening, Resume, Start
from qos_async.topics import WireTopic

__all__ = ["StreamSource"]

_MOST_SUBJECTS = 20_000


class StreamSource:
    """An ``EntrySource`` of a stream.

    Args:
        place: The stream.
        start: Where to begin.
        grows: Whether to go on behind what is stored now.
        strict: Whether it is an error that the stream has lost messages.
        durable: Has the start, if it was followed under that name before.
        packed: Whether the pushes of a message are one entry, with ``Entry.pushes``.
    """

    def __init__(
        self,
        place: StreamPlace,
        start: Start = None,
        *,
        grows: bool = True,
        strict: bool = False,
        durable: StreamDurable | None = None,
        packed: bool = False,
    ) -> None:
        self._start, self._durable = start, durable
        self._grows, self._strict, self._packed = grows, strict, packed
        self._wire = Wire(place, name="qos-async follower")
        self._feed = Feed(self._wire, place)
        self._states = RecorderLinks()
        self._clock = StreamClock()
        self._entries = _Entries(0)
        self._outage = StoreOutage(self._feed, self._states, self._clock)
        self._watch = LeaseWatch(
            self._wire, place.stream, self._states, self._outage.fall_silent
        )
        self._watching: asyncio.Task[None] | None = None
        self._end = 0
        self._is_live = False
        self._begin: Begin | None = None
        self._topics: AbstractSet[WireTopic] = frozenset()
        self._ready: list[Entry] = []

    @property
    def live(self) -> bool:
        """Whether all that was stored when it was opened has been returned."""
        return self._is_live

    @property
    def position(self) -> int:
        """The next message that is read, or one that waits for another."""
        is_behind = self._ready or self._begin is not None
        return 0 if is_behind else self._feed.position

    def want(self, topics: AbstractSet[WireTopic]) -> None:
        """Read the messages of these topics, and those of links."""
        if not self._grows:
            return  # A replay reads each message up to the end.
        self._topics = topics
        wanted = Wanted(self._wire.place.stream, topics)
        self._outage.interrupt(wanted, is_live=self._is_live)

    async def rows(self, operation: str, body: Row) -> Sequence[Row] | None:
        """Return the rows of a reply from the last values of the stream."""
        if not self._grows:
            return None
        values = StreamValues(self._wire, self._wire.place.stream)
        return await values.rows(operation, body)

    @property
    def current(self) -> bool:
        """Whether messages are returned as they are stored."""
        return self._feed.pull.is_current

    async def open(self) -> Opening:
        """Open the stream; see ``EntrySource``."""
        durable = self._durable
        await self._wire.connect()
        resume = None if durable is None else await durable.open()
        wire, stream = self._wire, self._wire.place.stream
        begin = self._begin = await find_start(wire, stream, resume or self._start)
        info, sequence = begin.info, begin.sequence
        if durable is not None:
            durable.begin(info.created_ms, sequence)
        self._entries = _Entries(info.created_ms)
        self._end = info.state.last_seq
        self._is_live = sequence > self._end
        links = await links_before(wire, stream, info, sequence)
        outages = await outages_before(wire, stream, links, sequence)
        first = outages[0].sequence if outages else sequence
        for message in links.messages:
            if message.sequence < first:
                deque(self._passed(message, sequence), maxlen=0)
        self._feed.pull.begin(sequence)
        if not self._clock.at:
            now = self._is_live or not info.state.messages
            self._clock.at = time.time_ns() if now else epoch_ns(info.state.first_ts)
        self._outage.run = str(info.created_ms)
        before = [self._outage.opened()]
        for message in outages:
            before += self._passed(message, sequence)
        if outages:  # The last entry has no place.
            before.append(self._clock.entry("unknown"))
        # Behind a cut, nothing is handled before its gap.
        force_setattr(before[-1], "sequence", 0 if begin.cut else sequence)
        return await self._opening(info, begin.resume, before)

    def _passed(self, message: PulledMessage, sequence: int) -> Iterator[Entry]:
        """Yield the entries of a message before the start."""
        for accepted in self._feed.ordering.add(message):
            yield from self._of(Placed(accepted, sequence))

    async def _opening(
        self, info: StreamInfo, resume: Resume, before: list[Entry]
    ) -> Opening:
        """Return what is known: the link of the log is open with the stream."""
        topics = self._states.topics
        if not self._grows:
            topics = await stored_topics(self._wire, self._wire.place.stream)
        return Opening(
            topics=topics,
            begins_at=self._clock.at,
            ends_at=None if self._grows else epoch_ns(info.state.last_ts),
            before=before,
            resume=resume,
        )

    async def read(self) -> Sequence[Entry]:
        """Return the next entries; see ``EntrySource``."""
        self._add_cut()
        while not self._ready:
            if self._is_live and not self._grows:
                raise EndOfStream("the recording has ended")
            await self._read()
        entries, self._ready = self._ready, []
        if self._packed:
            return entries
        return [one for entry in entries for one in entry.single()]

    async def _read(self) -> None:
        feed, was_live = self._feed, self._is_live
        found = await self._outage.read()
        self._ready += self._outage.entries()
        for placed in found:
            if self._grows or placed.accepted.message.sequence <= self._end:
                self._add(placed)
        self._is_live = was_live or feed.pull.next > self._end
        if self._grows and feed.has_caught_up:
            self._is_live = True  # What is left is of other topics.
        if self._is_live and not self._grows:
            for accepted in feed.ordering.flush():
                self._ready += self._of(Placed(accepted, 0))
        if self._is_live and self._grows and self._watching is None:
            self._watching = asyncio.create_task(
                self._watch.run(), name="qos_async.leases"
            )
        if self._is_live and not was_live and not self._ready:
            self._ready.append(self._clock.entry("unknown"))  # It is live now.

    def _add_cut(self) -> None:
        """Add the gaps of messages that were removed before the start."""
        begin, self._begin = self._begin, None
        if begin is None or not begin.cut:
            return
        self._check_strict(begin.cut, "what comes behind the start")
        topics = set(self._states.topics)
        topics.update(filter(None, map(known_topic, self._topics)))
        entry, since = self._clock.entry("unknown"), begin.resume.at
        self._ready += self._states.hole(entry, sorted(topics), since, begin.cut)

    def _check_strict(self, reason: str, what: str) -> None:
        if not self._strict:
            return
        if reason == "retention":
            raise RecordingError(
                f"retention has removed {what}: give the stream more room (max_bytes, "
                "max_age), or read it without strict=True"
            )
        raise RecordingError(
            f"the stream has lost messages, {what}: read it without strict=True"
        )

    def _add(self, placed: Placed) -> None:
        """Add the entries of a message: nearly always one, of pushes."""
        accepted, sequence = placed
        stamp = accepted.stamp
        elapsed = self._clock.tick(stamp)
        found = self._entries.pushes(accepted.message, stamp, elapsed, sequence)
        if (
            found is None
            or accepted.hole_since is not None
            or not self._states.add_frame(stamp.recorder, found.at)
        ):
            self._ready += self._of(placed)
        elif found.pushes:
            self._ready.append(found)

    def _of(self, placed: Placed) -> Iterator[Entry]:
        """Yield the entries of a message."""
        accepted, sequence = placed
        message, stamp = accepted.message, accepted.stamp
        entries = self._entries.of(message, stamp)
        elapsed = self._clock.tick(stamp)
        for entry in entries:
            force_setattr(entry, "elapsed", elapsed)
        if accepted.hole_since is not None and entries:
            yield from self._hole(accepted, entries[0])
        if entries:
            force_setattr(entries[-1], "sequence", sequence)
        self._states.see(stamp.recorder, message.subject)
        for entry in entries:
            for translated in self._states.translate(stamp.recorder, entry):
                if translated is not entry:
                    force_setattr(translated, "sequence", sequence)
                yield translated

    def _hole(self, accepted: Accepted, entry: Entry) -> Iterator[Entry]:
        reason = "retention" if accepted.is_removed else "store"
        subject = accepted.message.subject
        self._check_strict(reason, f"messages of {subject}")
        of_topic = topic_of(subject)
        topic = None if of_topic is None else known_topic(of_topic)
        topics = sorted(self._states.topics) if topic is None else [topic]
        since = accepted.hole_since or 0
        yield from self._states.hole(entry, topics, since, reason)

    async def aclose(self) -> None:
        """Close the connection."""
        async with AsyncExitStack() as last:  # Also if this is cancelled.
            last.push_async_callback(self._wire.aclose)
            last.push_async_callback(self._feed.aclose)
            last.push_async_callback(self._outage.aclose)
            if self._watching is not None:
                self._watching.cancel()
                await asyncio.wait([self._watching])


class _Entries:
    """Turns messages into entries with places."""

    def __init__(self, created_ms: int) -> None:
        self._created_ms = created_ms
        self._topics: dict[str, WireTopic | None] = {}
        self._origins: dict[tuple[str, int], str] = {}
        self.unknown = self.unreadable = 0

    def of(self, message: PulledMessage, stamp: Stamp) -> list[Entry]:
        """Return the entries of a message: at most one."""
        if (found := self.pushes(message, stamp)) is not None:
            return [found] if found.pushes else []
        try:
            entry = decode_link(message.data)
        except ValueError:
            self.unreadable += 1
            return []
        force_setattr(entry, "origin", self._origin(stamp))
        force_setattr(entry, "position", stamp.position.counter)
        return [entry]

    def pushes(
        self,
        message: PulledMessage,
        stamp: Stamp,
        elapsed: int = 0,
        sequence: int = 0,
    ) -> Entry | None:
        """Return an entry of all pushes of a message; None if it is not of a topic."""
        try:
            topic = self._topics[message.subject]
        except KeyError:
            topic = self._find_topic(message.subject)
        if topic is None:
            return None
        return Entry(
            at=stamp.at,
            elapsed=elapsed,
            kind="frame",
            origin=self._origin(stamp),
            position=stamp.position[1],
            pushes=decode_pushes(message.data),
            topic=topic,
            sequence=sequence,
        )

    def _find_topic(self, subject: str) -> WireTopic | None:
        if len(self._topics) >= _MOST_SUBJECTS:
            self._topics.clear()
        topic = self._topics[subject] = topic_of(subject)
        return topic

    def _origin(self, stamp: Stamp) -> str:
        key = stamp.recorder, stamp.position[0]
        found = self._origins.get(key)
        if found is None:
            recorder, epoch = key
            found = f"{self._created_ms:013d}.{recorder}.{epoch:016d}"
            self._origins[key] = found
        return found
