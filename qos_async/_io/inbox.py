"""The stream's end of one subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any
from weakref import ReferenceType, ref

from qos_async._core.buffers import Buffer, Policy
from qos_async._core.gaps import Gap
from qos_async._core.klines import FinishedKlines
from qos_async._core.text import refusal
from qos_async._core.topics import LETTERS, Topic
from qos_async._io.bell import Bell
from qos_async._io.wall import CALENDAR
from qos_async.errors import QosError, RequestTimeoutError
from qos_async.stats import SubscriptionStats

__all__ = ["Inbox"]


class Inbox:
    """Takes ticks and notices in for one reader, who may be asleep, slow or gone.

    It does not know its ``Subscription``: so that one can be garbage, and the stream
    notices.

    Attributes:
        buffer: Where ticks wait.
        share: What came for this reader in a burst, until it is delivered.
        topics: What is subscribed, refused topics excepted.
        pending: Those of ``topics`` that the server has not decided yet.
        live: Those of ``topics`` that have been live, so that an outage is a gap.
        spared: Ticks, by their ids, that were held back when it joined their topic, so
            that they are none of its own.
        interrupted: Those that were live before an outage that was not told of yet.
        arrived: Rings when there is something to read, or nothing more to come.
        decided: Rings when the server has decided on topics.
        ended: Whether nothing more will come.
        alert: Whether a reader must look before it takes: there is a refusal to hear
            of, or another reader.
        read_out: Whether the reader has seen that.
        gaps: Topics times outages.
        recovered: Ticks that were fetched after an outage.
        unfinished: Klines that were not for the reader, who wants finished ones.
    """

    def __init__(
        self, policy: Policy, *, final: bool, now: Callable[[], int] = CALENDAR.now
    ) -> None:
        self.buffer: Buffer[Any] = policy.open()
        self._ready = self.buffer.ready
        self.share: list[Any] = []
        self.topics: set[Topic] = set()
        self.pending: set[Topic] = set()
        self.live: set[Topic] = set()
        self.interrupted: set[Topic] = set()
        self.spared: dict[Topic, frozenset[int]] = {}
        self.arrived = Bell()
        self.decided = Bell()
        self.ended = False
        self.alert = False
        self.read_out = False
        self.gaps = 0
        self.recovered = 0
        self.unfinished = 0
        self._reader: ReferenceType[asyncio.Task[Any]] | None = None
        self._waiting = False
        self._wanted = 1
        self._askers = 0
        self._refusal: QosError | None = None
        self._late: QosError | None = None
        self._refused: dict[Topic, str] = {}
        self._error: BaseException | None = None
        self._finished = FinishedKlines() if final else None
        self._now = now

    def deliver(self, tick: Any) -> None:
        """Take in one tick; never waits.

        Raises:
            LaggedError: If the buffer is full and may not lose anything.
        """
        if self._finished is not None:
            tick = self._finished.put(tick)
            if tick is None:
                self.unfinished += 1
                return
        self.buffer.put(tick)
        if len(self.buffer) >= self._wanted:
            self.arrived.ring()

    def deliver_all(self, ticks: Sequence[Any]) -> None:
        """Take in what came together, as if tick by tick.

        Raises:
            LaggedError: As for ``deliver``.
        """
        if self._finished is None:
            self.buffer.put_all(ticks)
            if len(self._ready) >= self._wanted:
                self.arrived.ring()
        else:
            for tick in ticks:
                self.deliver(tick)

    def tell(self, gap: Gap, fetched: int) -> None:
        """Take in a notice; the ticks that it promises follow."""
        if gap.status != "filled":
            self.drop_growing([gap.topic])
        self.gaps += 1
        self.recovered += fetched
        self.interrupted.discard(gap.topic)
        self.buffer.mark(gap)
        self.arrived.ring()

    def drop_growing(self, topics: Iterable[Topic]) -> None:
        """Forget the klines that nobody saw to their end."""
        if self._finished is not None:
            for topic in topics:
                self._finished.forget(topic.symbol, topic.interval or 0)

    @property
    def title(self) -> str:
        """What it is of, in a few words."""
        topics = sorted(str(topic) for topic in self.topics)
        shown = ", ".join(topics[:3]) + (", …" if len(topics) > 3 else "")  # noqa: PLR2004
        return shown or "of nothing"

    @property
    def stats(self) -> SubscriptionStats:
        """Counters up to now."""
        buffer, backlog = self.buffer, len(self.buffer)
        waits = (self._now() - buffer.since) / 1e9 if buffer.since else 0.0
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

    def interrupt(self, topic: Topic) -> None:
        """There was an outage; it concerns the reader if the topic was live before."""
        if topic in self.live:
            self.interrupted.add(topic)

    @property
    def reading(self) -> bool:
        """Whether a reader has taken something and has not come to the end."""
        return self.buffer.received > self.buffer.dropped and not self.read_out

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
        self._waiting = self.alert = True
        self._wanted = wanted
        self.begin_reading()
        try:
            await self.arrived.wait()
        finally:
            self._waiting = False
            self._wanted = 1
            self.alert = self._refusal is not None and not self._askers

    @contextmanager
    def asking(self) -> Generator[None]:
        """While somebody waits for the server's decision, refusals are for them."""
        self._askers += 1
        try:
            yield
        finally:
            self._askers -= 1
            self._alarm()

    def _alarm(self) -> None:
        if self._refusal is not None and not self._askers:
            self.alert = True
            self.arrived.ring()

    def want(self, topics: Iterable[Topic]) -> None:
        """Have more topics; the server has not decided on them."""
        for topic in topics:
            self.topics.add(topic)
            self.pending.add(topic)

    def forget(self, topics: Iterable[Topic]) -> set[Topic]:
        """Have fewer topics; tells which of ``topics`` there were."""
        gone = self.topics.intersection(topics)
        self.drop_growing(gone)
        self.topics -= gone
        self.pending -= gone
        self.live -= gone
        self.interrupted -= gone
        self._settle()
        return gone

    def confirm(self, topics: Iterable[Topic]) -> None:
        """The server agreed to ``topics``."""
        self.live.update(self.topics.intersection(topics))
        self.pending.difference_update(topics)
        self._settle()

    def decline(self, topics: Iterable[Topic], message: str) -> None:
        """The server refused ``topics`` for good."""
        for topic in self.topics.intersection(topics):
            self.topics.discard(topic)
            self.pending.discard(topic)
            self.live.discard(topic)
            self.interrupted.discard(topic)
            self._refused[topic] = message
        self._settle()

    def unanswered(self, topics: Iterable[Topic]) -> None:
        """Nobody answered in time about ``topics``; they will be asked for again."""
        silent = self.pending.intersection(topics)
        if silent:
            names = ", ".join(sorted(str(topic) for topic in silent))
            self._late = RequestTimeoutError(
                f"no answer to the subscription of {names}"
            )
            self.decided.ring()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more will come; what waits can still be read."""
        if not self.ended:
            self.ended = True
            self._error = error
            self.arrived.ring()
            self.decided.ring()

    def take_late(self) -> BaseException | None:
        """Give the error of a subscription that was not answered in time, once.

        It is for whoever waits for the answer; a loop goes on waiting for ticks.
        """
        late, self._late = self._late, None
        return late

    def take_error(self) -> BaseException | None:
        """Give the error that the reader must hear.

        A refusal is told once: the topics that were not refused live on. What ended
        the subscription is told for ever.
        """
        refusal, self._refusal = self._refusal, None
        self.alert = self._waiting
        return refusal or (None if self._error is None else copy(self._error))

    def _settle(self) -> None:
        if self.pending or self.ended:
            return
        self._late = None  # The answer came after all.
        if self._refused:
            error = self._sum_up()
            if self.topics:
                self._refusal = error
                self._alarm()
            else:
                self.end(error)
        self.decided.ring()

    def _sum_up(self) -> QosError:
        message = next(iter(self._refused.values()))
        channels = sorted({topic.channel for topic in self._refused})
        symbols = sorted({topic.symbol for topic in self._refused})
        self._refused.clear()
        return refusal(
            message,
            operation="/".join(LETTERS[channel] for channel in channels),
            symbols=tuple(symbols),
        )
