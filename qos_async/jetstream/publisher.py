"""Publisher: messages of a recorder into a stream, in order, each acknowledged.

Messages are sent in batches of at most a second, one at a time: the first message of each
carries the fence, so that the server refuses a batch of a recorder that another one has
replaced. A batch ends with the newest message that there is, so one message alone is a
batch, and under load the acknowledgement of every hundredth bounds what is under way.

In a fast batch (server 2.14) messages are stored as they come, and the first that cannot
be stored ends the batch: what follows it is refused, so there is never a hole, nor a
message before an earlier one. Without it an atomic batch (2.12) is stored as a whole, and
of a stream that takes neither each message is a batch of its own.

When a batch failed, the publisher compares what the stream has with what it sent, and
sends the rest again, in order, with the same ids: the server skips those that it knows,
within its duplicate window. What was acknowledged and is not there any more, as after a
store was set back, is sent again from the recorder's history.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from qos_async._io.notifier import Notifier
from qos_async.jetstream.api import (
    Requester,
    check_reply,
    find_message,
    last_message,
    stored_stamp,
)
from qos_async.jetstream.errors import (
    BrokerAuthenticationError,
    BrokerError,
    BrokerReplyError,
    BrokerUnavailableError,
    FencedError,
    WrongRevisionError,
)
from qos_async.jetstream.messages import (
    EXPECTED_SEQUENCE,
    EXPECTED_SUBJECT,
    MAX_PAYLOAD,
    Outgoing,
    Stamp,
)
from qos_async.jetstream.streams import Batches, stream_info
from qos_async.jetstream.subjects import fence_subject
from qos_async.jetstream.wire import Message, Wire

__all__ = ["Publisher", "PublisherStats", "last_stored"]

_BATCH_SECONDS = 1.0
_FLOW = 100  # An acknowledgement for each hundredth message of a batch.
_UNDER_WAY = 20 * _FLOW
_UNDER_WAY_BYTES = 4 * 1024 * 1024
_ACK_TIMEOUT = 2.5
_BACKOFF = (0.05, 1.0)
_LOOK_BACK = 200  # Messages of other recorders that are passed over.
_OPEN, _ADD, _COMMIT = 0, 1, 2
_ATOMIC = 200  # Messages of an atomic batch; the server takes 1,000.
_KNOWN_ID = 10201
_NO_BATCHES = frozenset({10174, 10205})  # Of either kind: the stream was changed.
_BATCH_ID, _BATCH_SEQUENCE = "Nats-Batch-Id", "Nats-Batch-Sequence"
_BATCH_COMMIT = "Nats-Batch-Commit"


class PublisherStats(msgspec.Struct):
    """Counters of a publisher.

    Attributes:
        put: Messages that were given to it.
        acknowledged: Messages that the stream has.
        acknowledged_counter: The counter of the newest of these; -1 for none.
        resent: Messages that were sent again.
        batches: Batches that were ended by an acknowledgement.
        failed_batches: Batches that failed.
        pending: Messages that are not acknowledged.
        pending_bytes: The bytes of these.
        last_error: The text of the last failure.
    """

    put: int = 0
    acknowledged: int = 0
    acknowledged_counter: int = -1
    resent: int = 0
    batches: int = 0
    failed_batches: int = 0
    pending: int = 0
    pending_bytes: int = 0
    last_error: str = ""


class Publisher:
    """Sends the messages of one epoch of a recorder.

    A ``Stamper`` makes the messages. ``put`` takes one, ``run`` sends until it is cancelled or another recorder has
    the name, ``flush`` waits until the stream has all of them.

    Args:
        wire: The connection.
        stream: The stream.
        recorder: The name of the recorder.
        epoch: Its epoch.
        fence: The sequence of the fence of that epoch.
        max_messages: Messages that may wait for their acknowledgements.
        max_bytes: Bytes of these.
        history: Returns messages of this epoch from a counter on, also acknowledged ones;
            called when the stream has lost some. None if they are not kept.
        batches: Those that the stream takes.

    Attributes:
        stats: Counters.
        acknowledged: Notified when messages were acknowledged.
    """

    def __init__(
        self,
        wire: Wire,
        stream: str,
        recorder: str,
        epoch: int,
        fence: int,
        *,
        max_messages: int = 50_000,
        max_bytes: int = 32 * 1024 * 1024,
        history: Callable[[int], Iterable[Outgoing]] | None = None,
        batches: Batches = "fast",
    ) -> None:
        self.stats = PublisherStats()
        self.acknowledged = Notifier()
        self._wire, self._stream = wire, stream
        self._recorder, self._epoch = recorder, epoch
        self._fence = fence
        self._bounds = (max_messages, max_bytes)
        self._history = history
        self._waiting: deque[Outgoing] = deque()
        self._sent: deque[Outgoing] = deque()
        self._added = Notifier()
        self._alone = 0
        self._send = self._send_fast if batches == "fast" else self._send_atomic
        self._most = _ATOMIC if batches == "atomic" else 1
        self._batch: _Batch | None = None

    async def put(self, message: Outgoing) -> None:
        """Take a message of this epoch, once there is room for it.

        Raises:
            ValueError: If the payload is larger than servers take.
        """
        size = len(message.payload)
        if size > MAX_PAYLOAD:
            raise ValueError(
                f"a message of {size} bytes is too large, at most {MAX_PAYLOAD}"
            )
        max_messages, max_bytes = self._bounds
        stats = self.stats
        while stats.pending >= max_messages or (
            stats.pending and stats.pending_bytes + size > max_bytes
        ):
            await self.acknowledged.wait()
        self._waiting.append(message)
        stats.put += 1
        stats.pending += 1
        stats.pending_bytes += size
        self._added.notify_all()

    async def flush(self) -> None:
        """Wait until the stream has all messages that were put."""
        while self.stats.pending:
            await self.acknowledged.wait()

    async def run(self) -> None:
        """Send until it is cancelled.

        Raises:
            FencedError: If another recorder has the name, or the stream has lost the
                epoch of this one.
            BrokerAuthenticationError: If the broker refuses the credentials.
            BrokerReplyError: If the stream does not take such batches any more.
        """
        backoff = _BACKOFF[0]
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        subscription = await self._wire.subscribe(
            f"{self._inbox}.>", self._on_frame, self._on_lost
        )
        try:
            while True:
                batches = self.stats.batches
                try:
                    await self._wire.connect()
                    connection = self._wire.connections
                    await self._resume()
                    await self._send_batches(connection)
                except BrokerError as exc:
                    await self._fail(exc)
                if self.stats.batches > batches:
                    backoff = _BACKOFF[0]
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, _BACKOFF[1])
        finally:
            await self._wire.unsubscribe(subscription)

    # Batches

    async def _send_batches(self, connection: int) -> None:
        """Send batches until one fails, or the connection is another one."""
        while True:
            while not self._waiting and self._is_current(connection):
                await self._added.wait()
            if not self._is_current(connection):
                raise BrokerUnavailableError("the connection was lost")
            batch = self._batch = _Batch(secrets.token_hex(6))
            await self._send(batch)
            while not batch.is_over:
                await self._wait_for_progress(batch)
            self.stats.batches += 1

    def _is_current(self, connection: int) -> bool:
        return self._wire.is_connected and self._wire.connections == connection

    async def _send_fast(self, batch: _Batch) -> None:
        prefix = f"{self._inbox}.{batch.name}.{_FLOW}.fail"
        ends_at = time.monotonic() + _BATCH_SECONDS
        waiting, sent, publish = self._waiting, self._sent, self._wire.publish
        operation, headers = _OPEN, self._fence_headers()
        while True:
            now = time.monotonic()
            if len(waiting) == 1 or now >= ends_at:
                if now >= ends_at + _BATCH_SECONDS:
                    raise BrokerUnavailableError("this process was stopped in a batch")
                operation = _COMMIT
            item = waiting[0]
            headers.update(item.headers)
            reply = f"{prefix}.{batch.count + 1}.{operation}.$FI"
            await publish(item.subject, item.payload, reply=reply, headers=headers)
            batch.add(len(item.payload))
            sent.append(waiting.popleft())
            if operation == _COMMIT:
                return
            operation, headers = _ADD, {}
            while batch.is_full:
                await self._wait_for_progress(batch)
            batch.check()

    async def _send_atomic(self, batch: _Batch) -> None:
        """Send what waits as one batch, or one message without a batch.

        A batch with an id that the server knows is refused: these are sent alone.
        """
        count = min(len(self._waiting), self._most)
        if self._alone:
            self._alone, count = self._alone - 1, 1
        headers = self._fence_headers()
        for number in range(1, count + 1):
            item = self._waiting[0]
            headers.update(item.headers)
            if count > 1:
                headers |= {_BATCH_ID: batch.name, _BATCH_SEQUENCE: str(number)}
                if number == count:
                    headers[_BATCH_COMMIT] = "1"
            reply = f"{self._inbox}.{batch.name}.{number}"
            await self._wire.publish(
                item.subject, item.payload, reply=reply, headers=headers
            )
            batch.add(len(item.payload))
            self._sent.append(self._waiting.popleft())
            headers = {}

    def _fence_headers(self) -> dict[str, str]:
        return {
            EXPECTED_SEQUENCE: str(self._fence),
            EXPECTED_SUBJECT: fence_subject(self._stream, self._recorder),
        }

    async def _wait_for_progress(self, batch: _Batch) -> None:
        """Wait for a frame about the batch.

        Raises:
            BrokerUnavailableError: If there is no frame in time, or the connection was lost.
            BrokerError: If the batch failed.
        """
        batch.check()
        try:
            async with asyncio.timeout(_ACK_TIMEOUT):
                await batch.progress.wait()
        except TimeoutError:
            raise BrokerUnavailableError(
                f"the broker acknowledged nothing for {_ACK_TIMEOUT:g} s"
            ) from None
        batch.check()

    def _on_lost(self) -> None:
        if self._batch is not None:
            self._batch.fail(BrokerUnavailableError("the connection was lost"))
        self._added.notify_all()  # Also without a message, what is stored is compared.

    def _on_frame(self, message: Message) -> None:
        batch = self._batch
        if batch is None or message.subject.split(".", 3)[2] != batch.name:
            return
        acknowledged = batch.on_frame(message)
        for _ in range(acknowledged):
            item = self._sent.popleft()
            batch.bytes -= len(item.payload)
            self._count_acknowledged(item)
        if acknowledged:
            self.acknowledged.notify_all()
        batch.progress.notify_all()

    def _count_acknowledged(self, item: Outgoing) -> None:
        stats = self.stats
        stats.acknowledged += 1
        stats.acknowledged_counter = max(stats.acknowledged_counter, item.counter)
        stats.pending -= 1
        stats.pending_bytes -= len(item.payload)

    # After a failure

    async def _fail(self, exc: BrokerError) -> None:
        """Count a failure; raise those that no further attempt can mend."""
        self.stats.failed_batches += 1
        self.stats.last_error = str(exc)
        if isinstance(exc, BrokerAuthenticationError):
            raise exc
        if isinstance(exc, BrokerReplyError) and exc.code in _NO_BATCHES:
            raise exc
        if isinstance(exc, BrokerReplyError) and exc.code == _KNOWN_ID:
            self._alone = len(self._sent)
        if isinstance(exc, WrongRevisionError):
            with contextlib.suppress(BrokerUnavailableError, BrokerReplyError):
                await self._check_fence()

    async def _resume(self) -> None:
        """Find out what the stream has, and queue the rest again."""
        self._batch = None
        if not self._sent and not self.stats.acknowledged:
            return  # Nothing was sent.
        self.stats.resent += len(self._sent)
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()
        stored = await last_stored(
            self._wire, self._stream, self._recorder, self._epoch, self._fence
        )
        if stored is None:  # What is there already is recognised by its id.
            return
        self._restore(stored)
        while self._waiting and self._waiting[0].counter <= stored:
            self._count_acknowledged(self._waiting.popleft())
        self.acknowledged.notify_all()

    def _restore(self, stored: int) -> None:
        """Queue what was acknowledged, and is not there any more, before the rest."""
        newest = self.stats.acknowledged_counter
        if stored >= newest or self._history is None:
            return
        first = self._waiting[0].counter if self._waiting else newest + 1
        lost = [
            item
            for item in self._history(stored + 1)
            if stored < item.counter < min(first, newest + 1)
        ]
        self._waiting.extendleft(reversed(lost))
        self.stats.pending += len(lost)
        self.stats.pending_bytes += sum(len(item.payload) for item in lost)
        self.stats.resent += len(lost)

    async def _check_fence(self) -> None:
        """Check that this epoch is the newest one.

        Raises:
            FencedError: If it is not, or the stream has lost it.
            BrokerError: If that cannot be read.
        """
        subject = fence_subject(self._stream, self._recorder)
        last = await last_message(self._wire, self._stream, subject)
        if last is None or last.sequence < self._fence:
            raise FencedError(
                f"the stream {self._stream} has lost the epoch of the recorder "
                f"{self._recorder}: its store was set back or purged"
            )
        if last.sequence > self._fence:
            raise FencedError(
                f"another process records as {self._recorder} into {self._stream}",
                fence=last.data,
            )


class _Batch:
    """A batch: what was sent in it and what is acknowledged."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.bytes = 0
        self.is_over = False
        self.progress = Notifier()
        self._acknowledged = 0
        self._error: BrokerError | None = None

    @property
    def is_full(self) -> bool:
        """Whether an acknowledgement has to come before the next message."""
        return (
            self.count - self._acknowledged >= _UNDER_WAY
            or self.bytes >= _UNDER_WAY_BYTES
        )

    def add(self, size: int) -> None:
        """Count a message that was sent."""
        self.count += 1
        self.bytes += size

    def check(self) -> None:
        """Raise the error that ended the batch, if one did."""
        if self._error is not None:
            raise self._error

    def fail(self, error: BrokerError) -> None:
        """End the batch; the first error is the reason."""
        self._error = self._error or error
        self.progress.notify_all()

    def on_frame(self, message: Message) -> int:
        """Return how many more messages a frame of the server acknowledges."""
        if not message.data:  # Else an acknowledgement of a first message.
            if message.headers:
                text = "the stream has no leader, or is missing"
                self.fail(BrokerUnavailableError(text))
            return 0
        try:
            frame = check_reply(message.data, "a batch")
        except BrokerError as exc:
            self.fail(exc)
            return 0
        kind = frame.get("type")
        if kind is None:
            until = frame.get("count", 1)
            if until != self.count:
                self.fail(BrokerUnavailableError("the broker ended a batch early"))
            self.is_over = True
        else:
            until = frame.get("seq", 0) if kind == "ack" else 0
        more: int = max(0, min(until, self.count) - self._acknowledged)
        self._acknowledged += more
        return more


async def last_stored(
    wire: Requester, stream: str, recorder: str, epoch: int, fence: int
) -> int | None:
    """Return the counter of the last message of an epoch that a stream has.

    Args:
        wire: The connection.
        stream: The stream.
        recorder: The name of the recorder.
        epoch: The epoch.
        fence: The sequence of its fence.

    Returns:
        The counter; -1 if the stream has no message of the epoch, None if too many of
        other recorders came after it to be searched.

    Raises:
        BrokerUnavailableError: If the leader does not reply.
        BrokerReplyError: If there is no such stream.
    """
    info = await stream_info(wire, stream)
    if info is None:
        raise BrokerReplyError(f"there is no stream {stream} any more")
    sequence = info.state.last_seq
    for _ in range(_LOOK_BACK):
        if sequence <= fence or sequence < info.state.first_seq:
            return -1
        stamp = await _stamp_at(wire, stream, sequence)
        if stamp is not None and stamp.recorder == recorder:
            return stamp.position.counter if stamp.position.epoch == epoch else -1
        sequence -= 1
    return None


async def _stamp_at(wire: Requester, stream: str, sequence: int) -> Stamp | None:
    """Return the stamp of a message; None if there is no such message, or no stamp."""
    reply = await find_message(wire, stream, {"seq": sequence})
    return None if reply is None else stored_stamp(reply)
