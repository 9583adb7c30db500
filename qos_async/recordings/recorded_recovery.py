"""Recovery of a replay: outages end as they were recorded, and nothing is requested."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

from msgspec.structs import force_setattr, replace

from qos_async._core.notices import GapStatus
from qos_async._core.recovery import (
    Outage,
    Recovery,
    RecoveryRequest,
    RecoveryResult,
)
from qos_async._core.wire import FrameDecoder, Message
from qos_async._io.stream import Stream
from qos_async.errors import DecodeError
from qos_async.models import AnyTick, N, Tick
from qos_async.recordings.format import Entry, place_of
from qos_async.recordings.replay_clock import ReplayClock
from qos_async.recordings.timeline_events import (
    LEFT_INDEX,
    LinkLost,
    TopicRecovered,
)
from qos_async.topics import Topic

__all__ = ["PlacedDecoder", "RecordedRecovery"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PlacedDecoder(FrameDecoder[N]):
    """Decodes frames to ticks that have the places of their frames.

    Attributes:
        places: The places of the frames to decode next, by ``id``: those are alive. One
            dictionary, of which the contents change.
    """

    def __init__(self, numbers: type[N]) -> None:
        super().__init__(numbers)
        self.places: dict[int, str] = {}
        decode, decode_all = self.push, self.push_all

        def push(frame: bytes) -> AnyTick[N]:
            tick = decode(frame)
            self._set_place(frame, tick)
            return tick

        def push_all(frames: Sequence[bytes]) -> list[AnyTick[N]]:
            ticks = decode_all(frames)
            for frame, tick in zip(frames, ticks, strict=True):
                self._set_place(frame, tick)
            return ticks

        self.push, self.push_all = push, push_all

    def read(self, data: bytes) -> Message[N]:
        """Return the message that any frame holds; see ``FrameDecoder``."""
        message = super().read(data)
        if isinstance(message, Tick):
            self._set_place(data, message)
        return message

    def _set_place(self, frame: bytes, tick: Tick) -> None:
        force_setattr(tick, "place", self.places.get(id(frame), ""))


class RecoveredTicks(NamedTuple):
    """The ticks of a topic that are delivered at the end of an outage.

    Attributes:
        pushes: All of them, as pushes, in order.
        recovered: Those that were recovered, without what a consumer has handled.
        held: Those that were held back, likewise.
    """

    pushes: list[bytes]
    recovered: tuple[Any, ...]
    held: tuple[Any, ...]


class RecordedRecovery(Recovery[N]):
    """Closes the cases of topics with what was recorded of their outages.

    No ticks are held back here: the timeline of the recording does that.

    Args:
        decoder: Decodes the pushes of outages, too.

    Attributes:
        decoder: As passed.
        awaited: The topics of which the end of the outage is recorded.
        lost: How the link was lost; None while it is open.
    """

    def __init__(self, decoder: PlacedDecoder[N]) -> None:
        super().__init__(None)
        self.awaited: set[Topic] = set()
        self.lost: LinkLost | None = None
        self.decoder = decoder

    def on_lost(self, event: LinkLost) -> None:
        """Record that the link was lost."""
        self.lost, self.awaited = event, set(event.awaited)

    def awaits(self, topic: Topic) -> bool:
        """Whether the end of the outage of a topic is recorded."""
        return topic in self.awaited

    def next_request_at(self) -> float:
        """Return never."""
        return math.inf

    def next_requests(self, now: float) -> list[RecoveryRequest]:
        """Return nothing."""
        return []

    @property
    def deadline(self) -> float:
        """Never: the recording has it."""
        return math.inf

    # The ends of outages

    def read(
        self, event: TopicRecovered, is_past: Callable[[str], bool]
    ) -> RecoveredTicks:
        """Return the ticks of the end of an outage.

        Args:
            event: The end.
            is_past: Whether a consumer has handled what is at a place.
        """
        pushed = list(filter(None, map(self._pushed, event.held)))
        at = event.place
        if at is None:
            left = [tick for _, tick in pushed if not is_past(tick.place)]
            return RecoveredTicks([push for push, _ in pushed], (), tuple(left))
        end = Entry(at=0, kind="fetched") if event.entry is None else event.entry
        # By the numbers that they had for the recorder.
        numbered = dict(enumerate(pushed, event.skipped))
        unused, items = numbered.keys() - end.omitted, list[tuple[bytes, Any]]()
        for row in end.rows:
            if not isinstance(row, int):
                items += filter(None, [self._fetched(row)])
            elif row in numbered:
                unused.discard(row)
                items.append(numbered[row])
        count = len(items)
        items += [item for number, item in numbered.items() if number in unused]
        first_following = len(items) - event.following
        for number, (_, tick) in enumerate(items):
            index = at.index + event.index + number + 1
            if number >= first_following:
                index = LEFT_INDEX + number - first_following
            place = place_of(at.origin, at.position, index)
            force_setattr(tick, "place", place)
        handled = [is_past(tick.place) for _, tick in items].count(True)
        ticks = [tick for _, tick in items]
        if handled:  # Its gap was handled, too: what is left follows as it is.
            for tick in ticks[:count]:
                force_setattr(tick, "recovered", not tick.received_at)
            count = handled
        return RecoveredTicks(
            [push for push, _ in items],
            tuple(ticks[handled:count]),
            tuple(ticks[count:]),
        )

    def _pushed(self, entry: Entry) -> tuple[bytes, Any] | None:
        return self._decode(entry.frame, entry.at, entry.place)

    def _fetched(self, row: bytes) -> tuple[bytes, Any] | None:
        return self._decode(row, 0, "")

    def _decode(self, push: bytes, at: int, place: str) -> tuple[bytes, Any] | None:
        try:
            tick = self.decoder.read(push)
        except DecodeError:
            return None
        if not isinstance(tick, Tick):
            return None
        for name, value in (
            ("received_at", at),
            ("recovered", False),
            ("place", place),
        ):
            force_setattr(tick, name, value)
        return push, tick

    def deliver(
        self,
        ticks: RecoveredTicks,
        event: TopicRecovered,
        stream: Stream[Any],
        clock: ReplayClock,
    ) -> None:
        """Deliver the gap and the ticks of the end of an outage.

        While the link is lost, another outage begins, which ends with the next link: a
        recorder that is closed then ends those of before.
        """
        entry, topic, lost = event.entry, event.topic, self.lost
        if lost is not None and entry is None and not event.held:
            self.awaited.discard(topic)  # The outage goes on.
            return
        if entry is None and topic in self.cases:
            result = replace(self.result_so_far(topic), held=ticks.held)
        else:
            now = asyncio.get_running_loop().time()
            result = RecoveryResult(
                topic,
                Outage(now, "" if entry is None else entry.reason),
                now,
                cast("GapStatus", "unfilled" if entry is None else entry.status),
                ticks.recovered,
                ticks.held,
                span=None if entry is None else (_utc(entry.since), _utc(entry.until)),
            )
        then: Outage | None = None
        if lost is not None:
            ended_at = 0 if entry is None else entry.until
            since = clock.to_loop_time(max(ended_at, lost.at))
            then = Outage(since, lost.reason)
        stream.gaps.deliver_recorded(result, then)
        self.awaited.discard(topic)


def _utc(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
