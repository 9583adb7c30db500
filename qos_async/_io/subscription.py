"""Subscriptions: live data of some topics, as users read it."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    Self,
    TypeAlias,
    TypeVar,
    overload,
)

from qos_async._core.notices import Dropped, Gap, Interrupted, Rejected
from qos_async._io.iterators import Batches, Events
from qos_async._io.stream import Stream
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async._validation import check_number, check_whole
from qos_async.models import Tick
from qos_async.stats import SubscriptionStats
from qos_async.topics import Topic

if TYPE_CHECKING:  # They load time zones, which only ``events(stale=True)`` needs.
    from qos_async.markets.hours import Calendar
    from qos_async.markets.staleness import StaleAwareEvents

__all__ = ["Subscription"]

T = TypeVar("T", bound=Tick)

_Event: TypeAlias = T | Gap | Interrupted | Rejected | Dropped


class Subscription(Generic[T]):
    """Live data of one or more topics, read with ``async for``.

    Reconnects are invisible in the loop: it waits. It ends when the subscription or
    the client is closed, after what is buffered, and raises when waiting is pointless:
    ``AuthenticationError``, ``LimitError``, ``ConnectError`` (a redirect, or a server
    that cannot be trusted), ``LaggedError``, or ``RejectedError`` naming the rejected
    symbols (iterate again to go on with the others).

    Every method may be cancelled without losing a tick. One consumer at a time: two
    loops over one subscription raise ``RuntimeError``; make two subscriptions, they
    cost one on the wire. Dropping the last reference unsubscribes. Used in another
    event loop, or in a forked process, it raises ``RuntimeError``.
    """

    def __init__(
        self,
        stream: Stream[Any],
        queue: SubscriptionQueue,
        parse_topics: Callable[..., tuple[Topic, ...]],
    ) -> None:
        self._stream = stream
        self._queue = queue
        self._parse_topics = parse_topics
        self._buffer = queue.buffer
        self._pending = queue.pending
        self._finalizer = weakref.finalize(self, stream.close_threadsafe, queue)
        self._finalizer.atexit = False

    def __repr__(self) -> str:
        ended = self._queue.acks.ended
        state = "closed" if ended else f"backlog={len(self._buffer)}"
        return f"<Subscription {self._queue.label} {state}>"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What is subscribed, in order of name."""
        return tuple(sorted(self._queue.acks.topics))

    @property
    def stats(self) -> SubscriptionStats:
        """The counters up to now."""
        return self._queue.stats

    # Lifetime

    async def __aenter__(self) -> Self:
        self._stream.binding.check()
        try:
            await self._queue.wait_acked()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def ready(self) -> None:
        """Wait until the server has acknowledged the subscription, without ``async with``.

        Raises:
            RejectedError: Naming the symbols that were rejected; the others go on.
            RequestTimeoutError: The server did not reply in time. The stream subscribes
                again: wait again, or read.
            ClosedError: The subscription or the client is closed.
        """
        self._stream.binding.check()
        await self._queue.wait_acked()

    async def aclose(self) -> None:
        """Unsubscribe topics that no other subscription has.

        What is buffered can still be read.

        Raises:
            RuntimeError: In another event loop than the client's.
        """
        binding = self._stream.binding
        if binding.is_forked or binding.is_loop_closed:
            return  # The connection is the parent's, or gone with its loop.
        binding.check()
        self._finalizer.detach()
        self._stream.close(self._queue)

    async def add(self, *symbols: Any) -> None:
        """Subscribe to more, and wait for the server's acknowledgement.

        Args:
            *symbols: As in the verb that made this subscription; topics for ``watch``.

        Raises:
            RejectedError: Naming the symbols that were rejected; the others go on.
            LimitError: If the plan has no room for them.
        """
        self._stream.binding.check()
        topics = self._parse_topics(*symbols)
        self._stream.add_topics(self._queue, topics)
        await self._queue.wait_acked(topics)

    async def remove(self, *symbols: Any) -> None:
        """Unsubscribe; what is already buffered can still be read."""
        self._stream.binding.check()
        self._stream.remove_topics(self._queue, self._parse_topics(*symbols))

    # Reading

    def __aiter__(self) -> Self:
        self._queue.begin_reading()
        return self

    async def __anext__(self) -> T:
        while not self._pending or self._queue.needs_check:
            await self._queue.wait()
        tick: T = self._buffer.take()
        return tick

    @overload
    def batches(
        self, *, max_items: int = 1000, max_wait: float = 0.05
    ) -> Batches[T]: ...
    @overload
    def batches(
        self,
        *,
        max_items: int = 1000,
        max_wait: float = 0.05,
        events: Literal[False],
    ) -> Batches[T]: ...
    @overload
    def batches(
        self,
        *,
        max_items: int = 1000,
        max_wait: float = 0.05,
        events: Literal[True],
    ) -> Batches[_Event[T]]: ...
    @overload
    def batches(
        self, *, max_items: int = 1000, max_wait: float = 0.05, events: bool
    ) -> Batches[T] | Batches[_Event[T]]: ...
    def batches(
        self, *, max_items: int = 1000, max_wait: float = 0.05, events: bool = False
    ) -> Batches[Any]:
        """Iterate over lists of ticks, for consumers that work by the batch.

        ``batches().to_polars()`` makes a frame of each.

        Args:
            max_items: The longest list.
            max_wait: Seconds after its first item at which a list is delivered as it is.
                In a replay they are recorded seconds; without a speed, lists are full.
            events: Whether the lists have ``Gap``, ``Interrupted``, ``Rejected`` and
                ``Dropped`` in place, as in ``events()``.

        Raises:
            ValueError: If ``max_items`` is no whole number from 1, or ``max_wait`` no
                number of seconds from 0.
        """
        max_items = check_whole("max_items", max_items)
        if max_wait != math.inf:
            max_wait = check_number("max_wait", max_wait, unit="seconds")
        if events:
            self._stream.enable_events(self._queue)
        return Batches[Any](
            self, self._queue, max_items=max_items, max_wait=max_wait, events=events
        )

    @overload
    def events(self) -> Events[T]: ...
    @overload
    def events(
        self, *, stale: Literal[False], calendar: Calendar | None = None
    ) -> Events[T]: ...
    @overload
    def events(
        self, *, stale: Literal[True], calendar: Calendar | None = None
    ) -> StaleAwareEvents[T]: ...
    @overload
    def events(
        self, *, stale: bool, calendar: Calendar | None = None
    ) -> Events[T] | StaleAwareEvents[T]: ...
    def events(
        self, *, stale: bool = False, calendar: Calendar | None = None
    ) -> Events[T] | StaleAwareEvents[T]:
        """Iterate over ticks and notices, in order.

        An ``Interrupted`` is emitted as soon as a live topic stops, and a ``Gap`` before
        the first tick after that. A ``Rejected`` names a topic that the server has
        rejected; the others go on. A ``Dropped`` stands where a full buffer dropped
        ticks.

        Args:
            stale: Emit ``Stale``, too, when a topic is much quieter than it usually is
                although its market is open: for over a minute (five outside of regular
                hours), over 4 times its longest quiet time so far, and over 20 times its
                mean interval. Nothing is done about it. Topics of markets whose hours
                are not known (IX) are not judged. In a replay all of this is by the
                recorded time; live, hours are by the server's clock if it is known.
            calendar: Holidays and half days, from ``Client.fetch_calendar`` or
                ``exchange_calendar``; without it, every weekday is a trading day.

        Raises:
            ModuleNotFoundError: From the iterator, if ``stale`` needs a time zone that
                this machine does not know (``pip install tzdata``).
        """
        self._stream.enable_events(self._queue)
        events = Events[T](self, self._queue)
        if not stale:
            return events
        # Loads time zones, which few programs need.
        from qos_async.markets.staleness import StaleAwareEvents  # noqa: PLC0415

        collector = self._stream.collector
        return StaleAwareEvents[T](
            events,
            activity=collector.activity,
            clock_offset=collector.clock_offset,
            calendar=calendar,
        )
