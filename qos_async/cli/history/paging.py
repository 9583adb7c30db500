"""Paging back through the history of a symbol."""

from __future__ import annotations

from collections.abc import Callable

from qos_async import Adjustment, Client, HistoryPages, Kline
from qos_async.cli.history.partial import PartialDownload
from qos_async.cli.history.progress import Progress

__all__ = ["IGNORED", "OLDEST", "START", "page_back"]

START = "start"
"""All bars back to the start are there."""
OLDEST = "oldest"
"""The server has no older ones."""
IGNORED = "ignored"
"""The server returns only its newest bars, whatever end is requested."""


async def page_back(
    client: Client[str],
    part: PartialDownload,
    progress: Progress,
    *,
    end_at: Callable[[float], int] | None = None,
) -> None:
    """Fetch the missing pages, newest first, and append each to the file.

    It waits for as long as it takes, see ``Client.iter_history``.

    Args:
        client: With ``numbers=str``, which is lossless.
        part: The file, and the request.
        progress: Where to report each page, and each wait.
        end_at: Returns the requested end at a present of the service, where the end
            depends on that: its clock, which the first page shows, may be another one.

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
    if part.oldest is not None:
        end_at = None  # It was found by the run that has the newest pages.
    async with _pages(client, part, progress, up_to_now=end_at is not None) as pages:
        async for page in pages:
            now = pages.server_time()
            if end_at is not None:
                part.move_end(end_at(now))
                end_at = None
            bars = _new(page, part, now)
            if bars:
                part.add(bars)
            progress.page()
    if part.oldest is not None and part.oldest <= start:
        part.finish(START)
    elif pages.end_ignored:
        part.finish(IGNORED)
    elif part.oldest is not None:
        part.finish(OLDEST)


def _pages(
    client: Client[str],
    part: PartialDownload,
    progress: Progress,
    *,
    up_to_now: bool,
) -> HistoryPages[str]:
    request = part.request
    end = request.end - 1 if part.oldest is None else part.oldest
    return client.iter_history(
        request.symbol,
        interval=request.length,
        start=request.start,
        # The end is included; pages of ours begin where the last ones ended.
        end=None if up_to_now else end,
        adjust=Adjustment.FORWARD if request.adjusted else Adjustment.NONE,
        on_wait=lambda error, seconds: progress.waiting(str(error), seconds),
    )


def _new(page: list[Kline[str]], part: PartialDownload, now: float) -> list[Kline[str]]:
    """Return the bars that are not there yet and are over."""
    before = part.request.end if part.oldest is None else part.oldest
    bars = [bar for bar in page if bar.timestamp < before]
    while bars and bars[-1].end.timestamp() > now:
        bars.pop()
    return bars
