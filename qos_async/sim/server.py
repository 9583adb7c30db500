"""Protocol server: the QOS protocol on one port, for any source of market data."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from aiohttp import web

from qos_async.config import Limits
from qos_async.sim.connection import SimulatedConnection
from qos_async.sim.faults import FaultControls, ScheduledFault, check_schedule
from qos_async.sim.http import HttpHandler
from qos_async.sim.log import ReceivedFrame, ReceivedRequest, ServerLog
from qos_async.sim.requests import RequestHandler
from qos_async.sim.source import MarketData, PushSource, WireTopic
from qos_async.sim.variants import Variants
from qos_async.sim.websocket import Handshake, WebSocketHandler

__all__ = ["ProtocolServer"]

_SHUTDOWN_TIMEOUT = 0.1
_POLL_INTERVAL = 0.005


class ProtocolServer(FaultControls):
    """A server of the protocol; subclasses provide the data and its clock.

    ``Simulator`` serves a simulated market, ``recordings.ReplayServer`` a recording.

    Args:
        plan: The limits of the key; what exceeds them is recorded in ``violations``.
        faults: Faults to inject, each with its time.
        variants: The behaviour where the protocol is undocumented.
        host: Address to listen on.
        port: 0 chooses a free one.
        key: The key to accept.
        seed: Seed of the order of rows in replies.
        push_interval: Real seconds between two rounds of pushes.
        heartbeat_limit: Real seconds that a link may be without ``H``.

    Raises:
        ValueError: For a plan or faults of a wrong type.
    """

    def __init__(
        self,
        *,
        plan: Limits | None,
        faults: Iterable[ScheduledFault] = (),
        variants: Variants | None = None,
        host: str,
        port: int,
        key: str,
        seed: int = 1,
        push_interval: float = 0.02,
        heartbeat_limit: float = 30.0,
    ) -> None:
        super().__init__()
        if plan is not None and not isinstance(plan, Limits):  # pyright: ignore[reportUnnecessaryIsInstance] - users may be untyped
            raise ValueError(f"plan must be Limits or None, not {plan!r}")
        self.key = key
        self.plan = Limits() if plan is None else plan
        self.variants = Variants() if variants is None else variants
        self._schedule = check_schedule(faults)
        self._address: tuple[str, int] = host, port
        self._seed = seed
        self._entered = False
        self._push_interval, self._heartbeat_limit = push_interval, heartbeat_limit
        self._log = ServerLog()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def now(self) -> float:
        """The time of the data, in epoch seconds."""
        raise NotImplementedError

    def _sources(self) -> tuple[MarketData, PushSource]:
        """Return the data of replies, and the data of pushes."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
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
        faults = [self.run_scheduled_fault(fault) for fault in self._schedule]
        work = [self._push_loop(), *faults]
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
                raise result  # A bug of the server: no other code has seen it.

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
    def links(self) -> list[SimulatedConnection]:
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
            name = type(self).__name__
            raise RuntimeError(
                f"the {name} has no address yet: enter it first, with "
                f"async with {name}(...) as server"
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
