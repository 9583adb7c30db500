"""Reads a client into a model.

Everything is watched for every symbol, a frame for each channel: four in all, and then
no key costs one but the change of the interval. What is on the screen in the first
second is fetched over HTTP meanwhile, which the pace of the stream does not slow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from qos_async import (
    AuthenticationError,
    Client,
    DropOldest,
    Dropped,
    Gap,
    Latest,
    LimitError,
    QosError,
    RejectedError,
    Stale,
    Subscription,
    Topic,
)
from qos_async.cli.tally import AnyTick
from qos_async.cli.watch.model import Model

__all__ = ["Feed"]

_TURN = 0.1
"""Seconds between two looks at what has come: buffers fold what nobody can see."""
_PATIENCE = 4.0
"""Seconds for a question over HTTP: ten a minute are soon used up."""
_SETTLE = 0.3
"""Seconds in which a key may be pressed again before an interval counts as chosen."""
_TRADES = 2_000
_KLINES = 5_000
_PAST_TRADES = 50
_PAST_KLINES = 300


class Feed:
    """Keeps a model up to date.

    Args:
        client: An open client; ``Decimal`` numbers.
        model: What to write into.
    """

    def __init__(self, client: Client, model: Model) -> None:
        self._client = client
        self._model = model
        self._rechosen = asyncio.Event()

    def rechoose(self) -> None:
        """Follow the model to another interval."""
        self._rechosen.set()

    def look(self, now: float) -> None:
        """Bring the counters of the client into the model."""
        self._model.measure(self._client.stats, now)

    async def run(self) -> None:
        """Read until cancelled.

        Raises:
            ExceptionGroup: Of the errors that no waiting helps against: the first
                attempt to connect failed, the key or all symbols were refused, the plan
                is too small.
        """
        states = self._client.states()  # Before there is a link, to see its first move.
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(states))
            tasks.create_task(self._fill(self._fill_snapshots))
            tasks.create_task(self._fill(self._fill_trades))
            await self._client.connect()
            tasks.create_task(self._read(self._watch_state()))
            tasks.create_task(self._read(self._watch_trades()))
            tasks.create_task(self._read_klines())

    def _watch_state(self) -> Subscription[Any]:
        topics = [
            Topic(channel, symbol)
            for channel in ("snapshot", "depth")
            for symbol in self._model.symbols
        ]
        return self._client.watch(*topics, buffer=Latest())

    def _watch_trades(self) -> Subscription[Any]:
        symbols = self._model.symbols
        return self._client.watch_trades(*symbols, buffer=DropOldest(_TRADES))

    async def _follow(self, states: AsyncIterator[Any]) -> None:
        async for change in states:
            self._model.move(change, time.time())

    async def _read(self, subscription: Subscription[Any]) -> None:
        while True:
            try:
                await self._take(subscription)
            except LimitError:
                raise
            except RejectedError as error:
                self._model.note(error.symbols, f"refused: {error.message}")
                if len(self._model.notes) == len(self._model.symbols):
                    raise
            else:
                return

    async def _take(self, subscription: Subscription[Any]) -> None:
        """Put what comes into the model, in turns; ends with the subscription."""
        events = subscription.events(stale=True)
        waiting = 0
        async for event in events:
            self._put(event)
            if waiting:
                waiting -= 1
            elif not (waiting := subscription.stats.backlog):
                await asyncio.sleep(_TURN)

    def _put(self, event: AnyTick | Gap | Dropped | Stale) -> None:
        now = time.time()
        if isinstance(event, Gap):
            self._model.gap(event, now)
        elif isinstance(event, Dropped):
            self._model.drop(event.count)
        elif isinstance(event, Stale):
            self._model.quiet(event, now)
        else:
            self._model.put(event, now)

    async def _read_klines(self) -> None:
        """Watch the klines of the interval that is chosen, until another one is."""
        model = self._model
        while True:
            self._rechosen.clear()
            subscription = self._client.watch_klines(
                *model.symbols,
                interval=model.interval,
                buffer=DropOldest(_KLINES),
            )
            async with asyncio.TaskGroup() as tasks:
                reading = [
                    tasks.create_task(self._read(subscription)),
                    tasks.create_task(self._fill(self._fill_klines)),
                ]
                await self._rechosen.wait()
                for task in reading:
                    task.cancel()
            await subscription.aclose()
            await asyncio.sleep(_SETTLE)

    # The past

    async def _fill(self, fetch: Callable[[str], Awaitable[None]]) -> None:
        """Fetch over HTTP; if that fails or has to wait for the plan, over the stream."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await fetch("http")
        except AuthenticationError:
            raise
        except (QosError, TimeoutError):
            try:
                await fetch("stream")
            except AuthenticationError:
                raise
            except QosError as error:
                self._model.news.tell(f"no past: {error}", time.time())

    async def _fill_snapshots(self, via: Any) -> None:
        model = self._model
        quotes = await self._client.fetch_snapshots(*model.symbols, via=via)
        for quote in quotes.values():
            model.set_past(quote)
        model.note(quotes.missing, "the service has nothing under this symbol")
        for book in (await self._client.fetch_depth(*model.symbols, via=via)).values():
            model.put(book, time.time())

    async def _fill_trades(self, via: Any) -> None:
        trades = await self._client.fetch_trades(
            *self._model.symbols, count=_PAST_TRADES, via=via
        )
        for symbol, past in trades.items():
            self._model.fill(symbol, past)

    async def _fill_klines(self, via: Any) -> None:
        model, interval = self._model, self._model.interval
        klines = await self._client.fetch_klines(
            *model.symbols, interval=interval, count=_PAST_KLINES, via=via
        )
        if interval is model.interval:
            for symbol, past in klines.items():
                model.bars.fill(symbol, past)
