"""The connection to the broker: connect, publish, subscribe and request.

``Wire`` uses nats-py for one connection at a time, without its reconnects: after each
failure it makes a new client, for the next server, and subscribes again. So an error that
closes a client of nats-py for good costs one reconnect here, every server gets the
credentials, and nothing that was buffered is sent late.

What is worked around, in nats-py 2.16:

- its ``connect`` tries again for ever, also with a wrong password: each dial is one
  attempt here, and has a deadline;
- ``-ERR`` closes it for good, and ``_close`` waits for a socket that does not drain: a
  connection that failed is aborted, and reported before it is closed;
- its read loop ends at an unexpected exception, and it stays "connected";
- ``publish`` swallows cancellations where it has to wait: here it never waits;
- so does connecting: a task that was cancelled meanwhile ends afterwards;
- ``flush`` that times out cancels a future that the next PONG sets, which would end the
  read loop;
- TLS is used only if the server asks for it: a plain server is refused before credentials
  are sent, if TLS is demanded;
- its default callback logs a traceback for each failed dial: they are counted here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import msgspec

from qos_async._io.notifier import Notifier
from qos_async.jetstream.errors import (
    BrokerAuthenticationError,
    BrokerError,
    BrokerUnavailableError,
    MissingNatsError,
)
from qos_async.jetstream.places import ServerList, StreamPlace

if TYPE_CHECKING:  # An extra, which is imported when the first client is made.
    from qos_async.jetstream.nats_client import NatsClient

__all__ = ["Message", "Wire", "WireStats", "WireSubscription"]

_log = logging.getLogger("qos_async.jetstream")

_YIELD_AT = 64 * 1024  # The high-water mark of a socket: let the flusher run.
_BACKOFF = (0.05, 2.0)
_STABLE_AFTER = 1.0  # A connection that lived less counts as a failed attempt.
_CLOSE_TIMEOUT = 1.0
_REFUSED_FOR = 60.0
"""Seconds after which refused credentials are final, if they had worked before."""


class Message(Protocol):
    """A message received; of nats-py, or a test's."""

    @property
    def subject(self) -> str:
        """The subject it was published to."""
        ...

    @property
    def reply(self) -> str:
        """Where a reply is expected; empty for nowhere."""
        ...

    @property
    def data(self) -> bytes:
        """The payload."""
        ...

    @property
    def headers(self) -> Mapping[str, str] | None:
        """The headers; ``Status`` is the server's."""
        ...


class WireStats(msgspec.Struct):
    """Counters of a connection.

    Attributes:
        connects: Connections made.
        failed_dials: Attempts that failed.
        lost: Connections that ended by a failure.
        denied: Operations that the server refused for want of a permission.
        errors: Other errors that nats-py reported.
        last_error: The newest of any of these, without credentials.
    """

    connects: int = 0
    failed_dials: int = 0
    lost: int = 0
    denied: int = 0
    errors: int = 0
    last_error: str = ""


class WireSubscription:
    """A subscription, which each new connection has again.

    Attributes:
        subject: A subject, or a filter with wildcards.
        on_message: Called for each message, in order; must not raise.
        on_lost: Called when the connection is lost.
    """

    def __init__(
        self,
        subject: str,
        on_message: Callable[[Message], None],
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.subject = subject
        self.on_message = on_message
        self.on_lost = on_lost
        self.current: Any = None

    async def deliver(self, message: Message) -> None:
        """Call ``on_message``: nats-py takes coroutine functions only."""
        self.on_message(message)


class Wire:
    """The connection to a cluster, kept up until it is closed.

    Args:
        place: The servers and the credentials.
        name: A name for the connection, which the server shows.
        connect_timeout: Seconds for one attempt, at one server.
        ping_interval: Seconds between pings; a peer that is dead is noticed after three.

    Attributes:
        stats: Counters.
        changed: Notified when a connection is made or lost.
        connections: The number of connections so far: another number than before means
            that what was sent on the one before may be lost.
    """

    def __init__(
        self,
        place: StreamPlace,
        *,
        name: str = "qos-async",
        connect_timeout: float = 2.0,
        ping_interval: float = 2.0,
    ) -> None:
        self.place = place
        self.stats = WireStats()
        self.changed = Notifier()
        self._options: dict[str, Any] = {
            "name": name,
            "connect_timeout": connect_timeout,
            "ping_interval": ping_interval,
        }
        self._client: NatsClient | None = None
        self._final: BrokerError | None = None
        self._task: asyncio.Task[None] | None = None
        self._servers = ServerList(place.servers)
        self._replies = _Replies()
        self._subscriptions = [self._replies.subscription]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "connected" if self.is_connected else "not connected"
        return f"<Wire {self.place}: {state}>"

    # State

    @property
    def is_connected(self) -> bool:
        """Whether a connection is open, as far as is known."""
        return self._client is not None

    @property
    def connections(self) -> int:
        """The number of connections so far."""
        return self.stats.connects

    @property
    def server(self) -> Mapping[str, Any]:
        """What the server says of itself: ``version``, ``max_payload``, and so on."""
        return {} if self._client is None else self._client.server_info

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for the socket."""
        return 0 if self._client is None else self._client.pending_data_size

    # The four calls

    async def connect(self, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - the deadline is part of the error
        """Wait until a connection is open; attempts go on after an error of time.

        Raises:
            BrokerUnavailableError: If there is not one within ``timeout`` seconds.
            BrokerAuthenticationError: If the server refuses the credentials, or has no
                TLS that can be trusted where it is demanded.
            MissingNatsError: If nats-py is not installed.
        """
        if self._task is None and self._final is None:
            _client_class()
            self._task = asyncio.create_task(self._run(), name="qos_async broker")
        try:
            async with asyncio.timeout(timeout):
                while self._client is None:
                    self._check_usable()
                    await self.changed.wait()
        except TimeoutError:
            why = self.stats.last_error or "no reply"
            raise BrokerUnavailableError(
                f"cannot connect to the broker at {self.place} within {timeout:g} s: "
                f"{why}; check that the server runs and that its address is right"
            ) from None

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Queue a message for the socket; let other tasks run, but wait for nothing.

        Raises:
            BrokerUnavailableError: If no connection is open.
            BrokerBusyError: If too many bytes wait for the socket.
            BrokerError: If the server would close the connection because of the message.
        """
        client = self._client
        if client is not None and client.pending_data_size > _YIELD_AT:
            await asyncio.sleep(0)
            client = self._client
        if client is None:
            self._check_usable()
            raise self._unavailable()
        await client.send(subject, payload, reply, headers)

    async def subscribe(
        self,
        subject: str,
        on_message: Callable[[Message], None],
        on_lost: Callable[[], None] = lambda: None,
    ) -> WireSubscription:
        """Subscribe on this connection and on those that follow."""
        subscription = WireSubscription(subject, on_message, on_lost)
        self._subscriptions.append(subscription)
        if self._client is not None:
            await self._client.start_subscription(subscription)
        return subscription

    async def unsubscribe(self, subscription: WireSubscription) -> None:
        """End a subscription; messages under way are dropped."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            if self._client is not None:
                await self._client.end_subscription(subscription)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        timeout: float = 2.0,  # noqa: ASYNC109 - the deadline is part of the error
        headers: dict[str, str] | None = None,
    ) -> Message:
        """Return the reply to a message.

        Raises:
            BrokerUnavailableError: If none came within ``timeout`` seconds, or the
                connection was lost: the message may have arrived all the same.
            BrokerError: As for ``publish``.
        """
        denied = self.stats.denied
        try:
            async with asyncio.timeout(timeout):
                await self.connect(timeout * 2)
                with self._replies.expect() as (reply, future):
                    await self.publish(subject, payload, reply=reply, headers=headers)
                    message = await future
        except TimeoutError:
            why = "check the broker"
            if self.stats.denied > denied:
                why = f"{self.stats.last_error}; give this user the permission"
            elif self._client is None and self.stats.last_error:
                why = self.stats.last_error
            raise BrokerUnavailableError(
                f"no reply from the broker to {subject} within {timeout:g} s: {why}"
            ) from None
        if (message.headers or {}).get("Status") == "503":
            raise BrokerUnavailableError(
                f"the broker has nothing that replies to {subject}: enable JetStream, "
                "create the stream, or wait until it has a leader"
            )
        return message

    async def aclose(self) -> None:
        """Send what is queued, for a second at most, and close the connection."""
        if self._final is None:
            self._final = BrokerUnavailableError(
                "the connection to the broker is closed"
            )
        task, self._task = self._task, None
        try:
            if self._client is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CLOSE_TIMEOUT):
                        await self._client.send_all()
        finally:
            if task is not None:
                task.cancel()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(0)  # Tasks of nats-py end.
        self.changed.notify_all()

    # Supervision

    async def _run(self) -> None:
        try:
            await self._stay_connected()
        except Exception as exc:  # noqa: BLE001 - else nothing would connect again
            _log.exception("the connection to the broker cannot be kept up")
            self._final = BrokerError(f"the connection to the broker failed: {exc!r}")
            self.changed.notify_all()

    async def _stay_connected(self) -> None:
        """Connect again after each loss, until the credentials are refused."""
        backoff = _BACKOFF[0]
        refused_since: float | None = None
        while self._final is None:
            is_short = False
            try:
                client = await self._dial()
            except BrokerAuthenticationError as exc:
                now = time.monotonic()
                refused_since = refused_since or now
                if not self.stats.connects or now - refused_since >= _REFUSED_FOR:
                    self._final = exc
                    self.changed.notify_all()
                    return
            except BrokerUnavailableError:
                refused_since = None
            else:
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # nats-py has swallowed it.
                    client.discard()
                    return
                refused_since, began_at = None, time.monotonic()
                await self._use(client)
                is_short = time.monotonic() - began_at < _STABLE_AFTER
                if not is_short:
                    backoff = _BACKOFF[0]
            if is_short or not self._servers.has_untried:
                self._servers.retry_all()
                await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
                backoff = min(2 * backoff, _BACKOFF[1])

    async def _dial(self) -> NatsClient:
        """Connect to the server that failed the longest ago."""
        address = self._servers.take()
        client = _client_class()(self.place, self._on_error)
        try:
            await client.dial(address, self._options)
            for subscription in self._subscriptions:
                await client.start_subscription(subscription)
        except BaseException as exc:
            client.discard()
            if isinstance(exc, BrokerError):
                self.stats.failed_dials += 1
                self.stats.last_error = str(exc)
            raise
        self._servers.add(client.other_servers())
        return client

    async def _use(self, client: NatsClient) -> None:
        """Use a connection until it is lost or this task is cancelled."""
        self._client = client
        self.stats.connects += 1
        _log.info("connected to the broker at %s", client.address)
        self.changed.notify_all()
        try:
            reason = await client.lost
            self.stats.lost += 1
            self.stats.last_error = f"{self.place.prefix(client.address)}{reason}"
            self._servers.add(client.other_servers())
            _log.warning("lost the broker at %s: %s", client.address, reason)
        finally:
            self._client = None
            self._replies.fail_all(self._unavailable())
            for subscription in self._subscriptions:
                subscription.on_lost()
            client.discard()
            self.changed.notify_all()

    def _on_error(self, text: str, *, denied: bool) -> None:
        """Count an error that costs no connection."""
        if denied:
            self.stats.denied += 1
        else:
            self.stats.errors += 1
        self.stats.last_error = text

    def _check_usable(self) -> None:
        if self._final is not None:
            raise type(self._final)(str(self._final))

    def _unavailable(self) -> BrokerUnavailableError:
        why = f" ({self.stats.last_error})" if self.stats.last_error else ""
        return BrokerUnavailableError(
            f"no connection to the broker at {self.place}{why}"
        )


class _Replies:
    """The requests that wait for their replies, on one inbox."""

    def __init__(self) -> None:
        self._prefix = f"_INBOX.{secrets.token_hex(11)}"
        self._tokens = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self.subscription = WireSubscription(f"{self._prefix}.*", self._on_reply)

    @contextlib.contextmanager
    def expect(self) -> Generator[tuple[str, asyncio.Future[Message]]]:
        """Yield the subject for one reply, and its future."""
        token = str(next(self._tokens))
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        try:
            yield f"{self._prefix}.{token}", future
        finally:
            del self._waiting[token]

    def fail_all(self, error: BrokerError) -> None:
        """End all waits with an error."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # Retrieved: its request may have timed out.

    def _on_reply(self, message: Message) -> None:
        future = self._waiting.get(message.subject.rpartition(".")[2])
        if future is not None and not future.done():
            future.set_result(message)


def _client_class() -> type[NatsClient]:
    try:
        from qos_async.jetstream.nats_client import NatsClient  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] != "nats":
            raise
        raise MissingNatsError(
            "streams need the client library of NATS: pip install 'qos-async[nats]'"
        ) from exc
    return NatsClient
