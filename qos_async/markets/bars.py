"""Klines from a stream of trades."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Generic, Protocol, Self, TypeAlias, cast

from qos_async._core.recovery.gaps import Dropped, Gap
from qos_async._core.stale import Stale
from qos_async._validation import check_number
from qos_async.enums import Interval
from qos_async.markets.building import Bar, Builder
from qos_async.markets.placing import Periods
from qos_async.markets.timetable import Calendar, Timetable
from qos_async.models import AnyTick, N, Trade

__all__ = ["Bar", "bars"]

Notice: TypeAlias = Gap | Dropped | Stale


class Watched(Protocol[N]):
    """What ``Client.watch_trades`` gives."""

    def events(self) -> AsyncIterator[Trade[N] | Gap | Dropped]:
        """Iterate over trades and notices."""
        ...


def bars(
    trades: Watched[N] | AsyncIterable[AnyTick[N] | Notice],
    interval: Interval | str,
    *,
    calendar: Calendar | None = None,
    growing: bool = False,
    close_after: float | None = None,
) -> AsyncIterator[Bar[N]]:
    """Build klines from trades, each given once, when it is over.

    >>> async with client.watch_trades("US:AAPL") as trades:
    ...     async for bar in bars(trades, "5m"):
    ...         print(bar.time, bar.close, bar.volume, bar.complete)

    **Where a bar starts.** Below a day: at the start of its session plus whole intervals,
    and it ends with its session at the latest. So the hours of the US are 9:30, 10:30, …,
    15:30 (half an hour), those of Hong Kong 9:30, 10:30, 11:30 (half an hour), 13:00, ….
    Extended hours have bars of their own; ``session`` tells. Trades of an opening auction
    count to the first bar of their session, those of a closing auction to the last. In a
    closed market, or where the hours are unknown (IX), bars are laid by the clock from
    local midnight. A day or longer: at local midnight of the market, as the service's
    klines do. In the US these hold regular hours only, the second 16:00:00 included: that
    of the closing auction. There is no bar of a time without a trade.

    **When a bar is over.** When a trade of its symbol comes that is stamped after it. A
    quiet symbol keeps its last bar waiting; ``close_after`` lets the clock decide. When
    the stream ends, what grows is given as it is, with ``final=False``.

    **What an outage does.** What was recovered comes right after its ``Gap``, and counts
    like any trade. A gap that was filled does no harm. Any other makes each bar
    incomplete that shares a second with it, two seconds added at both sides. ``Dropped``
    tells no time: it makes every bar incomplete from the trade before it to the next, of
    each symbol. So does a gap where stamps and this machine's clock are more than five
    seconds apart, as with a clock that is wrong or a market that is replayed faster. The
    first bar of a symbol is never complete: nobody knows what came before its first trade.

    **What comes late.** A trade that is stamped before the newest bar of its symbol is
    left out, and makes nothing incomplete: by its own order the tape has passed it.

    Args:
        trades: A subscription (its gaps are listened to), or any async iterable of
            trades and of what ``Subscription.events()`` gives; ticks of other channels
            are passed over. Numbers of any type: those of the bars are the same.
        interval: Such as ``"1m"`` or ``Interval.MIN_1``.
        calendar: Holidays and half days, as for ``sessions``.
        growing: Give the growing bar after each trade, too, with ``final=False``.
        close_after: Take a bar for over this many seconds after its end by this
            machine's clock, also if no trade comes; None waits for the trade. Should an
            outage have hidden trades of that bar, it is given a second time, with them.
            For subscriptions only.

    Raises:
        ValueError: For an unknown interval, a negative ``close_after``, or one without a
            subscription; for trades that cannot be iterated over, or a ``calendar`` that
            is none.
        ModuleNotFoundError: From the iterator, as for ``sessions``.
    """
    check_number("close_after", close_after, unit="seconds", optional=True)
    events: Any = getattr(trades, "events", None)
    if close_after is not None and events is None:
        raise ValueError(
            "close_after needs a subscription, such as client.watch_trades(...): only "
            "a live stream may be judged by the clock, not "
            f"{type(trades).__name__}"
        )
    if events is None and not isinstance(trades, AsyncIterable):
        raise ValueError(
            "trades must be a subscription, such as client.watch_trades(...), or an "
            f"async iterable of trades, not {type(trades).__name__}"
        )
    source = trades if events is None else events()
    periods = Periods(Interval.parse(interval), Timetable(calendar))
    builder = Builder[N](Interval.parse(interval), periods, growing=growing)
    return _Bars(cast("AsyncIterable[Any]", source), builder, close_after)


class _Bars(Generic[N]):
    def __init__(
        self,
        source: AsyncIterable[Any],
        builder: Builder[N],
        close_after: float | None,
    ) -> None:
        self._source = source
        self._events: AsyncIterator[Any] | None = None
        self._builder = builder
        self._close_after = close_after
        self._ready: deque[Bar[N]] = deque()

    def __aiter__(self) -> Self:
        self._events = aiter(self._source)
        return self

    async def __anext__(self) -> Bar[N]:
        ready = self._ready
        while not ready:
            try:
                ready.extend(await self._more())
            except StopAsyncIteration:
                ready.extend(self._builder.rest())
                if not ready:
                    raise
        return ready.popleft()

    async def _more(self) -> list[Bar[N]]:
        if self._events is None:
            self._events = aiter(self._source)
        builder, close_after = self._builder, self._close_after
        if close_after is None or (due := builder.due_at) is None:
            return builder.take(await anext(self._events))
        # What waits already is taken before the time is out, even if none is left.
        scope = asyncio.timeout(max(due + close_after - time.time(), 0))
        try:
            async with scope:
                event = await anext(self._events)
        except TimeoutError:
            if not scope.expired():
                raise
            return builder.close(time.time() - close_after)
        return builder.take(event)
