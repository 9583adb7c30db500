"""Takeover of a recorder: what the one before it of the same name has left in the stream.

A recorder that begins an epoch has a gap behind the last message of the epoch before. It
recovers that like a client whose link was lost, with the last ticks of each topic in the
stream in the place of its own: see ``InheritedOutage``. Read after the fence is written,
so that nothing of an older epoch is stored later.

Trades are compared from the second of the first one known on, so that some of the newest
are enough: those among the last messages of the stream, or the last message of a topic
that trades more rarely. Of other channels the last one is enough.
"""

from __future__ import annotations

import asyncio
import base64
import heapq
from collections import deque
from collections.abc import Iterable

from qos_async._core.wire import known_topic, wire_topic
from qos_async._io.dial_gate import InheritedOutage, OlderPush
from qos_async.enums import Channel
from qos_async.jetstream.api import find_message, stored_stamp
from qos_async.jetstream.messages import (
    Stamp,
    decode_link,
    decode_pushes,
)
from qos_async.jetstream.order import Accepted, Ordering
from qos_async.jetstream.pull import PulledMessage
from qos_async.jetstream.recorder_links import RecorderLinks
from qos_async.jetstream.start import MOST_TOGETHER, messages_before
from qos_async.jetstream.streams import stream_info
from qos_async.jetstream.subjects import (
    fence_subject,
    link_subject,
    topic_of,
    topic_subject,
)
from qos_async.jetstream.wire import Wire
from qos_async.recordings.format import Entry
from qos_async.topics import Topic, in_order

__all__ = ["inherited_outages"]

_REASON = "the recorder has changed"
_EPOCHS = 5  # As many are looked at: a process may have died before it did anything.
_LATEST = 20_000  # Messages of the stream: read in half a second.
_TAIL = 128
_REQUESTS = 200  # At one time.


async def inherited_outages(
    wire: Wire, stream: str, recorder: str
) -> list[InheritedOutage]:
    """Return the outage of each topic of the epochs before that of the last fence.

    Raises:
        BrokerError: If the stream cannot be read.
    """
    info = await stream_info(wire, stream)
    if info is None:
        return []
    end = info.state.last_seq + 1
    fences = await _stored(wire, stream, fence_subject(stream, recorder), 1, end)
    if len(fences) <= 1:
        return []
    begin = fences[:-1][-_EPOCHS:][0].sequence
    subject = link_subject(stream, recorder)
    links = await _stored(wire, stream, subject, begin, end)
    known = _History(recorder)
    known.add_all(links)
    latest, pattern = end - _LATEST, f"{stream}.T.>"
    if known.awaited_since:  # The ticks that were held back meanwhile are needed, too.
        # Some may have been received together with its beginning.
        since = known.awaited_since - MOST_TOGETHER
        latest, pattern = min(latest, since), f"{stream}.*.*.>"
    messages = await _stored(wire, stream, pattern, max(begin, latest, 1), end)
    history = _History(recorder)
    history.add_all(heapq.merge(links, messages, key=lambda one: one.sequence))
    unknown = history.unknown()
    for start in range(0, len(unknown), _REQUESTS):
        some = unknown[start : start + _REQUESTS]
        values = await asyncio.gather(*(_last(wire, stream, topic) for topic in some))
        for topic, value in zip(some, values, strict=True):
            if value is not None and value[0].recorder == recorder:
                history.add_last(topic, *value)
    return history.outages()


async def _stored(
    wire: Wire, stream: str, pattern: str, first: int, end: int
) -> list[PulledMessage]:
    """Return the messages of a subject from a sequence on, before another one."""
    found = messages_before(wire, stream, [pattern], end, first=first)
    return [one async for one in found]


async def _last(wire: Wire, stream: str, topic: Topic) -> tuple[Stamp, bytes] | None:
    """Return the last message of a topic, or None."""
    subject = topic_subject(stream, wire_topic(topic))
    reply = await find_message(wire, stream, {"last_by_subj": subject})
    stamp = None if reply is None else stored_stamp(reply)
    if reply is None or stamp is None:
        return None
    return stamp, base64.b64decode(reply["message"].get("data") or "")


class _TopicHistory:
    """What is known of a topic.

    Attributes:
        tail: The last pushes that followers were given, without a gap among them.
        held: The pushes since its outage began; None without an outage.
        since: When that began, or its subscription ended; 0 for neither.
        has_gap: Whether pushes are missing behind the tail.
    """

    def __init__(self) -> None:
        self.tail: deque[OlderPush] = deque(maxlen=_TAIL)
        self.held: list[OlderPush] | None = None
        self.since = 0
        self.has_gap = False

    def begin_outage(self, since: int, left: int) -> None:
        """Begin one before the last ``left`` pushes."""
        if self.held is None:
            self.held, self.since = [], self.since or since
            for _ in range(min(left, len(self.tail))):
                self.held.insert(0, self.tail.pop())

    def add(self, pushes: Iterable[OlderPush]) -> None:
        if self.held is not None:
            self.held += pushes
            return
        if self.has_gap:
            self.tail.clear()
            self.has_gap = False
        self.tail += pushes

    def unsubscribe(self, at: int) -> None:
        held, self.held = self.held, None
        self.add(held or ())
        self.since, self.has_gap = at, True

    def end_outage(self, entry: Entry, *, trades: bool) -> None:
        """Apply an entry ``fetched``, as ``GapDelivery.finish_recovery`` does."""
        held, self.held, self.since = self.held or [], None, 0
        used = {*entry.omitted, *(row for row in entry.rows if isinstance(row, int))}
        rest = [push for number, push in enumerate(held) if number not in used]
        rows = [
            OlderPush(row, 0) if isinstance(row, bytes) else held[row]
            for row in entry.rows
            if isinstance(row, bytes) or row < len(held)
        ]
        if trades and entry.status != "filled":
            self.tail.clear()
        if not trades or entry.status in ("filled", "partial"):
            self.tail += rows
        self.tail += rest
        self.has_gap = False


class _History:
    """The topics of one recorder, from its messages.

    Attributes:
        awaited_since: The sequence at which the oldest outage began that has not ended;
            0 for none.
    """

    def __init__(self, recorder: str) -> None:
        self._recorder = recorder
        self._ordering = Ordering()
        self._topics: dict[Topic, _TopicHistory] = {}
        self._links = RecorderLinks()
        self._began: dict[Topic, int] = {}
        self._last_at = 0

    @property
    def awaited_since(self) -> int:
        return min(self._began.values(), default=0)

    def add_all(self, messages: Iterable[PulledMessage]) -> None:
        for message in messages:
            for accepted in self._ordering.add(message):
                self._add(accepted)
        for accepted in self._ordering.flush():
            self._add(accepted)

    def _add(self, accepted: Accepted) -> None:
        message, stamp = accepted.message, accepted.stamp
        if stamp.recorder != self._recorder:
            return
        topic = _topic(message)
        if topic is not None:
            self._links.add_frame(self._recorder, stamp.at)
            self._of(topic).add(_pushes(message.data, stamp))
        else:
            try:
                entry = decode_link(message.data)
            except ValueError:
                return
            self._on_entry(entry, message.sequence)
        self._last_at = max(self._last_at, stamp.at)

    def _of(self, topic: Topic) -> _TopicHistory:
        return self._topics.setdefault(topic, _TopicHistory())

    def _on_entry(self, entry: Entry, sequence: int) -> None:
        """Apply an entry as followers do, so that both number the same pushes."""
        for one in self._links.translate(self._recorder, entry):
            for topic in one.topics:
                self._apply(one, topic, sequence)
        if entry.kind == "started":
            for topic in (*entry.topics, *entry.awaited):
                self._of(topic)

    def _apply(self, entry: Entry, topic: Topic, sequence: int) -> None:
        state = self._of(topic)
        if entry.kind == "suspect":
            state.begin_outage(entry.since, entry.topic_left)
            self._began.setdefault(topic, sequence)
        elif entry.kind == "fetched":
            state.end_outage(entry, trades=topic.channel is Channel.TRADE)
            self._began.pop(topic, None)
        elif entry.kind in ("unsubscribed", "rejected"):
            state.unsubscribe(self._last_at)
            self._began.pop(topic, None)

    def unknown(self) -> list[Topic]:
        """Return the topics of which no push was found."""
        return [
            topic
            for topic, state in self._topics.items()
            if not state.tail and not state.held
        ]

    def add_last(self, topic: Topic, stamp: Stamp, data: bytes) -> None:
        """Add the last message of a topic."""
        self._topics[topic].tail += _pushes(data, stamp)
        self._last_at = max(self._last_at, stamp.at)

    def outages(self) -> list[InheritedOutage]:
        return [
            InheritedOutage(
                topic,
                state.since or self._last_at,
                _REASON,
                [*state.tail],
                state.held or [],
            )
            for topic in in_order(self._topics)
            for state in [self._topics[topic]]
        ]


def _pushes(data: bytes, stamp: Stamp) -> list[OlderPush]:
    return [OlderPush(push, stamp.at) for push in decode_pushes(data)]


def _topic(message: PulledMessage) -> Topic | None:
    wanted = topic_of(message.subject)
    return None if wanted is None else known_topic(wanted)
