"""Iterators over a subscription: events, batches and frames.

Each holds a reference to its subscription, so that the subscription does not become
garbage, which would unsubscribe it. They are classes, not generators: a generator that is
dropped unfinished is closed later, by a task of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from qos_async import frames
from qos_async._clock import SourceClock
from qos_async._core.notices import Notice
from qos_async._event_loop import running_loop
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async.enums import Interval
from qos_async.frames.packages import Package, load
from qos_async.models import Tick
from qos_async.topics import Topic

if TYPE_CHECKING:  # The first two are optional packages.
    import pandas as pd
    import polars as pl

    from qos_async.frames import Numbers

__all__ = ["Batches", "Events", "Frames"]

T = TypeVar("T", bound=Tick)
I = TypeVar("I")  # noqa: E741 - an item: a tick, or a tick or notice
F_co = TypeVar("F_co", covariant=True)


class _QueueIterator:
    def __init__(
        self, subscription: object, queue: SubscriptionQueue, *, events: bool
    ) -> None:
        self._subscription: object | None = subscription
        self._queue = queue
        self._events = events
        self._waiting = 0

    def __aiter__(self) -> Self:
        self._queue.begin_reading()
        return self

    async def aclose(self) -> None:
        """End this iterator; the subscription and what it has queued stay."""
        if self._subscription is not None:
            self._subscription = None
            self._queue.stop_reading(waiting=self._waiting > 0)

    async def _wait(self, wanted: int = 1) -> None:
        if self._subscription is None:
            raise StopAsyncIteration
        self._waiting += 1
        try:
            await self._queue.wait(wanted, events=self._events)
        finally:
            self._waiting -= 1


class Events(_QueueIterator, Generic[T]):
    """Ticks and notices in order, read with ``async for``."""

    def __init__(self, subscription: object, queue: SubscriptionQueue) -> None:
        super().__init__(subscription, queue, events=True)

    async def __anext__(self) -> T | Notice:
        queue = self._queue
        while (
            (not queue.pending and not queue.buffer.has_event)
            or queue.needs_check
            or self._subscription is None
        ):
            await self._wait()
        event: T | Notice = queue.buffer.take_event()
        return event

    # For ``markets``

    @property
    def clock(self) -> SourceClock:
        """The time at the source of the ticks."""
        return self._queue.clock

    @property
    def topics(self) -> Collection[Topic]:
        """What is subscribed."""
        return self._queue.acks.topics

    @property
    def has_next(self) -> bool:
        """Whether an event can be taken without waiting."""
        return self._queue.buffer.has_event and not self._queue.needs_check

    @property
    def received(self) -> int:
        """How many ticks the subscription has received."""
        return self._queue.buffer.received

    @property
    def consumed(self) -> int:
        """How many of them have been taken or dropped."""
        return self._queue.buffer.received - len(self._queue.buffer)


class Batches(_QueueIterator, Generic[I]):
    """Lists, never empty, read with ``async for``.

    The methods turn each into a frame; the types of its columns never change. Besides
    what they raise at the call, the loop raises ``ValueError`` for a number that does
    not fit into its column, as ``qos_async.frames.to_polars`` does: such a batch is lost.
    """

    def __init__(
        self,
        subscription: object,
        queue: SubscriptionQueue,
        *,
        max_items: int,
        max_wait: float,
        events: bool = False,
    ) -> None:
        super().__init__(subscription, queue, events=events)
        self._max_items = max_items
        self._wanted = min(max_items, queue.buffer.max_wanted)
        self._max_wait = max_wait
        # When the buffer was last seen empty: what waits now arrived after that.
        self._empty_at = -math.inf
        # How many ticks there were when ``max_wait`` was over; None until then.
        self._due: int | None = None

    async def __anext__(self) -> list[I]:
        running_loop()
        queue, clock = self._queue, self._queue.clock.elapsed
        buffer, most = queue.buffer, self._max_items
        while self._is_empty() or queue.needs_check or self._subscription is None:
            await self._wait()
            self._empty_at = clock()
        if len(queue.pending) < self._wanted:
            await self._fill(self._empty_at + self._max_wait)
        due, self._due = self._due, None
        batch: list[Any]
        if self._events:
            batch = buffer.take_events(most)
        else:
            batch = buffer.take_all(most if due is None else min(most, max(due, 1)))
        # Ticks that were received after the time was over begin the next batch.
        begins = due is not None or self._is_empty()
        self._empty_at = clock() if begins else -math.inf
        return batch

    def _is_empty(self) -> bool:
        return not self._queue.pending and not (
            self._events and self._queue.buffer.has_event
        )

    async def _fill(self, until: float) -> None:
        queue, timer = self._queue, None
        if until <= queue.clock.elapsed():
            return
        try:
            while (
                self._due is None
                and len(queue.pending) < self._wanted
                and not queue.acks.ended
                and not queue.needs_check
                and self._subscription is not None
            ):
                # The clock of a follower goes on once it has caught up.
                if timer is None and until != math.inf and queue.clock.goes_on:
                    wait = max(until - queue.clock.elapsed(), 0.0)
                    timer = queue.clock.call_later(wait, self._end_batch)
                await self._wait(self._wanted)
        finally:
            if timer is not None:
                timer.cancel()

    def _end_batch(self) -> None:
        self._due = len(self._queue.pending)
        self._queue.wake()

    # Frames

    def to_polars(
        self, *, numbers: Numbers = float, explode: bool = False
    ) -> Frames[pl.DataFrame]:
        """Iterate over polars DataFrames instead.

        >>> async for frame in trades.batches(max_wait=1.0).to_polars():
        ...     print(frame.group_by("symbol").agg(pl.col("size").sum()))

        Args:
            numbers: As in ``qos_async.frames.to_polars``.
            explode: As in ``qos_async.frames.to_polars``.

        Raises:
            ModuleNotFoundError: Without polars; the message says how to install it.
            ValueError: Where one subscription mixes channels, or the batches have
                notices.
        """
        return self._frames(
            "polars", frames.to_polars, numbers=numbers, explode=explode
        )

    def to_pandas(
        self, *, numbers: Numbers = float, explode: bool = False
    ) -> Frames[pd.DataFrame]:
        """Iterate over pandas DataFrames instead; all else as in ``to_polars``."""
        return self._frames(
            "pandas", frames.to_pandas, numbers=numbers, explode=explode
        )

    def to_arrow(
        self, *, numbers: Numbers = float, explode: bool = False
    ) -> Frames[Any]:
        """Iterate over ``pyarrow.Table`` instead; all else as in ``to_polars``."""
        return self._frames(
            "pyarrow", frames.to_arrow, numbers=numbers, explode=explode
        )

    def _frames(
        self, package: Package, make: Callable[..., Any], **options: Any
    ) -> Frames[Any]:
        load(package)
        if self._events:
            raise ValueError(
                "a frame has no place for notices: use batches() without events=True"
            )
        topics = self._queue.acks.topics
        channels = sorted({topic.channel.value for topic in topics})
        if len(channels) > 1:
            raise ValueError(
                f"a frame holds records of one kind, this subscription has {channels}: "
                "watch each channel with a subscription of its own"
            )
        dates = any((topic.interval or 0) >= Interval.DAY for topic in topics)
        return Frames(
            self, lambda batch: make(batch, live=True, dates=dates, **options)
        )


class Frames(Generic[F_co]):
    """A frame for each batch of ticks, read with ``async for``."""

    def __init__(
        self, batches: Batches[Any], make: Callable[[list[Any]], F_co]
    ) -> None:
        self._batches = batches
        self._make = make

    def __aiter__(self) -> Self:
        aiter(self._batches)
        return self

    async def __anext__(self) -> F_co:
        return self._make(await anext(self._batches))

    async def aclose(self) -> None:
        """End this iterator; the subscription and what it has queued stay."""
        await self._batches.aclose()
