"""Simulator: a QOS server on one loopback port, for tests and for trying out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Self

from aiohttp import web

from qos_async._deprecation import renamed_options
from qos_async._numbers import is_finite
from qos_async.config import Limits
from qos_async.sim.connection import ServerConnection
from qos_async.sim.faults import FaultControls, ScheduledFault, check_schedule
from qos_async.sim.http import HttpHandler
from qos_async.sim.log import ReceivedFrame, ReceivedRequest, ServerLog
from qos_async.sim.market import MarketPushSource, SimulatedMarket
from qos_async.sim.requests import RequestHandler
from qos_async.sim.source import MarketData, PushSource, Row, WireTopic
from qos_async.sim.variants import Variants
from qos_async.sim.websocket import Handshake, WebSocketHandler

__all__ = ["Simulator"]

_SHUTDOWN_TIMEOUT = 0.1
_POLL_INTERVAL = 0.005


class Simulator(FaultControls):
    """A QOS server on a loopback port that serves a simulated market.

    Use it as an async context manager, once. The same ``seed`` and ``start`` give the
    same trades, to the byte.

    Args:
        seed: Of everything random.
        speed: Market seconds in a real second; 0 stops the market's clock.
        plan: The limits of the key; what exceeds them is recorded in ``violations``.
        faults: Faults to inject, each with its time.
        variants: The behaviour where the protocol is undocumented.
        host: Address to listen on.
        port: 0 chooses a free one.
        key: The key to accept.
        start: The market's time on entering, in epoch seconds; None: the wall clock's.
        history: Market seconds of trades before that.
        rate: Trades of each symbol in a market second; None: 1 to 3, by symbol.
        push_interval: Real seconds between two rounds of pushes; what would be pushed
            several times in a round (a snapshot, a book, a kline) is pushed once.
        heartbeat_limit: Real seconds that a link may be without ``H``.
        open_universe: Whether unlisted symbols exist, with generated data.
        oldest_bars: Klines of each interval before the trades; none before 1970.

    Raises:
        ValueError: For an option of a wrong type or out of range; the message names
            the option and the value.
    """

    @renamed_options(beat="push_interval")
    def __init__(
        self,
        *,
        seed: int = 1,
        speed: float = 1.0,
        plan: Limits | None = None,
        faults: Iterable[ScheduledFault] = (),
        variants: Variants | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str = "sim-0123456789abcdef",
        start: float | None = None,
        history: float = 900.0,
        rate: float | None = None,
        push_interval: float = 0.02,
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
            SimulatedMarket,
            seed,
            history=history,
            rate=rate,
            open_universe=open_universe,
            oldest_bars=oldest_bars,
        )
        self._seed, self._speed, self._start = seed, speed, start
        self._schedule = check_schedule(faults)
        self._address: tuple[str, int] = host, port
        self._entered = False
        self._push_interval, self._heartbeat_limit = push_interval, heartbeat_limit
        self._log = ServerLog()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._entered_at = asyncio.get_running_loop().time()
        if self._start is None:
            self._start = time.time()
        self.market = self._make_market(self._start)
        runner = self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            shutdown_timeout=_SHUTDOWN_TIMEOUT,
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
        work = [
            self._push_loop(),
            *(self.run_scheduled_fault(fault) for fault in self._schedule),
        ]
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
        for link in self._websockets.links:
            link.cut(reset=False)
        await self._runner.cleanup()
        for result in results:
            if isinstance(result, Exception):
                raise result  # A bug of the simulator: no other code has seen it.

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
    def links(self) -> list[ServerConnection]:
        """The open websockets, oldest first."""
        return [link for link in self._websockets.links if link.open]

    @property
    def connections(self) -> int:
        """The number of open websockets."""
        return len(self.links)

    @property
    def subscribed(self) -> set[WireTopic]:
        """The topics of the open links: ``(letter, symbol, kt)``, with None for no ``kt``."""
        return {topic for link in self.links for topic in link.topics}

    @property
    def frames(self) -> list[ReceivedFrame]:
        """Every frame that was received, in order."""
        return self._log.frames

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Every HTTP request and websocket upgrade that was received, in order."""
        return self._log.requests

    @property
    def violations(self) -> list[str]:
        """A message for each violation of the protocol or the plan by a client."""
        return self._log.violations

    @property
    def pushed(self) -> Counter[str]:
        """The number of pushes sent, by letter; ``blast`` and ``push`` do not count."""
        return self._log.pushed

    def received(self, *types: str) -> list[ReceivedFrame]:
        """Return the received frames of some types: ``sim.received("T", "TC")``."""
        return [frame for frame in self._log.frames if frame.type in types]

    def tape(self, symbol: str) -> list[Row]:
        """Return every trade of a symbol until now as rows of the wire, oldest first.

        Raises:
            KeyError: If the symbol is unknown.
        """
        return self.market.trades(symbol, self.now, self.market.count(symbol, self.now))

    async def until(
        self,
        condition: Callable[[], object],
        *,
        timeout: float = 5.0,  # noqa: ASYNC109 - part of the public signature
    ) -> None:
        """Wait until a condition, evaluated every 5 ms, is true.

        Raises:
            TimeoutError: If it is not true within ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            while not condition():  # noqa: ASYNC110 - any condition, so no event to wait for
                await asyncio.sleep(_POLL_INTERVAL)

    def _netloc(self) -> str:
        if not self._entered:
            raise RuntimeError(
                "the simulator has no address yet: enter it first, with "
                "async with Simulator() as simulator"
            )
        host, port = self._address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _application(self) -> web.Application:
        data, pushes = self._sources()
        plan, variants, log = self.plan, self.variants, self._log
        faults, key_error = self._faults, self._key_error
        requests = RequestHandler(
            data,
            plan,
            variants,
            self._seed,
            log.violations,
            rejected_symbols=faults.rejected_symbols,
        )
        websockets = self._websockets = WebSocketHandler(
            pushes, requests, plan, variants, log, faults=faults, now=lambda: self.now
        )
        handshake = Handshake(
            websockets, plan, variants, log, faults=faults, key_error=key_error
        )
        http = HttpHandler(
            requests,
            variants,
            log,
            websockets.meter,
            faults=faults,
            now=websockets.push_pending,
            key_error=key_error,
        )
        app = web.Application()
        app.router.add_get("/ws", handshake.handle)
        http.add_routes(app)
        return app

    def _sources(self) -> tuple[MarketData, PushSource]:
        """Return the data of replies and of pushes; a subclass may serve another."""
        return self.market, MarketPushSource(self.market)

    async def _push_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._websockets.push_pending()
            self._websockets.check_heartbeats(loop.time(), self._heartbeat_limit)
            await asyncio.sleep(self._push_interval)

    def _key_error(self, key: str | None) -> str | None:
        if key != self.key:
            return "Invalid key." if key else "The key is missing."
        return "Key expired." if self._faults.is_key_expired else None


def _check(
    plan: object, *, speed: object, history: object, rate: object | None
) -> None:
    if plan is not None and not isinstance(plan, Limits):
        raise ValueError(f"plan must be Limits or None, not {plan!r}")
    for name, value in (("speed", speed), ("history", history)):
        if not is_finite(value) or value < 0:
            raise ValueError(f"{name} must be a number from 0, not {value!r}")
    if rate is not None and not (is_finite(rate) and rate > 0):
        raise ValueError(f"rate must be a number above 0 or None, not {rate!r}")
