"""Reader of ``qos watch``: a client's ticks, events and history, written into a model.

All channels of all symbols are subscribed, one frame a channel: four frames. After that
only a change of the interval costs frames. The screen is filled over HTTP meanwhile,
which the command pace of the stream does not delay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from qos_async import (
    AuthenticationError,
    Client,
    ClosedError,
    DropOldest,
    Dropped,
    Gap,
    Interrupted,
    Latest,
    LimitError,
    QosError,
    Rejected,
    RejectedError,
    RequestTimeoutError,
    Stale,
    Subscription,
    Tick,
    Topic,
)
from qos_async.cli.watch.model import Model
from qos_async.models import AnyTick

__all__ = ["MarketReader"]

_POLL_INTERVAL = 0.1
"""Seconds between reads: until then the buffers conflate what would not be seen."""
_HTTP_TIMEOUT = 4.0
"""Seconds until a request goes over the stream instead: the free plan allows ten HTTP
requests a minute, and the next one waits for the quota."""
_INTERVAL_DEBOUNCE = 0.3
"""Seconds after a change of the interval in which another key press may follow."""
_TRADE_BUFFER = 2_000
_KLINE_BUFFER = 5_000
_INITIAL_TRADES = 50
_INITIAL_KLINES = 300


class MarketReader:
    """Writes what a client receives into a model.

    Args:
        client: Open, with ``Decimal`` numbers.
        model: The model to write into.
    """

    def __init__(self, client: Client, model: Model) -> None:
        self._client = client
        self._model = model
        self._interval_changed = asyncio.Event()

    def on_interval_changed(self) -> None:
        """Subscribe the klines of the interval that the model has now."""
        self._interval_changed.set()

    def update_stats(self, now: float) -> None:
        """Write the client's counters into the model."""
        self._model.update_stats(self._client.stats, now)

    async def run(self) -> None:
        """Read until cancelled.

        Raises:
            ExceptionGroup: Of errors that retrying cannot solve: the first attempt to
                connect failed, the key or all symbols were rejected, or the plan is too
                small.
        """
        states = self._client.states()  # Before connecting: the first state counts.
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_states(states))
            tasks.create_task(self._fetch(self._fetch_snapshots))
            tasks.create_task(self._fetch(self._fetch_trades))
            await self._client.connect()
            tasks.create_task(
                self._read_until_accepted(self._watch_snapshots_and_depth())
            )
            tasks.create_task(self._read_until_accepted(self._watch_trades()))
            tasks.create_task(self._read_klines())

    def _watch_snapshots_and_depth(self) -> Subscription[Any]:
        topics = [
            Topic(channel, symbol)
            for channel in ("snapshot", "depth")
            for symbol in self._model.symbols
        ]
        return self._client.watch(*topics, buffer=Latest())

    def _watch_trades(self) -> Subscription[Any]:
        symbols = self._model.symbols
        return self._client.watch_trades(*symbols, buffer=DropOldest(_TRADE_BUFFER))

    async def _read_states(self, states: AsyncIterator[Any]) -> None:
        async for change in states:
            self._model.on_state(change, time.time())

    async def _read_until_accepted(self, subscription: Subscription[Any]) -> None:
        """Read events; go on without the symbols that the server rejects."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._check_limits(subscription))
            try:
                await self._read_events(subscription)
            except LimitError:
                raise
            except RejectedError:  # The notes were added by its ``Rejected`` events.
                if len(self._model.notes) == len(self._model.symbols):
                    raise

    @staticmethod
    async def _check_limits(subscription: Subscription[Any]) -> None:
        """Raise ``LimitError`` if the server rejects a symbol because of the plan."""
        try:
            await subscription.ready()
        except LimitError:
            raise
        except (RejectedError, RequestTimeoutError, ClosedError):
            pass  # Reported by the events, or repeated by the client.

    async def _read_events(self, subscription: Subscription[Any]) -> None:
        """Apply events in bursts, ``_POLL_INTERVAL`` apart, until the subscription ends."""
        events = subscription.events(stale=True)
        left = 0  # Of the burst: what was buffered when it began.
        async for event in events:
            self._apply(event)
            if left:
                left -= 1
            elif not (left := subscription.stats.backlog):
                await asyncio.sleep(_POLL_INTERVAL)

    def _apply(
        self, event: AnyTick | Gap | Interrupted | Rejected | Dropped | Stale
    ) -> None:
        now = time.time()
        match event:
            case Gap():
                self._model.on_gap(event, now)
            case Dropped(count):
                self._model.tape.dropped += count
            case Stale():
                self._model.on_stale(event, now)
            case Rejected(topic, message):
                self._model.add_note([topic.symbol], f"rejected: {message}")
            case Interrupted():
                pass  # The state of the link is on the screen.
            case Tick():
                self._model.on_tick(event, now)

    async def _read_klines(self) -> None:
        """Read klines of the selected interval, anew after each change of it."""
        model = self._model
        while True:
            self._interval_changed.clear()
            subscription = self._client.watch_klines(
                *model.symbols,
                interval=model.interval,
                buffer=DropOldest(_KLINE_BUFFER),
            )
            async with asyncio.TaskGroup() as tasks:
                reading = [
                    tasks.create_task(self._read_until_accepted(subscription)),
                    tasks.create_task(self._fetch(self._fetch_klines)),
                ]
                await self._interval_changed.wait()
                for task in reading:
                    task.cancel()
            await subscription.aclose()
            await asyncio.sleep(_INTERVAL_DEBOUNCE)

    # What happened before

    async def _fetch(self, fetch: Callable[[str], Awaitable[None]]) -> None:
        """Fetch over HTTP; if that fails or waits for the quota, over the stream."""
        try:
            async with asyncio.timeout(_HTTP_TIMEOUT):
                await fetch("http")
        except AuthenticationError:
            raise
        except (QosError, TimeoutError):
            try:
                await fetch("stream")
            except AuthenticationError:
                raise
            except QosError as error:
                self._model.event_log.add(f"no history: {error}", time.time())

    async def _fetch_snapshots(self, via: Any) -> None:
        model = self._model
        quotes = await self._client.fetch_snapshots(*model.symbols, via=via)
        for quote in quotes.values():
            model.set_initial(quote)
        model.add_note(quotes.missing, "the service does not have this symbol")
        for book in (await self._client.fetch_depth(*model.symbols, via=via)).values():
            model.on_tick(book, time.time())

    async def _fetch_trades(self, via: Any) -> None:
        trades = await self._client.fetch_trades(
            *self._model.symbols, count=_INITIAL_TRADES, via=via
        )
        for symbol, fetched in trades.items():
            self._model.backfill(symbol, fetched)

    async def _fetch_klines(self, via: Any) -> None:
        model, interval = self._model, self._model.interval
        klines = await self._client.fetch_klines(
            *model.symbols, interval=interval, count=_INITIAL_KLINES, via=via
        )
        if interval is model.interval:  # It may have changed meanwhile.
            for symbol, fetched in klines.items():
                model.bars.backfill(symbol, fetched)
