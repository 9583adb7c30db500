"""HTTP handler: the protocol's eight endpoints, requested with POST."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from qos_async._server.parsing import (
    OPERATIONS,
    Rejection,
    as_row,
    find_key,
    json_response,
    parse_json,
)
from qos_async.sim.faults import CannedResponse, Faults
from qos_async.sim.log import ReceivedRequest, ServerLog
from qos_async.sim.requests import RequestHandler, UsageMeter
from qos_async.sim.source import Row
from qos_async.sim.variants import Variants

__all__ = ["HttpHandler", "canned_response"]

_BY_MARKET = ("/market-calendar", "/product-list")
_PATHS = (*OPERATIONS, *_BY_MARKET)


class HttpHandler:
    """Serves POST requests.

    Args:
        requests: Parses requests and produces their data.
        variants: The choices where the real server's behaviour is unknown.
        log: Receives requests and violations.
        meter: Counts requests.
        faults: The faults in force.
        now: Returns the market's time, after everything older was pushed.
        key_error: Returns the message with which a key is rejected, or None.
    """

    def __init__(
        self,
        requests: RequestHandler,
        variants: Variants,
        log: ServerLog,
        meter: UsageMeter,
        *,
        faults: Faults,
        now: Callable[[], float],
        key_error: Callable[[str | None], str | None],
    ) -> None:
        self._requests = requests
        self._variants = variants
        self._log = log
        self._meter = meter
        self._faults = faults
        self._now = now
        self._key_error = key_error

    def add_routes(self, app: web.Application) -> None:
        """Route every path of the protocol except the websocket's."""
        for path in _PATHS:
            app.router.add_post(path, self._serve)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        at = asyncio.get_running_loop().time()
        body = parse_json(await request.read())
        key, key_in = find_key(request)
        self._log.requests.append(ReceivedRequest(at, request.path, body, key_in))
        canned = self._faults.http_response(request.path)
        if canned is None:
            response = self._respond(request.path, key, body, at)
        else:
            response = canned_response(request, canned)
        await self._faults.delay_response(request.path)
        return response

    def _respond(
        self, path: str, key: str | None, body: Any, at: float
    ) -> web.Response:
        key_error = self._key_error(key)
        if key_error is not None:
            return self._error_response(401, key_error)
        if not self._meter.allow_request(at):
            self._log.violations.append(f"{path}: more requests than the plan has")
            text = "Too many requests, please try again later."
            return self._error_response(429, text)
        try:
            message = self._faults.rejection(path)
            if message is not None:
                raise Rejection(message)  # noqa: TRY301
            return json_response({"msg": "OK", "data": self._data(path, as_row(body))})
        except Rejection as exc:
            return self._error_response(400, str(exc))

    def _data(self, path: str, body: Row | None) -> Any:
        if body is None:
            self._log.violations.append(f"{path}: the body is not an object")
            raise Rejection("Parameter error: not an object")
        now = self._now()
        if path in _BY_MARKET:
            return self._requests.handle_by_market(path, body, now)
        return self._requests.handle(path, body, now)

    def _error_response(self, status: int, message: str) -> web.Response:
        status = 200 if self._variants.errors_as_200 else status
        return json_response({"msg": message}, status=status)


def canned_response(request: web.Request, canned: CannedResponse) -> web.Response:
    """Return the prepared response; without a status, abort the connection first."""
    if canned.status is None and request.transport is not None:
        request.transport.abort()
    return web.Response(
        status=canned.status or 503, body=canned.body, headers=canned.headers
    )
