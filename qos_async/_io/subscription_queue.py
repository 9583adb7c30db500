"""Subscription queues: the stream's end of each subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any
from weakref import ReferenceType, ref

from qos_async._core.buffers import Buffer, KlineFinalizer, Policy
from qos_async._core.notices import Gap, Interrupted, Rejected
from qos_async._core.sanitize import error_from_message
from qos_async._core.wire import LETTERS
from qos_async._event_loop import running_loop
from qos_async._io.clocks import WallClock
from qos_async._io.loop_binding import LoopBinding
from qos_async._io.notifier import Notifier
from qos_async.errors import ClosedError, LaggedError, QosError, RequestTimeoutError
from qos_async.stats import SubscriptionStats
from qos_async.topics import Topic, in_order

__all__ = ["AckTracker", "SubscriptionQueue"]


class AckTracker:
    """Tracks what the server has decided on the topics of one subscription.

    A rejection is raised once: to the task that waits for the decision on its topic, else
    to the consumer. What ended the subscription is raised each time.

    Attributes:
        topics: What is subscribed, rejected topics excepted.
        unacked: Those of ``topics`` on which the server has not decided.
        ended: Whether the subscription has ended.
        end_seen: Whether the consumer has seen the end.
    """

    def __init__(self) -> None:
        self.topics: set[Topic] = set()
        self.unacked: set[Topic] = set()
        self.ended = False
        self.end_seen = False
        self._error: BaseException | None = None
        # Until all topics are decided; then they are one error.
        self._rejected: dict[Topic, str] = {}
        self._claimed: set[Topic] = set()
        self._rejection: QosError | None = None
        self._waiters: list[_AckWaiter] = []
        self._decided = Notifier()

    @property
    def has_unclaimed_rejection(self) -> bool:
        """Whether a rejection is left to raise that no task waited for."""
        return self._rejection is not None

    def add(self, topics: Iterable[Topic]) -> None:
        """Add topics; the server has not decided on them."""
        self.topics.update(topics)
        self.unacked.update(topics)

    def remove(self, topics: set[Topic]) -> None:
        """Remove topics."""
        self.topics -= topics
        self.ack(topics)

    def ack(self, topics: Iterable[Topic]) -> None:
        """Record that the server has acknowledged topics."""
        self.unacked.difference_update(topics)
        if not self.unacked and not self.ended:
            self._all_decided()
        if self._waiters:
            self._decided.notify_all()

    def reject(self, topics: set[Topic], message: str) -> None:
        """Record that the server has rejected topics for good."""
        rejected = dict.fromkeys(topics, message)
        self._rejected.update(rejected)
        for waiter in self._waiters:
            if claimed := topics & waiter.topics:
                waiter.rejected.update(dict.fromkeys(claimed, message))
                self._claimed |= claimed
        self.remove(topics)

    def ack_timed_out(self, topics: Iterable[Topic]) -> None:
        """Record that the server did not reply in time; the stream subscribes again.

        Only tasks that wait for the decision learn it: a loop goes on waiting for ticks.
        """
        for waiter in self._waiters:
            waiter.timed_out |= waiter.topics & self.unacked.intersection(topics)
        self._decided.notify_all()

    def end(self, error: BaseException | None) -> None:
        """End the subscription; ``error`` says why if it failed."""
        self.ended = True
        self._error = error
        self._decided.notify_all()

    def pop_error(self) -> BaseException | None:
        """Return the error to raise, if any."""
        rejection = self.pop_rejection()
        return rejection or (None if self._error is None else copy(self._error))

    def pop_rejection(self) -> QosError | None:
        """Return the rejection that is left to raise, if any."""
        rejection, self._rejection = self._rejection, None
        return rejection

    async def wait(self, topics: Iterable[Topic] | None = None) -> None:
        """Wait until the server has decided on topics; None: on all.

        Raises:
            RejectedError: The server rejected some of them.
            RequestTimeoutError: It did not reply in time.
            ClosedError: The subscription was closed.
        """
        if topics is None and (error := self.pop_error()) is not None:
            raise error
        waiter = _AckWaiter(self.topics if topics is None else topics)
        self._waiters.append(waiter)
        try:
            while not self.ended:
                if waiter.timed_out:
                    names = ", ".join(map(str, sorted(waiter.timed_out)))
                    raise RequestTimeoutError(
                        f"no reply to the subscription of {names}"
                    )
                if not waiter.topics & self.unacked:
                    break
                await self._decided.wait()
            error = waiter.pop_error() or (self.pop_error() if self.ended else None)
            if error is not None:
                raise error
            if self.ended:
                raise ClosedError("the subscription was closed")
        finally:
            self._waiters.remove(waiter)
            self._return_claims(waiter)

    def _return_claims(self, waiter: _AckWaiter) -> None:
        # It was cancelled, or timed out, before it raised them.
        self._rejected.update(waiter.rejected)
        self._claimed.difference_update(waiter.rejected)
        if waiter.rejected and not self.unacked and not self.ended:
            self._all_decided()

    def _all_decided(self) -> None:
        rejected, self._rejected = self._rejected, {}
        claimed, self._claimed = self._claimed, set()
        if rejected and not self.topics:
            self.end(_rejection_error(rejected))
            return
        unclaimed = {topic: rejected[topic] for topic in rejected.keys() - claimed}
        if unclaimed:
            self._rejection = _rejection_error(unclaimed)


class _AckWaiter:
    """What a task waits for, and what was decided meanwhile."""

    def __init__(self, topics: Iterable[Topic]) -> None:
        self.topics = frozenset(topics)
        self.rejected: dict[Topic, str] = {}
        self.timed_out: set[Topic] = set()

    def pop_error(self) -> QosError | None:
        rejected, self.rejected = self.rejected, {}
        return _rejection_error(rejected) if rejected else None


def _rejection_error(rejected: dict[Topic, str]) -> QosError:
    first = min(rejected)
    return error_from_message(
        rejected[first],
        operation="/".join(LETTERS[c] for c in sorted({t.channel for t in rejected})),
        symbols=tuple(sorted({topic.symbol for topic in rejected})),
    )


class GapState:
    """Tracks which topics of one subscription are live, interrupted or in recovery.

    Attributes:
        live: Topics that have been live, so that an outage is a gap.
        interrupted: Those of ``live`` whose gap has not been emitted yet.
        skip_held: By topic, the ids of ticks that recovery held back before the topic was
            added: they are not this subscription's.
        wants_events: Whether notices of interruptions are read.
        gaps: Gaps emitted.
        recovered: Ticks that were fetched after an outage.
    """

    __slots__ = (
        "gaps",
        "interrupted",
        "live",
        "recovered",
        "skip_held",
        "wants_events",
    )

    def __init__(self) -> None:
        self.live: set[Topic] = set()
        self.interrupted: set[Topic] = set()
        self.skip_held: dict[Topic, frozenset[int]] = {}
        self.wants_events = False
        self.gaps = 0
        self.recovered = 0

    def remove(self, topics: set[Topic]) -> None:
        """Forget topics."""
        self.live -= topics
        self.interrupted -= topics


class SubscriptionQueue:
    """Queues ticks and notices for one consumer, which may be waiting, slow or gone.

    It holds no reference to its ``Subscription``, so that one can become garbage: then
    the stream unsubscribes.

    Args:
        policy: The buffer.
        final: Whether only finished klines are delivered.
        binding: Where ``wait`` may be called.
        clock: Times notices, and the lag.
        close: Called with the queue when it has ended by itself: the buffer may drop
            nothing and is full, or the server has rejected every topic.

    Attributes:
        buffer: The ticks and notices that wait.
        pending: Empty while no tick waits; see ``Buffer.pending``.
        acks: What the server has decided on the topics.
        clock: As passed.
        gaps: Which topics are live or interrupted.
        batch: Ticks of the current burst, until they are put.
        needs_check: Whether a consumer must call ``wait`` before it takes a tick: there
            is a rejection to raise, or another task waits.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        final: bool,
        binding: LoopBinding,
        clock: WallClock,
        close: Callable[[SubscriptionQueue], None],
    ) -> None:
        self.buffer: Buffer[Any] = policy.open()
        self.pending = self.buffer.pending
        self.acks = AckTracker()
        self.gaps = GapState()
        self.batch: list[Any] = []
        self.needs_check = False
        self._binding = binding
        self.clock = clock
        self._close = close
        self._finalizer = KlineFinalizer() if final else None
        self._consumer: ReferenceType[asyncio.Task[Any]] | None = None
        self._is_abandoned = False
        self._waiter: asyncio.Future[None] | None = None
        self._wanted = 1

    # The stream's side

    def put(self, ticks: Sequence[Any]) -> None:
        """Queue ticks; never waits."""
        if self._finalizer is not None:
            ticks = self._finalizer.push(ticks)
        try:
            self.buffer.put(ticks)
        except LaggedError as exc:
            self.end(exc)
            self._close(self)
        waiter = self._waiter  # As ``wake``, without its call: once a burst.
        if (
            waiter is not None
            and len(self.pending) >= self._wanted
            and not waiter.done()
        ):
            waiter.set_result(None)

    def interrupt(self, topic: Topic) -> bool:
        """Record an outage of a topic: if it has been live, its gap will follow.

        Returns:
            Whether a notice of it must be queued.
        """
        state = self.gaps
        if topic not in state.live or topic in state.interrupted:
            return False
        state.interrupted.add(topic)
        return state.wants_events

    def put_interrupted(self, notice: Interrupted) -> None:
        """Queue the notice of an interruption."""
        self.buffer.put_notice(notice)
        self.wake()

    def put_gap(self, gap: Gap, fetched: int) -> None:
        """Queue a gap; the recovered ticks follow."""
        if gap.status != "filled":
            self.discard_open_klines([gap.topic])
        self.gaps.gaps += 1
        self.gaps.recovered += fetched
        self.gaps.interrupted.discard(gap.topic)
        self.buffer.put_notice(gap)
        self.wake()

    def discard_open_klines(self, topics: Iterable[Topic]) -> None:
        """Discard unfinished klines whose end may have been missed."""
        if self._finalizer is not None:
            for topic in topics:
                self._finalizer.discard(topic.symbol, topic.interval or 0)

    def remove(self, topics: Iterable[Topic]) -> set[Topic]:
        """Remove topics; return those of them that there were."""
        removed = self.acks.topics.intersection(topics)
        ended = self.acks.ended
        self.discard_open_klines(removed)
        self.gaps.remove(removed)
        self.acks.remove(removed)
        self._check_acks()
        if self.acks.ended and not ended:
            self._close(self)  # Only rejected topics were left.
        return removed

    def ack(self, topics: Iterable[Topic]) -> None:
        """Record that the server has acknowledged topics."""
        self.gaps.live.update(self.acks.topics.intersection(topics))
        self.acks.ack(topics)
        self._check_acks()

    def reject(self, topics: Iterable[Topic], message: str) -> None:
        """Record that the server has rejected topics for good."""
        rejected = self.acks.topics.intersection(topics)
        for topic in in_order(rejected):
            self.buffer.put_notice(Rejected(topic, message))
        self.gaps.remove(rejected)
        self.acks.reject(rejected, message)
        self._check_acks()
        self.wake()
        if not self.acks.topics:
            self._close(self)

    def end(self, error: BaseException | None = None) -> None:
        """End the subscription; what is queued can still be read."""
        if not self.acks.ended:
            self.acks.end(error)
            self.wake()

    def wake(self) -> None:
        """Wake the consumer, if it waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_acks(self) -> None:
        if self.acks.ended or self.acks.has_unclaimed_rejection:
            self.needs_check = self.needs_check or self.acks.has_unclaimed_rejection
            self.wake()

    # The consumer's side

    async def wait(self, wanted: int = 1, *, events: bool = False) -> None:
        """Wait until something may have been queued.

        Args:
            wanted: How many ticks must wait; a notice or the end wakes at once.
            events: Whether the consumer reads notices: a rejection is one of them, and
                not raised.

        Raises:
            StopAsyncIteration: The subscription has ended.
            RuntimeError: Another task waits, or this is another event loop.
            QosError: The subscription has failed, or topics were rejected.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = running_loop()  # Raises a better one.
        if loop is not self._binding.loop:
            self._binding.check()
        taken = self._waiter is not None and not self._waiter.cancelled()
        if self.needs_check or self.acks.ended:
            if events:
                self.acks.pop_rejection()  # It is one of the notices.
            ready = self.buffer.has_event if events else bool(self.pending)
            if ready and not taken and not self.acks.has_unclaimed_rejection:
                self.needs_check = False
                return
            self._raise_if_ended()
        if taken:
            raise RuntimeError(
                "a subscription has one consumer at a time: make a second "
                "subscription, it costs nothing on the wire"
            )
        self._waiter = waiter = loop.create_future()
        self._wanted = wanted
        self.needs_check = True
        self._set_consumer()
        try:
            await waiter
        finally:
            if self._waiter is waiter:
                self._waiter = None
                self.needs_check = self.acks.has_unclaimed_rejection

    def stop_reading(self, *, waiting: bool) -> None:
        """Record that the consumer is gone, and end its wait if it waits."""
        if waiting:
            self.wake()
            self._waiter = None
            self.needs_check = self.acks.has_unclaimed_rejection
        self._consumer = None
        self._is_abandoned = True

    def _raise_if_ended(self) -> None:
        error = self.acks.pop_error()
        self.needs_check = self._waiter is not None
        if self.acks.ended:
            self.acks.end_seen = True
            self.wake()
            raise StopAsyncIteration if error is None else error
        if error is not None:
            raise error

    async def wait_acked(self, topics: Iterable[Topic] | None = None) -> None:
        """Wait until the server has decided on topics; see ``AckTracker.wait``."""
        try:
            await self.acks.wait(topics)
        finally:
            self._check_acks()

    def begin_reading(self) -> None:
        """Record that the running task is the consumer.

        Raises:
            RuntimeError: In another event loop or process.
        """
        self._binding.check()
        self._set_consumer()

    def _set_consumer(self) -> None:
        self._is_abandoned = False
        try:
            task = asyncio.current_task()
        except RuntimeError:
            running_loop()  # Raises a better one.
            raise
        self._consumer = None if task is None else ref(task)

    def is_read_by(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether ``task`` was the last that began to read, or to wait."""
        return self._consumer is not None and self._consumer() is task

    @property
    def is_waiting(self) -> bool:
        """Whether the consumer waits."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def is_being_read(self) -> bool:
        """Whether a consumer has taken something, and has not ended."""
        if self._is_abandoned or self.acks.end_seen:
            return False
        return self.buffer.received > self.buffer.dropped

    # Statistics

    @property
    def label(self) -> str:
        """The first topics, as text."""
        topics = sorted(map(str, self.acks.topics))
        shown = ", ".join(topics[:3]) + (", …" if len(topics) > 3 else "")  # noqa: PLR2004
        return shown or "of nothing"

    @property
    def stats(self) -> SubscriptionStats:
        """The counters up to now."""
        buffer, backlog = self.buffer, len(self.buffer)
        oldest = buffer.oldest_received_at
        return SubscriptionStats(
            received=buffer.received,
            delivered=buffer.received - buffer.dropped - backlog,
            dropped=buffer.dropped,
            recovered=self.gaps.recovered,
            unfinished=0 if self._finalizer is None else self._finalizer.skipped,
            gaps=self.gaps.gaps,
            backlog=backlog,
            # The wall clock may be set back meanwhile.
            lag=max((self.clock.now() - oldest) / 1e9, 0.0) if oldest else 0.0,
        )
