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
from qos_async._core.counters import Counters
from qos_async._core.events import (
    Confirmed,
    Declined,
    Expelled,
    Failed,
    Healed,
    Outcome,
    Replied,
    Resumed,
    Unconfirmed,
)
from qos_async._core.link import LinkEvent
from qos_async._core.queries import Query
from qos_async._core.recovery import Recovery
from qos_async._core.routes import Heard, Routes
from qos_async._core.session import Session
from qos_async._core.topics import Topic, in_order
from qos_async._io.delivery import Delivery
from qos_async._io.home import Home
from qos_async._io.inbox import Inbox
from qos_async._io.links import Links
from qos_async._io.observer import Observer
from qos_async._io.questions import Questions
from qos_async._io.sockets import Ended, Transport
from qos_async._io.states import LinkStates
from qos_async._io.subscription import Subscription
from qos_async._io.tap import Tap
from qos_async._io.wall import CALENDAR, Wall
from qos_async.config import Limits, Timing
from qos_async.enums import LinkState
from qos_async.errors import (
    ClosedError,
    ConnectError,
    LimitError,
    QosError,
)
from qos_async.models import N

__all__ = ["Stream"]

T = TypeVar("T")

_GLANCE = 0.02
_LAST_TICK = 30.0

_log = logging.getLogger("qos_async.stream")


class Stream(Generic[N]):
    """Hands what comes over the links to its readers, and takes their wishes back.

    Nothing runs before the first subscription, request or ``connect``. What ends the
    stream for good (a refused key, say) is raised by everyone who waits, and by every
    later call.

    Attributes:
        home: Where it may be used.
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
        home: Home,
        redact: Callable[[str], str] = str,
        recovery: Recovery[N] | None = None,
        tap: Tap | None = None,
        wall: Wall = CALENDAR,
    ) -> None:
        self.home = home
        self._tap = tap
        self._wall = wall
        self._limits = limits
        self._session = Session(
            numbers,
            limits=limits,
            timing=timing,
            stats=stats,
            redact=redact,
            recovery=recovery,
        )
        self._links = Links(
            transport, self._session, self, limits=limits, timing=timing, tap=tap
        )
        self._questions = Questions(self._session, redact)
        self._routes: Routes[Inbox] = Routes()
        self._delivery = Delivery(
            self._session,
            self._routes,
            silence=timing.silence,
            close=self.close,
            ring=self._links.work.ring,
            wall=wall,
        )
        # Without a detour: they are called a lot.
        self.on_pushes = self._delivery.on_pushes
        self.on_time = self._delivery.on_time
        self._inboxes: dict[Inbox, None] = {}
        self._root: asyncio.Task[None] | None = None
        self.observer = Observer(
            self._session, self._routes, self._inboxes, self.states, clock=self._time
        )
        self._error: BaseException | None = None

    @property
    def states(self) -> LinkStates:
        """Where the link is, and who wants to know."""
        return self._links.states

    # Lifetime

    async def connect(self) -> None:
        """Open the link, or tell why the first attempt failed.

        Raises:
            AuthenticationError: The key was refused.
            ConnectError: The attempt failed; others follow in the background.
        """
        self._start()
        self._links.hurry.ring()
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
        if self._root is None:
            self._finish(None)
            return
        if self.home.is_gone:
            with contextlib.suppress(RuntimeError):  # Its loop cannot be rung.
                self._finish(None)
            return
        self._root.cancel()
        try:
            await asyncio.wait([self._root])
        finally:  # A task that is cancelled before its first step does not even this.
            self._finish(None)

    async def drained(self) -> None:
        """After ``stop``: wait until every reader has taken what is buffered.

        Whoever took the last tick may take ``_LAST_TICK`` seconds to come back for more,
        and so to be done with it. Who has left its loop never comes back, and cannot be
        told from one that is busy. The running task is not waited for: it cannot read
        while it waits here.
        """
        me = asyncio.current_task()
        await self._until(lambda inbox: inbox.is_read_by(me) or _is_empty(inbox))
        with anyio.move_on_after(_LAST_TICK):
            await self._until(lambda inbox: inbox.is_read_by(me) or not inbox.reading)

    @property
    def is_thirsty(self) -> bool:
        """Whether a reader waits for more, and none has anything left to take.

        And whether the server has said yes to all that they wish for.
        """
        inboxes = self._inboxes
        return (
            self.is_settled
            and any(inbox.is_waiting for inbox in inboxes)
            and all(inbox.is_waiting or not inbox.buffer for inbox in inboxes)
        )

    @property
    def is_settled(self) -> bool:
        """Whether the server holds exactly what is watched."""
        return self._session.registry.settled

    @property
    def is_watched(self) -> bool:
        """Whether it holds anything."""
        return bool(self._session.registry.held)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is buffered for any reader."""
        return all(map(_is_empty, self._inboxes))

    async def _until(self, done: Callable[[Inbox], bool]) -> None:
        # Looked at now and then: a bell for this would cost each tick its ring.
        while not all(map(done, self._inboxes)):  # noqa: ASYNC110
            await asyncio.sleep(_GLANCE)

    def _check_open(self) -> None:
        if self._error is not None:
            raise copy(self._error)
        if self.states.state is LinkState.CLOSED:
            raise ClosedError("the client is closed")

    def _time(self) -> float:
        assert self._root is not None, "nothing was heard before it started"
        return self._root.get_loop().time()

    def _start(self) -> None:
        self._check_open()
        self.home.claim()
        if self._root is None:
            loop = asyncio.get_running_loop()
            self._root = loop.create_task(self._run(), name="qos_async.stream")

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            await self._links.run()
        except QosError as exc:
            error = exc
        except Ended:
            pass
        except Exception as exc:  # noqa: BLE001 - nobody may be left waiting
            _log.exception("this is a bug in qos_async; please report it")
            error = QosError(f"internal error: {exc!r}")
        finally:
            self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        self._error = self._error or error
        reason = "closed by the user" if error is None else str(error)
        self.states.move(LinkEvent.STOP, reason, failed=error is not None)
        self._delivery.finish()
        for inbox in self._inboxes:
            inbox.end(error)
        self._questions.fail_all(error or ClosedError("the client was closed"))

    # One-off questions

    async def ask(self, query: Query[T]) -> T:
        """Ask over the link; wait for the next link if there is none.

        Raises:
            RejectedError: The server said no.
            RequestTimeoutError: No answer came in time.
            TransportError: The link was lost between question and answer.
            DecodeError: The answer cannot be read.
        """
        self._start()
        return await self._questions.ask(query, self._links.work.ring)

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
        inbox = Inbox(policy, final=final, now=self._wall.now)
        self._inboxes[inbox] = None
        self.extend(inbox, topics)
        return Subscription(self, inbox, topics_of)

    def extend(self, inbox: Inbox, topics: tuple[Topic, ...]) -> None:
        """Let ``inbox`` have more topics."""
        if inbox.ended:
            raise inbox.take_error() or ClosedError("the subscription is closed")
        fresh = [t for t in dict.fromkeys(topics) if t not in inbox.topics]
        self._check_room(fresh)
        inbox.want(fresh)
        self._delivery.join(inbox, fresh)
        for topic in fresh:
            self._routes.add(topic, inbox)
        registry = self._session.registry
        registry.want(fresh)
        inbox.confirm([topic for topic in fresh if registry.holds(topic)])
        self._links.work.ring()

    def _check_room(self, topics: Iterable[Topic]) -> None:
        most, watched = self._limits.symbols, self._session.registry.symbols
        fresh = {topic.symbol for topic in topics}.difference(watched)
        if len(watched) + len(fresh) > most:
            raise LimitError(
                f"the plan allows {most} symbols on one connection: {len(watched)} are "
                f"watched and these would be new: {', '.join(sorted(fresh))} "
                "(see Limits(symbols=...))",
                symbols=tuple(sorted(fresh)),
            )

    def withdraw(self, inbox: Inbox, topics: tuple[Topic, ...]) -> None:
        """Take topics away from ``inbox``."""
        self._delivery.part(inbox, topics)
        gone = inbox.forget(topics)
        for topic in gone:
            self._routes.remove(topic, inbox)
        registry = self._session.registry
        registry.release(gone)
        unwanted = [topic for topic in gone if not registry.wants(topic)]
        if self._tap is not None:
            self._tap.unsubscribed(unwanted)
        self._session.abandon(unwanted)
        self._links.work.ring()

    def heard(self, topic: Topic) -> Heard | None:
        """Tell what came of a topic; None while it is not live."""
        live = self._session.registry.holds(topic)
        return self._routes.heard(topic) if live else None

    def close(self, inbox: Inbox) -> None:
        """Take everything away from ``inbox``; what waits in it stays."""
        self.withdraw(inbox, tuple(inbox.topics))
        if inbox in self._inboxes:
            del self._inboxes[inbox]
            self._session.stats.dropped += inbox.buffer.dropped
        inbox.end()
        inbox.arrived.ring()

    def abandon(self, inbox: Inbox) -> None:
        """Close ``inbox`` soon, from any thread: its reader has become garbage."""
        if self._root is not None:
            with contextlib.suppress(RuntimeError):  # The loop may be closed by now.
                self._root.get_loop().call_soon_threadsafe(self.close, inbox)

    # What comes over the links

    def on_outcome(self, outcome: Outcome) -> None:
        """Tell those who wait for it."""
        match outcome:
            case Replied(reqid, answer) | Failed(reqid, answer):
                self._questions.settle(reqid, answer)
            case Confirmed() | Declined() | Unconfirmed():
                self._on_decision(outcome)
            case Resumed(topics):
                self._delivery.restored(in_order(topics), None)
            case Healed(healings):
                for healing in healings:
                    self._delivery.heal(healing)
            case Expelled(error):
                raise error
            case _:
                raise AssertionError(f"{outcome} is none of the stream's business")

    def _on_decision(self, outcome: Confirmed | Declined | Unconfirmed) -> None:
        topics, ordered = outcome.topics, in_order(outcome.topics)
        if isinstance(outcome, Confirmed):
            if self._tap is not None:
                self._tap.subscribed(topics)
            self._delivery.restored(ordered, outcome.second)
        for inbox in self._watching(ordered):
            match outcome:
                case Confirmed():
                    inbox.confirm(topics)
                case Declined(_, message):
                    self._refuse(inbox, topics, message)
                case Unconfirmed():
                    inbox.unanswered(topics)
        if isinstance(outcome, Unconfirmed):
            names = ", ".join(map(str, ordered))
            _log.warning("no answer to the subscription of %s; asking again", names)

    def _watching(self, topics: Iterable[Topic]) -> dict[Inbox, None]:
        return dict.fromkeys(
            inbox for topic in topics for inbox in self._routes.of(topic).watchers
        )

    def _refuse(self, inbox: Inbox, topics: Iterable[Topic], message: str) -> None:
        for topic in inbox.topics.intersection(topics):
            self._routes.remove(topic, inbox)
        inbox.decline(topics, message)
        if not inbox.topics:
            self.close(inbox)  # Nothing can ever come: a loop must not wait for it.


def _is_empty(inbox: Inbox) -> bool:
    return not inbox.buffer
