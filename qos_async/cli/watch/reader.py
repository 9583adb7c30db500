"""Reader of ``qos watch``: a client's ticks, events and history, written into a model.

All channels of all symbols are subscribed, one frame a channel: four frames. After that
only a change of the interval costs frames. The screen is filled over HTTP meanwhile,
which the command pace of the stream does not delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from qos_async import (
    AuthenticationError,
    Client,
    ClosedError,
    ConnectError,
    DropOldest,
    Dropped,
    Gap,
    Interrupted,
    Latest,
    LimitError,
    LinkState,
    QosError,
    Rejected,
    RejectedError,
    RequestTimeoutError,
    Stale,
    StateChange,
    Subscription,
    Tick,
    Topic,
)
from qos_async._wording import did_you_mean
from qos_async.cli.client import message_of
from qos_async.cli.formatting import other_spelling
from qos_async.cli.watch.model import Model
from qos_async.models import AnyTick
from qos_async.recordings import Follow

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


_MakeTopics = Callable[[Sequence[str]], list[Any]]
"""Returns what ``Subscription.add`` takes for these symbols."""


def _snapshots_and_depth(symbols: Sequence[str]) -> list[Any]:
    return [Topic(one, symbol) for one in ("snapshot", "depth") for symbol in symbols]


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
        self._is_current = True
        self._live: dict[str, tuple[Subscription[Any], _MakeTopics]] = {}

    def on_interval_changed(self) -> None:
        """Subscribe the klines of the interval that the model has now."""
        self._interval_changed.set()

    async def add(self, *symbols: str) -> None:
        """Watch more symbols; without room for them they are removed again."""
        new = [symbol for symbol in symbols if symbol not in self._model.symbols]
        for symbol in symbols:
            self._model.add_symbol(symbol)
        if not new:
            return
        adding = [
            subscription.add(*topics(new))
            for subscription, topics in self._live.values()
        ]
        for error in await asyncio.gather(*adding, return_exceptions=True):
            if isinstance(error, LimitError):
                names = ", ".join(new)
                text = f"{names}: the plan is full: - removes one, or --symbols-limit"
                self._model.event_log.add(text, time.time())
                await self.remove(*new)
                return
            # Rejected symbols have a note; what was closed begins anew with all symbols.
            if error and not isinstance(error, QosError):
                raise error
        for fetch in (self._fetch_snapshots, self._fetch_trades, self._fetch_klines):
            await self._fetch(partial(fetch, new))

    async def remove(self, *symbols: str) -> None:
        """Watch these symbols no longer."""
        for symbol in symbols:
            self._model.remove_symbol(symbol)
        for subscription, topics in self._live.values():
            with contextlib.suppress(ClosedError):
                await subscription.remove(*topics(symbols))

    async def dial_now(self) -> None:
        """Connect at once instead of after the back-off; the model has the result."""
        with contextlib.suppress(ConnectError, AuthenticationError, ClosedError):
            await self._client.connect()

    def update_stats(self, now: float) -> None:
        """Write the client's counters into the model."""
        self._model.update_stats(self._client.stats, now)
        if isinstance(self._client, Follow) and self._client.live:
            self._follow_readable(self._client, now)

    def _follow_readable(self, client: Follow, now: float) -> None:
        """Show as a lost link that a recording cannot be read for now."""
        if client.current == self._is_current:
            return
        self._is_current = client.current
        state, reason = client.state, ""
        if not self._is_current:
            state, reason = LinkState.BACKOFF, "the recording cannot be read now"
        self._model.on_state(StateChange(state, reason), now)

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
            symbols = self._model.symbols
            tasks.create_task(self._fetch(partial(self._fetch_snapshots, symbols)))
            tasks.create_task(self._fetch(partial(self._fetch_trades, symbols)))
            await self._client.connect()
            tasks.create_task(
                self._read_until_accepted(self._watch_snapshots_and_depth())
            )
            tasks.create_task(self._read_until_accepted(self._watch_trades()))
            tasks.create_task(self._read_klines())

    def _watch_snapshots_and_depth(self) -> Subscription[Any]:
        topics = _snapshots_and_depth(self._model.symbols)
        subscription = self._client.watch(*topics, buffer=Latest())
        self._live["quotes"] = subscription, _snapshots_and_depth
        return subscription

    def _watch_trades(self) -> Subscription[Any]:
        symbols = self._model.symbols
        buffer = DropOldest(_TRADE_BUFFER)
        subscription = self._client.watch_trades(*symbols, buffer=buffer)
        self._live["trades"] = subscription, list
        return subscription

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
            self._live["klines"] = subscription, list
            klines = partial(self._fetch_klines, model.symbols)
            async with asyncio.TaskGroup() as tasks:
                reading = [
                    tasks.create_task(self._read_until_accepted(subscription)),
                    tasks.create_task(self._fetch(klines)),
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
                text = f"no history: {message_of(error)}"
                self._model.event_log.add(text, time.time())

    async def _fetch_snapshots(self, symbols: Sequence[str], via: Any) -> None:
        model = self._model
        quotes = await self._client.fetch_snapshots(*symbols, via=via)
        for quote in quotes.values():
            model.set_initial(quote)
        self._note_missing(quotes.missing)
        for book in (await self._client.fetch_depth(*symbols, via=via)).values():
            model.on_tick(book, time.time())

    def _note_missing(self, symbols: Sequence[str]) -> None:
        """Show in the rows of symbols that there will be nothing, and why."""
        if isinstance(self._client, Follow):
            recorded = {topic.symbol for topic in self._client.topics}
            others = [symbol for symbol in symbols if symbol not in recorded]
            self._model.add_note(others, "not in the recording")
            return
        for symbol in symbols:
            meant = other_spelling(symbol)
            note = f"no such symbol{did_you_mean(meant)}"
            self._model.add_note(
                [symbol], note if meant else "the service does not have this symbol"
            )

    async def _fetch_trades(self, symbols: Sequence[str], via: Any) -> None:
        trades = await self._client.fetch_trades(
            *symbols, count=_INITIAL_TRADES, via=via
        )
        for symbol, fetched in trades.items():
            self._model.backfill(symbol, fetched)

    async def _fetch_klines(self, symbols: Sequence[str], via: Any) -> None:
        model, interval = self._model, self._model.interval
        if isinstance(self._client, Follow) and not any(
            topic.interval is interval for topic in self._client.topics
        ):
            text = f"klines of {interval} are not recorded"
            model.event_log.add(text, time.time())
        klines = await self._client.fetch_klines(
            *symbols, interval=interval, count=_INITIAL_KLINES, via=via
        )
        if interval is model.interval:  # It may have changed meanwhile.
            for symbol, fetched in klines.items():
                model.bars.backfill(symbol, fetched)
