"""Everyone who reads from the one websocket, and everyone who asks over it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from copy import copy
from typing import Any, Generic, TypeVar

import anyio

from qos_async._core.buffers import Policy
from qos_async._core.events import (
    AckTimedOut,
    Confirmed,
    Failed,
    KeyRejected,
    Outcome,
    Recovered,
    Replied,
    Resumed,
    SubscriptionRejected,
)
from qos_async._core.link import LinkEvent
from qos_async._core.protocol import StreamProtocol
from qos_async._core.queries import Query
from qos_async._core.recovery import Recovery
from qos_async._core.router import Router, TopicActivity
from qos_async._core.stats import Counters
from qos_async._io.clocks import SYSTEM_CLOCK, WallClock
from qos_async._io.dispatcher import Dispatcher
from qos_async._io.loop_binding import LoopBinding
from qos_async._io.pending import PendingReplies
from qos_async._io.states import LinkStates
from qos_async._io.stats_collector import StatsCollector
from qos_async._io.subscription import Subscription
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
from qos_async.topics import Topic, in_order

__all__ = ["Stream"]

T = TypeVar("T")

_POLL_INTERVAL = 0.02
_LAST_TICK_TIMEOUT = 30.0

_log = logging.getLogger("qos_async.stream")


class Stream(Generic[N]):
    """Hands what comes over the links to its readers, and takes their wishes back.

    Nothing runs before the first subscription, request or ``connect``. What ends the
    stream for good (a refused key, say) is raised by everyone who waits, and by every
    later call.

    Attributes:
        binding: Where it may be used.
        observer: Tells how all of this stands.
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
    ) -> None:
        self.binding = binding
        self._observer = observer
        self._clock = clock
        self._limits = limits
        self._protocol = StreamProtocol(
            numbers,
            limits=limits,
            timing=timing,
            stats=stats,
            redact=redact,
            recovery=recovery,
        )
        self._supervisor = LinkSupervisor(
            transport,
            self._protocol,
            self,
            limits=limits,
            timing=timing,
            observer=observer,
        )
        self._pending = PendingReplies(self._protocol, redact)
        self._router: Router[SubscriptionQueue] = Router()
        self._dispatcher = Dispatcher(
            self._protocol,
            self._router,
            silence=timing.silence,
            close=self.close,
            notify=self._supervisor.send_ready.notify_all,
            clock=clock,
        )
        # Without a detour: they are called a lot.
        self.on_pushes = self._dispatcher.on_pushes
        self.on_time = self._dispatcher.check_suspend
        self._queues: dict[SubscriptionQueue, None] = {}
        self._task: asyncio.Task[None] | None = None
        self.collector = StatsCollector(
            self._protocol, self._router, self._queues, self.states, clock=self._time
        )
        self._error: BaseException | None = None

    @property
    def states(self) -> LinkStates:
        """Where the link is, and who wants to know."""
        return self._supervisor.states

    # Lifetime

    async def connect(self) -> None:
        """Open the link, or tell why the first attempt failed.

        Raises:
            AuthenticationError: The key was refused.
            ConnectError: The attempt failed; others follow in the background.
        """
        self._start()
        self._supervisor.dial_now.notify_all()
        changes = self.states.watch()
        try:
            while self.states.state is not LinkState.OPEN:
                change = await anext(changes)
                if change.state is LinkState.BACKOFF:
                    raise ConnectError(change.reason)
                if change.state is LinkState.CLOSED:
                    raise copy(self._error or ClosedError("the client was closed"))
        finally:
            await changes.aclose()

    async def stop(self) -> None:
        """Close the link; loops end after what is buffered. May be called again."""
        if self._task is None:
            self._finish(None)
            return
        if self.binding.is_loop_closed:
            with contextlib.suppress(RuntimeError):  # Its loop cannot be rung.
                self._finish(None)
            return
        self._task.cancel()
        try:
            await asyncio.wait([self._task])
        finally:  # A task that is cancelled before its first step does not even this.
            self._finish(None)

    async def wait_drained(self) -> None:
        """After ``stop``: wait until every reader has taken what is buffered.

        Whoever took the last tick may take ``_LAST_TICK`` seconds to come back for more,
        and so to be done with it. Who has left its loop never comes back, and cannot be
        told from one that is busy. The running task is not waited for: it cannot read
        while it waits here.
        """
        me = asyncio.current_task()
        await self._poll_until(lambda inbox: inbox.is_read_by(me) or _is_empty(inbox))
        with anyio.move_on_after(_LAST_TICK_TIMEOUT):
            await self._poll_until(
                lambda inbox: inbox.is_read_by(me) or not inbox.reading
            )

    @property
    def is_starved(self) -> bool:
        """Whether a reader waits for more, and none has anything left to take.

        And whether the server has said yes to all that they wish for.
        """
        inboxes = self._queues
        return (
            self.is_settled
            and any(inbox.is_waiting for inbox in inboxes)
            and all(inbox.is_waiting or not inbox.buffer for inbox in inboxes)
        )

    @property
    def is_settled(self) -> bool:
        """Whether the server holds exactly what is watched."""
        return self._protocol.registry.settled

    @property
    def has_subscriptions(self) -> bool:
        """Whether it holds anything."""
        return bool(self._protocol.registry.held)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is buffered for any reader."""
        return all(map(_is_empty, self._queues))

    async def _poll_until(self, done: Callable[[SubscriptionQueue], bool]) -> None:
        # Looked at now and then: a bell for this would cost each tick its ring.
        while not all(map(done, self._queues)):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_INTERVAL)

    def _check_open(self) -> None:
        if self._error is not None:
            raise copy(self._error)
        if self.states.state is LinkState.CLOSED:
            raise ClosedError("the client is closed")

    def _time(self) -> float:
        assert self._task is not None, "nothing was heard before it started"
        return self._task.get_loop().time()

    def _start(self) -> None:
        self._check_open()
        self.binding.bind()
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name="qos_async.stream")

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            await self._supervisor.run()
        except QosError as exc:
            error = exc
        except EndOfStream:
            pass
        except Exception as exc:  # noqa: BLE001 - nobody may be left waiting
            _log.exception("this is a bug in qos_async; please report it")
            error = QosError(f"internal error: {exc!r}")
        finally:
            self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        self._error = self._error or error
        reason = "closed by the user" if error is None else str(error)
        self.states.transition(LinkEvent.STOP, reason, failed=error is not None)
        self._dispatcher.finish()
        for inbox in self._queues:
            inbox.end(error)
        self._pending.fail_all(error or ClosedError("the client was closed"))

    # One-off questions

    async def fetch(self, query: Query[T]) -> T:
        """Ask over the link; wait for the next link if there is none.

        Raises:
            RejectedError: The server said no.
            RequestTimeoutError: No answer came in time.
            TransportError: The link was lost between question and answer.
            DecodeError: The answer cannot be read.
        """
        self._start()
        return await self._pending.request(
            query, self._supervisor.send_ready.notify_all
        )

    # Subscriptions

    def subscribe(
        self,
        topics: tuple[Topic, ...],
        policy: Policy,
        topics_of: Callable[..., tuple[Topic, ...]],
        *,
        final: bool = False,
    ) -> Subscription[Any]:
        """Start wanting topics; ticks follow when the server agrees.

        Raises:
            LimitError: If the plan has no room for them.
        """
        self._check_open()
        self._check_room(topics)
        self._start()
        inbox = SubscriptionQueue(policy, final=final, now=self._clock.now)
        self._queues[inbox] = None
        self.add_topics(inbox, topics)
        return Subscription(self, inbox, topics_of)

    def add_topics(self, inbox: SubscriptionQueue, topics: tuple[Topic, ...]) -> None:
        """Let ``inbox`` have more topics."""
        if inbox.ended:
            raise inbox.pop_error() or ClosedError("the subscription is closed")
        fresh = [t for t in dict.fromkeys(topics) if t not in inbox.topics]
        self._check_room(fresh)
        inbox.add(fresh)
        self._dispatcher.add_subscriber(inbox, fresh)
        for topic in fresh:
            self._router.add(topic, inbox)
        registry = self._protocol.registry
        registry.want(fresh)
        inbox.ack([topic for topic in fresh if registry.holds(topic)])
        self._supervisor.send_ready.notify_all()

    def _check_room(self, topics: Iterable[Topic]) -> None:
        most, watched = self._limits.symbols, self._protocol.registry.symbols
        fresh = {topic.symbol for topic in topics}.difference(watched)
        if len(watched) + len(fresh) > most:
            raise LimitError(
                f"the plan allows {most} symbols on one connection: {len(watched)} are "
                f"watched and these would be new: {', '.join(sorted(fresh))} "
                "(see Limits(symbols=...))",
                symbols=tuple(sorted(fresh)),
            )

    def remove_topics(
        self, inbox: SubscriptionQueue, topics: tuple[Topic, ...]
    ) -> None:
        """Take topics away from ``inbox``."""
        self._dispatcher.remove_subscriber(inbox, topics)
        gone = inbox.remove(topics)
        for topic in gone:
            self._router.remove(topic, inbox)
        registry = self._protocol.registry
        registry.release(gone)
        unwanted = [topic for topic in gone if not registry.wants(topic)]
        if self._observer is not None:
            self._observer.unsubscribed(unwanted)
        self._protocol.remove(unwanted)
        self._supervisor.send_ready.notify_all()

    def activity(self, topic: Topic) -> TopicActivity | None:
        """Tell what came of a topic; None while it is not live."""
        live = self._protocol.registry.holds(topic)
        return self._router.activity(topic) if live else None

    def close(self, inbox: SubscriptionQueue) -> None:
        """Take everything away from ``inbox``; what waits in it stays."""
        self.remove_topics(inbox, tuple(inbox.topics))
        if inbox in self._queues:
            del self._queues[inbox]
            self._protocol.stats.dropped += inbox.buffer.dropped
        inbox.end()
        inbox.arrived.notify_all()

    def close_threadsafe(self, inbox: SubscriptionQueue) -> None:
        """Close ``inbox`` soon, from any thread: its reader has become garbage."""
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                self._task.get_loop().call_soon_threadsafe(self.close, inbox)

    # What comes over the links

    def on_outcome(self, outcome: Outcome) -> None:
        """Tell those who wait for it."""
        match outcome:
            case Replied(reqid, answer) | Failed(reqid, answer):
                self._pending.resolve(reqid, answer)
            case Confirmed() | SubscriptionRejected() | AckTimedOut():
                self._on_ack(outcome)
            case Resumed(topics):
                self._dispatcher.on_resubscribed(in_order(topics), None)
            case Recovered(healings):
                for healing in healings:
                    self._dispatcher.finish_recovery(healing)
            case KeyRejected(error):
                raise error
            case _:
                raise AssertionError(f"{outcome} is none of the stream's business")

    def _on_ack(self, outcome: Confirmed | SubscriptionRejected | AckTimedOut) -> None:
        topics, ordered = outcome.topics, in_order(outcome.topics)
        if isinstance(outcome, Confirmed):
            if self._observer is not None:
                self._observer.subscribed(topics)
            self._dispatcher.on_resubscribed(ordered, outcome.second)
        for inbox in self._subscribers_of(ordered):
            match outcome:
                case Confirmed():
                    inbox.ack(topics)
                case SubscriptionRejected(_, message):
                    self._on_rejected(inbox, topics, message)
                case AckTimedOut():
                    inbox.ack_timed_out(topics)
        if isinstance(outcome, AckTimedOut):
            names = ", ".join(map(str, ordered))
            _log.warning("no answer to the subscription of %s; asking again", names)

    def _subscribers_of(self, topics: Iterable[Topic]) -> dict[SubscriptionQueue, None]:
        return dict.fromkeys(
            inbox for topic in topics for inbox in self._router.of(topic).subscribers
        )

    def _on_rejected(
        self, inbox: SubscriptionQueue, topics: Iterable[Topic], message: str
    ) -> None:
        for topic in inbox.topics.intersection(topics):
            self._router.remove(topic, inbox)
        inbox.reject(topics, message)
        if not inbox.topics:
            self.close(inbox)  # Nothing can ever come: a loop must not wait for it.


def _is_empty(inbox: SubscriptionQueue) -> bool:
    return not inbox.buffer
