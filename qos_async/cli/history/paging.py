"""Paging back through the history of a symbol."""

from __future__ import annotations

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
) -> None:
    """Fetch the missing pages, newest first, and append each to the file.

    It waits for as long as it takes, see ``Client.iter_history``.

    Args:
        client: With ``numbers=str``, which is lossless.
        part: The file, and the request.
        progress: Where to report each page, and each wait.

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
    async with _pages(client, part, progress) as pages:
        async for page in pages:
            bars = _new(page, part, pages.server_time())
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
    client: Client[str], part: PartialDownload, progress: Progress
) -> HistoryPages[str]:
    request = part.request
    return client.iter_history(
        request.symbol,
        interval=request.length,
        start=request.start,
        # The end is included; pages of ours begin where the last ones ended.
        end=request.end - 1 if part.oldest is None else part.oldest,
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
