"""Durable names in the broker: where a follower is, and which process that is.

The record of a name is the last message on one subject of a bucket, and only
compare-and-set by revision changes it, as for leases (``lease``). Its holder writes it at
each progress and once a second; so a record that does not change for ``SECONDS`` is of a
process that has ended. A second follower waits for that, and is refused if it changes. A
process that was stopped and has lost its name finds another token in the record.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from contextlib import suppress

import msgspec

from qos_async.jetstream.api import StoredMessage, call, last_message, store
from qos_async.jetstream.errors import (
    BrokerError,
    BrokerUnavailableError,
    WrongRevisionError,
)
from qos_async.jetstream.places import StreamPlace
from qos_async.jetstream.streams import StreamInfo, stream_info, subject_counts
from qos_async.jetstream.wire import Wire
from qos_async.recordings.durable import NameTakenError, check_durable_name
from qos_async.recordings.files import RecordingError
from qos_async.recordings.source import Resume

__all__ = [
    "DurableRecord",
    "StreamDurable",
    "durable_bucket",
    "durable_records",
    "seconds_left",
]

_log = logging.getLogger("qos_async.follow")

SECONDS = 5.0

_RENEWAL = 1.0
_ESTIMATE = 10.0
_READ_INTERVAL = 0.2
_TIMEOUT = 2.0
_BUCKET_BYTES = 16 * 1024 * 1024
_SECOND = 1_000_000_000


class DurableRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A durable name.

    Attributes:
        token: A random text of the process that has it; empty if none has.
        resume: Where its follower is.
        created_ms: When the stream was created, in milliseconds since the epoch.
        host: The name of the machine.
        pid: The number of the process.
        at: When this was written, in nanoseconds since the epoch: for people.
    """

    token: str
    resume: Resume
    created_ms: int
    host: str = ""
    pid: int = 0
    at: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(DurableRecord).decode


def durable_bucket(stream: str) -> str:
    """Return the bucket with the durable names of a stream, as ``nats kv`` shows it."""
    return f"{stream}-durable"


async def durable_records(wire: Wire, stream: str) -> dict[str, DurableRecord]:
    """Return the durable names of a stream, as far as they may be read."""
    prefix = f"$KV.{durable_bucket(stream)}."
    bucket = f"KV_{durable_bucket(stream)}"
    found: dict[str, DurableRecord] = {}
    with suppress(BrokerError):
        for subject in sorted(await subject_counts(wire, bucket, ">")):
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                if (stored := await last_message(wire, bucket, subject)) is not None:
                    found[subject.removeprefix(prefix)] = _decode(stored.data)
    return found


class StreamDurable:
    """The place of a follower of a stream, kept in the broker under a name.

    Args:
        place: The stream.
        name: The name.

    Raises:
        ValueError: If it is not a name.

    Attributes:
        resume: Where the follower is.
        retention_left: Seconds until retention reaches that, as it was estimated last;
            None for never.
    """

    def __init__(self, place: StreamPlace, name: object) -> None:
        self._name = check_durable_name(name)
        self._wire = Wire(place, name=f"qos-async durable {name}")
        self._place, self._stream = place, place.stream
        self._bucket = f"KV_{durable_bucket(place.stream)}"
        self._subject = f"$KV.{durable_bucket(place.stream)}.{name}"
        self._token = secrets.token_hex(8)
        self.resume = self._saved = Resume()
        self.retention_left: float | None = None
        self._created_ms = self._revision = 0
        self._is_held = self._is_in_doubt = False
        self._written_at = self._estimated_at = 0.0

    async def open(self) -> Resume | None:
        """Take the name, and return where its last follower was; None for the first.

        Raises:
            RecordingError: If another follower has it, or its record cannot be read.
            BrokerError: If the broker cannot be asked.
        """
        await self._wire.connect()
        info = await stream_info(self._wire, self._stream)
        if info is None:
            return None  # The follower finds that out, too.
        await self._ensure_bucket(info)
        found = await self._await_free()
        record = None if found is None else self._record(found)
        if record is not None and record.created_ms != info.created_ms:
            raise RecordingError(
                f"the place of the durable name {self._name!r} is of another stream "
                f"{self._stream} than the one that was created at "
                f"{info.created.isoformat()}: use another name, or delete it "
                f"(nats kv del {durable_bucket(self._stream)} {self._name})"
            )
        self._created_ms = info.created_ms
        self._revision = 0 if found is None else found.sequence
        if record is not None:
            self.resume = record.resume
        self._is_held = True
        await self._write(self._token)
        return self.resume if self.resume != Resume() else None

    def begin(self, created_ms: int, sequence: int) -> None:
        """Set where the first follower of this name begins."""
        self._created_ms = created_ms
        if self.resume == Resume():
            self.resume = Resume(sequence=sequence)

    async def save(self) -> None:
        """Write the record, if it has changed or is about to be taken for an old one.

        Raises:
            NameTakenError: If another follower has taken the name.
            BrokerError: If the broker cannot be asked; the next call tries it again.
        """
        now = time.monotonic()
        is_due = now - self._written_at >= _RENEWAL
        if self._is_held and (is_due or self.resume != self._saved):
            await self._write(self._token)
        if now - self._estimated_at >= _ESTIMATE:
            self._estimated_at = now
            info = await stream_info(self._wire, self._stream)
            if info is not None:
                self.retention_left = seconds_left(
                    info, self.resume.sequence, time.time()
                )

    async def aclose(self) -> None:
        """Write the record, and let another follower have the name."""
        try:
            if self._is_held:
                await self._leave()
        except BrokerUnavailableError:
            _log.warning(
                "the place of the durable name %r is not kept, as the broker is away: the "
                "next follower gets some ticks again",
                self._name,
            )
        finally:
            self._is_held = False
            await self._wire.aclose()

    # Parts

    async def _leave(self) -> None:
        if not self._wire.is_connected:
            raise BrokerUnavailableError("the connection was lost")
        await self._write("")

    async def _ensure_bucket(self, info: StreamInfo) -> None:
        if await stream_info(self._wire, self._bucket) is not None:
            return
        config = {
            "name": self._bucket,
            "description": f"the durable names of followers of {self._stream}",
            "subjects": [f"$KV.{durable_bucket(self._stream)}.>"],
            "storage": "file",
            "discard": "new",
            "max_bytes": _BUCKET_BYTES,
            "max_msgs_per_subject": 1,
            "num_replicas": info.config.num_replicas,
            "allow_direct": False,  # Others than the leader may have an older revision.
            "allow_rollup_hdrs": True,
        }
        await call(self._wire, f"STREAM.CREATE.{self._bucket}", config, timeout=10)

    async def _await_free(self) -> StoredMessage | None:
        """Return the record once no process has the name.

        Raises:
            NameTakenError: If another follower has it.
        """
        first = found = await self._read()
        if found is not None and (record := self._record(found)) and record.token:
            _log.info(
                "waiting for the durable name %r, %g s at most: process %d on %s had it, "
                "and may have been killed",
                *(self._name, SECONDS, record.pid, record.host),
            )
        since = last = time.monotonic()
        while found is not None and (record := self._record(found)) and record.token:
            if first is None or found.sequence != first.sequence:
                raise NameTakenError(
                    f"another follower of {self._place} has the durable name "
                    f"{self._name!r}, process {record.pid} on {record.host}: stop it, or "
                    "use another name"
                )
            now = time.monotonic()
            if now - last > _TIMEOUT + 1:
                since = now  # This process was stopped, or the broker was away.
            last = now
            if now - since >= SECONDS:
                return found
            await asyncio.sleep(_READ_INTERVAL)
            found = await self._read()
        return found

    async def _read(self) -> StoredMessage | None:
        return await last_message(
            self._wire, self._bucket, self._subject, timeout=_TIMEOUT
        )

    def _record(self, found: StoredMessage) -> DurableRecord | None:
        try:
            # ``nats kv del`` leaves an empty message.
            return _decode(found.data) if found.data else None
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise RecordingError(
                f"cannot read the place of the durable name {self._name!r} in the bucket "
                f"{durable_bucket(self._stream)}: {exc}; delete it there (nats kv del "
                f"{durable_bucket(self._stream)} {self._name}) to begin at start="
            ) from exc

    async def _write(self, token: str) -> None:
        resume = self.resume
        record = DurableRecord(
            token=token,
            resume=resume,
            created_ms=self._created_ms,
            host=socket.gethostname(),
            pid=os.getpid(),
            at=time.time_ns(),
        )
        if self._is_in_doubt or not await self._store(record):
            try:
                await self._adopt()
            except NameTakenError:
                self._is_held = False
                raise
            await self._store(record)
        if not self._is_in_doubt:
            self._saved, self._written_at = resume, time.monotonic()

    async def _store(self, record: DurableRecord) -> bool:
        """Write a record; return whether it is stored. It may be, also after an error."""
        self._is_in_doubt = True
        try:
            self._revision = await store(
                self._wire,
                self._subject,
                _encode(record),
                revision=self._revision,
                timeout=_TIMEOUT,
            )
        except WrongRevisionError:
            return False
        self._is_in_doubt = False
        return True

    async def _adopt(self) -> None:
        """Take the revision of a write that may have been stored.

        A record of before it is that of a store that was set back: it is timed like that
        of a follower that may be over.

        Raises:
            NameTakenError: If another follower has written since.
        """
        found = await self._read()
        record = None if found is None else self._record(found)
        if found is not None and record and record.token not in ("", self._token):
            if found.sequence > self._revision:
                raise NameTakenError(
                    f"another follower has taken the durable name {self._name!r}, process "
                    f"{record.pid} on {record.host}: this one did not write for "
                    f"{SECONDS:g} s, as it was stopped, or its loop was blocked"
                )
            found = await self._await_free()
        self._revision = 0 if found is None else found.sequence
        self._is_in_doubt = False


def seconds_left(info: StreamInfo, sequence: int, now: float) -> float | None:
    """Return how long it takes until retention reaches a message; None for never.

    Estimated from how fast the stream grows.

    Args:
        info: The stream.
        sequence: The message that a follower reads next.
        now: The time, in seconds since the epoch.
    """
    state, config = info.state, info.config
    first, last = state.first_ts.timestamp(), state.last_ts.timestamp()
    part = (sequence - state.first_seq) / max(state.last_seq - state.first_seq, 1)
    part = min(max(part, 0.0), 1.0)
    found: list[float] = []
    if config.max_age:
        stored_at = first + part * (last - first) if part < 1 else now
        found.append(stored_at + config.max_age / _SECOND - now)
    if config.max_bytes > 0 and state.bytes and last > first:
        rate = state.bytes / (last - first)
        room = config.max_bytes - state.bytes + part * state.bytes
        found.append(room / rate)
    return max(min(found), 0.0) if found else None
