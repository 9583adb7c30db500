"""Who may open a websocket, and who is shown the door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from qos_async.config import Limits
from qos_async.sim.desk import WebSocketHandler
from qos_async.sim.faults import CannedResponse
from qos_async.sim.http import find_key, json_response
from qos_async.sim.link import ServerConnection
from qos_async.sim.log import ReceivedRequest, ServerLog
from qos_async.sim.reading import encode
from qos_async.sim.variants import Variants

__all__ = ["Handshake"]

_REPLACED = 1000


class Handshake:
    """Answers ``GET /ws``.

    Args:
        desk: Serves the links that get in.
        plan: How many may be open.
        variants: How the unknown is played.
        log: Where everything is noted.
        key_problem: Gives the words in which a key is refused, or None.
        closed: Gives the answer to an upgrade that a fault refuses, or None.
        audible: Cleared while the server is a black hole.
    """

    def __init__(
        self,
        desk: WebSocketHandler,
        plan: Limits,
        variants: Variants,
        log: ServerLog,
        *,
        key_problem: Callable[[str | None], str | None],
        closed: Callable[[], CannedResponse | None],
        audible: asyncio.Event,
    ) -> None:
        self._handler = desk
        self._plan = plan
        self._variants = variants
        self._log = log
        self._key_problem = key_problem
        self._closed = closed
        self._audible = audible
        self._opened = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one upgrade, and then the link for as long as it lives."""
        key, key_in = find_key(request)
        at = asyncio.get_running_loop().time()
        self._log.requests.append(ReceivedRequest(at, request.path, None, key_in))
        await self._audible.wait()
        closed = self._closed()
        if closed is not None:
            return _reject(request, closed)
        problem = self._key_problem(key)
        if problem is not None and self._variants.bad_key != "message":
            return json_response({"msg": problem}, status=int(self._variants.bad_key))
        if problem is None and not self._make_room():
            status = self._variants.second_connection_status
            return json_response({"msg": "Too many connections."}, status=status)
        return await self._serve(request, problem)

    async def _serve(
        self, request: web.Request, problem: str | None
    ) -> web.StreamResponse:
        self._opened += 1
        link = ServerConnection(
            self._opened, request, compress=self._variants.compression
        )
        if problem is not None:
            link.send(encode({"msg": problem}))
            link.close_soon(1008)
            await link.run(_ignore)
            return link.ws
        self._handler.links.append(link)
        try:
            await link.run(self._on_frame)
        finally:
            self._handler.on_disconnect(link)
        return link.ws

    def _on_frame(self, link: ServerConnection, raw: bytes) -> None:
        self._handler.on_frame(link, raw, asyncio.get_running_loop().time())

    def _make_room(self) -> bool:
        """See that one more link is within the plan, or make it so."""
        living = [link for link in self._handler.links if link.open]
        excess = len(living) + 1 - self._plan.connections
        if excess <= 0:
            return True
        self._log.violations.append(
            f"{len(living) + 1} connections, the plan has {self._plan.connections}"
        )
        if self._variants.second_connection == "close_oldest":
            for link in living[:excess]:
                link.close_soon(_REPLACED, "replaced by a new connection")
        return self._variants.second_connection != "refuse"


def _ignore(link: ServerConnection, raw: bytes) -> None:
    """Hear nothing: whoever has no key is not listened to."""


def _reject(request: web.Request, closed: CannedResponse) -> web.Response:
    if closed.status is None and request.transport is not None:
        request.transport.abort()
    return web.Response(
        status=closed.status or 503, body=closed.body, headers=closed.headers
    )
