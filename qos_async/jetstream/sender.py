"""Sender of a recorder: what is in the spool goes to the stream, in order.

Messages are sent era by era. Before the first of an era a fence is written, which names its
epoch: from then on the server refuses what older processes of the same name send.
An era that an earlier process left is finished under its own epoch, as long as no other
process has written a fence since. Else its rest is given up: it is inside a gap that the
``started`` of the next era announces. A fence that the stream has lost, as its store was
set back, is written again for the same epoch: what is sent again keeps its positions.

After each connection the newest message known to be stored is looked up in the stream: a
server may have lost what it acknowledged. What is missing is sent again from the spool.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol

from qos_async._io.notifier import Notifier
from qos_async.jetstream.api import Requester, find_message, stored_stamp
from qos_async.jetstream.errors import (
    BrokerAuthenticationError,
    BrokerError,
    BrokerReplyError,
    BrokerUnavailableError,
    FencedError,
    MissingNatsError,
    WrongRevisionError,
)
from qos_async.jetstream.lease import last_fence
from qos_async.jetstream.messages import (
    Outgoing,
    Position,
    Stamp,
    encode_headers,
)
from qos_async.jetstream.publisher import Publisher
from qos_async.jetstream.spool import Spool
from qos_async.jetstream.spool_files import NONE, Era, Spooled
from qos_async.jetstream.streams import (
    Batches,
    StreamOptions,
    ensure_stream,
    refused,
)
from qos_async.jetstream.wire import WireStats

__all__ = ["BrokerConnection", "SpoolSender", "TakenOverError"]

_log = logging.getLogger("qos_async.recorder")

_BACKOFF = (0.1, 2.0)
_REFUSED_WAIT = 5.0
_PATIENCE = 10.0  # An election takes up to nine seconds.


class TakenOverError(BrokerError):
    """Another recorder of the same name has begun, and there is no lease."""


class BrokerConnection(Requester, Protocol):
    """What the sender needs of a ``Wire``."""

    changed: Notifier
    stats: WireStats

    @property
    def is_connected(self) -> bool:
        """Whether a connection is open."""
        ...

    @property
    def connections(self) -> int:
        """The number of connections so far."""
        ...

    async def connect(self, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - as in Wire
        """Wait until a connection is open."""
        ...


_FINAL = (BrokerAuthenticationError, MissingNatsError, TakenOverError)


class SpoolSender:
    """Sends the messages of a spool.

    Args:
        wire: The connection.
        stream: The stream.
        recorder: The name of the recorder.
        spool: The messages.
        publisher: Returns what stores the messages of an epoch, with the sequence of its
            fence, in batches of a kind.
        claim: Writes a fence and returns its epoch: a new one, or that which it is given.
        lease_held: Waits until this process may write.
        begin_era: Begins an era, with a ``started``.
        has_lease: Whether others may use the same name, in turn.
        options: What the stream is created with.

    Attributes:
        progress: Notified when messages are stored, and at errors.
        epoch: The present epoch; 0 before the first.
        published: The number of messages that were sent, those sent again included.
        stored: The number of messages that were acknowledged.
        given_up: The number of messages of eras that were over.
        error: Why nothing is stored now; None while all is well.
        failed: Whether that is final.
        is_ready: Whether the stream is there, since the connection was made.
    """

    def __init__(
        self,
        wire: BrokerConnection,
        stream: str,
        recorder: str,
        spool: Spool,
        publisher: Callable[[int, int, Batches], Publisher],
        *,
        claim: Callable[[int | None], Awaitable[int]],
        lease_held: Callable[[], Awaitable[None]],
        begin_era: Callable[[], object],
        has_lease: bool,
        options: StreamOptions,
    ) -> None:
        self.progress = Notifier()
        self.epoch = self.published = self.stored = self.given_up = 0
        self.error: BrokerError | None = None
        self.failed = self.is_ready = False
        self.on_error: Callable[[BrokerError], object] = bool
        self._wire, self._stream, self._recorder = wire, stream, recorder
        self._spool, self._publisher, self._fence = spool, publisher, 0
        self._claim, self._lease_held = claim, lease_held
        self._begin_era, self._has_lease = begin_era, has_lease
        self._options = options
        self._batches: Batches = "fast"

    async def run(self) -> None:
        """Send until this is cancelled, or the broker refuses this program for good."""
        backoff = _BACKOFF[0]
        while not self.failed:
            stored = self._spool.stored
            try:
                await self._send_all()
            except (FencedError, WrongRevisionError):
                wait = _BACKOFF[0]  # The next session finds out what that means.
            except BrokerUnavailableError as exc:
                _log.info("the stream gets nothing now: %s", exc)
                if self._spool.stored > stored:
                    backoff = _BACKOFF[0]
                elif self._is_late():
                    self.fail(exc, final=False)
                wait, backoff = backoff, min(2 * backoff, _BACKOFF[1])
            except BrokerError as exc:
                self.fail(exc, final=isinstance(exc, _FINAL))
                wait = _REFUSED_WAIT
            self.is_ready = False
            await asyncio.sleep(wait)

    def _is_late(self) -> bool:
        """Whether a message waits for longer than a cluster may need."""
        since = self._spool.pending_since
        return bool(since) and time.time_ns() - since >= _PATIENCE * 1e9

    def fail(self, error: BrokerError, *, final: bool) -> None:
        """Report an error; ``final`` if nothing more is sent."""
        is_new = final or self.error is None
        self.error, self.failed = error, final
        if is_new:
            _log.error("the stream %s gets nothing: %s", self._stream, error)
            self.on_error(error)
        self.progress.notify_all()

    async def _send_all(self) -> NoReturn:
        """Send over one connection, until it is lost."""
        wire = self._wire
        await wire.connect()
        info, differences = await ensure_stream(wire, self._stream, self._options)
        if reason := refused(self._stream, info):
            raise BrokerReplyError(reason)
        for text in differences:
            _log.info("%s", text)
        self._batches, self.is_ready = info.batches, True
        self.progress.notify_all()
        while True:
            await self._lease_held()
            connection = wire.connections
            era = await self._next_era()
            if era is not None:
                await self._send_era(era, connection)

    async def _next_era(self) -> Era | None:
        """Return the era of the next message, which may be sent; None to ask again."""
        spool = self._spool
        [message, *_] = await spool.read(spool.stored + 1, 1)
        era = spool.era_of(message.number)
        if not era.epoch:
            era = Era(era.start, await self._claim(None))
            spool.set_epoch(*era)
        fence = await last_fence(self._wire, self._stream, self._recorder)
        newest = 0 if fence is None else fence.epoch
        if newest < era.epoch and (fence is None or fence.at < message.at):
            _log.warning(
                "the stream has lost the epoch %d: it is begun again", era.epoch
            )
            await self._claim(era.epoch)
            return None
        if fence is None or newest != era.epoch:
            self._give_up(era, newest)
            return None
        self._fence = fence.sequence
        await self._check_stored(era)
        return era

    def _give_up(self, era: Era, newest: int) -> None:
        """Leave out the rest of an era that is over."""
        following = self._spool.end_of(era)
        if following is None:
            if newest > era.epoch and not self._has_lease:
                raise TakenOverError(
                    f"another recorder with the name {self._recorder} writes to the "
                    f"stream {self._stream}: give each a name of its own, or pass "
                    "lease= to both"
                )
            following = self._spool.next_number
            self._begin_era()
        count = self._spool.skip(following)
        self.given_up += count
        _log.warning("%d messages of an epoch that is over are left out", count)

    async def _check_stored(self, era: Era) -> None:
        """Find out whether the server still has what it acknowledged."""
        stored = self._spool.stored
        for number in self._spool.stored_numbers(era):
            if await self._has(era, number):
                break
        else:
            number = era.start - 1
        if number < stored:
            count = stored - number
            _log.warning("the server has lost up to %d messages: sent again", count)
            self._spool.rewind(number)

    async def _has(self, era: Era, number: int) -> bool:
        """Return whether the stream has a message, or a later one on its subject."""
        message = await self._spool.find(number)
        if message is None:
            return False  # It is not in the spool any more.
        body = {"last_by_subj": message.subject}
        reply = await find_message(self._wire, self._stream, body)
        stamp = None if reply is None else stored_stamp(reply)
        return (
            stamp is not None
            and stamp.recorder == self._recorder
            and stamp.position >= Position(era.epoch, number - era.start)
        )

    async def _send_era(self, era: Era, connection: int) -> None:
        """Send an era to its end, or as long as it grows.

        Raises:
            FencedError: If the epoch is over.
            BrokerUnavailableError: If the connection was lost.
            BrokerError: If a message is refused.
        """
        self.epoch = era.epoch
        publisher = self._publisher(era.epoch, self._fence, self._batches)
        create = asyncio.create_task
        feeding = create(self._feed(era, publisher), name="qos_async.feed")
        tasks = (
            feeding,
            create(publisher.run(), name="qos_async.publish"),
            create(self._follow(era, publisher), name="qos_async.acknowledge"),
            create(self._watch(connection), name="qos_async.watch"),
        )
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._mark_stored(era, publisher)
        self._spool.skip(self._spool.end_of(era) or 0)

    async def _feed(self, era: Era, publisher: Publisher) -> None:
        """Put all messages of an era into the publisher; return when they are stored."""
        spool = self._spool
        number = spool.stored + 1
        while True:
            messages = await spool.read(number)
            end = spool.end_of(era)
            for message in messages:
                if end is not None and message.number >= end:
                    await publisher.flush()
                    return
                await publisher.put(self._outgoing(era, message))
                self.published += 1
            number = messages[-1].number + 1

    async def _follow(self, era: Era, publisher: Publisher) -> NoReturn:
        """Note what is stored, and report what keeps the rest from it for long."""
        stats, wire = publisher.stats, self._wire.stats
        denied, before, since = wire.denied, 0, time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await publisher.acknowledged.wait()
            self._mark_stored(era, publisher)
            if stats.acknowledged > before or not stats.pending:
                before, since = stats.acknowledged, time.monotonic()
            elif stats.last_error and time.monotonic() - since >= _PATIENCE:
                # A denied message has no reply: only the connection knows of it.
                why = wire.last_error if wire.denied > denied else stats.last_error
                self.fail(BrokerError(why), final=False)

    def _mark_stored(self, era: Era, publisher: Publisher) -> None:
        number = era.start + publisher.stats.acknowledged_counter
        before = self._spool.stored
        self._spool.mark_stored(number)
        if self._spool.stored > before:
            self.stored += self._spool.stored - before
            self.error = None
            self.progress.notify_all()

    async def _watch(self, connection: int) -> NoReturn:
        """Raise when the connection is another one: what was sent may be lost."""
        while self._wire.is_connected and self._wire.connections == connection:
            await self._wire.changed.wait()
        raise BrokerUnavailableError("the connection was lost")

    def _outgoing(self, era: Era, message: Spooled) -> Outgoing:
        number, previous, at, up, subject, payload = message
        epoch, start = era.epoch, era.start
        before = None if previous == NONE else Position(epoch, previous - start)
        position = Position(epoch, number - start)
        stamp = Stamp(self._recorder, position, before, at, up)
        return Outgoing(position.counter, subject, payload, encode_headers(stamp))
