"""Timeline of a recording: its entries as events of links."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple

from msgspec.structs import force_setattr, replace

from qos_async._core.wire import wire_topic
from qos_async.recordings.format import Entry
from qos_async.recordings.last_values import push_header
from qos_async.recordings.timeline_events import (
    LEFT_INDEX,
    FramesReceived,
    LinkLost,
    LinkOpened,
    TimelineEvent,
    TopicRecovered,
    TopicSuspect,
)
from qos_async.topics import Topic, WireTopic

__all__ = ["Timeline"]

# Nanoseconds. Heartbeats are at most 30 s apart and each is answered: a recording without
# a frame for longer has a gap, although it does not say so. Since each gap is recorded,
# this is needed for older recordings only.
_SILENCE = 35_000_000_000
# Nanoseconds after which an outage ends although its end was not recorded: longer than
# recovery takes.
_RECOVERY = 20_000_000_000


class Timeline:
    """Turns the entries of a recording, one by one, into events of links.

    Frames that were received together are one event, so that it comes with the entry
    after them, or with ``flush``. Frames of a topic that recovery held back are events
    when its outage ends, in the order in which they were delivered.

    Where the recording has a gap although the link was open (dropped frames, a killed
    process) the link is lost and opened again, so that subscribers receive a ``Gap``.

    Args:
        hold: False for the frames in the order of receipt, also those held back.
    """

    def __init__(self, *, hold: bool = True) -> None:
        self._links = _LinkTracker(hold=hold)
        self._together: list[Entry] = []

    def add(self, entry: Entry) -> list[TimelineEvent]:
        """Return the events that end with an entry."""
        together = self._together
        if entry.kind == "frame":
            events = self._release() if together and entry.at != together[0].at else []
            self._together.append(entry)
            return events
        is_amid = entry.kind in ("subscribed", "unsubscribed", "rejected", "unknown")
        if is_amid and not self._links.ends_outage(entry):
            # They may stand between frames received together and what followed from them.
            return [*self._links.on_entry(entry)]
        following = self._following(entry)
        # Where entries are read as they are stored, some may have been released before.
        released = max(entry.topic_left - len(following), 0)
        events = [*self._release(), *self._links.on_entry(entry, released)]
        self._together = following
        # Their places are behind those of the ticks of the outage.
        if entry.origin and any(
            isinstance(one, TopicRecovered) and one.place is entry for one in events
        ):
            for index, frame in enumerate(following, LEFT_INDEX + released):
                force_setattr(frame, "origin", entry.origin)
                force_setattr(frame, "position", entry.position)
                force_setattr(frame, "index", index)
        return events

    def _following(self, entry: Entry) -> list[Entry]:
        """Remove the frames that follow an event from those before it; return them."""
        if not (entry.left or entry.topic_left):
            return []
        before = [one for frame in self._together for one in frame.single()]
        if entry.topic_left:
            wanted = {*map(wire_topic, entry.topics)}
            following = [one for one in before if _pushed_topic(one) in wanted]
            following = following[-entry.topic_left :]
        else:
            following = before[-entry.left :]
        ids = set(map(id, following))
        self._together = [one for one in before if id(one) not in ids]
        return following

    def flush(self) -> list[TimelineEvent]:
        """Return the event of the last frames: no others were received with them."""
        return self._release()

    def end(self) -> list[TimelineEvent]:
        """Return the last events: no entry follows."""
        return [*self._release(), *self._links.on_end()]

    def resume(self) -> list[TimelineEvent]:
        """Return the events for a consumer that begins here, after all entries so far.

        Outages that go on are among them, now or when the link is opened.
        """
        return [*self._links.on_resume()]

    def _release(self) -> list[TimelineEvent]:
        frames, self._together = self._together, []
        return [*self._links.on_frames(frames)] if frames else []


class _Moment(NamedTuple):
    """The times of an entry."""

    at: int
    elapsed: int

    def after(self, other: _Moment) -> _Moment:
        """Return this, as far from another as it was: the wall clock may be set."""
        return _Moment(other.at + self.elapsed - other.elapsed, self.elapsed)


class _Loss(NamedTuple):
    """When and why the link was lost."""

    moment: _Moment
    reason: str


def _pushed_topic(entry: Entry) -> WireTopic | None:
    """Return the topic of a frame; None if it is no push."""
    if entry.topic is not None:
        return entry.topic
    header = push_header(entry.frame)
    return None if header is None else header.topic


class _Held:
    """A topic whose outage has not ended.

    Attributes:
        topic: The topic.
        reason: Why.
        since: When the outage began, in nanoseconds since the epoch.
        live_since: When it was live again, as of ``Entry.elapsed``.
        frames: Its frames since then.
        skipped: As of ``TopicRecovered``.
    """

    def __init__(self, topic: Topic, reason: str, since: int) -> None:
        self.topic, self.reason, self.since = topic, reason, since
        self.live_since = math.inf
        self.frames: list[Entry] = []
        self.skipped = 0


class _LinkTracker:
    """Tracks whether the recorded link is open, and which topics have an outage."""

    def __init__(self, *, hold: bool) -> None:
        self._hold = hold
        self._is_open = False
        self._last_frame = _Moment(0, 0)
        self._last_at = 0
        self._lost: _Loss | None = None
        self._run = ""
        self._number = -1
        self._gaps = False
        self._topics: set[Topic] = set()
        self._held: dict[WireTopic, _Held] = {}
        # Frames were lost within their outage: the numbers in its end are wrong.
        self._broken: set[WireTopic] = set()
        # Outages from before the start, to be announced when the link is open.
        self._unannounced: list[_Held] = []
        # The place at which outages ended last, and the number of ticks there.
        self._end = ("", 0), 0
        self._last: Entry | None = None  # That has a place.

    def on_frames(self, frames: list[Entry]) -> Iterator[TimelineEvent]:
        """Return the events of frames received together."""
        moment = _Moment(frames[0].at, frames[0].elapsed)
        self._last_at = moment.at
        silence = moment.elapsed - self._last_frame.elapsed
        if not self._is_open:
            yield from self._open(moment)
        elif silence > _SILENCE and not self._gaps:
            why = f"nothing was recorded for {silence / 1e9:.0f} s"
            yield from self._gap(moment, why)
        self._last_frame = moment
        last = self._last = frames[-1].single()[-1]
        if self._held:
            frames = [entry for entry in frames if not self._is_held(entry)]
        if frames:
            yield FramesReceived(moment.at, moment.elapsed, frames, self._gaps)
        yield from self._expire(moment, last)

    def on_entry(self, entry: Entry, released: int = 0) -> Iterator[TimelineEvent]:
        """Return those of any other entry; ``released`` frames before it follow it."""
        moment = _Moment(entry.at, entry.elapsed)
        if entry.origin and entry.kind != "unknown":  # Not each reader returns those.
            self._last = entry
        match entry.kind:
            case "started":
                yield from self._on_started(entry, moment)
            case "opened":
                yield from self._lose("the link was lost")
                yield from self._open(moment)
            case "lost":
                self._await_all(entry)
                yield from self._lose(entry.reason, moment)
            case "closed":
                yield from self._abandon(moment, entry)
                self._topics.clear()
                yield from self._lose("the recording was closed", moment)
            case "dropped":
                yield from self._break(moment, entry, live_only=True)
                why = f"{entry.count} frames were not recorded: the disk was too slow"
                yield from self._gap(moment, why)
            case "damaged":
                yield from self._break(self._latest, entry)
                yield from self._lose(f"the recording is damaged: {entry.reason}")
            case "missing":
                yield from self._break(self._latest, entry)
                yield from self._lose("retention")
            case _:
                yield from self._on_topics(entry, moment, released)
        self._last_at = entry.at

    def _on_topics(
        self, entry: Entry, moment: _Moment, released: int
    ) -> Iterator[TimelineEvent]:
        match entry.kind:
            case "subscribed":
                self._on_subscribed(entry.topics, moment)
            case "unsubscribed" | "rejected":
                self._topics.difference_update(entry.topics)
                for topic in entry.topics:
                    yield from self._recover(topic, moment, place=entry)
            case "suspect":
                for topic in entry.topics:
                    if held := self._await(topic, entry.reason, entry.since):
                        held.skipped = released
                        yield TopicSuspect(*moment, topic, entry.reason, entry.since)
            case "fetched":
                for topic in entry.topics:
                    if wire_topic(topic) not in self._broken:
                        self._await(topic, entry.reason, entry.since)
                    yield from self._recover(topic, moment, entry, released)
            case _:
                pass

    def _on_subscribed(self, topics: Iterable[Topic], moment: _Moment) -> None:
        self._topics.update(topics)
        for topic in topics:
            if (held := self._held.get(wire_topic(topic))) is not None:
                held.live_since = moment.elapsed

    def _on_started(self, entry: Entry, moment: _Moment) -> Iterator[TimelineEvent]:
        follows = (self._run, self._number + 1) == (entry.run, entry.number)
        if entry.previous:  # Of an archive, whose files have no numbers.
            follows = entry.previous == self._last_at
        self._run, self._number = entry.run, entry.number
        if not follows:
            yield from self._abandon(self._latest, entry)
            self._broken.clear()
            yield from self._lose("the recording was interrupted")
        self._gaps, self._topics = entry.gaps, set(entry.topics)
        for topic in entry.awaited:
            self._await(topic, "the link was lost", entry.at)
        if entry.link and not self._is_open:
            yield from self._open(moment)

    def ends_outage(self, entry: Entry) -> bool:
        """Whether the outage of a topic ends as it is not subscribed any more."""
        if entry.kind not in ("unsubscribed", "rejected") or not self._held:
            return False
        return not self._held.keys().isdisjoint(map(wire_topic, entry.topics))

    def on_resume(self) -> Iterator[TimelineEvent]:
        """Return the opening of the link, if it is open, and the outages that go on."""
        if self._hold:
            self._unannounced = [*self._held.values()]
        if self._is_open:
            yield LinkOpened(*self._last_frame)
            yield from self._announce(self._last_frame)

    def on_end(self) -> Iterator[TimelineEvent]:
        """Return the ends of outages during which frames were received."""
        for held in self._sorted_held():
            if held.frames:
                yield from self._recover(held.topic, self._latest, place=self._last)

    # The link

    @property
    def _latest(self) -> _Moment:
        """The moment of the last frame, or of the loss after it."""
        if self._is_open or self._lost is None:
            return self._last_frame
        return self._lost.moment

    def _open(self, moment: _Moment) -> Iterator[TimelineEvent]:
        if self._lost is not None:
            opened = LinkOpened(*moment.after(self._lost.moment))
        else:
            opened = LinkOpened(*moment)
        self._is_open, self._last_frame = True, moment
        for held in self._held.values():
            held.live_since = math.inf
        yield opened
        yield from self._announce(moment)

    def _announce(self, moment: _Moment) -> Iterator[TimelineEvent]:
        unannounced, self._unannounced = self._unannounced, []
        for held in unannounced:
            if held is self._held.get(wire_topic(held.topic)):
                yield TopicSuspect(*moment, held.topic, held.reason, held.since)

    def _lose(
        self, reason: str, moment: _Moment | None = None
    ) -> Iterator[TimelineEvent]:
        if self._is_open:
            self._is_open = False
            last = self._last_frame
            at = last if moment is None else moment.after(last)
            self._lost = _Loss(at, reason)
            yield self._link_lost(self._lost)

    def _link_lost(self, loss: _Loss) -> LinkLost:
        awaited = frozenset(held.topic for held in self._held.values())
        return LinkLost(*loss.moment, loss.reason, awaited)

    def _announce_loss(self) -> Iterator[TimelineEvent]:
        """Yield the loss of the link before the start: the end of an outage follows."""
        if self._unannounced and not self._is_open and self._lost is not None:
            self._unannounced.clear()
            yield LinkOpened(*self._lost.moment)
            yield self._link_lost(self._lost)

    def _gap(self, moment: _Moment, reason: str) -> Iterator[TimelineEvent]:
        if self._is_open:
            yield from self._lose(reason)
            yield from self._open(moment)

    # Outages of topics

    def _await_all(self, lost: Entry) -> None:
        if self._gaps:
            for topic in self._topics:
                self._await(topic, lost.reason, lost.at)
        self._topics.clear()

    def _await(self, topic: Topic, reason: str, since: int) -> _Held | None:
        """Begin to hold the frames of a topic back; return None if that has begun."""
        key = wire_topic(topic)
        if key in self._held:
            return None
        held = self._held[key] = _Held(topic, reason, since)
        return held

    def _is_held(self, entry: Entry) -> bool:
        if not self._hold:
            return False
        topic = _pushed_topic(entry)
        held = None if topic is None else self._held.get(topic)
        if held is not None:
            held.live_since = min(held.live_since, entry.elapsed)
            held.frames += entry.single()
        return held is not None

    def _recover(
        self,
        topic: Topic,
        moment: _Moment,
        entry: Entry | None = None,
        following: int = 0,
        *,
        place: Entry | None = None,
    ) -> Iterator[TimelineEvent]:
        key = wire_topic(topic)
        if key in self._held:
            yield from self._announce_loss()
        held = self._held.pop(key, None)
        end = None if key in self._broken else entry
        self._broken.discard(key)
        if held is None:
            return
        place = entry or place
        event = TopicRecovered(
            *moment, held.topic, end, held.frames, held.skipped, following
        )
        if place is not None and place.origin:
            here, (last, index) = (place.origin, place.position), self._end
            event = replace(event, place=place, index=index if here == last else 0)
            self._end = here, event.last_index
        yield event

    def _expire(self, moment: _Moment, last: Entry) -> Iterator[TimelineEvent]:
        if self._gaps:
            return  # Each end is recorded; a start behind this would not know of it.
        for held in self._sorted_held():
            if moment.elapsed - held.live_since > _RECOVERY:
                yield from self._recover(held.topic, moment, place=last)

    def _break(
        self, moment: _Moment, entry: Entry, *, live_only: bool = False
    ) -> Iterator[TimelineEvent]:
        """End the outages of topics where frames are lost.

        With ``live_only``, those of topics that are not subscribed again go on.
        """
        broken = self._broken | self._held.keys()
        yield from self._abandon(moment, entry, live_only=live_only)
        self._broken = broken

    def _abandon(
        self, moment: _Moment, entry: Entry, *, live_only: bool = False
    ) -> Iterator[TimelineEvent]:
        # Damage has no place: it is behind the last entry that could be read.
        has_place = entry.kind not in ("damaged", "missing")
        place = entry if has_place else self._last
        for held in self._sorted_held():
            if held.live_since < math.inf or not live_only:
                yield from self._recover(held.topic, moment, place=place)

    def _sorted_held(self) -> list[_Held]:
        """Return them in the same order in each process: their places depend on it."""
        return sorted(self._held.values(), key=attrgetter("topic"))
