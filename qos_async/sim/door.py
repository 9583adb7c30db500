"""Who may open a websocket, and who is shown the door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from qos_async.config import Limits
from qos_async.sim.desk import Desk, encode
from qos_async.sim.faults import Failure
from qos_async.sim.http import key_of, says
from qos_async.sim.link import Link
from qos_async.sim.log import Log, Request
from qos_async.sim.variants import Variants

__all__ = ["Door"]

_REPLACED = 1000


class Door:
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
        desk: Desk,
        plan: Limits,
        variants: Variants,
        log: Log,
        *,
        key_problem: Callable[[str | None], str | None],
        closed: Callable[[], Failure | None],
        audible: asyncio.Event,
    ) -> None:
        self._desk = desk
        self._plan = plan
        self._variants = variants
        self._log = log
        self._key_problem = key_problem
        self._closed = closed
        self._audible = audible
        self._opened = 0

    async def open(self, request: web.Request) -> web.StreamResponse:
        """Serve one upgrade, and then the link for as long as it lives."""
        key, key_in = key_of(request)
        at = asyncio.get_running_loop().time()
        self._log.requests.append(Request(at, request.path, None, key_in))
        await self._audible.wait()
        closed = self._closed()
        if closed is not None:
            return _turn_away(request, closed)
        problem = self._key_problem(key)
        if problem is not None and self._variants.bad_key != "message":
            return says({"msg": problem}, status=int(self._variants.bad_key))
        if problem is None and not self._has_room():
            status = self._variants.second_connection_status
            return says({"msg": "Too many connections."}, status=status)
        return await self._serve(request, problem)

    async def _serve(
        self, request: web.Request, problem: str | None
    ) -> web.StreamResponse:
        self._opened += 1
        link = Link(self._opened, request, compress=self._variants.compression)
        if problem is not None:
            link.put(encode({"msg": problem}))
            link.hang_up(1008)
            await link.converse(_ignore)
            return link.ws
        self._desk.links.append(link)
        try:
            await link.converse(self._hear)
        finally:
            self._desk.leave(link)
        return link.ws

    def _hear(self, link: Link, raw: bytes) -> None:
        self._desk.hear(link, raw, asyncio.get_running_loop().time())

    def _has_room(self) -> bool:
        """See that one more link is within the plan, or make it so."""
        living = [link for link in self._desk.links if link.open]
        excess = len(living) + 1 - self._plan.connections
        if excess <= 0:
            return True
        self._log.violations.append(
            f"{len(living) + 1} connections, the plan has {self._plan.connections}"
        )
        if self._variants.second_connection == "close_oldest":
            for link in living[:excess]:
                link.hang_up(_REPLACED, "replaced by a new connection")
        return self._variants.second_connection != "refuse"


def _ignore(link: Link, raw: bytes) -> None:
    """Hear nothing: whoever has no key is not listened to."""


def _turn_away(request: web.Request, closed: Failure) -> web.Response:
    if closed.status is None and request.transport is not None:
        request.transport.abort()
    return web.Response(
        status=closed.status or 503, body=closed.body, headers=closed.headers
    )
