"""Messages of a stream in the order of their sequence, pulled from the server.

The consumer at the server is a convenience: it is made anew, behind the last message that
was received, after each connection, when it skips a message, when it is silent, and when
nothing comes although the stream grows. So no message is lost or received twice, whatever
happens to the server's consumer, and what is not asked for stays in the server.

A store that was set back uses its sequences again. So each new consumer begins behind a
message that the stream still has as it was received; what follows is received again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from qos_async._io.notifier import Notifier
from qos_async.jetstream.api import call, next_sequence, stored_headers
from qos_async.jetstream.errors import BrokerError, BrokerUnavailableError
from qos_async.jetstream.messages import ENTRY
from qos_async.jetstream.streams import stream_info
from qos_async.jetstream.wire import Message, Wire, WireSubscription

__all__ = ["IDLE", "Pull", "PulledMessage"]

_log = logging.getLogger("qos_async.follow")

_BATCH = 500
_MOST_WAITING = 1000
_MOST_BYTES = 4 * 1024 * 1024
_EXPIRES = 30
_HEARTBEAT = 2
_SILENCE = 2 * _HEARTBEAT + 1.0
_INACTIVE = 60
_CONNECT_TIMEOUT = 2.0
IDLE = 10.0
_CHECKPOINTS = 1000
_CHECKPOINT_INTERVAL = 1.0
_SECOND = 1_000_000_000

# The tokens of ``$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<number>.<time>.
# <pending>``; newer servers have a domain and an account before the stream.
_TOKENS = 9
_DOMAIN = 2


class PulledMessage(NamedTuple):
    """A message of a stream.

    Attributes:
        sequence: Its sequence in the stream.
        subject: Its subject.
        headers: Its headers.
        data: Its payload.
        pending: How many follow it now, of those that the filter lets through.
    """

    sequence: int
    subject: str
    headers: Mapping[str, str] | None
    data: bytes
    pending: int


class Pull:
    """Receives the messages of a stream from a sequence on.

    Args:
        wire: The connection.
        stream: The name of the stream.
        filters: Subjects, with wildcards; none for all.
        headers_only: Whether the payloads are left out.

    Attributes:
        next: The sequence behind the last message that was returned, or behind those that
            the filters leave out.
        idle: Seconds without a message after which it is found out whether there is one.
        has_caught_up: Whether there was none behind the last one, when it was received.
    """

    def __init__(
        self,
        wire: Wire,
        stream: str,
        *,
        filters: Sequence[str] = (),
        headers_only: bool = False,
    ) -> None:
        self._wire, self._stream = wire, stream
        self._config: dict[str, Any] = {
            "deliver_policy": "by_start_sequence",
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _INACTIVE * _SECOND,
            "headers_only": headers_only,
            "filter_subjects": list(filters),
        }
        self.next = self._front = 1
        self.idle = IDLE
        self.has_caught_up = False
        self._checkpoints = _Checkpoints()
        self._consumer = _Consumer()
        self._subscription: WireSubscription | None = None
        self._received = Notifier()
        self._messages: deque[PulledMessage] = deque()

    @property
    def alive_at(self) -> float:
        """When the consumer was seen last, in the seconds of ``time.monotonic``."""
        return self._consumer.alive_at

    async def start(self, sequence: int = 1) -> int:
        """Begin at a sequence; return the number of messages that follow now.

        Raises:
            BrokerError: If the server refuses that, or cannot be reached.
        """
        self.next = self._front = sequence
        await self._subscribe()
        return await self._create()

    async def _subscribe(self) -> None:
        if self._subscription is None:
            self._subscription = await self._wire.subscribe(
                f"{self._consumer.inbox}.>", self._on_message, self._received.notify_all
            )

    def begin(self, sequence: int) -> None:
        """Begin at a sequence with the next ``read``."""
        self.next = self._front = sequence

    def select(self, filters: Sequence[str]) -> None:
        """Read other subjects from here on, with the next ``read``."""
        self._config["filter_subjects"] = list(filters)
        self._consumer.forget(is_replaced=self.is_current)
        self._front = self.next
        self._messages.clear()

    async def read(self) -> list[PulledMessage]:
        """Return the next messages, or none: when a new consumer has none, or fewer.

        A task that waits here may be cancelled; no message is lost by that.

        Raises:
            BrokerUnavailableError: If the server cannot be reached now.
            BrokerError: If the server refuses what is needed for good.
        """
        self._consumer.played()
        try:
            await self._subscribe()
            was_made = await self._request()
            if not self._messages and not was_made:
                await self._wait()
        except BrokerUnavailableError:
            self._consumer.forget()
            raise
        found = list(self._messages)
        self._consumer.returned += len(found)
        self._messages.clear()
        if found:
            self.next, self.has_caught_up = (
                found[-1].sequence + 1,
                not found[-1].pending,
            )
            with suppress(BrokerUnavailableError):
                await self._request()
        return found

    @property
    def is_current(self) -> bool:
        """Whether messages come as they are stored.

        The broker is there, and what was stored while it was not has been returned, and
        more been asked for.
        """
        is_connected = self._wire.is_connected
        return is_connected and self._consumer.is_current(self._wire.connections)

    async def aclose(self) -> None:
        """End the consumer and the subscription."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(BrokerError):
                await self._wire.unsubscribe(subscription)
        await self._delete()

    async def _wait(self) -> None:
        """Wait for a message; find out whether the consumer has left some out."""
        if not self._wire.is_connected:
            await self._wire.connect(_CONNECT_TIMEOUT)
            return
        now = time.monotonic()
        left = self._consumer.alive_at + _SILENCE - now
        if left <= 0:
            raise BrokerUnavailableError("the consumer of the stream is silent")
        if now - self._consumer.received_at >= self.idle:
            await self._look()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(min(left, _HEARTBEAT, self.idle)):
                await self._received.wait()

    async def _look(self) -> None:
        """Make a new consumer if the stream has grown, and skip what the filters leave out.

        Consumers were seen to send heartbeats and no messages: by a server that had been
        started again and was minutes behind, for one. So the leader is asked what is next.
        """
        self._consumer.received_at = time.monotonic()
        info = await stream_info(self._wire, self._stream)
        if info is None or self._messages or info.state.last_seq == self._front - 1:
            return
        if not await self._create():
            filters = self._config["filter_subjects"]
            front = self._front
            found = await next_sequence(self._wire, self._stream, front, filters)
            if front == self._front:  # Nothing was received meanwhile.
                self.next = self._front = found or max(front, info.state.last_seq + 1)

    async def _request(self) -> bool:
        """Ask for more, unless enough is under way; return whether a consumer was made."""
        was_made = not self._consumer.is_usable(self._wire.connections)
        if was_made:
            await self._create()
        if not self._consumer.has_room(len(self._messages)):
            return was_made
        body = {
            "batch": _BATCH,
            "max_bytes": _MOST_BYTES,
            "expires": _EXPIRES * _SECOND,
            "idle_heartbeat": _HEARTBEAT * _SECOND,
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer.name}"
        reply = self._consumer.next_reply()
        await self._wire.publish(subject, msgspec.json.encode(body), reply=reply)
        self._consumer.expect(reply)
        return was_made

    async def _create(self) -> int:
        """Make a consumer that begins behind the last message."""
        await self._delete()
        await self._wire.connect(_CONNECT_TIMEOUT)
        connection = self._wire.connections
        await self._check()
        name = f"qos-{secrets.token_hex(8)}"
        config = self._config | {"opt_start_seq": self._front, "name": name}
        reply = await call(
            self._wire,
            f"CONSUMER.CREATE.{self._stream}.{name}",
            {"stream_name": self._stream, "config": config},
        )
        pending = int(reply.get("num_pending") or 0)
        self._consumer.begin(name, connection, pending + len(self._messages))
        self.has_caught_up = not (self._messages or pending)
        return pending

    async def _check(self) -> None:
        """Find the last message that the stream has as it was received."""
        while (last := self._checkpoints.last) is not None:
            sequence, header = last
            info = await stream_info(self._wire, self._stream)
            if info is None or sequence < info.state.first_seq:
                return
            found = await stored_headers(self._wire, self._stream, sequence)
            if found.get(ENTRY) == header:
                return
            _log.warning("the store of the stream was set back: it is read again")
            self._messages.clear()
            self._checkpoints.remove_last()
            last = self._checkpoints.last
            self._front = last[0] + 1 if last else info.state.first_seq
            self.next = self._front

    async def _delete(self) -> None:
        name, is_current = self._consumer.name, self.is_current
        is_there = self._consumer.is_usable(self._wire.connections)
        self._consumer.forget(is_replaced=is_current)
        if is_there:
            with suppress(BrokerError):
                await call(
                    self._wire, f"CONSUMER.DELETE.{self._stream}.{name}", timeout=1.0
                )

    # Called by the connection

    def _on_message(self, message: Message) -> None:
        tokens = message.reply.split(".")
        if len(tokens) < _TOKENS:
            if self._consumer.on_status(message):
                self._received.notify_all()
            return
        offset = 0 if len(tokens) == _TOKENS else _DOMAIN
        if tokens[3 + offset] != self._consumer.name:
            return  # Of a consumer before.
        if self._consumer.on_message(int(tokens[6 + offset])):
            sequence, pending = int(tokens[5 + offset]), int(tokens[8 + offset])
            headers = message.headers
            self._front = sequence + 1
            self._checkpoints.add(sequence, headers, self._consumer.alive_at)
            self._messages.append(
                PulledMessage(sequence, message.subject, headers, message.data, pending)
            )
        self._received.notify_all()


class _Consumer:
    """The consumer at the server, and what it was asked for.

    Attributes:
        name: Its name; empty for none.
        inbox: Where its messages arrive.
        alive_at: When it was seen last, in the seconds of ``time.monotonic``.
        received_at: When its last message came, or it was made.
        returned: How many of its messages were returned last, and may not be played yet.
    """

    def __init__(self) -> None:
        self.name = ""
        self.inbox = f"_INBOX.{secrets.token_hex(8)}"
        self.alive_at = self.received_at = time.monotonic()
        self._connection = self._requests = self._received = 0
        self._behind = self.returned = 0
        self._is_replaced = False
        self._outstanding: dict[str, int] = {}

    def begin(self, name: str, connection: int, behind: int) -> None:
        """Begin to use a new one, behind which so many messages are stored."""
        if not self._is_replaced:
            self._behind, self.returned = behind, 0
        self.name, self._connection, self._received = name, connection, 0
        self._is_replaced = False
        self._outstanding.clear()
        self.alive_at = self.received_at = time.monotonic()

    def is_usable(self, connection: int) -> bool:
        """Whether there is one that was made on a connection."""
        return bool(self.name) and self._connection == connection

    def is_current(self, connection: int) -> bool:
        """Whether what was stored while there was none has been played."""
        is_there = bool(self.name) or self._is_replaced
        return is_there and self._connection == connection and self._behind <= 0

    def played(self) -> None:
        """Record that what was returned last has been played."""
        self._behind, self.returned = self._behind - self.returned, 0

    def forget(self, *, is_replaced: bool = False) -> None:
        """Use it no more; ``is_replaced`` if nothing is wrong with it."""
        self.name, self._is_replaced = "", is_replaced

    def has_room(self, waiting: int) -> bool:
        """Whether more may be asked for, while so many messages wait."""
        outstanding = sum(self._outstanding.values())
        return _MOST_WAITING - waiting - outstanding >= _BATCH

    def next_reply(self) -> str:
        """Return where the messages of the next request are to arrive."""
        self._requests += 1
        return f"{self.inbox}.{self._requests}"

    def expect(self, reply: str) -> None:
        """Record that a request was sent."""
        if not self._outstanding:
            self.alive_at = time.monotonic()  # There were no heartbeats until now.
        self._outstanding[reply] = _BATCH

    def on_message(self, number: int) -> bool:
        """Record its next message; return whether it is that."""
        if number != self._received + 1:
            self.forget()  # It has skipped a message: another one begins there.
            return False
        self._received = number
        self.alive_at = self.received_at = time.monotonic()
        oldest = next(iter(self._outstanding), None)
        if oldest is not None:
            self._outstanding[oldest] -= 1
            if not self._outstanding[oldest]:
                del self._outstanding[oldest]
        return True

    def on_status(self, message: Message) -> bool:
        """Record a heartbeat, or the end of a request; return whether it is the latter."""
        headers = message.headers or {}
        if message.subject not in self._outstanding:
            return False
        self.alive_at = time.monotonic()
        if headers.get("Status") == "100":
            return False
        del self._outstanding[message.subject]
        if "consumer" in headers.get("Description", "").lower():
            self.forget()  # It was deleted.
        return True


class _Checkpoints:
    """Messages that were received, of the last minutes: the last one, and some before."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, str]] = deque(maxlen=_CHECKPOINTS)
        self._next_at = 0.0
        self._last: tuple[int, str] | None = None

    def add(self, sequence: int, headers: Mapping[str, str] | None, now: float) -> None:
        header = headers.get(ENTRY) if headers else None
        if header is None:
            return
        self._last = (sequence, header)
        if now >= self._next_at:
            self._kept.append(self._last)
            self._next_at = now + _CHECKPOINT_INTERVAL

    @property
    def last(self) -> tuple[int, str] | None:
        """The sequence of the last one, and its header."""
        return self._last

    def remove_last(self) -> None:
        """Remove the last one: the stream does not have it any more."""
        while self._kept and (self._last is None or self._kept[-1] >= self._last):
            self._kept.pop()
        self._last = self._kept[-1] if self._kept else None
