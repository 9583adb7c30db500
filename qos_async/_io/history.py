"""History pages: klines further back than one response reaches (section 4.7)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeAlias

import anyio
from msgspec.structs import replace

from qos_async import frames
from qos_async._core.queries import Queries, Query, epoch
from qos_async._core.rows import Unread
from qos_async._event_loop import running_loop
from qos_async.config import KLINES_MAX
from qos_async.enums import Adjustment, Interval
from qos_async.errors import DecodeError
from qos_async.frames.packages import Package, load
from qos_async.models import Kline, N
from qos_async.symbols import canonical

if TYPE_CHECKING:  # The first two are optional packages.
    import pandas as pd
    import polars as pl

    from qos_async.frames import Numbers

__all__ = ["HistoryPages"]

_CLOCKS_AGREE = 5
"""Seconds: a date of HTTP is one in whole seconds, of when the response was started."""
_log = logging.getLogger("qos_async.http")

Bars: TypeAlias = dict[str, list[Kline[N]]]


class HistoryPages(Generic[N]):
    """An asynchronous iterator over pages of klines, from ``end`` back to ``start``.

    Both ends are included. The newest page is first; within a page, time ascends; no
    bar is repeated and no page is empty. If a page fails, the next step requests it
    again. Only one task at a time may iterate.

    The iteration ends at ``start``, or when the server returns no older bars. The
    server was seen to ignore the requested end (``e`` in section 4.7) and to return the
    newest page each time: then the iteration ends after it, with a warning in the log
    ``qos_async.http``.

    ``await pages.to_polars()`` collects all pages that were not iterated over into one
    frame, oldest bar first. If one fails, the pages before it are kept for another
    call.

    Attributes:
        end_ignored: Whether a response had bars after the requested end. Then the pages
            may not reach back to ``start``.
    """

    def __init__(
        self,
        ask: Callable[[Query[Bars[N]]], Awaitable[Bars[N]]],
        queries: Queries[N],
        symbol: str,
        *,
        interval: Interval | str | int,
        start: datetime | float,
        end: datetime | float | None = None,
        adjust: Adjustment | int = Adjustment.NONE,
        clock: Callable[[], float] = time.time,
        ahead: Callable[[], float] = float,
    ) -> None:
        """Create the iterator; it sends no request yet.

        Args:
            ask: Sends one query, such as ``HttpClient.fetch``.
            queries: Builds the queries.
            symbol: One symbol.
            interval: Such as ``"1m"``.
            start: An aware datetime or epoch seconds.
            end: The same; None is now.
            adjust: The adjustment for dividends and splits.
            clock: Returns the current time in epoch seconds.
            ahead: Returns the seconds by which the server's clock is ahead of it, or
                behind if negative, as far as they are known; a response may show them.

        Raises:
            ValueError: For arguments that the document does not allow, or if ``start``
                is after ``end``.
        """
        self.end_ignored = False
        self._fetch = ask
        self._symbol = canonical(symbol)
        self._interval = Interval.parse(interval)
        self._query = partial(
            queries.history,
            [self._symbol],
            interval=self._interval,
            count=KLINES_MAX,
            adjust=adjust,
        )
        self._start = epoch(start)
        self._end = math.inf if end is None else epoch(end)
        self._clock, self._ahead = clock, ahead
        self._known_ahead: float | None = None
        if end is None:
            self._known_ahead = max(ahead(), 0.0)
            end = clock() + self._known_ahead
        self._next_end = epoch(end)
        self._oldest = math.inf
        self._done = False
        self._has_unread = False
        self._steps: set[anyio.CancelScope] = set()
        self._collected: list[list[Kline[N]]] = []
        if self._start > self._next_end:
            shown = end if self._known_ahead is None else "now"
            raise ValueError(f"start {start!r} is after end {shown!r}")
        self._next_query()  # Raises ValueError for what ``Queries`` rejects.

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Kline[N]]:
        while not self._done:
            result = await self._ask()
            if result is None:
                break
            if self._was_cut():
                continue
            page = self._accept_page(result.get(self._symbol, []))
            if page:
                return page
        raise StopAsyncIteration

    def server_time(self) -> float:
        """Return the present in epoch seconds, by the server's clock once it is known.

        The newest page may have a kline that is not over then.
        """
        return self._clock() + self._ahead()

    async def aclose(self) -> None:
        """End the iteration; a task that waits in it gets its end, too."""
        self._done = True
        for step in self._steps:
            step.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # Frames

    async def to_polars(self, *, numbers: Numbers = float) -> pl.DataFrame:
        """Return one polars DataFrame of all pages: time ascends, no bar is repeated.

        >>> pages = client.iter_history("US:AAPL", interval="1d", start=start)
        >>> bars = await pages.to_polars()

        It takes as long as the rate limit requires, with 1000 bars a request.

        Args:
            numbers: As in ``qos_async.frames.to_polars``.

        Raises:
            ModuleNotFoundError: Before any request, if polars is not installed; the
                message explains how to install it.
            QosError: As the ``fetch_*`` methods; pages already read are kept.
            ValueError: For a number that does not fit the type.
        """
        return frames.to_polars(
            await self._bars("polars"), numbers=numbers, kind=Kline, **self._layout()
        )

    async def to_pandas(self, *, numbers: Numbers = float) -> pd.DataFrame:
        """Return one pandas DataFrame; otherwise as ``to_polars``."""
        return frames.to_pandas(
            await self._bars("pandas"), numbers=numbers, kind=Kline, **self._layout()
        )

    async def to_arrow(self, *, numbers: Numbers = float) -> Any:
        """Return one ``pyarrow.Table``; otherwise as ``to_polars``."""
        return frames.to_arrow(
            await self._bars("pyarrow"), numbers=numbers, kind=Kline, **self._layout()
        )

    def _layout(self) -> dict[str, bool]:
        """Return which columns depend on what was requested."""
        return {"live": False, "dates": self._interval >= Interval.DAY}

    async def _bars(self, package: Package) -> list[Kline[N]]:
        load(package)
        async for page in self:
            self._collected.append(page)
        return [bar for page in reversed(self._collected) for bar in page]

    # Paging

    async def _ask(self) -> Bars[N] | None:
        """Return the response to the next query; None if closed meanwhile."""
        running_loop()  # Its error names what to do; that of anyio does not.
        with anyio.CancelScope() as step:
            self._steps.add(step)
            try:
                result = await self._fetch(self._next_query())
            finally:
                self._steps.discard(step)
            return None if self._done else result
        return None

    def _next_query(self) -> Query[Bars[N]]:
        [found] = self._query(end=self._next_end)

        def read(data: bytes, unread: list[Unread]) -> Bars[N]:
            bars = found.reader(data, unread)
            self._has_unread = any(one.lost for one in unread)
            return bars

        return replace(found, reader=read)

    def _was_cut(self) -> bool:
        """Whether the first end was in the past by the server's clock; if so, move it."""
        if self._known_ahead is None:
            return False
        known, self._known_ahead = self._known_ahead, None
        cut = int(max(self._ahead(), 0.0) - known)
        self._next_end += max(cut, 0)
        return cut > _CLOCKS_AGREE

    def _accept_page(self, bars: list[Kline[N]]) -> list[Kline[N]]:
        """Return the new bars of a response that are in range; go to the next page."""
        older = {
            bar.timestamp: bar for bar in bars if 0 != bar.timestamp < self._oldest
        }
        past_end = any(bar.timestamp > self._next_end for bar in bars)
        has_unplaced = any(bar.timestamp == 0 for bar in bars)
        if not older and not past_end and (self._has_unread or has_unplaced):
            raise DecodeError(
                f"/history: no new kline of {self._symbol} up to {self._next_end} can be "
                "read, so the history before that is not known"
            )
        # Where the end is now, the clocks may differ: the first page says nothing then.
        if math.isfinite(min(self._oldest, self._end)):
            self.end_ignored = self.end_ignored or past_end
        if not older:
            self._done = True
            if self.end_ignored:
                self._warn()
            return []
        self._oldest = self._next_end = min(older)
        self._done = self._done or self._oldest <= self._start
        return [bar for at, bar in older.items() if self._start <= at <= self._end]

    def _warn(self) -> None:
        _log.warning(
            "/history: the server ignored the end time %d for %s %s: bars older than "
            "that cannot be reached",
            self._next_end,
            self._symbol,
            self._interval.short,
        )
