"""Loopback servers for the tests of the HTTP layer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from yarl import URL

from qos_async._core.stats import HttpCounters
from qos_async._io.aiohttp_session import AiohttpSession
from qos_async._io.http import HttpClient
from qos_async._io.secret import Secret
from qos_async.config import Limits, Timing

__all__ = [
    "CANARY",
    "UNLIMITED",
    "HttpCounters",
    "Waits",
    "http_client",
    "ok",
    "serving",
]

CANARY = "canary/5fc0+KEY"
UNLIMITED = Limits(http_requests=1000, http_period=0.0)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncGenerator[URL]:
    """Serve every request on a loopback port with ``handler``."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield URL(f"http://{host}:{port}")
    finally:
        await runner.cleanup()


class Waits:
    """A replacement of ``sleep`` that records its argument and returns at once."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@asynccontextmanager
async def http_client(
    url: URL | str,
    *,
    key: Any = CANARY,
    borrowed: Any = None,
    timing: Timing | None = None,
    limits: Limits = UNLIMITED,
    **options: Any,
) -> AsyncGenerator[HttpClient]:
    """Open an ``HttpSession`` that does not wait between attempts."""
    secret = Secret(key)
    lease = AiohttpSession(secret, borrowed=borrowed)
    try:
        yield HttpClient(
            lease,
            secret,
            url=URL(url),
            limits=limits,
            timing=timing or Timing(),
            counters=options.pop("counters", HttpCounters()),
            sleep=options.pop("sleep", Waits()),
            **options,
        )
    finally:
        await lease.aclose()


def ok(rows: Any) -> web.Response:
    """Return a response in the format of the service."""
    return web.json_response({"msg": "OK", "data": rows})
