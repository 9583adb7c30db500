"""The HTTP side: eight questions, asked with POST."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from qos_async.sim.faults import CannedResponse
from qos_async.sim.instruments import Row
from qos_async.sim.log import ReceivedRequest, ServerLog
from qos_async.sim.plan import UsageMeter
from qos_async.sim.questions import Rejection, RequestHandler
from qos_async.sim.reading import as_row, encode, parse_json
from qos_async.sim.variants import Variants

__all__ = ["HttpHandler", "find_key", "json_response"]

_BY_MARKET = ("/market-calendar", "/product-list")
_PATHS = (
    "/instrument-info",
    "/snapshot",
    "/depth",
    "/trade",
    "/kline",
    "/history",
    *_BY_MARKET,
)


class HttpHandler:
    """Answers POST requests.

    Args:
        asker: Answers questions.
        variants: How the unknown is played.
        log: Where everything is noted.
        meter: Counts requests.
        now: The market's clock, after everything older has been pushed.
        key_problem: Gives the words in which a key is refused, or None.
        failure: Gives a made up answer for a path, or None.
        refusal: Gives the words in which a path is refused, or None.
        pause: Waits as long as faults make an answer to a path wait; None: for ever.
    """

    def __init__(
        self,
        asker: RequestHandler,
        variants: Variants,
        log: ServerLog,
        meter: UsageMeter,
        *,
        now: Callable[[], float],
        key_problem: Callable[[str | None], str | None],
        failure: Callable[[str], CannedResponse | None],
        refusal: Callable[[str], str | None],
        pause: Callable[[str], Any],
    ) -> None:
        self._requests = asker
        self._variants = variants
        self._log = log
        self._meter = meter
        self._now = now
        self._key_problem = key_problem
        self._failure = failure
        self._refusal = refusal
        self._pause = pause

    def add_routes(self, app: web.Application) -> None:
        """Serve every path of the protocol but the websocket's."""
        for path in _PATHS:
            app.router.add_post(path, self._serve)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        at = asyncio.get_running_loop().time()
        body = parse_json(await request.read())
        key, key_in = find_key(request)
        self._log.requests.append(ReceivedRequest(at, request.path, body, key_in))
        failure = self._failure(request.path)
        if failure is None:
            response = self._answer(request.path, key, body, at)
        elif failure.status is None:
            transport = request.transport
            if transport is not None:
                transport.abort()
            response = web.Response()
        else:
            response = web.Response(
                status=failure.status, body=failure.body, headers=failure.headers
            )
        await self._pause(request.path)
        return response

    def _answer(self, path: str, key: str | None, body: Any, at: float) -> web.Response:
        problem = self._key_problem(key)
        if problem is not None:
            return self._error_response(401, problem)
        if not self._meter.allow_request(at):
            self._log.violations.append(f"{path}: more requests than the plan has")
            return self._error_response(
                429, "Too many requests, please try again later."
            )
        try:
            no = self._refusal(path)
            if no is not None:
                raise Rejection(no)  # noqa: TRY301
            return json_response(
                {"msg": "OK", "data": self._content(path, as_row(body))}
            )
        except Rejection as exc:
            return self._error_response(400, str(exc))

    def _content(self, path: str, body: Row | None) -> Any:
        if body is None:
            self._log.violations.append(f"{path}: the body is not an object")
            raise Rejection("Parameter error: not an object")
        now = self._now()
        if path in _BY_MARKET:
            return self._requests.handle_by_market(path, body, now)
        return self._requests.handle(path, body, now)

    def _error_response(self, status: int, message: str) -> web.Response:
        return json_response(
            {"msg": message}, status=200 if self._variants.errors_as_200 else status
        )


def json_response(
    content: Row, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Make a JSON answer."""
    return web.Response(
        status=status,
        body=encode(content),
        headers=headers,
        content_type="application/json",
    )


def find_key(request: web.Request) -> tuple[str | None, str | None]:
    """Find the key and where it was: ``"header"``, ``"url"`` or None."""
    if "key" in request.headers:
        return request.headers["key"], "header"
    if "key" in request.query:
        return request.query["key"], "url"
    return None, None
