"""Server of a recording, for QOS clients in any language."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing, suppress
from datetime import datetime
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from qos_async._core.wire import LETTERS
from qos_async._event_loop import running_loop
from qos_async._io.transport import (
    RECORDING_ENDED,
    RECORDING_ENDED_REASON,
    EndOfStream,
)
from qos_async._validation import check_number
from qos_async.config import Limits
from qos_async.enums import Interval
from qos_async.recordings.event_log import record_loss, record_recovered
from qos_async.recordings.last_values import LastValues, PushHeader, Row, push_header
from qos_async.recordings.replay_timeline import Timeline
from qos_async.recordings.slices import recorded_source
from qos_async.recordings.source import Opening, Start
from qos_async.recordings.timeline_events import (
    FramesReceived,
    LinkLost,
    TimelineEvent,
    TopicRecovered,
)
from qos_async.sim.server import ProtocolServer
from qos_async.sim.source import MarketData, PushSource, WireTopic

__all__ = ["ReplayServer"]

_RECONNECT_TIMEOUT = 10.0
_LOOK_AHEAD = 120_000_000_000  # Nanoseconds.
_LETTERS = frozenset(LETTERS.values())


class ReplayServer(ProtocolServer):
    """Serves a recording on a loopback port, as the simulator serves its market.

    It starts to play with the first subscription. Pushes are sent byte for byte as they
    were recorded, requests answered with the values pushed so far. Where the recorded
    link was lost, the server drops its connections and waits up to ten seconds for a new
    subscription. At the end it does neither: ``close_ended`` ends the links.

    Args:
        path: A recording's directory, one of its files, or a stream.
        speed: Recorded seconds in a second.
        start: Where to begin; see ``replay``.
        end: Where to end, likewise.
        plan: The limits of the key.
        host: The address to listen on.
        port: The port; 0 for any free one.
        key: The API key to accept.

    Raises:
        ValueError: For a speed that is not above 0, another start or end, or a path that
            cannot be one.

    Attributes:
        ended: Set at the end of the recording.
        contents: What is known of the recording, once it is open.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        speed: float = 1.0,
        start: Start = None,
        end: str | datetime | None = None,
        plan: Limits | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str = "replay-0123456789abcdef",
    ) -> None:
        super().__init__(plan=plan, host=host, port=port, key=key)
        speed = check_number("speed", speed, above_zero=True)
        self.ended = asyncio.Event()
        self._source, _ = recorded_source(path, start, end)
        self._playback_speed = speed
        self._timeline = Timeline(hold=False)
        self._played_at = self._begins_at = 0
        self._last_values = LastValues()

    async def __aenter__(self) -> Self:
        """Open the recording and listen.

        Raises:
            RecordingError: If there is no recording, or it is empty.
            MissingZstdError: If no zstandard library is installed.
            OSError: If the port is in use.
        """
        running_loop()
        try:
            self.contents: Opening = await self._source.open()
            self._played_at = self.contents.begins_at
            await asyncio.to_thread(self._pass_over)
            await super().__aenter__()
        except BaseException:
            await self._source.aclose()
            raise
        self._tasks.append(asyncio.create_task(self._play()))
        return self

    @property
    def now(self) -> float:
        """The recorded time, in epoch seconds."""
        return self._played_at / 1e9

    def _pass_over(self) -> None:
        """Record the values before the start."""
        for entry in self.contents.before:
            self._begins_at = entry.elapsed
            for event in self._timeline.add(entry):
                self._record(event)
        for event in self._timeline.flush():
            self._record(event)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            await self._source.aclose()

    def _sources(self) -> tuple[MarketData, PushSource]:
        symbols = {topic.symbol for topic in self.contents.topics}
        return _RecordedMarket(self._last_values, frozenset(symbols)), _NoPushes()

    async def close_ended(self) -> None:
        """Close all links, as ended for good: qos_async does not dial again."""
        await self.close(RECORDING_ENDED, RECORDING_ENDED_REASON)

    async def _play(self) -> None:
        try:
            await self._play_all()
        finally:
            self.ended.set()

    async def _play_all(self) -> None:
        await self._await_subscription()
        loop = asyncio.get_running_loop()
        started, start = loop.time(), self._begins_at
        async with (
            aclosing(self._events()) as recorded,
            aclosing(_recovered_first(recorded)) as events,
        ):
            event = await anext(events, None)
            while event is not None:
                due = started + (event.elapsed - start) / 1e9 / self._playback_speed
                await asyncio.sleep(max(due - loop.time(), 0.0))
                self._played_at = max(event.at, self._played_at)
                following = await anext(events, None)
                if isinstance(event, LinkLost):
                    if following is None:
                        break  # It is the end, and not an outage.
                    self.cut()
                    await asyncio.sleep(0)
                    await self._await_reconnect()
                    started, start = loop.time(), event.elapsed
                await self._push(event)
                event = following

    async def _events(self) -> AsyncGenerator[TimelineEvent]:
        for event in self._timeline.resume():
            yield event
        with suppress(EndOfStream):
            while True:
                for entry in await self._source.read():
                    for event in self._timeline.add(entry):
                        yield event
        for event in self._timeline.end():
            yield event

    async def _await_subscription(self) -> None:
        while not self.subscribed:  # noqa: ASYNC110 - the server polls anyway
            await asyncio.sleep(self._push_interval)

    async def _await_reconnect(self) -> None:
        try:
            async with asyncio.timeout(_RECONNECT_TIMEOUT):
                await self._await_subscription()
        except TimeoutError:
            pass

    async def _push(self, event: TimelineEvent) -> None:
        pushes = self._record(event)
        if isinstance(event, FramesReceived):
            for frame, header in pushes:
                self._forward(frame, header)
            await asyncio.sleep(0)

    def _record(self, event: TimelineEvent) -> list[tuple[bytes, PushHeader]]:
        """Record the values of an event, for replies; return its pushes."""
        frames: list[bytes] = []
        if isinstance(event, FramesReceived):
            frames = [entry.frame for entry in event.entries]
        elif isinstance(event, LinkLost):
            record_loss(event, self._last_values)
        elif isinstance(event, TopicRecovered):
            rows = () if event.entry is None else event.entry.rows
            frames = [row for row in rows if isinstance(row, bytes)]
            record_recovered(event, (), self._last_values)
        pushes: list[tuple[bytes, PushHeader]] = []
        for frame in frames:
            header = push_header(frame)
            if header is not None and header.tp in _LETTERS:
                self._last_values.record(frame, header)
                pushes.append((frame, header))
        return pushes

    def _forward(self, frame: bytes, header: PushHeader) -> None:
        topic = header.topic
        for link in self.links:
            if topic in link.topics:
                link.send(frame)
                self._log.pushed[topic.letter] += 1


async def _recovered_first(
    events: AsyncIterator[TimelineEvent],
) -> AsyncGenerator[TimelineEvent]:
    """Yield events, with what was fetched after a loss right behind the loss.

    So the server has it when a client that was cut requests it, as the service had.
    """
    ahead: deque[TimelineEvent] = deque()
    while event := ahead.popleft() if ahead else await anext(events, None):
        yield event
        if not isinstance(event, LinkLost) or not event.awaited:
            continue
        while not ahead or ahead[-1].elapsed - event.elapsed < _LOOK_AHEAD:
            later = await anext(events, None)
            if later is None:
                break
            ahead.append(later)
        for later in [*ahead]:
            if isinstance(later, TopicRecovered) and later.topic in event.awaited:
                ahead.remove(later)
                yield replace(later, at=event.at, elapsed=event.elapsed)


class _RecordedMarket:
    """``MarketData`` of the values pushed so far."""

    def __init__(self, values: LastValues, symbols: frozenset[str]) -> None:
        self._last_values = values
        self._symbols = symbols

    def knows(self, symbol: str) -> bool:
        return symbol in self._symbols

    def info(self, symbol: str) -> Row:
        return {}

    def snapshot(self, symbol: str, now: float) -> Row:
        found = self._last_values.last("S", symbol)
        return found[0] if found else {}

    def depth(self, symbol: str, now: float) -> Row:
        found = self._last_values.last("D", symbol)
        return found[0] if found else {}

    def trades(self, symbol: str, now: float, count: int) -> list[Row]:
        return self._last_values.trades(symbol, count)

    def klines(
        self,
        symbol: str,
        interval: Interval,
        count: int,
        now: float,
        *,
        end: float | None = None,
    ) -> list[Row]:
        return self._last_values.klines(symbol, int(interval), count, end=end)

    def products(self, market: str) -> list[Row]:
        named = sorted(s for s in self._symbols if s.startswith(f"{market}:"))
        return [{"code": symbol, "name": symbol} for symbol in named]

    def calendar(self, market: str, now: float) -> list[str]:
        return []


class _NoPushes:
    """A ``PushSource`` without updates: ``ReplayServer`` pushes the frames itself."""

    def follow(self, symbols: Iterable[str], now: float) -> None:
        pass

    def updates(
        self, symbol: str, topics: Iterable[WireTopic], now: float
    ) -> Iterator[tuple[WireTopic, Row]]:
        return iter(())

    def current(self, topic: WireTopic, now: float) -> list[Row]:
        return []
