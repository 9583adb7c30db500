"""Leases: one holder of a key, and the epochs that fence those before it.

The lease of a name is the last message on one subject of a bucket: who holds it, by a
random token. Only compare-and-set by revision changes it, so that of several writers one
succeeds. The holder renews it every fifth of its duration.

A lease is over for a standby when its revision did not change for the duration that its
holder has written into it, in reads of the leader without an interruption, by the
standby's own clock. So no clock is compared with another one, and while the broker is
absent or elects a leader, no lease moves. The holder counts from before it sent the last
write that succeeded, also while the machine is suspended: it stops being confirmed before
any standby may take over (``_MARGIN`` is for clocks that do not run alike).

A write that timed out may be stored later. So after any failure the holder reads back: a
record with its own token is its own write, whose revision it adopts. Two things end a hold:
another token in the record, and ``release``, which writes a record without a token: a standby
takes over at once if that is newer than what it has seen. An older one, or none at all,
is a store that was set back, or a bucket that was emptied: it is timed like a holder.

Time to live and watches of the server are not used: markers of expiry block others, and a
watch does not see an expiry.
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from qos_async._io.clocks import steady_ns
from qos_async.jetstream.api import Requester, call, last_message, store
from qos_async.jetstream.errors import BrokerError
from qos_async.jetstream.messages import Fence, decode_fence, encode_fence
from qos_async.jetstream.streams import stream_info
from qos_async.jetstream.subjects import check_recorder, fence_subject
from qos_async.recordings.format import NewerFormatError

__all__ = [
    "Lease",
    "LeaseRecord",
    "StoredFence",
    "Unchanged",
    "bucket_of",
    "claim_epoch",
    "decode_lease",
    "ensure_leases",
    "last_fence",
]

DEFAULT_SECONDS = 10.0

_RENEWALS = 5  # Renewals in the duration of a lease.
_READS = 20  # Reads of a standby in the duration of a lease.
_MARGIN = 1.02
_UNKNOWN = "?"
_LONGEST = 3600.0  # A duration in a record that is longer is not believed.
_BUCKET_BYTES = 1024 * 1024


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lease.

    Attributes:
        token: A random text that is different for each process; empty if it is released.
        seconds: The duration of the lease.
        host: The name of the holder's machine.
        pid: The number of its process.
        at: When this was written, in ns since the epoch by its wall clock: for people.
        epoch: The epoch of the holder; 0 before it has one.
    """

    token: str
    seconds: float
    host: str = ""
    pid: int = 0
    at: int = 0
    epoch: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(LeaseRecord).decode


class _Found(NamedTuple):
    revision: int
    record: LeaseRecord | None


def bucket_of(stream: str) -> str:
    """Return the bucket with the leases of a stream, as ``nats kv`` shows it."""
    return f"{stream}-lease"


async def ensure_leases(wire: Requester, stream: str, *, replicas: int = 1) -> bool:
    """Create the bucket with the leases of a stream; return whether it was missing.

    Raises:
        BrokerError: If that fails.
    """
    bucket = bucket_of(stream)
    config: dict[str, Any] = {
        "name": f"KV_{bucket}",
        "description": f"the holders of the keys whose data goes to {stream}",
        "subjects": [f"$KV.{bucket}.>"],
        "storage": "file",
        "discard": "new",
        "max_bytes": _BUCKET_BYTES,
        "max_msgs_per_subject": 1,
        "num_replicas": replicas,
        "allow_direct": False,  # Others than the leader may have an older revision.
        "allow_rollup_hdrs": True,
        "deny_delete": True,
    }
    if await stream_info(wire, config["name"]) is not None:
        return False
    created = await call(wire, f"STREAM.CREATE.{config['name']}", config, timeout=10)
    return bool(created.get("did_create"))


class Lease:
    """The lease of one name.

    ``acquire`` waits until this process holds it, ``keep`` renews it until another process
    has it, ``release`` ends it. One task calls one of them at a time.

    Args:
        wire: A connection, better of its own: a renewal does not wait behind data then.
        stream: The stream whose bucket it is in.
        name: The name of the key.
        seconds: How long it lasts without a renewal.
        is_new: Whether the bucket was created just now: then no record means no holder,
            and it is not waited for one.
        clock: Seconds by a clock that runs during a suspend of the machine.

    Attributes:
        holder: The record that was read last.
        epoch: The highest epoch of any holder that is known: of this process, or read.
        renewals: Writes that succeeded.
        failures: Reads and writes that failed.
        last_error: The text of the last failure.
    """

    def __init__(
        self,
        wire: Requester,
        stream: str,
        name: str,
        *,
        seconds: float = DEFAULT_SECONDS,
        is_new: bool = False,
        clock: Callable[[], float] = lambda: steady_ns() / 1e9,
    ) -> None:
        self.token = secrets.token_hex(8)
        self.seconds = seconds
        self.holder: LeaseRecord | None = None
        self.renewals = self.failures = self.epoch = 0
        self.last_error = ""
        self._wire, self._clock = wire, clock
        self._stream = f"KV_{bucket_of(stream)}"
        self._subject = f"$KV.{bucket_of(stream)}.{check_recorder(name)}"
        self._is_new = is_new
        self._revision: int | None = None
        self._confirmed_until = -math.inf

    def __repr__(self) -> str:
        state = (
            "held" if self.is_held else "unconfirmed" if self.is_owned else "not held"
        )
        return f"<Lease {self._subject}: {state}>"

    @property
    def is_held(self) -> bool:
        """Whether no other process can have it, by this process's clock."""
        return self._clock() < self._confirmed_until

    @property
    def is_owned(self) -> bool:
        """Whether this process took it, and has not learned that another one did."""
        return self._revision is not None

    @property
    def confirmed_for(self) -> float:
        """Seconds for which it is held without a renewal; negative when that is over."""
        return self._confirmed_until - self._clock()

    async def acquire(self) -> None:
        """Wait until this process holds it.

        The broker may be absent meanwhile; ``last_error`` has the reason.
        """
        unchanged = Unchanged(longest_gap=self._interval(_READS) + 2 * self._timeout)
        while True:
            found = await self._read()
            if found is None:
                unchanged.interrupt()
            else:
                is_newer = unchanged.is_newer(found.revision)
                seconds = unchanged.seconds(found.revision, self._clock())
                may_take = self._may_take(found.record, is_newer=is_newer)
                if (may_take or seconds >= self._patience(found)) and await self._write(
                    found.revision
                ):
                    return
            await asyncio.sleep(self._interval(_READS))

    async def keep(self) -> LeaseRecord:
        """Renew it until another process has it, or had it; return the record of that one.

        While the broker is absent it is owned, and ``is_held`` turns false when its time
        is over.
        """
        pause = self._interval(_RENEWALS)
        while True:
            await asyncio.sleep(pause)
            pause = self._interval(_RENEWALS)
            assert self._revision is not None
            if await self._write(self._revision):
                continue
            pause = self._interval(_READS)
            epoch, found = self.epoch, await self._read()
            if found is None:
                continue
            record = found.record
            # One with a higher epoch and no token: another had it, and released it.
            if record is not None and (
                record.token not in ("", self.token)
                or (not record.token and record.epoch > epoch)
            ):
                self._give_up()
                return record
            # A write of its own that timed out; or a record that was removed.
            self._revision = found.revision

    async def release(self) -> None:
        """End the lease, so that a standby takes over at once.

        Tried for as long as two requests may take: without a broker it ends by itself.
        """
        revision = self._revision
        self._give_up()
        deadline = self._clock() + 2 * self._timeout
        empty = LeaseRecord(token="", seconds=self.seconds, epoch=self.epoch)
        while revision is not None and self._clock() < deadline:
            if await self._store(empty, revision) is not None:
                return
            found = await self._read()
            if found is not None:
                mine = found.record is not None and found.record.token == self.token
                revision = found.revision if mine else None
            await asyncio.sleep(self._interval(_READS))

    # Parts

    @property
    def _timeout(self) -> float:
        return self._interval(_RENEWALS)

    def _interval(self, count: int) -> float:
        return self.seconds / count

    def _patience(self, found: _Found) -> float:
        """Return how long a record has to stay unchanged before it is over."""
        theirs = found.record.seconds if found.record is not None else 0.0
        return _MARGIN * max(self.seconds, min(theirs, _LONGEST))

    def _may_take(self, record: LeaseRecord | None, *, is_newer: bool) -> bool:
        """Return whether a record is this process's own, or was released just now."""
        if record is None:
            return self._is_new
        return record.token == self.token or (not record.token and is_newer)

    def _give_up(self) -> None:
        self._confirmed_until = -math.inf
        self._revision = None

    async def _write(self, revision: int) -> bool:
        """Write this process's record; return whether it is stored for certain."""
        sent_at = self._clock()
        record = LeaseRecord(
            token=self.token,
            seconds=self.seconds,
            host=socket.gethostname(),
            pid=os.getpid(),
            at=time.time_ns(),
            epoch=self.epoch,
        )
        stored = await self._store(record, revision)
        if stored is None:
            return False
        self._revision = stored
        self._confirmed_until = sent_at + self.seconds
        self.holder = record
        self.renewals += 1
        return True

    async def _store(self, record: LeaseRecord, revision: int) -> int | None:
        """Return the new revision; None if the write failed, or may have."""
        payload = _encode(record)
        try:
            return await store(
                self._wire,
                self._subject,
                payload,
                revision=revision,
                timeout=self._timeout,
            )
        except BrokerError as exc:
            self._count(exc)
        return None

    async def _read(self) -> _Found | None:
        """Return what the leader has; None if it cannot be read."""
        try:
            found = await last_message(
                self._wire, self._stream, self._subject, timeout=self._timeout
            )
        except BrokerError as exc:
            self._count(exc)
            return None
        if found is None:
            return _Found(0, None)
        self.holder = record = decode_lease(found.data)
        self.epoch = max(self.epoch, record.epoch)
        return _Found(found.sequence, record)

    def _count(self, exc: BrokerError) -> None:
        self.failures += 1
        self.last_error = str(exc)


class Unchanged:
    """The time in which a revision did not change and could be read.

    Args:
        longest_gap: Seconds between two reads after which it begins anew.
    """

    def __init__(self, longest_gap: float) -> None:
        self._longest_gap = longest_gap
        self._revision: int | None = None
        self._highest = 0
        self._since = self._last = 0.0

    def interrupt(self) -> None:
        """Begin anew with the next read."""
        self._revision = None

    def is_newer(self, revision: int) -> bool:
        """Return whether a revision is not older than any that was read."""
        return revision >= self._highest

    def seconds(self, revision: int, now: float) -> float:
        """Return the seconds without a change, after one more read."""
        # A longer gap is one in which this process or its machine was stopped.
        if revision != self._revision or now - self._last > self._longest_gap:
            self._revision, self._since = revision, now
        self._last = now
        self._highest = max(self._highest, revision)
        return now - self._since


def decode_lease(data: bytes) -> LeaseRecord:
    """Return a record; what cannot be read is held by an unknown process."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return LeaseRecord(token=_UNKNOWN, seconds=0.0)


async def claim_epoch(
    wire: Requester,
    stream: str,
    recorder: str,
    token: str,
    *,
    is_held: Callable[[], bool] = lambda: True,
    known: int = 0,
    again: int | None = None,
    tries: int = 5,
) -> StoredFence:
    """Begin a new epoch; return the fence that this process wrote, which names it.

    From then on the server refuses what carries an older epoch. A process that was
    stopped for longer than its lease cannot fence the next holder: the lease is checked
    between the read of the last fence and the write that expects it.

    An epoch is the time in milliseconds, or one more than the highest that is known. So it
    is above those of a store that was set back, too, where no process knows them any more:
    sequences of the stream would be used again.

    Args:
        wire: The connection.
        stream: The stream.
        recorder: The name of the recorder.
        token: A random text of this process.
        is_held: Whether the lease is held now.
        known: The highest epoch that is known from elsewhere than the stream.
        again: An epoch of this process whose fence the stream has lost, instead of a
            new one.
        tries: How often it is tried.

    Raises:
        BrokerError: If the lease is not held, or the fence cannot be written; it may be
            written all the same, which makes no difference to a later call.
    """
    subject, at = fence_subject(stream, recorder), time.time_ns()
    while True:
        last = await last_fence(wire, stream, recorder)
        if last is not None and (last.token, last.at) == (token, at):
            return last  # A write that timed out.
        known = max(known, 0 if last is None else last.epoch)
        if not is_held():
            raise BrokerError(f"the lease of {recorder} is not held: acquire it first")
        epoch = max(known + 1, at // 1_000_000) if again is None else again
        fence = Fence(
            recorder=recorder,
            token=token,
            host=socket.gethostname(),
            pid=os.getpid(),
            at=at,
            epoch=epoch,
        )
        revision = 0 if last is None else last.sequence
        tries -= 1
        try:
            payload = encode_fence(fence)
            sequence = await store(wire, subject, payload, revision=revision)
        except BrokerError:
            if not tries:
                raise
        else:
            return StoredFence(sequence, epoch, token, at)


class StoredFence(NamedTuple):
    """The last fence of a recorder in a stream.

    Attributes:
        sequence: Its sequence: what the server compares.
        epoch: The epoch that begins with it.
        token: That of the process that wrote it; empty if it cannot be read.
        at: When, in nanoseconds since the epoch by that process's wall clock.
    """

    sequence: int
    epoch: int
    token: str
    at: int


async def last_fence(wire: Requester, stream: str, recorder: str) -> StoredFence | None:
    """Return the last fence of a recorder as the leader has it, or None.

    Raises:
        BrokerError: If it cannot be read.
    """
    found = await last_message(wire, stream, fence_subject(stream, recorder))
    if found is None:
        return None
    sequence = found.sequence
    try:
        fence = decode_fence(found.data)
    except (ValueError, NewerFormatError):
        return StoredFence(sequence, sequence, "", 0)
    return StoredFence(sequence, fence.epoch_at(sequence), fence.token, fence.at)
