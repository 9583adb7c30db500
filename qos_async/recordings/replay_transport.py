"""Transport of a recording: plays its entries as the link of a client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import anyio
import msgspec
from msgspec.structs import replace

from qos_async._core.recovery import Outage
from qos_async._core.wire import LETTERS, symbols_in, wire_topic
from qos_async._io.notifier import Notifier
from qos_async._io.stream import Stream
from qos_async._io.transport import LinkClosed
from qos_async.recordings.event_log import (
    EventLog,
    LogEvent,
    record_loss,
    record_recovered,
)
from qos_async.recordings.format import Entry, place_of
from qos_async.recordings.last_values import (
    LastValues,
    PushHeader,
    Row,
    push_header,
    reply_rows,
)
from qos_async.recordings.recorded_recovery import RecordedRecovery
from qos_async.recordings.replay_clock import ReplayClock, loop_time
from qos_async.recordings.source import CaughtUp, EntrySource, Opening, Resume
from qos_async.recordings.timeline_events import (
    FramesReceived,
    LinkLost,
    LinkOpened,
    TopicRecovered,
    TopicSuspect,
)
from qos_async.topics import Topic, WireTopic

__all__ = ["FROM_VALUES", "ReplayTransport", "needs_service"]

_PAUSES = (0.0, 0.0, 0.0, 0.001, 0.002, 0.005, 0.01)
_CHANNELS = frozenset(LETTERS.values())
# Ticks that wait for a consumer of a live log, at which reading stops: half of the default
# buffer, so that this drops none.
_MAX_BACKLOG = 32_768

_LAST_INDEX = 99_999
FROM_VALUES = frozenset(("RS", "RD", "RT", "RK", "RH"))
"""The requests that are answered with the last values."""


class ReplayTransport:
    """A ``Transport`` that plays the entries of a log.

    It starts as soon as there is a subscription. Without a speed it waits for the
    consumers, so that no tick is dropped; after ``CaughtUp`` it plays entries as they
    come, unless a consumer is far behind.

    Args:
        source: The log.
        speed: Recorded seconds in a second; None: as fast as the consumers read.
        clock: Set to the time of each event that is played.
        recovery: Closes the outages of topics as they were recorded.

    Attributes:
        stream: The stream that it plays to; set by its owner, which needs it first.
        last_values: The values pushed so far, for replies.
        is_live: Whether ``CaughtUp`` was played.
        played: Up to where everything was delivered.
        played_count: The number of events that were delivered.
        on_play: Called before each event.
        plays_unwatched: Whether it plays what was recorded before also while there is no
            subscription, to which it is lost.
    """

    stream: Stream[Any]

    def __init__(
        self,
        source: EntrySource,
        *,
        speed: float | None,
        clock: ReplayClock,
        recovery: RecordedRecovery[Any],
    ) -> None:
        self.last_values = LastValues()
        self.is_live = False
        self.played = self._playing = Resume()
        self.played_count = 0
        self.on_play: Callable[[], object] = bool
        self.plays_unwatched = False
        self._log = EventLog(source, clock)
        self._known: frozenset[WireTopic] | None = None
        self._speed = speed
        self._clock = clock
        self._recovery = recovery
        self._resume: Resume | None = None
        self._was_unreadable = False

    async def open(self) -> Opening:
        """Open the log; of one that does not grow, all unknown topics are rejected."""
        opening = await self._log.open(self.last_values)
        if not self._log.grows:
            self._known = frozenset(map(wire_topic, opening.topics))
        self._resume = opening.resume if opening.resume.place else None
        if self._log.last is not None:
            self.played = self._playing = _after(self._log.last)
        if self._log.was_live:
            self._go_live()
        return opening

    def _go_live(self) -> None:
        self.is_live = True
        self._clock.go_live()
        for queue in self.stream.collector.queues:
            queue.wake()  # A batch that is not full waits no longer than it may.

    async def aclose(self) -> None:
        """Close the log."""
        await self._log.aclose()

    @property
    def grows(self) -> bool:
        """Whether entries may be added to the log."""
        return self._log.grows

    @property
    def topics(self) -> Collection[Topic]:
        """The topics that are in the log, as far as is known."""
        return self._log.topics

    @property
    def is_current(self) -> bool:
        """Whether it is live, and new entries come as they are added."""
        return self.is_live and self._log.is_current

    async def dial(self) -> ReplaySocket:
        """Return the next link, at the time when it was opened.

        Raises:
            EndOfStream: After the last one.
        """
        while not isinstance(event := await self._log.next(), LinkOpened):
            await self._play(event)
        if self._clock.has_started and self._speed is not None:
            due = self._clock.due(event.elapsed)
            await asyncio.sleep(max(due - loop_time(), 0.0))
        await _next_moment()
        self._clock.set(event.at, event.elapsed)
        self._log.advance()
        self._recovery.lost = None
        return ReplaySocket(self)

    async def wait_event(self, other: Notifier) -> bool:
        """Wait for an event; return False if ``other`` was notified before it.

        Raises:
            EndOfStream: After the last one.
        """
        return await self._log.next(other) is not None

    async def take(self, wanted: set[WireTopic]) -> list[bytes]:
        """Play the next event; return its frames for these topics.

        Raises:
            LinkClosed: If it is the loss of the link.
            EndOfStream: If the recording ends with that.
        """
        self.on_play()
        event = await self._log.next()
        if isinstance(event, LinkLost):
            raise await self._lost_error(event)
        if isinstance(event, FramesReceived):
            frames = await self._take_frames(event, wanted)
            self._playing = _after(event.entries[-1])
            return frames
        await self._play(event)
        return []

    async def _take_frames(
        self, event: FramesReceived, wanted: set[WireTopic]
    ) -> list[bytes]:
        headers = [
            None if entry.pushes else push_header(entry.frame)
            for entry in event.entries
        ]
        unreadable = not event.gaps and any(
            header is None and not entry.pushes
            for entry, header in zip(event.entries, headers, strict=True)
        )
        if unreadable or self._was_unreadable:
            await _next_moment()  # A gap begins with an unreadable frame.
        self._was_unreadable = unreadable
        self._clock.set(event.at, event.elapsed)
        self._log.advance()
        frames: list[bytes] = []
        places: list[str] = []
        for entry, header in zip(event.entries, headers, strict=True):
            if entry.topic is not None:
                self._take_pushes(entry, entry.topic, wanted, frames, places)
            elif header is None and event.gaps:
                self.stream.collector.count_unreadable()
            elif self._is_wanted(entry, header, wanted):
                frames.append(entry.frame)
                places.append(entry.place)
        known = self._recovery.decoder.places
        known.clear()
        known.update(zip(map(id, frames), places, strict=True))
        return frames

    def _take_pushes(
        self,
        entry: Entry,
        topic: WireTopic,
        wanted: set[WireTopic],
        frames: list[bytes],
        places: list[str],
    ) -> None:
        """Add the pushes of an entry, and their places, if they are wanted."""
        pushes = entry.pushes
        self.last_values.record_all(topic, pushes)
        if topic not in wanted:
            return
        found = entry.places()
        if self._resume is not None:
            count = sum(map(self._is_past, found))
            pushes, found = pushes[count:], found[count:]
        frames += pushes
        places += found

    def _is_wanted(
        self, entry: Entry, header: PushHeader | None, wanted: set[WireTopic]
    ) -> bool:
        if header is None:
            return True  # Unreadable: the client received it, too, and counted it.
        if header.tp not in _CHANNELS:
            return False  # A reply to a request of the recorded client.
        if self.last_values.record(entry.frame, header) not in wanted:
            return False
        return self._resume is None or not self._is_past(entry.place)

    def _is_past(self, place: str) -> bool:
        """Whether a consumer that resumes here has handled what is at a place."""
        if self._resume is None:
            return False
        if self._resume.is_past(place):
            return True
        if self._resume.is_before(place):
            self._resume = None  # All that follows is later.
        return False

    async def _lost_error(self, event: LinkLost) -> LinkClosed:
        await _next_moment()
        self._clock.set(event.at, event.elapsed)
        self._recovery.on_lost(event)
        record_loss(event, self.last_values)
        self._log.advance()
        if not self._log.grows:
            await self._log.next()  # If nothing follows, it is the end and no outage.
        return LinkClosed(event.reason)

    async def _play(self, event: LogEvent | None) -> None:
        """Play an event without frames, other than the loss of the link."""
        assert event is not None, "it was waited for"
        if isinstance(event, (TopicSuspect, TopicRecovered)):
            await _next_moment()
        self._clock.set(event.at, event.elapsed)
        self._log.advance()
        match event:
            case CaughtUp():
                self._go_live()
            case TopicSuspect():
                self._play_suspect(event)
            case TopicRecovered():
                self._play_recovered(event)
            case _:
                pass

    def _play_suspect(self, event: TopicSuspect) -> None:
        """Play this and those that follow of the same outage: it may be of 30,000 topics."""
        topics = {event.topic: None}
        while isinstance(one := self._log.upcoming, TopicSuspect):
            if replace(one, topic=event.topic) != event:
                break
            topics[one.topic] = None
            self._log.advance()
        self._recovery.awaited.update(topics)
        outage = Outage(self._clock.to_loop_time(event.since), event.reason)
        self.stream.gaps.begin_recorded(topics, outage)

    def _play_recovered(self, event: TopicRecovered) -> None:
        recovered = self._recovery.read(event, self._is_past)
        record_recovered(event, recovered.pushes, self.last_values)
        self._recovery.deliver(recovered, event, self.stream, self._clock)
        if event.place is not None:
            self._playing = _after(event.place, event.place.index + event.last_index)

    def delivered(self) -> None:
        """Record that all frames that were returned have been delivered."""
        if self.played is not self._playing:
            self.played = self._playing
            self.played_count += 1

    def reached(self) -> Resume:
        """Return where a consumer is that has handled everything so far."""
        position = max(self._log.position, self.played.sequence)
        return replace(self.played, sequence=position)

    def fail(self, error: Exception) -> None:
        """End the client with an error."""
        self._log.fail(error)

    def may_read(self) -> bool:
        """Whether it is known which topics a log that grows is read for."""
        collector = self.stream.collector
        has_topics = collector.has_subscriptions or self.is_live
        is_known = has_topics or self.plays_unwatched
        return not self.grows or (collector.is_settled and is_known)

    def want(self, topics: AbstractSet[WireTopic]) -> None:
        """Set the topics whose pushes are needed."""
        self._log.want(topics)

    async def rows(self, operation: str, body: Row) -> Sequence[Row]:
        """Return the rows of a reply to a request."""
        return await self._log.rows(self.last_values, operation, body)

    def seconds_to_next(self) -> float:
        """Return the seconds until the next event is due; negative if unknown."""
        collector = self.stream.collector
        if self.is_live:
            behind = collector.longest_backlog > _MAX_BACKLOG
            return -1.0 if behind or not collector.is_settled else 0.0
        if self._speed is None:
            unwatched = self.plays_unwatched and not collector.queues
            return 0.0 if unwatched or collector.is_starved else -1.0
        if not collector.is_settled:
            return -1.0
        if not self._clock.has_started:
            if not collector.has_subscriptions:
                return -1.0
            self._clock.play(self._log.first.elapsed)
        return max(self._clock.due(self._log.first.elapsed) - loop_time(), 0.0)

    def has(self, topic: WireTopic) -> bool:
        """Whether it was recorded, or may be."""
        return self._known is None or topic in self._known


class ReplaySocket:
    """A ``Socket``: one link of a recording."""

    def __init__(self, transport: ReplayTransport) -> None:
        self._transport = transport
        self._subscribed: set[WireTopic] = set()
        self._has_changed = True
        self._replies: deque[bytes] = deque()
        self._replied = Notifier()

    def set_sync_handler(
        self,
        handler: Callable[[Sequence[bytes]], None],
        on_error: Callable[[BaseException], None],
        /,
    ) -> None:
        pass  # Frames are played by ``receive`` only.

    async def receive(self) -> Sequence[bytes]:
        pauses = iter(_PAUSES)
        self._transport.delivered()
        while not self._replies:
            if not self._transport.may_read():
                with anyio.move_on_after(next(pauses, _PAUSES[-1])):
                    await self._replied.wait()
                continue
            if self._has_changed:
                self._has_changed = False
                self._transport.want(frozenset(self._subscribed))
            if not await self._transport.wait_event(self._replied):
                continue
            wait = self._transport.seconds_to_next()
            if wait == 0.0:
                if frames := await self._transport.take(self._subscribed):
                    return frames
                await asyncio.sleep(0)
                continue
            with anyio.move_on_after(wait if wait > 0 else next(pauses, _PAUSES[-1])):
                await self._replied.wait()
        replies = list(self._replies)
        self._replies.clear()
        return replies

    async def send(self, frame: bytes) -> None:
        body: Row = msgspec.json.decode(frame)
        self._replies.append(msgspec.json.encode(self._reply(body)))
        self._replied.notify_all()

    def _reply(self, body: Row) -> Row:
        kind = body["type"]
        reply: Row = {"type": kind, "msg": "OK"}
        if "reqid" in body:
            reply["reqid"] = body["reqid"]
        if kind[0] == "R" and self._transport.grows and kind not in FROM_VALUES:
            reply["msg"] = "known to the service only: use a Client with a key"
        elif kind[0] == "R":
            reply["data"] = reply_rows(self._transport.last_values, kind, body)
        elif kind != "H":
            topics = {
                WireTopic(kind[0], symbol, body.get("kt"))
                for symbol in symbols_in(body)
            }
            self._has_changed = True
            if kind.endswith("C"):
                self._subscribed -= topics
            elif all(map(self._transport.has, topics)):
                self._subscribed |= topics
            else:
                reply["msg"] = "not in the recording"
        return reply

    async def close(self, *, graceful: bool) -> None:
        pass


def needs_service(body: Row) -> bool:
    """Whether a request is for adjusted prices, which only the service knows."""
    return any(one.get("a") for one in body.get("kline_reqs", ()))


def _after(entry: Entry, index: int = _LAST_INDEX) -> Resume:
    """Return where a consumer is that has handled all of an entry."""
    place = place_of(entry.origin, entry.position, index)
    return Resume(place if entry.origin else "", at=entry.at, sequence=entry.sequence)


async def _next_moment() -> None:
    """Wait until the loop's clock has moved, for 16 ms where it is coarse.

    What came before and what comes now must differ in ``ReplayClock.from_loop_time``.
    """
    before = loop_time()
    while loop_time() <= before:  # noqa: ASYNC110 - a clock, so no event to wait for
        await asyncio.sleep(1e-6)
