"""The stream's end of one subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any
from weakref import ReferenceType, ref

from qos_async._core.buffers import Buffer, KlineFinalizer, Policy
from qos_async._core.recovery.gaps import Gap
from qos_async._core.sanitize import error_from_message
from qos_async._core.wire import LETTERS
from qos_async._io.clocks import SYSTEM_CLOCK
from qos_async._io.notifier import Notifier
from qos_async.errors import QosError, RequestTimeoutError
from qos_async.stats import SubscriptionStats
from qos_async.topics import Topic

__all__ = ["SubscriptionQueue"]


class SubscriptionQueue:
    """Takes ticks and notices in for one reader, who may be asleep, slow or gone.

    It does not know its ``Subscription``: so that one can be garbage, and the stream
    notices.

    Attributes:
        buffer: Where ticks wait.
        batch: What came for this reader in a burst, until it is delivered.
        topics: What is subscribed, refused topics excepted.
        pending: Those of ``topics`` that the server has not decided yet.
        live: Those of ``topics`` that have been live, so that an outage is a gap.
        skip_held: Ticks, by their ids, that were held back when it joined their topic, so
            that they are none of its own.
        interrupted: Those that were live before an outage that was not told of yet.
        arrived: Rings when there is something to read, or nothing more to come.
        decided: Rings when the server has decided on topics.
        ended: Whether nothing more will come.
        needs_check: Whether a reader must look before it takes: there is a refusal to hear
            of, or another reader.
        end_seen: Whether the reader has seen that.
        gaps: Topics times outages.
        recovered: Ticks that were fetched after an outage.
        unfinished: Klines that were not for the reader, who wants finished ones.
    """

    def __init__(
        self, policy: Policy, *, final: bool, now: Callable[[], int] = SYSTEM_CLOCK.now
    ) -> None:
        self.buffer: Buffer[Any] = policy.open()
        self._pending_ticks = self.buffer.pending
        self.batch: list[Any] = []
        self.topics: set[Topic] = set()
        self.unacked: set[Topic] = set()
        self.live: set[Topic] = set()
        self.interrupted: set[Topic] = set()
        self.skip_held: dict[Topic, frozenset[int]] = {}
        self.arrived = Notifier()
        self.acked = Notifier()
        self.ended = False
        self.needs_check = False
        self.end_seen = False
        self.gaps = 0
        self.recovered = 0
        self.unfinished = 0
        self._reader: ReferenceType[asyncio.Task[Any]] | None = None
        self._waiting = False
        self._wanted = 1
        self._ack_waiters = 0
        self._rejection: QosError | None = None
        self._ack_timeout: QosError | None = None
        self._rejected: dict[Topic, str] = {}
        self._error: BaseException | None = None
        self._finalizer = KlineFinalizer() if final else None
        self._now = now

    def put(self, tick: Any) -> None:
        """Take in one tick; never waits.

        Raises:
            LaggedError: If the buffer is full and may not lose anything.
        """
        if self._finalizer is not None:
            tick = self._finalizer.push(tick)
            if tick is None:
                self.unfinished += 1
                return
        self.buffer.put(tick)
        if len(self.buffer) >= self._wanted:
            self.arrived.notify_all()

    def put_all(self, ticks: Sequence[Any]) -> None:
        """Take in what came together, as if tick by tick.

        Raises:
            LaggedError: As for ``deliver``.
        """
        if self._finalizer is None:
            self.buffer.put_all(ticks)
            if len(self._pending_ticks) >= self._wanted:
                self.arrived.notify_all()
        else:
            for tick in ticks:
                self.put(tick)

    def put_gap(self, gap: Gap, fetched: int) -> None:
        """Take in a notice; the ticks that it promises follow."""
        if gap.status != "filled":
            self.discard_open_klines([gap.topic])
        self.gaps += 1
        self.recovered += fetched
        self.interrupted.discard(gap.topic)
        self.buffer.put_gap(gap)
        self.arrived.notify_all()

    def discard_open_klines(self, topics: Iterable[Topic]) -> None:
        """Forget the klines that nobody saw to their end."""
        if self._finalizer is not None:
            for topic in topics:
                self._finalizer.forget(topic.symbol, topic.interval or 0)

    @property
    def label(self) -> str:
        """What it is of, in a few words."""
        topics = sorted(str(topic) for topic in self.topics)
        shown = ", ".join(topics[:3]) + (", …" if len(topics) > 3 else "")  # noqa: PLR2004
        return shown or "of nothing"

    @property
    def stats(self) -> SubscriptionStats:
        """Counters up to now."""
        buffer, backlog = self.buffer, len(self.buffer)
        waits = (
            (self._now() - buffer.oldest_received_at) / 1e9
            if buffer.oldest_received_at
            else 0.0
        )
        return SubscriptionStats(
            received=buffer.received,
            delivered=buffer.received - buffer.dropped - backlog,
            dropped=buffer.dropped,
            recovered=self.recovered,
            unfinished=self.unfinished,
            gaps=self.gaps,
            backlog=backlog,
            lag=max(waits, 0.0),  # The calendar may be set back meanwhile.
        )

    def begin_gap(self, topic: Topic) -> None:
        """There was an outage; it concerns the reader if the topic was live before."""
        if topic in self.live:
            self.interrupted.add(topic)

    @property
    def reading(self) -> bool:
        """Whether a reader has taken something and has not come to the end."""
        return self.buffer.received > self.buffer.dropped and not self.end_seen

    @property
    def is_waiting(self) -> bool:
        """Whether the reader sleeps until more comes."""
        return self._waiting

    def begin_reading(self) -> None:
        """Note who reads: the running task."""
        task = asyncio.current_task()
        self._reader = None if task is None else ref(task)

    def is_read_by(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether ``task`` was the last that began to read, or to wait."""
        return self._reader is not None and self._reader() is task

    async def wait(self, wanted: int = 1) -> None:
        """Let the one reader sleep until something comes.

        Args:
            wanted: How many ticks have to wait; a notice or the end wakes at once.

        Raises:
            RuntimeError: If there is another.
        """
        if self._waiting:
            raise RuntimeError(
                "a subscription feeds one reader at a time: make a second one, "
                "it costs nothing on the wire"
            )
        self._waiting = self.needs_check = True
        self._wanted = wanted
        self.begin_reading()
        try:
            await self.arrived.wait()
        finally:
            self._waiting = False
            self._wanted = 1
            self.needs_check = self._rejection is not None and not self._ack_waiters

    @contextmanager
    def awaiting_ack(self) -> Generator[None]:
        """While somebody waits for the server's decision, refusals are for them."""
        self._ack_waiters += 1
        try:
            yield
        finally:
            self._ack_waiters -= 1
            self._signal_rejection()

    def _signal_rejection(self) -> None:
        if self._rejection is not None and not self._ack_waiters:
            self.needs_check = True
            self.arrived.notify_all()

    def add(self, topics: Iterable[Topic]) -> None:
        """Have more topics; the server has not decided on them."""
        for topic in topics:
            self.topics.add(topic)
            self.unacked.add(topic)

    def remove(self, topics: Iterable[Topic]) -> set[Topic]:
        """Have fewer topics; tells which of ``topics`` there were."""
        gone = self.topics.intersection(topics)
        self.discard_open_klines(gone)
        self.topics -= gone
        self.unacked -= gone
        self.live -= gone
        self.interrupted -= gone
        self._check_settled()
        return gone

    def ack(self, topics: Iterable[Topic]) -> None:
        """The server agreed to ``topics``."""
        self.live.update(self.topics.intersection(topics))
        self.unacked.difference_update(topics)
        self._check_settled()

    def reject(self, topics: Iterable[Topic], message: str) -> None:
        """The server refused ``topics`` for good."""
        for topic in self.topics.intersection(topics):
            self.topics.discard(topic)
            self.unacked.discard(topic)
            self.live.discard(topic)
            self.interrupted.discard(topic)
            self._rejected[topic] = message
        self._check_settled()

    def ack_timed_out(self, topics: Iterable[Topic]) -> None:
        """Nobody answered in time about ``topics``; they will be asked for again."""
        silent = self.unacked.intersection(topics)
        if silent:
            names = ", ".join(sorted(str(topic) for topic in silent))
            self._ack_timeout = RequestTimeoutError(
                f"no answer to the subscription of {names}"
            )
            self.acked.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more will come; what waits can still be read."""
        if not self.ended:
            self.ended = True
            self._error = error
            self.arrived.notify_all()
            self.acked.notify_all()

    def pop_ack_timeout(self) -> BaseException | None:
        """Give the error of a subscription that was not answered in time, once.

        It is for whoever waits for the answer; a loop goes on waiting for ticks.
        """
        late, self._ack_timeout = self._ack_timeout, None
        return late

    def pop_error(self) -> BaseException | None:
        """Give the error that the reader must hear.

        A refusal is told once: the topics that were not refused live on. What ended
        the subscription is told for ever.
        """
        refusal, self._rejection = self._rejection, None
        self.needs_check = self._waiting
        return refusal or (None if self._error is None else copy(self._error))

    def _check_settled(self) -> None:
        if self.unacked or self.ended:
            return
        self._ack_timeout = None  # The answer came after all.
        if self._rejected:
            error = self._rejection_error()
            if self.topics:
                self._rejection = error
                self._signal_rejection()
            else:
                self.end(error)
        self.acked.notify_all()

    def _rejection_error(self) -> QosError:
        message = next(iter(self._rejected.values()))
        channels = sorted({topic.channel for topic in self._rejected})
        symbols = sorted({topic.symbol for topic in self._rejected})
        self._rejected.clear()
        return error_from_message(
            message,
            operation="/".join(LETTERS[channel] for channel in channels),
            symbols=tuple(symbols),
        )
