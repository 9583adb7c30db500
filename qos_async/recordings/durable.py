"""Durable names: where a follower was, kept for the next one of that name.

For a directory it is kept in a file of this user, for a stream in the broker
(``qos_async.jetstream.durables``).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from qos_async._io.stream import Stream
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async._locks import Lock, LockedError
from qos_async._paths import state_directory
from qos_async.recordings.files import RecordingError, make_directory
from qos_async.recordings.replay_transport import ReplayTransport
from qos_async.recordings.source import Resume

__all__ = [
    "ConsumerProgress",
    "Durable",
    "FileDurable",
    "NameTakenError",
    "check_durable_name",
]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_decoder = msgspec.json.Decoder(Resume)


class NameTakenError(RecordingError):
    """Another follower has taken a durable name."""


class Durable(Protocol):
    """The place of a follower, kept for the next one of its name.

    Attributes:
        resume: Where the follower is; with an empty place before the first tick.
        retention_left: Seconds until retention reaches that, as it was estimated last;
            None for never.
    """

    resume: Resume
    retention_left: float | None

    async def save(self) -> None:
        """Write the place, if it has changed.

        Raises:
            NameTakenError: If another follower has taken the name.
            RecordingError: If that fails.
        """
        ...

    async def aclose(self) -> None:
        """Write the place, and let another follower have the name."""
        ...


def check_durable_name(name: object) -> str:
    """Return a durable name.

    Raises:
        ValueError: If it is not one.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            "durable must be a name of 1 to 64 letters, digits, - and _, such as "
            f"'bot-1', not {name!r}"
        )
    return name


class FileDurable:
    """The place of a follower, in a directory of this user that one follower has.

    Args:
        place: What is followed: a directory or a file.
        name: The name.

    Raises:
        ValueError: If it is not a name.

    Attributes:
        resume: Where the follower is.
        retention_left: None: when files are deleted is not known.
    """

    retention_left: float | None = None

    def __init__(self, place: Path, name: object) -> None:
        self._name = check_durable_name(name)
        self._place = place
        self._lock: Lock | None = None
        self._file = Path()
        self.resume = self._saved = Resume()

    def open(self) -> Resume | None:
        """Take the name, and return where its last follower was; None for the first.

        Raises:
            RecordingError: If another follower has it, or its file cannot be read.
        """
        followed = os.fsencode(self._place.absolute().resolve())
        key = hashlib.sha256(followed).hexdigest()[:12]
        folder = state_directory() / "follow" / f"{self._name}-{key}"
        make_directory(folder)
        try:
            self._lock = Lock(folder)
        except LockedError:
            raise RecordingError(
                f"another follower of {self._place} has the durable name {self._name!r}: "
                "stop it, or use another name"
            ) from None
        self._file = folder / "place.json"
        try:
            self.resume = self._saved = _decoder.decode(self._file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as exc:
            self._release()
            raise RecordingError(
                f"cannot read the place of the durable name {self._name!r} in "
                f"{self._file}: {exc}; delete the file to begin at start="
            ) from exc
        return self.resume

    async def save(self) -> None:
        """Write the file, if it is not written: it is replaced as a whole.

        Raises:
            RecordingError: If that fails.
        """
        self._save()

    def _save(self, *, sync: bool = False) -> None:
        """Write the file; wait for the disk with ``sync``, as a machine may lose power."""
        if self._lock is None or self.resume == self._saved:
            return
        draft = self._file.with_suffix(".new")
        try:
            with draft.open("wb") as file:
                file.write(msgspec.json.encode(self.resume))
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            draft.replace(self._file)
        except OSError as exc:
            raise RecordingError(
                f"cannot write the place of the durable name {self._name!r} to "
                f"{self._file}: {exc.strerror}"
            ) from exc
        self._saved = self.resume

    async def aclose(self) -> None:
        """Write the file, and let another follower have the name."""
        try:
            self._save(sync=True)
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class _Spot(NamedTuple):
    """Where a consumer is.

    Attributes:
        number: The number of events that it has handled.
        place: Of a part of the next one: the tick that it has not handled.
        resume: The same for the next follower.
    """

    number: int
    place: str
    resume: Resume


class _Reader:
    """What the consumer of one subscription has taken and handled.

    Attributes:
        floor: What it has handled.
        front: What it has taken.
        taken: The number of ticks that it has taken.
        events: The events with ticks that are not all taken: the number of ticks
            received with them, and where a consumer is that has handled them.
        before: Where a consumer is that has handled those before.
    """

    def __init__(self, floor: _Spot) -> None:
        self.floor = self.front = self.before = floor
        self.taken = self.received = 0
        self.events: deque[tuple[int, _Spot]] = deque()


class ConsumerProgress:
    """Finds out up to where all consumers have handled their ticks.

    A consumer that comes back for more has handled what it had taken. That is seen without
    a step on the path of a tick: the ticks taken from a queue are compared each time that
    an entry is played, and twenty times a second. Events have numbers, as the places of
    several recorders of a stream have no order.
    """

    def __init__(
        self, transport: ReplayTransport, stream: Stream[Any], durable: Durable
    ) -> None:
        self._transport = transport
        self._stream = stream
        self._durable = durable
        self._readers: dict[SubscriptionQueue, _Reader] = {}
        if not durable.resume.place and transport.played.place:
            durable.resume = transport.played
        self._kept = _Spot(transport.played_count, "", durable.resume)
        transport.on_play = self.update

    def update(self) -> None:
        """Pass on where the slowest consumer is."""
        stream, durable, kept = self._stream, self._durable, self._kept
        transport = self._transport
        played = _Spot(transport.played_count, "", transport.played)
        self._readers = {
            queue: self._readers.get(queue) or _Reader(kept)
            for queue in stream.collector.queues
        }
        for queue, reader in self._readers.items():
            _look(queue, reader, played)
        floors = [reader.floor for reader in self._readers.values()]
        found = min(floors, key=_order, default=kept)
        if floors and found == played:
            found = played._replace(resume=transport.reached())
        is_later = found.resume.sequence > kept.resume.sequence
        if _order(found) > _order(kept) or is_later:
            self._kept = found
            durable.resume = found.resume


def _order(spot: _Spot) -> tuple[int, str]:
    return spot.number, spot.place


def _look(queue: SubscriptionQueue, reader: _Reader, played: _Spot) -> None:
    buffer = queue.buffer
    if buffer.received > reader.received:
        reader.received = buffer.received
        reader.events.append((buffer.received, played))
    taken = buffer.received - len(buffer)
    while reader.events and reader.events[0][0] <= taken:
        reader.before = reader.events.popleft()[1]
    front, oldest = played, buffer.oldest
    if oldest is not None and oldest.place:
        before = reader.before
        at = oldest.received_at or before.resume.at
        resume = Resume(oldest.place, True, at, before.resume.sequence)
        front = _Spot(before.number, oldest.place, resume)
    if queue.is_waiting:
        reader.floor = front
    elif taken > reader.taken:
        reader.floor = reader.front
    reader.taken, reader.front = taken, front
