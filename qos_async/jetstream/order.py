"""The rule for readers: which messages of a stream count, and in which order.

Per recorder only the highest epoch counts, of those that a fence or an entry has shown.
Per recorder and subject each position counts once; a message that comes before the one
that it names as previous waits for it, and if that does not come there is a hole.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import NamedTuple

from qos_async.jetstream.messages import Position, Stamp, decode_fence, decode_stamp
from qos_async.jetstream.pull import PulledMessage
from qos_async.jetstream.subjects import recorder_of

__all__ = ["Accepted", "Ordering"]

_PATIENCE = 10_000
"""Messages of the stream that may come before one that is missing."""


class Accepted(NamedTuple):
    """A message in its place.

    Attributes:
        message: As stored.
        stamp: What its header says.
        hole_since: If messages before it are missing: the time of the last one of its
            subject, in nanoseconds since the epoch; 0 if that is not known. Else None.
        is_removed: Whether retention took those, by the limits of the stream.
    """

    message: PulledMessage
    stamp: Stamp
    hole_since: int | None = None
    is_removed: bool = False


class _Chain(NamedTuple):
    recorder: str
    subject: str


class _Last(NamedTuple):
    position: Position
    at: int
    sequence: int


class Ordering:
    """Puts messages into order, and leaves out what does not count.

    Attributes:
        foreign: The number of messages that no recorder wrote.
        repeated: The number of messages that were there before.
        superseded: The number of messages of lower epochs.
        holes: The number of holes.
    """

    def __init__(self) -> None:
        self.foreign = self.repeated = self.superseded = self.holes = 0
        self._epochs: dict[str, int] = {}
        self._last: dict[tuple[str, str], _Last] = {}
        # What came too early, by the position that it waits for, and all of it by age.
        self._early: dict[_Chain, dict[Position, Accepted]] = {}
        self._deadlines: list[tuple[int, _Chain]] = []
        self._waiting_from = 0

    def add(self, message: PulledMessage) -> Iterator[Accepted]:
        """Yield what a message makes complete: itself, and what has waited for it.

        Raises:
            NewerFormatError: If it is of a newer form.
        """
        yield from self._give_up(message.sequence)
        stamp = self._stamp(message)
        if stamp is None or not self._counts(stamp):
            return
        key = _Chain(stamp.recorder, message.subject)
        last = self._last.get(key)
        if last is not None and stamp.position <= last.position:
            self.repeated += 1
            return
        accepted, previous = Accepted(message, stamp), stamp.previous
        if last is None or previous is None or previous <= last.position:
            yield from self._accept(key, accepted)
            return
        if not self._early:
            self._waiting_from = message.sequence
        self._early.setdefault(key, {})[previous] = accepted
        self._deadlines.append((message.sequence + _PATIENCE, key))

    def next(self, message: PulledMessage) -> Accepted | None:
        """Return a message in its place if it is the next one of its subject.

        That is nearly always so, and costs half of ``add``, which takes all others.
        """
        if self._early:
            return None
        try:
            stamp = decode_stamp(message.headers)
        except ValueError:
            return None
        if stamp is None:
            return None
        recorder, position, previous, at, _ = stamp
        key = recorder, message.subject
        last = self._last.get(key)
        if last is None or previous is None:
            return None
        if not previous == last[0] < position or position[0] != self._epochs.get(
            recorder
        ):
            return None
        self._last[key] = _Last(position, at, message.sequence)
        return Accepted(message, stamp)

    @property
    def is_waiting(self) -> bool:
        """Whether a message waits for one before it."""
        return bool(self._early)

    @property
    def first_waiting(self) -> int | None:
        """A sequence that no message that waits is before; None if none waits."""
        return self._waiting_from if self._early else None

    def flush(self, first: int = 0) -> Iterator[Accepted]:
        """Yield what still waits: the messages before it are missing.

        Args:
            first: The first message that the stream has: those before were removed.
        """
        for key in [*self._early]:
            yield from self._release(key, first)

    def flush_removed(self, first: int) -> Iterator[Accepted]:
        """Yield what waits for messages that may be among those that were removed."""
        for key in [*self._early]:
            if self._last[key].sequence + 1 < first:
                yield from self._release(key, first)

    def forget(self, subjects: Container[str]) -> None:
        """Forget the order of subjects that were not read."""
        for key in [*self._last]:
            recorder, subject = key
            if subject in subjects:
                del self._last[key]
                self._early.pop(_Chain(recorder, subject), None)

    def _stamp(self, message: PulledMessage) -> Stamp | None:
        try:
            stamp = decode_stamp(message.headers)
        except ValueError:
            stamp = None
        if stamp is None and not self._is_fence(message):
            self.foreign += 1
        return stamp

    def _is_fence(self, message: PulledMessage) -> bool:
        """Return whether it begins an epoch, which is kept then."""
        recorder = recorder_of(message.subject)
        try:
            fence = None if recorder is None else decode_fence(message.data)
            if fence is None or fence.recorder != recorder:
                return False
        except ValueError:
            return False
        self._begin(fence.recorder, fence.epoch_at(message.sequence))
        return True

    def _counts(self, stamp: Stamp) -> bool:
        epoch = stamp.position.epoch
        if epoch < self._epochs.get(stamp.recorder, 0):
            self.superseded += 1
            return False
        self._begin(stamp.recorder, epoch)
        return True

    def _begin(self, recorder: str, epoch: int) -> None:
        self._epochs[recorder] = max(epoch, self._epochs.get(recorder, 0))

    def _accept(self, key: _Chain, accepted: Accepted) -> Iterator[Accepted]:
        early = self._early.get(key)
        found: Accepted | None = accepted
        while found is not None:
            yield found
            stamp = found.stamp
            self._last[key] = _Last(stamp.position, stamp.at, found.message.sequence)
            found = early.pop(stamp.position, None) if early else None
        if early is not None and not early:
            del self._early[key]

    def _give_up(self, sequence: int) -> Iterator[Accepted]:
        while self._deadlines and self._deadlines[0][0] <= sequence:
            yield from self._release(self._deadlines.pop(0)[1])

    def _release(self, key: _Chain, first: int = 0) -> Iterator[Accepted]:
        """Yield what waits on a subject, the first of it behind a hole."""
        while early := self._early.get(key):
            previous = min(early)
            accepted, last = early.pop(previous), self._last[key]
            self.holes += 1
            yield from self._accept(
                key,
                accepted._replace(
                    hole_since=last.at, is_removed=last.sequence + 1 < first
                ),
            )
