"""Paging back through the history of a symbol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from qos_async import (
    Adjustment,
    Client,
    HistoryPages,
    Kline,
    LimitError,
    RequestTimeoutError,
    TransportError,
)
from qos_async.cli.history.partial import PartialDownload
from qos_async.cli.history.progress import Progress

__all__ = ["IGNORED", "OLDEST", "START", "page_back"]

START = "start"
"""All bars back to the start are there."""
OLDEST = "oldest"
"""The server has no older ones."""
IGNORED = "ignored"
"""The server returns only its newest bars, whatever end is requested."""

_WAITS = (5, 15, 30, *[60] * 10)
"""Seconds between attempts in an outage, after the first page."""


async def page_back(
    client: Client[str],
    part: PartialDownload,
    progress: Progress,
    clock: Callable[[], float] = time.time,
) -> None:
    """Fetch the missing pages, newest first, and append each to the file.

    An outage is waited out for ten minutes, but not before the first page.

    Args:
        client: With ``numbers=str``, which is lossless.
        part: The file, and the request.
        progress: Where to report each page.
        clock: Epoch seconds.

    Raises:
        QosError: When the client gives up; earlier pages are kept.
        PartError: If a page cannot be written.
    """
    if part.ended:
        return
    start = part.request.start
    if part.oldest == start:
        part.finish(START)
        return
    async with _pages(client, part) as pages:
        page = await anext(pages, None)
        while page is not None:
            bars = _new(page, part, clock())
            if bars:
                part.add(bars)
            progress.page()
            page = await _next_with_retry(pages, progress)
    if part.oldest is not None and part.oldest <= start:
        part.finish(START)
    elif pages.end_ignored:
        part.finish(IGNORED)
    elif part.oldest is not None:
        part.finish(OLDEST)


def _pages(client: Client[str], part: PartialDownload) -> HistoryPages[str]:
    request = part.request
    return client.iter_history(
        request.symbol,
        interval=request.length,
        start=request.start,
        # The end is included; pages of ours begin where the last ones ended.
        end=request.end - 1 if part.oldest is None else part.oldest,
        adjust=Adjustment.FORWARD if request.adjusted else Adjustment.NONE,
    )


async def _next_with_retry(
    pages: AsyncIterator[list[Kline[str]]], progress: Progress
) -> list[Kline[str]] | None:
    """Return the next page, waiting out an outage; None after the last page."""
    for wait in _WAITS:
        try:
            return await anext(pages, None)
        except (LimitError, RequestTimeoutError, TransportError) as error:
            progress.note(f"{error}; waiting to retry")
            await asyncio.sleep(wait)
    return await anext(pages, None)


def _new(page: list[Kline[str]], part: PartialDownload, now: float) -> list[Kline[str]]:
    """Return the bars that are not there yet and are over."""
    before = part.request.end if part.oldest is None else part.oldest
    bars = [bar for bar in page if bar.timestamp < before]
    while bars and bars[-1].end.timestamp() > now:
        bars.pop()
    return bars
