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

from qos_async._core.gaps import Dropped, Gap
from qos_async._core.routes import Heard
from qos_async._core.topics import Topic
from qos_async._io.batches import Batches
from qos_async._io.home import Home
from qos_async._io.inbox import Inbox
from qos_async.errors import ClosedError
from qos_async.models import Tick
from qos_async.stats import SubscriptionStats

if TYPE_CHECKING:  # They bring time zones along: loaded for whoever wants ``Stale``.
    from qos_async._core.stale import Stale
    from qos_async.markets.timetable import Calendar

__all__ = ["Source", "Subscription"]

T = TypeVar("T", bound=Tick)


class Source(Protocol):
    """What a subscription needs from the stream."""

    @property
    def home(self) -> Home:
        """Where a subscription may be used."""
        ...

    def extend(self, inbox: Inbox, topics: tuple[Topic, ...]) -> None:
        """Let ``inbox`` have more topics."""
        ...

    def withdraw(self, inbox: Inbox, topics: tuple[Topic, ...]) -> None:
        """Take topics away from ``inbox``."""
        ...

    def heard(self, topic: Topic) -> Heard | None:
        """Tell what came of a topic; None while it is not live."""
        ...

    def close(self, inbox: Inbox) -> None:
        """Take everything away from ``inbox``; what waits in it stays."""
        ...

    def abandon(self, inbox: Inbox) -> None:
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
        inbox: Inbox,
        topics_of: Callable[..., tuple[Topic, ...]],
    ) -> None:
        self._source = source
        self._inbox = inbox
        self._topics_of = topics_of
        self._buffer = inbox.buffer
        self._ready = inbox.buffer.ready
        self._finalizer = weakref.finalize(self, source.abandon, inbox)
        self._finalizer.atexit = False

    def __repr__(self) -> str:
        state = "closed" if self._inbox.ended else f"backlog={len(self._inbox.buffer)}"
        return f"<Subscription {self._inbox.title} {state}>"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What is subscribed, in order of name."""
        return tuple(sorted(self._inbox.topics))

    @property
    def stats(self) -> SubscriptionStats:
        """Counters up to now."""
        return self._inbox.stats

    # Lifetime

    async def __aenter__(self) -> Self:
        self._source.home.check()
        try:
            await self._decided()
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
        home = self._source.home
        if home.is_foreign or home.is_gone:
            return  # The parent's, or nobody's any more.
        home.check()
        self._finalizer.detach()
        self._source.close(self._inbox)

    async def add(self, *symbols: Any) -> None:
        """Subscribe to more, and wait for the server's yes.

        Args:
            *symbols: As in the verb that made this subscription; topics for ``watch``.

        Raises:
            RejectedError: Naming the symbols that were refused; the rest live.
            LimitError: If the plan has no room for them.
        """
        self._source.home.check()
        self._source.extend(self._inbox, self._topics_of(*symbols))
        await self._decided()

    async def remove(self, *symbols: Any) -> None:
        """Unsubscribe; what is already buffered can still be read."""
        self._source.home.check()
        self._source.withdraw(self._inbox, self._topics_of(*symbols))

    async def _decided(self) -> None:
        inbox = self._inbox
        with inbox.asking():
            while True:
                if (error := inbox.take_error() or inbox.take_late()) is not None:
                    raise error
                if inbox.ended:
                    raise ClosedError("the subscription was closed")
                if not inbox.pending:
                    return
                await inbox.decided.wait()

    # Reading

    def __aiter__(self) -> Self:
        self._inbox.begin_reading()
        return self

    async def __anext__(self) -> T:
        while not self._ready or self._inbox.alert:
            self._buffer.pass_gaps()
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
            self._inbox, self._wait, max_items=max_items, max_wait=max_wait
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
            return _Events[T](self._inbox, self._wait)
        # Few want it, and time zones come along.
        from qos_async._io.watchful import WatchfulEvents  # noqa: PLC0415
        from qos_async.markets.timetable import Timetable  # noqa: PLC0415

        return WatchfulEvents[T](
            self._inbox,
            self._wait,
            heard=self._source.heard,
            part_at=Timetable(calendar).part_at,
        )

    async def _wait(self) -> None:
        """Wait until something may have come, or raise why nothing ever will."""
        inbox = self._inbox
        if inbox.alert or inbox.ended:
            error = inbox.take_error()
            if inbox.ended:
                inbox.read_out = True
                inbox.arrived.ring()
            if error is not None:
                raise error
            if inbox.ended:
                raise StopAsyncIteration
        self._source.home.check()
        await inbox.wait()


class _Events(Generic[T]):
    def __init__(self, inbox: Inbox, wait: Callable[[], Awaitable[None]]) -> None:
        self._inbox = inbox
        self._wait = wait  # A method: it keeps the subscription from being garbage.

    def __aiter__(self) -> Self:
        self._inbox.begin_reading()
        return self

    async def __anext__(self) -> T | Gap | Dropped:
        while not self._inbox.buffer.has_event or self._inbox.alert:
            await self._wait()
        event: T | Gap | Dropped = self._inbox.buffer.take_event()
        return event
