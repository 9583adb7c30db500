"""The websocket stream: its lifetime, its subscriptions, and requests over it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from copy import copy
from functools import partial
from typing import Generic, TypeVar

import anyio

from qos_async._core.buffers import Policy
from qos_async._core.link import LinkEvent
from qos_async._core.protocol import StreamProtocol
from qos_async._core.queries import Query
from qos_async._core.recovery import Recovery
from qos_async._core.router import Router
from qos_async._core.stats import Counters
from qos_async._core.wire import FrameDecoder
from qos_async._io.clocks import SYSTEM_CLOCK, WallClock
from qos_async._io.dispatcher import Dispatcher
from qos_async._io.gap_delivery import GapDelivery
from qos_async._io.loop_binding import LoopBinding
from qos_async._io.pending import PendingReplies
from qos_async._io.states import LinkStates
from qos_async._io.stats_collector import StatsCollector
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async._io.supervisor import LinkSupervisor
from qos_async._io.transport import EndOfStream, FrameObserver, Transport
from qos_async.config import Limits, Timing
from qos_async.enums import LinkState
from qos_async.errors import (
    ClosedError,
    ConnectError,
    LimitError,
    QosError,
)
from qos_async.models import N
from qos_async.topics import Topic

__all__ = ["Stream"]

T = TypeVar("T")

_POLL_INTERVAL = 0.02
_LAST_TICK_TIMEOUT = 30.0

_log = logging.getLogger("qos_async.stream")


class Stream(Generic[N]):
    """The websocket, across all its links, and everything that uses it.

    Nothing runs before the first subscription, request or ``connect``. What ends the
    stream for good, such as a rejected key, is raised wherever a task waits, and by every
    later call.

    Args:
        transport: Dials links.
        numbers: The type of prices and sizes.
        limits: What the plan allows.
        timing: Timeouts and intervals.
        stats: Counters, shared with HTTP.
        binding: The event loop and process of the client.
        redact: Removes the key from text of the server.
        recovery: Fetches what outages missed; None: nothing is fetched.
        observer: Gets every frame and every change of the link.
        clock: Stamps ticks and gaps.
        policy: The buffer of every subscription, whatever it asks for; None: its own.
        decoder: Decodes frames; by default as the service sends them.

    Attributes:
        binding: Where the stream may be used.
        limits: What the plan allows.
        collector: Returns the statistics.
        gaps: Delivers outages, also recorded ones.
        clock: Stamps ticks and gaps.
    """

    def __init__(
        self,
        transport: Transport,
        numbers: type[N],
        *,
        limits: Limits,
        timing: Timing,
        stats: Counters,
        binding: LoopBinding,
        redact: Callable[[str], str] = str,
        recovery: Recovery[N] | None = None,
        observer: FrameObserver | None = None,
        clock: WallClock = SYSTEM_CLOCK,
        policy: Policy | None = None,
        decoder: FrameDecoder[N] | None = None,
    ) -> None:
        self.binding = binding
        self.limits = limits
        self._observer = observer
        self._policy = policy
        self._new_queue = partial(
            SubscriptionQueue, binding=binding, clock=clock, close=self.close
        )
        self._protocol = StreamProtocol(
            numbers,
            limits=limits,
            timing=timing,
            stats=stats,
            redact=redact,
            recovery=recovery,
            decoder=decoder,
        )
        self._pending = PendingReplies(self._protocol, redact)
        router: Router[SubscriptionQueue] = Router()
        self.clock = clock
        self.gaps = GapDelivery(self._protocol, router, clock, observer)
        dispatcher = Dispatcher(
            self._protocol,
            router,
            self._pending,
            self.gaps,
            silence=timing.silence,
            clock=clock,
            observer=observer,
        )
        self._supervisor = LinkSupervisor(
            transport, self._protocol, dispatcher, limits=limits, timing=timing
        )
        self._queues: dict[SubscriptionQueue, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self.collector = StatsCollector(
            self._protocol, router, self._queues, self.states, clock=self._time
        )

    @property
    def states(self) -> LinkStates:
        """The state of the link."""
        return self._supervisor.states

    # Lifetime

    async def connect(self) -> None:
        """Open the link, or raise why the first attempt failed.

        Raises:
            AuthenticationError: The key was rejected.
            ConnectError: The attempt failed; others follow in the background.
        """
        self.check_usable()
        changes = self.states.watch()  # Before anything starts: see ``_start``.
        if self._task is None:
            self._start()
        else:
            self._supervisor.dial_now.notify_all()
        failed = await self.states.wait_open(changes)
        if failed is not None and failed.state is LinkState.BACKOFF:
            raise ConnectError(failed.reason)
        if failed is not None:
            raise copy(self._error or ClosedError("the client was closed"))

    async def stop(self) -> None:
        """Close the link; loops end after what is buffered. May be called again."""
        if self._task is None:
            self._finish(None)
            return
        if self.binding.is_loop_closed:
            with contextlib.suppress(RuntimeError):  # No future of it can be set.
                self._finish(None)
            return
        self._task.cancel()
        try:
            await asyncio.wait([self._task])
        finally:  # A task that is cancelled before its first step runs no finally.
            self._finish(None)

    async def wait_drained(self) -> None:
        """After ``stop``: wait until every consumer has taken what is buffered.

        A consumer that took the last tick has ``_LAST_TICK_TIMEOUT`` seconds to come back
        for more, and so to be done with it: one that has left its loop looks like one
        that is busy. The running task is not waited for: it cannot read while it waits.
        """
        me = asyncio.current_task()
        await self._poll_until(lambda queue: queue.is_read_by(me) or not queue.buffer)
        with anyio.move_on_after(_LAST_TICK_TIMEOUT):
            await self._poll_until(
                lambda queue: queue.is_read_by(me) or not queue.is_being_read
            )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is buffered for any consumer."""
        return not any(queue.buffer for queue in self._queues)

    async def _poll_until(self, done: Callable[[SubscriptionQueue], bool]) -> None:
        # Polled: a notification of this would cost each tick its call.
        while not all(map(done, self._queues)):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_INTERVAL)

    def check_usable(self) -> None:
        """Raise what has ended the stream, if anything has."""
        if self._error is not None:
            raise copy(self._error)
        if self.states.state is LinkState.CLOSED:
            raise ClosedError("the client is closed")
        self.binding.bind()

    def _time(self) -> float:
        assert self._task is not None, "nothing was received before it started"
        return self._task.get_loop().time()

    def _start(self) -> None:
        # To be called last: where the loop starts tasks eagerly, the dial may have
        # failed, and the stream may have ended, by the time that this returns.
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name="qos_async.stream")

    async def _run(self) -> None:
        error: BaseException | None = None
        ended = ""
        try:
            await self._supervisor.run()
        except QosError as exc:
            error = exc
        except EndOfStream as exc:
            ended = str(exc)
        except Exception as exc:  # noqa: BLE001 - everything that waits must end
            _log.exception("this is a bug in qos_async; please report it")
            error = QosError(f"internal error: {exc!r}")
        finally:
            self._finish(error, ended)

    def _finish(self, error: BaseException | None, ended: str = "") -> None:
        self._error = self._error or error
        reason = (ended or "closed by the user") if error is None else str(error)
        self.states.transition(LinkEvent.STOP, reason, failed=error is not None)
        self.gaps.finish()
        for queue in self._queues:
            queue.end(error)
        self._pending.fail_all(error or ClosedError("the client was closed"))

    # Requests

    async def fetch(self, query: Query[T]) -> T:
        """Send a request over the link, or over the next one while there is no link.

        Raises:
            RejectedError: The server rejected it.
            RequestTimeoutError: No reply arrived in time.
            TransportError: The link was lost between request and reply.
            DecodeError: The reply cannot be read.
        """
        self.check_usable()
        reply = self._pending.request(query)
        self._start()
        self._supervisor.send_ready.notify_all()
        return await reply

    # Subscriptions

    def subscribe(
        self,
        topics: tuple[Topic, ...],
        policy: Policy,
        *,
        final: bool = False,
    ) -> SubscriptionQueue:
        """Subscribe to topics; ticks follow when the server agrees.

        Args:
            topics: The topics.
            policy: The buffer.
            final: Whether only finished klines are delivered.

        Raises:
            LimitError: If the plan has no room for them.
        """
        self.check_usable()
        self._check_room(topics)
        queue = self._new_queue(self._policy or policy, final=final)
        self._queues[queue] = None
        self._add(queue, topics)
        self._start()
        return queue

    def add_topics(self, queue: SubscriptionQueue, topics: tuple[Topic, ...]) -> None:
        """Subscribe ``queue`` to more topics."""
        if queue.acks.ended:
            raise queue.acks.pop_error() or ClosedError("the subscription is closed")
        self._check_room(topics)
        self._add(queue, topics)

    def _add(self, queue: SubscriptionQueue, topics: tuple[Topic, ...]) -> None:
        registry = self._protocol.registry
        added = [t for t in dict.fromkeys(topics) if t not in queue.acks.topics]
        queue.acks.add(added)
        self.gaps.add_queue(queue, added)
        registry.want(added)
        queue.ack([topic for topic in added if registry.holds(topic)])
        self._supervisor.send_ready.notify_all()

    def _check_room(self, topics: Iterable[Topic]) -> None:
        most, watched = self.limits.symbols, self._protocol.registry.symbols
        added = {topic.symbol for topic in topics}.difference(watched)
        if len(watched) + len(added) > most:
            raise LimitError(
                f"the plan allows {most} symbols on one connection: {len(watched)} are "
                f"watched, and {len(added)} would be new (see Limits(symbols=...))",
                symbols=tuple(sorted(added)),
            )

    def remove_topics(
        self, queue: SubscriptionQueue, topics: tuple[Topic, ...]
    ) -> None:
        """Unsubscribe ``queue`` from topics."""
        # It may deliver what is held back, and so close a ``Strict`` buffer.
        self.gaps.remove_queue(queue, queue.acks.topics.intersection(topics))
        removed = queue.remove(topics)
        registry = self._protocol.registry
        registry.release(removed)
        unwanted = [topic for topic in removed if not registry.wants(topic)]
        if self._observer is not None:
            self._observer.unsubscribed(unwanted)
        self._protocol.remove(unwanted)
        self.gaps.forget_ended_outages()
        self._supervisor.send_ready.notify_all()

    def enable_events(self, queue: SubscriptionQueue) -> None:
        """Queue a notice of each interruption from now on, and of those that last."""
        self.gaps.enable_events(queue)

    def close(self, queue: SubscriptionQueue) -> None:
        """Unsubscribe ``queue`` from everything; what is queued stays."""
        self.remove_topics(queue, tuple(queue.acks.topics))
        if queue in self._queues:
            del self._queues[queue]
            self._protocol.stats.dropped += queue.buffer.dropped
        queue.end()
        queue.wake()

    def close_threadsafe(self, queue: SubscriptionQueue) -> None:
        """Close ``queue`` soon, from any thread: its consumer has become garbage."""
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                self._task.get_loop().call_soon_threadsafe(self.close, queue)
