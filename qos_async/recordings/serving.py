"""A recording as a QOS server, for clients in any language."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from typing import Self

from qos_async._validation import check_number
from qos_async.config import Limits
from qos_async.enums import Interval
from qos_async.recordings.memory import Label, Memory, Row, label_of
from qos_async.recordings.reading import Contents, contents, read
from qos_async.recordings.steps import Frames, Lost, Step, steps
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
        self._path, self._pace = path, speed
        self._played_at = 0
        self._memory = Memory()

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
        return _Recorded(self._memory, frozenset(symbols)), _Silence()

    async def _play(self) -> None:
        await self._subscription()
        loop = asyncio.get_running_loop()
        began, begun_at = loop.time(), self.contents.begins_at
        for step in steps(read(self._path)):
            due = began + (step.at - begun_at) / 1e9 / self._pace
            await asyncio.sleep(max(due - loop.time(), 0.0))
            self._played_at = max(step.at, self._played_at)
            if isinstance(step, Lost):
                self.cut()
                await asyncio.sleep(0)
                await self._return()
                began, begun_at = loop.time(), step.at
            await self._push(step)
        self.ended.set()

    async def _subscription(self) -> None:
        while not self.subscribed:  # noqa: ASYNC110 - as often as it beats anyway
            await asyncio.sleep(self._beat)

    async def _return(self) -> None:
        try:
            async with asyncio.timeout(_RETURN):
                await self._subscription()
        except TimeoutError:
            pass

    async def _push(self, step: Step) -> None:
        if not isinstance(step, Frames):
            return
        for frame in step.frames:
            label = label_of(frame)
            if label is not None and label.tp in _LETTERS:
                self._memory.keep(frame, label)
                self._tell(frame, label)
        await asyncio.sleep(0)

    def _tell(self, frame: bytes, label: Label) -> None:
        watch = Watch(*label.watch)
        for link in self.links:
            if watch in link.topics:
                link.put(frame)
                self._log.pushed[watch.letter] += 1


class _Recorded:
    """A ``Source``: what was pushed until now."""

    def __init__(self, memory: Memory, symbols: frozenset[str]) -> None:
        self._memory = memory
        self._symbols = symbols

    def knows(self, symbol: str) -> bool:
        return symbol in self._symbols

    def info(self, symbol: str) -> Row:
        return {}

    def snapshot(self, symbol: str, now: float) -> Row:
        found = self._memory.last("S", symbol)
        return found[0] if found else {}

    def depth(self, symbol: str, now: float) -> Row:
        found = self._memory.last("D", symbol)
        return found[0] if found else {}

    def trades(self, symbol: str, now: float, count: int) -> list[Row]:
        return self._memory.trades(symbol, count)

    def klines(
        self,
        symbol: str,
        interval: Interval,
        count: int,
        now: float,
        *,
        end: float | None = None,
    ) -> list[Row]:
        return self._memory.bars(symbol, int(interval), count, end=end)

    def products(self, market: str) -> list[Row]:
        named = sorted(s for s in self._symbols if s.startswith(f"{market}:"))
        return [{"code": symbol, "name": symbol} for symbol in named]

    def calendar(self, market: str, now: float) -> list[str]:
        return []


class _Silence:
    """``News``, of which there are none: the tape pushes by itself."""

    def follow(self, symbols: Iterable[str], now: float) -> None:
        pass

    def news(
        self, symbol: str, wanted: Iterable[Watch], now: float
    ) -> Iterator[tuple[Watch, Row]]:
        return iter(())

    def state(self, watch: Watch, now: float) -> list[Row]:
        return []
