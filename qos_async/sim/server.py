"""The simulator: one loopback port that speaks the whole protocol."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Self

from aiohttp import web

from qos_async._validation import check_number
from qos_async.config import Limits
from qos_async.sim.controls import Controls
from qos_async.sim.desk import Desk
from qos_async.sim.door import Door
from qos_async.sim.faults import Scheduled, scheduled
from qos_async.sim.feed import Feed
from qos_async.sim.http import HttpSide
from qos_async.sim.instruments import Row
from qos_async.sim.link import Link
from qos_async.sim.log import Frame, Log, Request, Watch
from qos_async.sim.market import Market
from qos_async.sim.questions import Asker
from qos_async.sim.source import News, Source
from qos_async.sim.variants import Variants

__all__ = ["Simulator"]

_SHUTDOWN = 0.1
_GLANCE = 0.005


class Simulator(Controls):
    """A QOS server on a loopback port, with a market of its own.

    Use it as an async context manager, once. Same ``seed`` and ``start``: the same
    trades, to the byte.

    Args:
        seed: Of everything random.
        speed: Market seconds in a real second; 0: time stands still.
        plan: What the key may do; breaking it is noted in ``violations``.
        faults: What goes wrong by itself, and when.
        variants: How the unknowns of the protocol are played.
        host: Address to listen on.
        port: 0 takes a free one.
        key: The key to accept.
        start: The market's time on entering, in epoch seconds; None: the wall clock.
        history: Market seconds of trades before that.
        rate: Trades of each symbol in a market second; None: 1 to 3, by symbol.
        beat: Real seconds between two rounds of pushes; what one round would push
            several times (a snapshot, a book, a kline) is pushed once.
        heartbeat_limit: Real seconds that a link may go without ``H``.
        open_universe: Whether unlisted symbols are made up instead of unknown.
        oldest_bars: Bars of each interval before the trades; none before 1970.

    Raises:
        ValueError: For a plan that is no ``Limits``, faults that are none, or numbers that cannot be; the
            message names the option and the value.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        speed: float = 1.0,
        plan: Limits | None = None,
        faults: Iterable[Scheduled] = (),
        variants: Variants | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str = "sim-0123456789abcdef",
        start: float | None = None,
        history: float = 900.0,
        rate: float | None = None,
        beat: float = 0.02,
        heartbeat_limit: float = 30.0,
        open_universe: bool = False,
        oldest_bars: int = 3000,
    ) -> None:
        super().__init__()
        _check(plan, speed=speed, history=history, rate=rate)
        self.key = key
        self.plan = Limits() if plan is None else plan
        self.variants = Variants() if variants is None else variants
        self._make_market = partial(
            Market,
            seed,
            history=history,
            rate=rate,
            open_universe=open_universe,
            oldest_bars=oldest_bars,
        )
        self._seed, self._speed, self._start = seed, speed, start
        self._faults = scheduled(faults)
        self._address: tuple[str, int] = host, port
        self._entered = False
        self._beat, self._heartbeat_limit = beat, heartbeat_limit
        self._log = Log()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._entered_at = asyncio.get_running_loop().time()
        if self._start is None:
            self._start = time.time()
        self.market = self._make_market(self._start)
        runner = self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            shutdown_timeout=_SHUTDOWN,
            handler_cancellation=True,
        )
        await runner.setup()
        try:
            host, port = self._address
            await web.TCPSite(runner, host, port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._address = runner.addresses[0][:2]
        self._entered = True
        work = [self._run(), *(self.suffer(fault) for fault in self._faults)]
        self._tasks = [asyncio.create_task(one) for one in work]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in self._desk.links:
            link.cut(reset=False)
        await self._runner.cleanup()
        for result in results:
            if isinstance(result, Exception):
                raise result  # A fault of the simulator itself: nobody else saw it.

    async def serve_forever(self) -> None:
        """Wait until cancelled."""
        await asyncio.Event().wait()

    @property
    def http_url(self) -> str:
        """``http://HOST:PORT``, once entered."""
        return f"http://{self._netloc()}"

    @property
    def stream_url(self) -> str:
        """``ws://HOST:PORT/ws``, once entered."""
        return f"ws://{self._netloc()}/ws"

    @property
    def now(self) -> float:
        """The market's time, in epoch seconds."""
        elapsed = asyncio.get_running_loop().time() - self._entered_at
        return (self._start or 0.0) + self._speed * elapsed

    @property
    def links(self) -> list[Link]:
        """The open websockets, oldest first."""
        return [link for link in self._desk.links if link.open]

    @property
    def connections(self) -> int:
        """How many websockets are open."""
        return len(self.links)

    @property
    def subscribed(self) -> set[Watch]:
        """What the open links watch: ``(letter, symbol, kt)``, None for no ``kt``."""
        return {watch for link in self.links for watch in link.topics}

    @property
    def frames(self) -> list[Frame]:
        """Every frame that came in, in order."""
        return self._log.frames

    @property
    def requests(self) -> list[Request]:
        """Every HTTP request and every websocket upgrade that came in, in order."""
        return self._log.requests

    @property
    def violations(self) -> list[str]:
        """Every breach of the protocol or the plan by a client, in words."""
        return self._log.violations

    @property
    def pushed(self) -> Counter[str]:
        """How many pushes went out, by letter; blasts and garbage do not count."""
        return self._log.pushed

    def received(self, *types: str) -> list[Frame]:
        """Give the frames of some types, in order: ``sim.received("T", "TC")``."""
        return [frame for frame in self._log.frames if frame.type in types]

    def tape(self, symbol: str) -> list[Row]:
        """Give every trade of a symbol until now as the wire's rows, oldest first.

        Raises:
            KeyError: If it is unknown.
        """
        return self.market.trades(symbol, self.now, self.market.count(symbol, self.now))

    async def until(
        self,
        condition: Callable[[], object],
        *,
        timeout: float = 5.0,  # noqa: ASYNC109 - a test's patience, not a deadline.
    ) -> None:
        """Wait until something is true of the simulator.

        Raises:
            TimeoutError: If it is not within ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            while not condition():  # noqa: ASYNC110 - anything may be asked.
                await asyncio.sleep(_GLANCE)

    def _netloc(self) -> str:
        if not self._entered:
            raise RuntimeError(
                "the simulator has no address yet: enter it first, with "
                "async with Simulator() as simulator"
            )
        host, port = self._address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _application(self) -> web.Application:
        log, variants = self._log, self.variants
        source, news = self._sources()
        asker = Asker(
            source,
            self.plan,
            variants,
            self._seed,
            log.violations,
            refused=self._refused_symbols,
        )
        desk = self._desk = Desk(
            news,
            asker,
            self.plan,
            variants,
            log,
            now=lambda: self.now,
            refusal=self._refusal,
            deliver=self._deliver,
        )
        app = web.Application()
        app.router.add_get("/ws", self._door(desk).open)
        self._http_side(asker, desk).add_to(app)
        return app

    def _sources(self) -> tuple[Source, News]:
        """Give what answers questions, and what there is to push."""
        return self.market, Feed(self.market)

    def _door(self, desk: Desk) -> Door:
        return Door(
            desk,
            self.plan,
            self.variants,
            self._log,
            key_problem=self._key_problem,
            closed=self._door_answer,
            audible=self._audible,
        )

    def _http_side(self, asker: Asker, desk: Desk) -> HttpSide:
        return HttpSide(
            asker,
            self.variants,
            self._log,
            desk.meter,
            now=desk.beat,
            key_problem=self._key_problem,
            failure=self._http_answer,
            refusal=self._refusals.take,
            pause=self._pause,
        )

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._desk.beat()
            self._desk.check_heartbeats(loop.time(), self._heartbeat_limit)
            await asyncio.sleep(self._beat)

    def _key_problem(self, key: str | None) -> str | None:
        if key != self.key:
            return "Invalid key." if key else "The key is missing."
        return "Key expired." if self._key_expired else None

    def _refusal(self, type: str) -> str | None:
        if self._key_expired:
            return "Key expired."
        return self._refusals.take(type)


def _check(
    plan: object, *, speed: object, history: object, rate: object | None
) -> None:
    if plan is not None and not isinstance(plan, Limits):
        raise ValueError(f"plan must be Limits or None, not {plan!r}")
    for name, value in (("speed", speed), ("history", history)):
        check_number(name, value)
    check_number("rate", rate, above_zero=True, optional=True)
