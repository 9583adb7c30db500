"""Ticks by the list, and by the frame."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from qos_async import frames
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async.frames.packages import Package, load
from qos_async.models import Tick

if TYPE_CHECKING:  # The first two are optional packages.
    import pandas as pd
    import polars as pl

    from qos_async.frames import Numbers

__all__ = ["Batches", "Frames"]

T = TypeVar("T", bound=Tick)
F_co = TypeVar("F_co", covariant=True)


class Batches(Generic[T]):
    """Lists of ticks, never empty, read with ``async for``.

    The methods turn each into a frame; the types of its columns never change. Besides
    what they raise at the call, the loop raises ``ValueError`` for a number that does
    not fit into its column, as ``qos_async.frames.to_polars`` does: such a batch is lost.
    """

    def __init__(
        self,
        inbox: SubscriptionQueue,
        wait: Callable[[], Awaitable[None]],
        *,
        max_items: int,
        max_wait: float,
    ) -> None:
        self._queue = inbox
        self._wait = wait  # A method: it keeps the subscription from being garbage.
        self._max_items = max_items
        self._max_wait = max_wait
        # When the buffer was last seen empty: what waits now came after that.
        self._empty_at = -math.inf

    def __aiter__(self) -> Self:
        self._queue.begin_reading()
        return self

    async def __anext__(self) -> list[T]:
        buffer, clock = self._queue.buffer, asyncio.get_running_loop().time
        while not buffer or self._queue.needs_check:
            buffer.skip_gaps()
            await self._wait()
            self._empty_at = clock()
        if len(buffer) < self._max_items:
            await self._fill(self._empty_at + self._max_wait)
        batch: list[T] = buffer.take_all(self._max_items)
        self._empty_at = -math.inf if buffer else clock()
        return batch

    async def _fill(self, until: float) -> None:
        buffer, inbox = self._queue.buffer, self._queue
        if until <= asyncio.get_running_loop().time():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while len(buffer) < self._max_items and not inbox.ended:
                    await inbox.wait(self._max_items)

    # Frames

    def to_polars(
        self, *, numbers: Numbers = float, explode: bool = False
    ) -> Frames[pl.DataFrame]:
        """Iterate over polars DataFrames instead.

        >>> async for frame in trades.batches(max_wait=1.0).to_polars():
        ...     print(frame.group_by("symbol").agg(pl.col("size").sum()))

        Args:
            numbers: As in ``qos_async.frames.to_polars``.
            explode: As in ``qos_async.frames.to_polars``.

        Raises:
            ModuleNotFoundError: Without polars; the message says how to install it.
            ValueError: Where one subscription mixes channels.
        """
        return self._frames(
            "polars", frames.to_polars, numbers=numbers, explode=explode
        )

    def to_pandas(
        self, *, numbers: Numbers = float, explode: bool = False
    ) -> Frames[pd.DataFrame]:
        """Iterate over pandas DataFrames instead; all else as in ``to_polars``."""
        return self._frames(
            "pandas", frames.to_pandas, numbers=numbers, explode=explode
        )

    def to_arrow(
        self, *, numbers: Numbers = float, explode: bool = False
    ) -> Frames[Any]:
        """Iterate over ``pyarrow.Table`` instead; all else as in ``to_polars``."""
        return self._frames(
            "pyarrow", frames.to_arrow, numbers=numbers, explode=explode
        )

    def _frames(
        self, package: Package, make: Callable[..., Any], **options: Any
    ) -> Frames[Any]:
        load(package)
        channels = sorted({topic.channel.value for topic in self._queue.topics})
        if len(channels) > 1:
            raise ValueError(
                f"a frame holds records of one kind, this subscription has {channels}: "
                "watch each channel with a subscription of its own"
            )
        return Frames(self, lambda batch: make(batch, **options))


class Frames(Generic[F_co]):
    """A frame for each batch of ticks, read with ``async for``."""

    def __init__(
        self,
        batches: AsyncIterator[list[Any]],
        make: Callable[[list[Any]], F_co],
    ) -> None:
        self._batches = batches
        self._make = make

    def __aiter__(self) -> Self:
        aiter(self._batches)
        return self

    async def __anext__(self) -> F_co:
        return self._make(await anext(self._batches))
