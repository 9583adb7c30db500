"""Iterators over bars: of a stream, and of trades of the past."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterable, AsyncIterator, Generator
from typing import Any, Generic, Protocol, Self

from qos_async._clock import MachineClock, SourceClock
from qos_async.markets.bar import Bar
from qos_async.markets.rows import rows_of, trade_of
from qos_async.models import Kline, N, Trade

__all__ = ["BarIterator", "PastBars"]

_MACHINE_CLOCK = MachineClock()
# From so many steps back in time, and none ahead, trades are taken as newest first.
_STEPS_BACK = 3


class _Builder(Protocol[N]):
    @property
    def left_out(self) -> int: ...
    @property
    def due_at(self) -> float | None: ...
    def push(self, event: object) -> list[Bar[N]]: ...
    def close(self, second: float) -> list[Bar[N]]: ...
    def flush(self) -> list[Bar[N]]: ...


class BarIterator(Generic[N]):
    """Bars built from trades, read with ``async for``; ``bars`` returns one."""

    def __init__(
        self,
        source: AsyncIterable[Any],
        builder: _Builder[N],
        close_after: float | None,
    ) -> None:
        self._source = source
        self._events: AsyncIterator[Any] | None = None
        self._builder = builder
        self._close_after = close_after
        self._ready: deque[Bar[N]] = deque()
        self._closed = False

    def __aiter__(self) -> Self:
        self._events = aiter(self._source)
        return self

    @property
    def left_out(self) -> int:
        """The trades left out so far because their timestamps cannot be right."""
        return self._builder.left_out

    async def aclose(self) -> None:
        """End this iterator, and the events that it reads; the subscription stays."""
        self._closed = True
        self._ready.clear()
        close = getattr(self._events or self._source, "aclose", None)
        if close is not None:
            await close()

    async def __anext__(self) -> Bar[N]:
        ready = self._ready
        if self._closed:
            raise StopAsyncIteration
        while not ready:
            try:
                ready.extend(await self._next_bars())
            except StopAsyncIteration:
                if not self._closed:
                    ready.extend(self._last_bars())
                if not ready:
                    raise
        return ready.popleft()

    async def _next_bars(self) -> list[Bar[N]]:
        if self._events is None:
            self._events = aiter(self._source)
        builder, close_after = self._builder, self._close_after
        if close_after is None:
            return builder.push(await anext(self._events))
        due = builder.due_at
        if due is None or getattr(self._events, "has_next", False):
            event = await anext(self._events)
        else:
            event = await self._next_event_until(due + close_after, self._events)
        if event is None:
            return builder.close(max(self._clock.time() - close_after, due or 0.0))
        received_at = getattr(event, "received_at", 0)
        if not received_at:
            return builder.push(event)
        # So the bars do not depend on when this task got to run.
        return builder.close(received_at / 1e9 - close_after) + builder.push(event)

    async def _next_event_until(
        self, time: float, events: AsyncIterator[Any]
    ) -> object | None:
        """Return the next event; None if that time comes first."""
        loop, clock = asyncio.get_running_loop(), self._clock
        scope = asyncio.timeout(None)
        try:
            async with scope:
                timer = clock.call_later(
                    max(time - clock.time(), 0), lambda: scope.reschedule(loop.time())
                )
                try:
                    return await anext(events)
                finally:
                    timer.cancel()
        except TimeoutError:
            if not scope.expired():
                raise
            return None

    def _last_bars(self) -> list[Bar[N]]:
        over: list[Bar[N]] = []
        if self._close_after is not None:
            over = self._builder.close(self._clock.time() - self._close_after)
        return over + self._builder.flush()

    @property
    def _clock(self) -> SourceClock:
        found: SourceClock | None = getattr(self._events, "clock", None)
        return _MACHINE_CLOCK if found is None else found


class PastBars(Generic[N]):
    """Bars built from trades of the past; ``bars`` returns one.

    It is read with ``for``. ``async for`` works, too, and never waits, so that a function
    for a live subscription takes it.
    """

    def __init__(self, source: object, builder: _Builder[N]) -> None:
        self._builder = builder
        self._bars = self._built(source)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Bar[N]:
        return next(self._bars)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Bar[N]:
        try:
            return next(self._bars)
        except StopIteration:
            raise StopAsyncIteration from None

    @property
    def left_out(self) -> int:
        """The trades left out so far because their timestamps cannot be right."""
        return self._builder.left_out

    def close(self) -> None:
        """End this iterator."""
        self._bars.close()

    async def aclose(self) -> None:
        """End this iterator, as ``close`` does."""
        self.close()

    def _built(self, source: object) -> Generator[Bar[N]]:
        order = _Order()
        for row in rows_of(source):
            event = trade_of(row)
            order.check(event)
            yield from self._builder.push(event)
        if order.has_only_klines:
            raise ValueError(
                "bars builds bars from trades, and these are klines: longer bars of "
                "klines are made by qos_async.markets.resample"
            )
        yield from self._builder.flush()


class _Order:
    """Finds trades that are newest first, and klines in the place of trades."""

    def __init__(self) -> None:
        self._newest: dict[str, float] = {}
        self._steps_back: defaultdict[str, int] = defaultdict(int)
        self._ahead: set[str] = set()
        self._has_klines = False

    @property
    def has_only_klines(self) -> bool:
        return self._has_klines and not self._newest

    def check(self, event: object) -> None:
        self._has_klines = self._has_klines or isinstance(event, (Kline, Bar))
        if isinstance(event, Trade):
            self._check_trade(event.symbol, event.timestamp)

    def _check_trade(self, symbol: str, second: float) -> None:
        before = self._newest.get(symbol, second)
        self._newest[symbol] = second
        if second > before:
            self._ahead.add(symbol)
        elif second < before and symbol not in self._ahead:
            self._steps_back[symbol] += 1
            if self._steps_back[symbol] >= _STEPS_BACK:
                raise ValueError(
                    f"the trades of {symbol} are newest first: bars needs them oldest "
                    "first, such as reversed(trades), or the frame sorted by time"
                )
