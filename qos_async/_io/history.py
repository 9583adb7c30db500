"""Klines further back than one answer reaches."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Self, TypeAlias

from qos_async import frames
from qos_async._core.queries import Queries, Query, epoch
from qos_async.config import KLINES_MAX
from qos_async.enums import Adjustment, Interval
from qos_async.frames.packages import Package, load
from qos_async.models import Kline, N
from qos_async.symbols import canonical

if TYPE_CHECKING:  # The first two are optional packages.
    import pandas as pd
    import polars as pl

    from qos_async.frames import Numbers

__all__ = ["HistoryPages"]

_log = logging.getLogger("qos_async.http")

Bars: TypeAlias = dict[str, list[Kline[N]]]


class HistoryPages(Generic[N]):
    """Pages of klines from ``end`` back to ``start``, both included.

    The newest page comes first; within a page, time ascends; no bar comes twice and no
    page is empty. A page that fails is asked for again by the next step. One task at a
    time may step.

    It ends at ``start``, or when the server has nothing older: it was seen to ignore
    the end it was asked for, and then gives the same page for ever (section 4.7). That
    is told by a warning in the log ``qos_async.http``.

    ``await pages.to_polars()`` reads all pages that were not iterated over into one
    frame, oldest bar first. Should one fail, the pages before it are kept: call again.
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
    ) -> None:
        """Ask nothing yet.

        Args:
            ask: How to ask one question, such as ``HttpSession.ask``.
            queries: How to put it.
            symbol: One symbol.
            interval: Such as ``"1m"``.
            start: An aware datetime or epoch seconds.
            end: The same; None is now.
            adjust: For dividends and splits.
            clock: Epoch seconds.

        Raises:
            ValueError: For what the document does not allow, or a start after the end.
        """
        self._fetch = ask
        self._queries = queries
        self._symbol = canonical(symbol)
        self._interval = Interval.parse(interval)
        self._adjust = adjust
        self._start = epoch(start)
        self._end = math.inf if end is None else epoch(end)
        self._next_end = epoch(clock()) if end is None else epoch(end)
        self._oldest = math.inf
        self._done = False
        self._collected: list[list[Kline[N]]] = []
        if self._start > self._next_end:
            raise ValueError(f"start {start!r} is after end {end or 'now'!r}")
        self._next_query()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Kline[N]]:
        while not self._done:
            answer = await self._fetch(self._next_query())
            page = self._accept_page(answer.get(self._symbol, []))
            if page:
                return page
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the iteration."""
        self._done = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    # Frames

    async def to_polars(self, *, numbers: Numbers = float) -> pl.DataFrame:
        """Make one polars DataFrame of all pages: time ascends, no bar comes twice.

        >>> pages = client.iter_history("US:AAPL", interval="1d", start=start)
        >>> bars = await pages.to_polars()

        It takes as long as the rate limit has it: a thousand bars a request.

        Args:
            numbers: As in ``qos_async.frames.to_polars``.

        Raises:
            ModuleNotFoundError: Before any request, without polars; the message says
                how to install it.
            QosError: As the ``fetch_*`` verbs; what was read is kept for another call.
            ValueError: For a number that does not fit.
        """
        return frames.to_polars(await self._bars("polars"), numbers=numbers, kind=Kline)

    async def to_pandas(self, *, numbers: Numbers = float) -> pd.DataFrame:
        """Make one pandas DataFrame; all else as in ``to_polars``."""
        return frames.to_pandas(await self._bars("pandas"), numbers=numbers, kind=Kline)

    async def to_arrow(self, *, numbers: Numbers = float) -> Any:
        """Make one ``pyarrow.Table``; all else as in ``to_polars``."""
        return frames.to_arrow(await self._bars("pyarrow"), numbers=numbers, kind=Kline)

    async def _bars(self, package: Package) -> list[Kline[N]]:
        load(package)
        async for page in self:
            self._collected.append(page)
        return [bar for page in reversed(self._collected) for bar in page]

    # Paging

    def _next_query(self) -> Query[Bars[N]]:
        [query] = self._queries.history(
            [self._symbol],
            interval=self._interval,
            end=self._next_end,
            count=KLINES_MAX,
            adjust=self._adjust,
        )
        return query

    def _accept_page(self, bars: list[Kline[N]]) -> list[Kline[N]]:
        older = {
            bar.timestamp: bar for bar in bars if 0 != bar.timestamp < self._oldest
        }
        if not older:
            self._done = True
            if any(bar.timestamp > self._next_end for bar in bars):
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
