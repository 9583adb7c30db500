"""HTTP of a hub: the endpoints of the service (chapter 4), readiness, status, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from qos_async._printable import printable_json
from qos_async._server.parsing import (
    OPERATIONS,
    Rejection,
    as_row,
    encode,
    find_key,
    json_response,
    parse_json,
    try_later,
)
from qos_async.config import HUB_PATH
from qos_async.errors import (
    AuthenticationError,
    ClosedError,
    LimitError,
    QosError,
    RejectedError,
)
from qos_async.hub.answers import Answers, ForbiddenError, MustWaitError
from qos_async.hub.clients import Clients
from qos_async.hub.guard import Guard
from qos_async.hub.stats import HubStats, hub_metrics

__all__ = ["HubHttp", "error_response"]

_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_BODY_TIMEOUT = 10.0  # Seconds.
_BY_MARKET = ("/market-calendar", "/product-list")
_STATUSES: dict[type[Exception], int] = {
    Rejection: 400,
    RejectedError: 400,
    AuthenticationError: 401,
    ForbiddenError: 403,
}


class HubHttp:
    """The handlers of a hub.

    Args:
        guard: Finds the client of a request.
        answers: Answers requests.
        clients: The links.
        not_ready: Returns why no client is accepted; empty if clients are.
        stats: Returns the statistics.
        upstream_metrics: Returns the OpenMetrics text of the client upstream.
    """

    def __init__(
        self,
        guard: Guard,
        answers: Answers,
        clients: Clients,
        *,
        not_ready: Callable[[], str],
        stats: Callable[[], HubStats],
        upstream_metrics: Callable[[], str],
    ) -> None:
        self._guard = guard
        self._answers = answers
        self._clients = clients
        self._not_ready = not_ready
        self._stats = stats
        self._upstream_metrics = upstream_metrics

    def add_routes(self, app: web.Application) -> None:
        """Add the routes; those of the service also without the prefix ``/hub``."""
        for prefix in ("", HUB_PATH):
            app.router.add_get(f"{prefix}/ws", self._clients.on_upgrade)
            for path in (*OPERATIONS, *_BY_MARKET):
                app.router.add_post(f"{prefix}{path}", self._on_request)
        app.router.add_get("/readyz", self._on_ready)
        app.router.add_get("/status", self._on_status)
        app.router.add_get("/metrics", self._on_metrics)

    async def _on_request(self, request: web.Request) -> web.StreamResponse:
        client = self._guard.client(request)
        if client is None:
            return self._clients.refuse(401, "Invalid key.")
        owner, token = client
        path = request.path.removeprefix(HUB_PATH)
        try:
            body = as_row(parse_json(await _read(request)))
            if body is None:
                raise Rejection("Parameter error: not an object")  # noqa: TRY301
            if path in _BY_MARKET:
                data = await self._answers.by_market(token, path, body)
            else:
                asker = (owner, find_key(request)[0]) if token is None else owner
                data = await self._answers.data(asker, token, OPERATIONS[path], body)
        except (Rejection, ForbiddenError, MustWaitError, QosError) as exc:
            return error_response(exc)
        return web.Response(
            body=b'{"msg":"OK","data":%b}' % data, content_type="application/json"
        )

    async def _on_ready(self, request: web.Request) -> web.StreamResponse:
        if why := self._not_ready():
            return try_later(503, why, 1.0)
        return json_response({"msg": "OK"})

    async def _on_status(self, request: web.Request) -> web.StreamResponse:
        if self._guard.client(request) is None:
            return self._clients.refuse(401, "Invalid key.")
        # It is read in terminals, too, and has text of the service.
        text = printable_json(encode(self._stats()).decode())
        return web.Response(body=text.encode(), content_type="application/json")

    async def _on_metrics(self, request: web.Request) -> web.StreamResponse:
        if self._guard.client(request) is None:
            return self._clients.refuse(401, "Invalid key.")
        text = hub_metrics(self._stats()) + self._upstream_metrics()
        return web.Response(body=text.encode(), headers={"Content-Type": _OPENMETRICS})


async def _read(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            return await request.read()
    except web.HTTPException:
        raise  # Too large.
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except Exception as exc:
        # Of many kinds, by the encoding that is broken.
        raise Rejection("Parameter error: the body cannot be read") from exc


def error_response(error: Exception) -> web.Response:
    """Return the response to a request that failed, as the service would send it."""
    if isinstance(error, MustWaitError):
        return try_later(429, str(error), error.seconds)
    if isinstance(error, LimitError):
        return try_later(429, error.message, 1.0)
    if isinstance(error, ClosedError):
        return try_later(503, str(error), 1.0)
    message = error.message if isinstance(error, RejectedError) else str(error)
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return json_response({"msg": message}, status=status)
    return json_response({"msg": message}, status=502)
