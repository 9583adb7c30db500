"""Events for a reader who wants to hear of silence, too."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Generic, Self, TypeVar

from qos_async._core.recovery.gaps import Dropped, Gap
from qos_async._core.router import TopicActivity
from qos_async._core.stale import Stale, StalenessDetector
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async.enums import Session
from qos_async.models import Tick
from qos_async.topics import Topic

__all__ = ["StaleAwareEvents"]

T = TypeVar("T", bound=Tick)

_EVERY = 5.0  # Seconds between two looks.


class StaleAwareEvents(Generic[T]):
    """Ticks and notices in order, and ``Stale`` behind all that came before it.

    It looks at counters that are there anyway, every five seconds, as long as somebody
    iterates.

    Args:
        inbox: What is read.
        wait: Waits until something may have come.
        heard: Tells what came of a topic; None while that is not live.
        trading_session_at: Tells which session a symbol's market is in, by epoch seconds; None
            while it is closed.
    """

    def __init__(
        self,
        queue: SubscriptionQueue,
        wait: Callable[[], Awaitable[None]],
        *,
        activity: Callable[[Topic], TopicActivity | None],
        trading_session_at: Callable[[str, int], Session | None],
    ) -> None:
        self._queue = queue
        self._wait = wait
        self._activity = activity
        self._trading_session_at = trading_session_at
        self._detector = StalenessDetector(2 * _EVERY)
        self._next_look_at = 0.0
        # By the count of ticks received before them, which is their place.
        self._due_reports: deque[tuple[int, Stale]] = deque()

    def __aiter__(self) -> Self:
        self._queue.begin_reading()
        return self

    async def __anext__(self) -> T | Gap | Dropped | Stale:
        inbox, buffer, loop = (
            self._queue,
            self._queue.buffer,
            asyncio.get_running_loop(),
        )
        while True:
            if loop.time() >= self._next_look_at:
                self._observe(loop.time())
            if (
                self._due_reports
                and buffer.received - len(buffer) >= self._due_reports[0][0]
            ):
                return self._due_reports.popleft()[1]
            if buffer.has_event and not inbox.needs_check:
                event: T | Gap | Dropped = buffer.take_event()
                return event
            await self._sleep()

    async def _sleep(self) -> None:
        scope = asyncio.timeout_at(self._next_look_at)
        try:
            async with scope:
                await self._wait()
        except TimeoutError:
            if not scope.expired():
                raise

    def _observe(self, now: float) -> None:
        inbox, wall = self._queue, time.time()
        self._next_look_at = now + _EVERY
        self._detector.retain(inbox.topics)
        for topic in sorted(inbox.topics):
            heard = self._activity(topic)
            part = self._trading_session_at(topic.symbol, int(wall))
            ticks = None if heard is None else heard.ticks
            found = self._detector.observe(topic, ticks, part, now)
            if heard is not None and found is not None:
                quiet, usual = found
                last = heard.received_at / 1e9 or wall - quiet
                since = datetime.fromtimestamp(last, UTC)
                stale = Stale(topic=topic, since=since, quiet=quiet, usual=usual)
                self._due_reports.append((inbox.buffer.received, stale))
