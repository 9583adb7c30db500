"""Staleness: topics that are quieter than usual while their market is open."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, Self, TypeVar

from msgspec import Struct

from qos_async._clock import SourceClock, Timer
from qos_async._core.notices import Notice
from qos_async._core.router import TopicActivity
from qos_async._event_loop import running_loop
from qos_async.enums import Session
from qos_async.markets.hours import Calendar, TradingHours
from qos_async.markets.stamps import is_possible
from qos_async.models import Tick
from qos_async.topics import Topic

__all__ = ["Stale", "StaleAwareEvents", "StalenessDetector"]

T = TypeVar("T", bound=Tick)

_CHECK_INTERVAL = 5.0  # Seconds between two observations.
_WRONG_CLOCK = 60.0
_KNOWN = 10  # Ticks in such a session before there is anything usual about them.
_LONGEST = 4.0
_MEAN = 20.0
_LEAST = {Session.REGULAR: 60.0}
_LEAST_ELSEWHERE = 300.0  # Pre-market, post-market and overnight are thin.


class Stale(Struct, frozen=True, kw_only=True):
    """A topic that used to tick is quiet, although its market is open and the link lives.

    It is a suspicion and no more: the client does nothing about it. Emitted
    once, and again only after the topic has ticked.

    Attributes:
        topic: What is quiet.
        since: When something of it was last received; aware, UTC.
        quiet: For how many seconds, those of an open market and a live link only.
        usual: Seconds from tick to tick, on average, in sessions of this kind.
    """

    topic: Topic
    since: datetime
    quiet: float
    usual: float


class _BaseRate:
    """How often a topic ticks in one kind of session."""

    __slots__ = ("longest", "seconds", "ticks")

    def __init__(self) -> None:
        self.ticks = 0
        self.seconds = 0.0
        self.longest = 0.0

    def learn(self, ticks: int, passed: float, quiet: float) -> None:
        """Take in ticks that came at last, after ``quiet`` seconds without any."""
        self.ticks += ticks
        self.seconds += quiet + passed
        self.longest = max(self.longest, quiet)

    @property
    def usual(self) -> float:
        """Seconds from tick to tick."""
        return self.seconds / max(self.ticks, 1)


class _TopicState:
    """What was seen of one topic."""

    __slots__ = (
        "base_rates",
        "observed_at",
        "quiet",
        "reported",
        "ticks",
        "trading_session",
    )

    def __init__(self) -> None:
        self.base_rates: dict[Session, _BaseRate] = {}
        self.trading_session: Session | None = None
        self.observed_at = 0.0
        self.ticks = 0
        self.quiet = 0.0
        self.reported = False


class StalenessDetector:
    """Detects stale topics by their tick counts at intervals: a tick costs nothing.

    A topic is stale when it was quiet for over a minute (five outside of regular hours),
    over 4 times its longest quiet so far, and over 20 times its mean interval, the last
    two in sessions of the same kind. So a thin stock is given hours, and a slow decline
    of the rate, as after the close in the US, raises the bar as it goes.

    Args:
        step: Seconds; a longer time between two observations counts as this long,
            because the link may have been unread meanwhile.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._states: dict[Topic, _TopicState] = {}

    def retain(self, topics: Collection[Topic]) -> None:
        """Forget every other topic."""
        for topic in self._states.keys() - topics:
            del self._states[topic]

    def observe(
        self,
        topic: Topic,
        ticks: int | None,
        trading_session: Session | None,
        now: float,
    ) -> tuple[float, float] | None:
        """Look at a topic.

        Args:
            topic: Which.
            ticks: How many there were so far; None while it is not live.
            trading_session: The session that its market is in; None while that is closed.
            now: Seconds; where the clock was set, the time since then does not count.

        Returns:
            For how long it was quiet, and what is usual; None unless a ``Stale`` is due.
        """
        pulse = self._states.setdefault(topic, _TopicState())
        known = trading_session is not None and trading_session is pulse.trading_session
        since = now - pulse.observed_at
        passed = min(max(since, 0.0), self._step) if known else 0.0
        pulse.observed_at = now
        if ticks is None or trading_session is None:
            pulse.trading_session = None
            return None
        habit = pulse.base_rates.setdefault(trading_session, _BaseRate())
        # A topic that was removed and added again is counted from 0.
        fresh = ticks - pulse.ticks if ticks >= pulse.ticks else ticks
        pulse.ticks = ticks
        if not known:  # What came before belongs to another time.
            pulse.reported = pulse.reported and not fresh
            pulse.trading_session, pulse.quiet = trading_session, 0.0
            return None
        if fresh:
            habit.learn(fresh, passed, min(pulse.quiet, _limit(habit, trading_session)))
            pulse.quiet, pulse.reported = 0.0, False
            return None
        pulse.quiet += passed
        return _staleness(pulse, habit, trading_session)


def _limit(habit: _BaseRate, part: Session) -> float:
    least = _LEAST.get(part, _LEAST_ELSEWHERE)
    return max(least, _LONGEST * habit.longest, _MEAN * habit.usual)


def _staleness(
    pulse: _TopicState, habit: _BaseRate, part: Session
) -> tuple[float, float] | None:
    if pulse.reported or habit.ticks < _KNOWN or pulse.quiet <= _limit(habit, part):
        return None
    pulse.reported = True
    return pulse.quiet, habit.usual


class SubscriptionEvents(Protocol):
    """The events of a subscription, as far as this module needs them: it is below them."""

    @property
    def clock(self) -> SourceClock:
        """The time at the source of the ticks."""
        ...

    @property
    def topics(self) -> Collection[Topic]:
        """What is subscribed."""
        ...

    @property
    def has_next(self) -> bool:
        """Whether an event can be taken without waiting."""
        ...

    @property
    def received(self) -> int:
        """How many ticks the subscription has received."""
        ...

    @property
    def consumed(self) -> int:
        """How many of them have been taken or dropped."""
        ...

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Any: ...

    async def aclose(self) -> None:
        """End the iteration."""
        ...


class StaleAwareEvents(Generic[T]):
    """Ticks and notices in order, and ``Stale`` behind all that was received before it.

    It reads counters that are kept anyway, every five seconds of the source's time while
    it is iterated.

    Args:
        events: The events to add to.
        activity: Returns how many ticks a topic had; None while it is not live.
        clock_offset: Returns the server's clock minus that of ``events``, in seconds;
            None if it is not known. A simulator may be in another year.
        calendar: Holidays and half days; None: every weekday is a trading day.
    """

    def __init__(
        self,
        events: SubscriptionEvents,
        *,
        activity: Callable[[Topic], TopicActivity | None],
        clock_offset: Callable[[], float | None],
        calendar: Calendar | None,
    ) -> None:
        self._events = events
        self._activity = activity
        self._clock_offset = clock_offset
        self._hours = TradingHours(calendar)
        self._detector = StalenessDetector(2 * _CHECK_INTERVAL)
        self._observed_at = 0.0
        self._closed = False
        # With the count of ticks that were received before it.
        self._reports: deque[tuple[int, Stale]] = deque()

    def __aiter__(self) -> Self:
        aiter(self._events)
        return self

    async def __anext__(self) -> T | Notice | Stale:
        events = self._events
        while not self._closed:
            if self._next_check_in() <= 0:
                self._observe()
            if self._reports and events.consumed >= self._reports[0][0]:
                return self._reports.popleft()[1]
            if events.has_next:
                event: T | Notice = await anext(events)
                return event
            running_loop()  # Its error names what to do; that of asyncio does not.
            scope = asyncio.timeout(None)
            try:
                async with scope:
                    return await self._next_while_observing(scope)
            except TimeoutError:
                if not scope.expired():
                    raise
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End this iterator; the subscription and what it has queued stay."""
        self._closed = True
        await self._events.aclose()

    async def _next_while_observing(self, scope: asyncio.Timeout) -> T | Notice:
        """Return the next event; let the time of ``scope`` run out when one is stale."""
        loop, clock = asyncio.get_running_loop(), self._events.clock
        timers: list[Timer] = []

        def observe() -> None:
            self._observe()
            if self._reports:
                scope.reschedule(loop.time())
            else:
                timers[:] = [clock.call_later(_CHECK_INTERVAL, observe)]

        timers[:] = [clock.call_later(self._next_check_in(), observe)]
        try:
            event: T | Notice = await anext(self._events)
            return event
        finally:
            timers.pop().cancel()

    def _next_check_in(self) -> float:
        passed = self._events.clock.time() - self._observed_at
        # Under 0 if the clock was set back.
        return _CHECK_INTERVAL - passed if passed >= 0 else 0.0

    def _observe(self) -> None:
        now = self._observed_at = self._events.clock.time()
        market_time = now + (self._clock_offset() or 0.0)
        if abs(market_time - now) <= _WRONG_CLOCK or not is_possible(market_time):
            market_time = now
        self._detector.retain(self._events.topics)
        for topic in sorted(self._events.topics):
            activity = self._activity(topic)
            session = self._hours.kind_at(topic.symbol, int(market_time))
            ticks = None if activity is None else activity.ticks
            found = self._detector.observe(topic, ticks, session, now)
            if activity is not None and found is not None:
                quiet, usual = found
                last = activity.received_at / 1e9 or now - quiet
                since = datetime.fromtimestamp(last, UTC)
                stale = Stale(topic=topic, since=since, quiet=quiet, usual=usual)
                self._reports.append((self._events.received, stale))
