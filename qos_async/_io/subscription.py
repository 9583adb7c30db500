"""The user's end of the stream."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    Protocol,
    Self,
    TypeVar,
    overload,
)

from qos_async._core.recovery.gaps import Dropped, Gap
from qos_async._core.router import TopicActivity
from qos_async._io.batches import Batches
from qos_async._io.loop_binding import LoopBinding
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async.errors import ClosedError
from qos_async.models import Tick
from qos_async.stats import SubscriptionStats
from qos_async.topics import Topic

if TYPE_CHECKING:  # They bring time zones along: loaded for whoever wants ``Stale``.
    from qos_async._core.stale import Stale
    from qos_async.markets.timetable import Calendar

__all__ = ["Source", "Subscription"]

T = TypeVar("T", bound=Tick)


class Source(Protocol):
    """What a subscription needs from the stream."""

    @property
    def binding(self) -> LoopBinding:
        """Where a subscription may be used."""
        ...

    def add_topics(self, inbox: SubscriptionQueue, topics: tuple[Topic, ...]) -> None:
        """Let ``inbox`` have more topics."""
        ...

    def remove_topics(
        self, inbox: SubscriptionQueue, topics: tuple[Topic, ...]
    ) -> None:
        """Take topics away from ``inbox``."""
        ...

    def activity(self, topic: Topic) -> TopicActivity | None:
        """Tell what came of a topic; None while it is not live."""
        ...

    def close(self, inbox: SubscriptionQueue) -> None:
        """Take everything away from ``inbox``; what waits in it stays."""
        ...

    def close_threadsafe(self, inbox: SubscriptionQueue) -> None:
        """Do the same for a reader that has become garbage, from any thread."""
        ...


class Subscription(Generic[T]):
    """Live data of one or more topics, read with ``async for``.

    Reconnects are invisible in the loop: it waits. It ends when the subscription or
    the client is closed, after what is buffered, and raises when waiting is pointless:
    ``AuthenticationError``, ``LimitError``, ``ConnectError`` (a redirect, or a server
    that cannot be trusted), ``LaggedError``, or ``RejectedError`` naming the refused
    symbols (iterate again to go on with the others).

    Every method may be cancelled without losing a tick. One reader at a time: two
    loops over one subscription raise ``RuntimeError``; make two subscriptions, they
    cost one on the wire. Dropping the last reference unsubscribes. Used in another
    event loop, or in a forked process, it raises ``RuntimeError``.
    """

    def __init__(
        self,
        source: Source,
        inbox: SubscriptionQueue,
        topics_of: Callable[..., tuple[Topic, ...]],
    ) -> None:
        self._source = source
        self._queue = inbox
        self._parse_topics = topics_of
        self._buffer = inbox.buffer
        self._pending = inbox.buffer.pending
        self._finalizer = weakref.finalize(self, source.close_threadsafe, inbox)
        self._finalizer.atexit = False

    def __repr__(self) -> str:
        state = "closed" if self._queue.ended else f"backlog={len(self._queue.buffer)}"
        return f"<Subscription {self._queue.label} {state}>"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What is subscribed, in order of name."""
        return tuple(sorted(self._queue.topics))

    @property
    def stats(self) -> SubscriptionStats:
        """Counters up to now."""
        return self._queue.stats

    # Lifetime

    async def __aenter__(self) -> Self:
        self._source.binding.check()
        try:
            await self._wait_acked()
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

    async def aclose(self) -> None:
        """Unsubscribe what nobody else watches; what is buffered can still be read.

        Raises:
            RuntimeError: In another event loop than the client's.
        """
        home = self._source.binding
        if home.is_forked or home.is_loop_closed:
            return  # The parent's, or nobody's any more.
        home.check()
        self._finalizer.detach()
        self._source.close(self._queue)

    async def add(self, *symbols: Any) -> None:
        """Subscribe to more, and wait for the server's yes.

        Args:
            *symbols: As in the verb that made this subscription; topics for ``watch``.

        Raises:
            RejectedError: Naming the symbols that were refused; the rest live.
            LimitError: If the plan has no room for them.
        """
        self._source.binding.check()
        self._source.add_topics(self._queue, self._parse_topics(*symbols))
        await self._wait_acked()

    async def remove(self, *symbols: Any) -> None:
        """Unsubscribe; what is already buffered can still be read."""
        self._source.binding.check()
        self._source.remove_topics(self._queue, self._parse_topics(*symbols))

    async def _wait_acked(self) -> None:
        inbox = self._queue
        with inbox.awaiting_ack():
            while True:
                if (error := inbox.pop_error() or inbox.pop_ack_timeout()) is not None:
                    raise error
                if inbox.ended:
                    raise ClosedError("the subscription was closed")
                if not inbox.unacked:
                    return
                await inbox.acked.wait()

    # Reading

    def __aiter__(self) -> Self:
        self._queue.begin_reading()
        return self

    async def __anext__(self) -> T:
        while not self._pending or self._queue.needs_check:
            self._buffer.skip_gaps()
            await self._wait()
        tick: T = self._buffer.take()
        return tick

    def batches(self, *, max_items: int = 1000, max_wait: float = 0.05) -> Batches[T]:
        """Iterate over lists of ticks, for readers that work by the batch.

        ``batches().to_polars()`` makes a frame of each.

        Args:
            max_items: The longest list.
            max_wait: Seconds after its first tick at which a list is given as it is.

        Raises:
            ValueError: If ``max_items`` is under 1 or ``max_wait`` is negative.
        """
        if max_items < 1:
            raise ValueError(f"max_items must be at least 1, not {max_items!r}")
        if not max_wait >= 0:
            raise ValueError(f"max_wait must be 0 seconds or more, not {max_wait!r}")
        return Batches[T](
            self._queue, self._wait, max_items=max_items, max_wait=max_wait
        )

    @overload
    def events(self) -> AsyncIterator[T | Gap | Dropped]: ...
    @overload
    def events(
        self, *, stale: Literal[False], calendar: Calendar | None = None
    ) -> AsyncIterator[T | Gap | Dropped]: ...
    @overload
    def events(
        self, *, stale: bool, calendar: Calendar | None = None
    ) -> AsyncIterator[T | Gap | Dropped | Stale]: ...
    def events(
        self, *, stale: bool = False, calendar: Calendar | None = None
    ) -> AsyncIterator[T | Gap | Dropped | Stale]:
        """Iterate over ticks and notices, in order.

        A ``Gap`` comes before the first tick after it; a ``Dropped`` stands where a
        full buffer lost ticks.

        Args:
            stale: Tell with ``Stale``, too, when a topic is much quieter than it usually
                is although its market is open: for over a minute (five outside of
                regular hours), over 4 times its longest quiet so far, and over 20 times
                its mean interval. Nothing is done about it. Topics of markets whose
                hours nobody knows (IX) are not judged.
            calendar: Holidays and half days, from ``Client.fetch_calendar`` or
                ``exchange_calendar``; without it, every weekday is a trading day.

        Raises:
            ModuleNotFoundError: From the iterator, if ``stale`` needs a time zone that
                this machine does not know (``pip install tzdata``).
        """
        if not stale:
            return _Events[T](self._queue, self._wait)
        # Few want it, and time zones come along.
        from qos_async._io.staleness import StaleAwareEvents  # noqa: PLC0415
        from qos_async.markets.timetable import Timetable  # noqa: PLC0415

        return StaleAwareEvents[T](
            self._queue,
            self._wait,
            activity=self._source.activity,
            trading_session_at=Timetable(calendar).part_at,
        )

    async def _wait(self) -> None:
        """Wait until something may have come, or raise why nothing ever will."""
        inbox = self._queue
        if inbox.needs_check or inbox.ended:
            error = inbox.pop_error()
            if inbox.ended:
                inbox.end_seen = True
                inbox.arrived.notify_all()
            if error is not None:
                raise error
            if inbox.ended:
                raise StopAsyncIteration
        self._source.binding.check()
        await inbox.wait()


class _Events(Generic[T]):
    def __init__(
        self, inbox: SubscriptionQueue, wait: Callable[[], Awaitable[None]]
    ) -> None:
        self._inbox = inbox
        self._wait = wait  # A method: it keeps the subscription from being garbage.

    def __aiter__(self) -> Self:
        self._inbox.begin_reading()
        return self

    async def __anext__(self) -> T | Gap | Dropped:
        while not self._inbox.buffer.has_event or self._inbox.needs_check:
            await self._wait()
        event: T | Gap | Dropped = self._inbox.buffer.take_event()
        return event
