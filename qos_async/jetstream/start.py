"""Where a follower begins in a stream, and the state of the recorders there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from operator import attrgetter
from typing import NamedTuple

from qos_async._core.wire import wire_topic
from qos_async.jetstream.api import call, last_sequences, stored_headers
from qos_async.jetstream.errors import BrokerUnavailableError
from qos_async.jetstream.messages import Position, Stamp, decode_link, decode_stamp
from qos_async.jetstream.order import Ordering
from qos_async.jetstream.pull import Pull, PulledMessage
from qos_async.jetstream.recorder_links import RecorderLinks
from qos_async.jetstream.streams import StreamInfo, stream_info
from qos_async.jetstream.subjects import check_recorder, topic_subject
from qos_async.jetstream.wanted import MOST_FILTERS
from qos_async.jetstream.wire import Wire
from qos_async.recordings.files import RecordingError
from qos_async.recordings.format import Entry
from qos_async.recordings.source import Resume, Start
from qos_async.topics import Topic

__all__ = [
    "MOST_TOGETHER",
    "Begin",
    "StreamPosition",
    "StreamResume",
    "find_start",
    "links_before",
    "messages_before",
    "outages_before",
    "stamp_of",
]

_PARTS = 5
_IDLE = 1.0  # Seconds after which a consumer that sends nothing is replaced.
_ATTEMPTS, _PAUSE = 5, 0.5
MOST_TOGETHER = 1000
"""Messages of pushes that were received together with the beginning of an outage."""


class StreamPosition(NamedTuple):
    """A place, taken apart.

    Attributes:
        created_ms: When the stream was created, in milliseconds since the epoch.
        recorder: The recorder.
        position: The message.
        tick: The number of the tick in the message.
    """

    created_ms: int
    recorder: str
    position: Position
    tick: int

    @classmethod
    def of(cls, place: str) -> StreamPosition | None:
        """Return the parts of a place; None if it is not one of a stream."""
        parts = place.split(".")
        if len(parts) != _PARTS:
            return None
        created, recorder, *numbers = parts
        try:
            check_recorder(recorder)
            epoch, counter, tick = map(int, numbers)
            return cls(int(created), recorder, Position(epoch, counter), tick)
        except ValueError:
            return None


class StreamResume(Resume, frozen=True):
    """Where a consumer was in a stream: what other recorders wrote is not past."""

    def is_past(self, place: str) -> bool:
        """Whether what is at a place has been handled."""
        return self._is_same(place) and super().is_past(place)

    def is_before(self, place: str) -> bool:
        """Whether all that follows a place is still to be handled."""
        return self._is_same(place) and super().is_before(place)

    def _is_same(self, place: str) -> bool:
        return place.split(".")[:2] == self.place.split(".")[:2]


class Begin(NamedTuple):
    """Where to begin.

    Attributes:
        info: The stream.
        sequence: The first message to read.
        resume: What of it was handled before.
        cut: Why messages before it, which were to be read, are missing: ``"retention"``
            or ``"store"``; empty if none are.
    """

    info: StreamInfo
    sequence: int
    resume: Resume = Resume()
    cut: str = ""


async def find_start(wire: Wire, stream: str, start: Start | Resume) -> Begin:
    """Return where to begin.

    Args:
        wire: The connection.
        stream: The stream.
        start: Where to begin, or where a follower of the same name has stopped.

    Raises:
        RecordingError: If there is no such stream, or the start cannot be kept.
        BrokerError: If the server cannot be asked.
    """
    info = await stream_info(wire, stream)
    if info is None:
        raise RecordingError(
            f"there is no stream {stream} at {wire.place}: a recorder creates it "
            f"(qos record -o {wire.place}), or check the name"
        )
    state = info.state
    if start is None:
        return Begin(info, state.last_seq + 1)
    if start == "first":
        return Begin(info, max(state.first_seq, 1))
    if isinstance(start, datetime):
        return await _at_time(wire, stream, info, start)
    if start == Resume():  # Of a follower that has received nothing.
        return Begin(info, state.last_seq + 1)
    is_kept = isinstance(start, Resume)
    resume = start if isinstance(start, Resume) else Resume(start)
    return await _at_place(wire, stream, info, resume, is_kept=is_kept)


async def _at_time(wire: Wire, stream: str, info: StreamInfo, start: datetime) -> Begin:
    state = info.state
    if state.messages and state.first_seq > 1 and start < state.first_ts:
        raise RecordingError(
            f"the stream {stream} goes back to {state.first_ts.isoformat()} only: begin "
            'there, or with start="first"'
        )
    # The server finds it: a consumer that begins then stands before that message.
    config = {
        "deliver_policy": "by_start_time",
        "opt_start_time": start.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": 1_000_000_000,
    }
    subject = f"CONSUMER.CREATE.{stream}"
    found = await call(wire, subject, {"stream_name": stream, "config": config})
    before: int = found.get("delivered", {}).get("stream_seq", 0)
    return Begin(info, before + 1)


async def _at_place(
    wire: Wire, stream: str, info: StreamInfo, start: Resume, *, is_kept: bool
) -> Begin:
    """Return where to begin behind a place; ``is_kept`` for one of a durable name."""
    first, end = max(info.state.first_seq, 1), info.state.last_seq + 1
    kept = min(start.sequence, end)
    if kept and not start.place:
        return Begin(info, max(kept, first), cut="retention" if kept < first else "")
    wanted = StreamPosition.of(start.place)
    if wanted is None:
        raise RecordingError(
            f'{start.place!r} is no place in a stream: pass the .place of a tick, "first", a '
            "datetime, or None"
        )
    if wanted.created_ms != info.created_ms:
        raise RecordingError(
            f"the place {start.place} is of another stream than {stream}, which was created "
            f'at {info.created.isoformat()}: begin with start="first"'
        )
    resume = StreamResume(start.place, start.inclusive, start.at)
    sequence, found = await _find(wire, stream, wanted, first, end)
    is_removed = sequence == first > 1
    if found == wanted.position:
        sequence = await _first_together(wire, stream, wanted, sequence, first)
        return Begin(info, max(min(kept or sequence, sequence), first), resume)
    if kept and is_removed:  # What was handled was removed.
        cut = "retention" if kept < first else ""
        return Begin(info, max(kept, first), resume, cut)
    if not is_kept:
        raise RecordingError(
            f"the place {start.place} is not in the stream {stream}, which goes back to "
            f'{info.state.first_ts.isoformat()}: begin there, or with start="first"'
        )
    return Begin(info, sequence, resume, "retention" if is_removed else "store")


async def _find(
    wire: Wire, stream: str, wanted: StreamPosition, low: int, end: int
) -> tuple[int, Position | None]:
    """Return the message of a place, or the first sequence behind it and None.

    The messages of a recorder are in order, and those of others are among them.
    """
    high = end
    while low < high:
        middle = (low + high) // 2
        sequence, position = await _next(wire, stream, wanted, middle, high)
        if position is None or position >= wanted.position:
            high = middle
        else:
            low = sequence + 1
    sequence, position = await _next(wire, stream, wanted, low, end)
    return (sequence, position) if position == wanted.position else (low, None)


async def _first_together(
    wire: Wire, stream: str, wanted: StreamPosition, sequence: int, first: int
) -> int:
    """Return the first of the messages that were received together with one.

    Some of their pushes may be in an outage that the stream has behind them.
    """
    if sequence <= first:
        return sequence
    stamp = stamp_of(await stored_headers(wire, stream, sequence))
    before = stamp_of(await stored_headers(wire, stream, sequence - 1))
    if stamp is None or not _are_together(stamp, before):
        return sequence  # That is nearly always so.
    first = max(sequence - MOST_TOGETHER, first)
    found = messages_before(wire, stream, [], sequence, first=first, headers_only=True)
    for message in reversed([one async for one in found]):
        if not _are_together(stamp, stamp_of(message.headers)):
            break
        sequence = message.sequence
    return sequence


def _are_together(one: Stamp, other: Stamp | None) -> bool:
    return other is not None and (one.recorder, one.position.epoch, one.at) == (
        other.recorder,
        other.position.epoch,
        other.at,
    )


async def _next(
    wire: Wire, stream: str, wanted: StreamPosition, sequence: int, end: int
) -> tuple[int, Position | None]:
    """Return the first message of the recorder from a sequence on, before ``end``."""
    at = await _position_at(wire, stream, wanted, sequence)
    if at is not None:
        return sequence, at
    messages = messages_before(wire, stream, [], end, first=sequence, headers_only=True)
    async with aclosing(messages) as found:
        async for message in found:
            stamp = stamp_of(message.headers)
            if stamp is not None and stamp.recorder == wanted.recorder:
                return message.sequence, stamp.position
    return sequence, None


async def _position_at(
    wire: Wire, stream: str, wanted: StreamPosition, sequence: int
) -> Position | None:
    """Return the position of a message, if it is of the recorder."""
    stamp = stamp_of(await stored_headers(wire, stream, sequence))
    is_same = stamp is not None and stamp.recorder == wanted.recorder
    return stamp.position if stamp is not None and is_same else None


def stamp_of(headers: Mapping[str, str] | None) -> Stamp | None:
    """Return the stamp of a message; None if no recorder wrote it."""
    with suppress(ValueError):
        return decode_stamp(headers)
    return None


class LinksBefore(NamedTuple):
    """The links of the recorders at a sequence.

    Attributes:
        messages: Their messages before it.
        outages: The topics with an outage that goes on, and the messages with which it
            began.
    """

    messages: list[PulledMessage]
    outages: dict[Topic, int]


async def links_before(
    wire: Wire, stream: str, info: StreamInfo, sequence: int
) -> LinksBefore:
    """Return the link messages of the epochs that are open at a sequence.

    Those of the epochs before them are included: topics may not be subscribed again yet.
    Those of older ones are where an outage goes on since then.
    """
    fences: dict[str, list[int]] = {}
    async for fence in messages_before(wire, stream, [f"{stream}.fence.*"], sequence):
        fences.setdefault(fence.subject, []).append(fence.sequence)
    if not fences:
        return LinksBefore([], {})
    count, most = 2, max(map(len, fences.values()))
    while True:
        began = {
            subject.replace(".fence.", ".link.", 1): of_one[-count:][0]
            for subject, of_one in fences.items()
        }
        first = max(min(began.values()), info.state.first_seq)
        found = messages_before(
            wire, stream, [f"{stream}.link.*"], sequence, first=first
        )
        # A part of an epoch would show another state.
        links = [
            one async for one in found if one.sequence >= began.get(one.subject, first)
        ]
        outages, known = _outages(links)
        firsts: dict[str, int] = {}
        for one in links:
            firsts.setdefault(one.subject, one.sequence)
        is_whole = {*firsts.values()}.isdisjoint(outages.values())
        if count >= most or (is_whole and began.keys() <= known):
            return LinksBefore(links, outages)
        count *= 2


async def outages_before(
    wire: Wire, stream: str, links: LinksBefore, sequence: int
) -> list[PulledMessage]:
    """Return the messages of the outages that go on at a sequence.

    They are the link messages since the first of them began, and the pushes of their
    topics: what a follower has to hold back there.

    Args:
        wire: The connection.
        stream: The stream.
        links: The links before the sequence.
        sequence: The first message that is to be read.

    Raises:
        BrokerError: If the server cannot be asked.
    """
    began = links.outages
    if not began:
        return []
    first = max(min(began.values()) - MOST_TOGETHER, 1)
    subjects = {topic_subject(stream, wire_topic(topic)) for topic in began}
    last = await last_sequences(wire, stream, subjects)
    subjects = {subject for subject in subjects if last[subject] >= first}
    patterns = sorted(subjects) if len(subjects) <= MOST_FILTERS else []
    pushes: list[PulledMessage] = []
    if subjects:
        found = messages_before(wire, stream, patterns, sequence, first=first)
        pushes = [one async for one in found if one.subject in subjects]
    since = [one for one in links.messages if one.sequence >= first]
    return sorted([*since, *pushes], key=attrgetter("sequence"))


def _outages(links: Iterable[PulledMessage]) -> tuple[dict[Topic, int], set[str]]:
    """Return the outages that go on, and the subjects of recorders with known topics."""
    began: dict[Topic, int] = {}
    known: set[str] = set()
    states, ordering = RecorderLinks(), Ordering()
    for message in links:
        for accepted in ordering.add(message):
            with suppress(ValueError):  # It cannot be read.
                link = decode_link(accepted.message.data)
                if link.topics or link.awaited:
                    known.add(accepted.message.subject)
                for entry in states.translate(accepted.stamp.recorder, link):
                    _track(entry, message.sequence, began)
    return began, known


def _track(entry: Entry, sequence: int, began: dict[Topic, int]) -> None:
    if entry.kind == "suspect":
        for topic in entry.topics:
            began.setdefault(topic, sequence)
    elif entry.kind in ("fetched", "unsubscribed", "rejected"):
        for topic in entry.topics:
            began.pop(topic, None)


async def messages_before(
    wire: Wire,
    stream: str,
    patterns: Sequence[str],
    end: int,
    *,
    first: int = 1,
    headers_only: bool = False,
) -> AsyncGenerator[PulledMessage]:
    """Yield the messages of subjects that are stored before a sequence; without, all.

    The consumer may be at a server that is behind. So the leader is asked for the last.
    """
    last = max((await last_sequences(wire, stream, patterns or [">"])).values())
    pull = Pull(wire, stream, filters=patterns, headers_only=headers_only)
    pull.idle = _IDLE
    pull.begin(first)
    try:
        while pull.next <= min(last, end - 1):
            for message in await _read(pull):
                if message.sequence >= end:
                    return
                yield message
    finally:
        await pull.aclose()


async def _read(pull: Pull) -> list[PulledMessage]:
    """Return the next messages; wait for a cluster that elects a leader."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(BrokerUnavailableError):
            return await pull.read()
        await asyncio.sleep(_PAUSE)
    return await pull.read()
