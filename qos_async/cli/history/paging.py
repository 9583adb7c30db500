"""Asking for the pages that are not there yet."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Protocol, Self

from qos_async import (
    Adjustment,
    Client,
    Kline,
    LimitError,
    RequestTimeoutError,
    TransportError,
)
from qos_async.cli.history.part import Part

__all__ = ["IGNORED", "OLDEST", "START", "Follower", "page_back"]

START = "start"
"""All bars down to the start are there."""
OLDEST = "oldest"
"""The server has no older ones."""
IGNORED = "ignored"
"""The server gives the newest bars only, whatever end it is asked for."""

_WAITS = (5, 15, 30, *[60] * 10)
"""Seconds between attempts in an outage, once the server has answered at all."""
_Page = list[Kline[str]]


class Follower(Protocol):
    """Shows how far a download is."""

    def page(self, part: Part) -> None:
        """Tell of a page more."""
        ...

    def note(self, text: str) -> None:
        """Tell why it does not go on just now."""
        ...


async def page_back(
    client: Client[str],
    part: Part,
    follower: Follower,
    clock: Callable[[], float] = time.time,
) -> None:
    """Fetch what is missing, newest first, and keep each page as it comes.

    Args:
        client: Whose numbers are ``str``: nothing is lost.
        part: Where the pages go, and what is asked.
        follower: Told of each page.
        clock: Epoch seconds.

    An outage on the way is waited out for ten minutes. Where not even the first page
    comes, nobody has to wait for being told.

    Raises:
        QosError: What the client gave up on; what came before is kept.
        OSError: If a page cannot be kept.
    """
    request = part.request
    if part.ended:
        return
    if part.oldest == request.start:
        part.finish(START)
        return
    told = _Once(follower)
    with _Notices(told) as notices:
        async with client.iter_history(
            request.symbol,
            interval=request.length,
            start=request.start,
            # The end is included; pages of ours begin where the last ones ended.
            end=request.end - 1 if part.oldest is None else part.oldest,
            adjust=Adjustment.FORWARD if request.adjusted else Adjustment.NONE,
        ) as pages:
            page = await anext(pages, None)
            while page is not None:
                bars = _new(page, part, clock())
                if bars:
                    part.add(bars)
                told.page(part)
                page = await _patiently(pages, told)
    if notices.warned:
        part.finish(IGNORED)
    elif part.oldest is not None:
        part.finish(START if part.oldest <= request.start else OLDEST)


async def _patiently(pages: AsyncIterator[_Page], follower: Follower) -> _Page | None:
    """Ask for a page until it comes; None: there is none."""
    for wait in _WAITS:
        try:
            return await anext(pages, None)
        except (LimitError, RequestTimeoutError, TransportError) as error:
            follower.note(f"{error}; waiting until it goes on")
            await asyncio.sleep(wait)
    return await anext(pages, None)


def _new(page: _Page, part: Part, now: float) -> _Page:
    """Leave out what is there already, and the newest bar while it still grows."""
    before = part.request.end if part.oldest is None else part.oldest
    bars = [bar for bar in page if bar.timestamp < before]
    while bars and bars[-1].end.timestamp() > now:
        bars.pop()
    return bars


class _Once:
    """Passes on why it does not go on, but once a page."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._reason = ""

    def page(self, part: Part) -> None:
        self._reason = ""
        self._follower.page(part)

    def note(self, text: str) -> None:
        reason = text.partition(";")[0]
        if reason != self._reason:
            self._reason = reason
            self._follower.note(text)


class _Notices(logging.Handler):
    """What the client tells by its log while it asks: nothing else says these things.

    Attributes:
        warned: Whether the server was seen to ignore the end it was asked for.
    """

    def __init__(self, follower: Follower) -> None:
        super().__init__()
        self.warned = False
        self._follower = follower
        self._logger = logging.getLogger("qos_async.http")
        self._level = self._logger.level

    def __enter__(self) -> Self:
        self._logger.addHandler(self)
        if not self._logger.isEnabledFor(logging.INFO):
            self._logger.setLevel(logging.INFO)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._logger.setLevel(self._level)
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.warned = True
        else:
            self._follower.note(record.getMessage())
