"""A recording as a QOS server, for clients in any language."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from typing import Self

from qos_async._validation import check_number
from qos_async.config import Limits
from qos_async.enums import Interval
from qos_async.recordings.memory import PushHeader, LastValues, Row, push_header
from qos_async.recordings.reading import Contents, contents, read
from qos_async.recordings.steps import FramesReceived, LinkLost, TimelineEvent, timeline
from qos_async.sim.log import Watch
from qos_async.sim.server import Simulator
from qos_async.sim.source import News, Source

__all__ = ["ReplayServer"]

_RETURN = 10.0
_LETTERS = frozenset("STDK")


class ReplayServer(Simulator):
    """Serves a recording on a loopback port, as the simulator serves its market.

    It begins to play when somebody subscribes. Pushes go out as they came, to the byte.
    Questions are answered from what was pushed until then. Where the link was lost it
    cuts its links, and waits up to ten seconds for somebody to subscribe again.

    Args:
        path: A recording's directory, or one of its files.
        speed: Recorded seconds in a real second.
        plan: What the key may do.
        host: Address to listen on.
        port: 0 takes a free one.
        key: The key to accept.

    Raises:
        ValueError: For a speed that cannot be.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        speed: float = 1.0,
        plan: Limits | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str = "replay-0123456789abcdef",
    ) -> None:
        # A market of its own is never asked: it stays empty.
        super().__init__(
            speed=0.0, history=0.0, plan=plan, host=host, port=port, key=key
        )
        check_number("speed", speed, above_zero=True)
        self.ended = asyncio.Event()
        self._path, self._playback_speed = path, speed
        self._played_at = 0
        self._last_values = LastValues()

    async def __aenter__(self) -> Self:
        """Open the recording, and listen.

        Raises:
            RecordingError: If there is none, or it is empty.
            MissingZstdError: If what uncompresses it is not installed.
            OSError: If the port cannot be had.
        """
        self.contents: Contents = await asyncio.to_thread(contents, self._path)
        self._played_at = self.contents.begins_at
        await super().__aenter__()
        self._tasks.append(asyncio.create_task(self._play()))
        return self

    @property
    def now(self) -> float:
        """The recording's time, in epoch seconds."""
        return self._played_at / 1e9

    def _sources(self) -> tuple[Source, News]:
        symbols = {topic.symbol for topic in self.contents.topics}
        return _RecordedMarket(self._last_values, frozenset(symbols)), _NoPushes()

    async def _play(self) -> None:
        await self._await_subscription()
        loop = asyncio.get_running_loop()
        began, begun_at = loop.time(), self.contents.begins_at
        for step in timeline(read(self._path)):
            due = began + (step.at - begun_at) / 1e9 / self._playback_speed
            await asyncio.sleep(max(due - loop.time(), 0.0))
            self._played_at = max(step.at, self._played_at)
            if isinstance(step, LinkLost):
                self.cut()
                await asyncio.sleep(0)
                await self._await_reconnect()
                began, begun_at = loop.time(), step.at
            await self._push(step)
        self.ended.set()

    async def _await_subscription(self) -> None:
        while not self.subscribed:  # noqa: ASYNC110 - as often as it beats anyway
            await asyncio.sleep(self._beat)

    async def _await_reconnect(self) -> None:
        try:
            async with asyncio.timeout(_RETURN):
                await self._await_subscription()
        except TimeoutError:
            pass

    async def _push(self, step: TimelineEvent) -> None:
        if not isinstance(step, FramesReceived):
            return
        for frame in step.frames:
            label = push_header(frame)
            if label is not None and label.tp in _LETTERS:
                self._last_values.record(frame, label)
                self._forward(frame, label)
        await asyncio.sleep(0)

    def _forward(self, frame: bytes, label: PushHeader) -> None:
        watch = Watch(*label.topic)
        for link in self.links:
            if watch in link.topics:
                link.put(frame)
                self._log.pushed[watch.letter] += 1


class _RecordedMarket:
    """A ``Source``: what was pushed until now."""

    def __init__(self, memory: LastValues, symbols: frozenset[str]) -> None:
        self._last_values = memory
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
    """``News``, of which there are none: the tape pushes by itself."""

    def follow(self, symbols: Iterable[str], now: float) -> None:
        pass

    def news(
        self, symbol: str, wanted: Iterable[Watch], now: float
    ) -> Iterator[tuple[Watch, Row]]:
        return iter(())

    def state(self, watch: Watch, now: float) -> list[Row]:
        return []
