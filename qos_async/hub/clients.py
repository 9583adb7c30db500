"""Clients of a hub: their handshakes, their links, and the check of each request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from aiohttp import web

from qos_async._server.parsing import json_response, try_later
from qos_async.hub.answers import Answers
from qos_async.hub.commands import CommandHandler
from qos_async.hub.guard import Guard
from qos_async.hub.link import HubLink
from qos_async.hub.relay import Relay
from qos_async.hub.tokens import Token

__all__ = ["Clients"]

_CLIENTS_MAX = 500
_POLICY, _RESTART = 1008, 1012
_SHUTDOWN_SPREAD = 1.0  # Seconds: so that clients do not all come back at once.


class Clients:
    """The links of a hub.

    Args:
        guard: Checks handshakes.
        relay: Has the subscriptions.
        answers: Answers requests.
        unavailable: Returns a response if no client is accepted now.

    Attributes:
        links: The open links and their tokens, oldest first.
        refused: The number of requests and handshakes that were refused.
    """

    def __init__(
        self,
        guard: Guard,
        relay: Relay,
        answers: Answers,
        *,
        unavailable: Callable[[], web.Response | None],
    ) -> None:
        self.links: dict[HubLink, Token | None] = {}
        self.refused = 0
        self._guard = guard
        self._relay = relay
        self._answers = answers
        self._unavailable = unavailable
        self._opened = 0

    @web.middleware
    async def check(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuse what the guard refuses."""
        refusal = self._guard.refusal(request)
        if refusal is not None:
            return self.refuse(403, refusal)
        response: web.StreamResponse = await handler(request)
        return response

    def refuse(self, status: int, message: str) -> web.Response:
        """Count a refusal, and return its response."""
        self.refused += 1
        return json_response({"msg": message}, status=status)

    async def on_upgrade(self, request: web.Request) -> web.StreamResponse:
        """Process one upgrade, and then the link until it is closed."""
        client = self._guard.client(request)
        if client is None:
            return self.refuse(401, "Invalid key.")
        owner, token = client
        now = asyncio.get_running_loop().time()
        allowed = self._guard.allows_handshake(owner, now)
        if len(self.links) >= _CLIENTS_MAX or not allowed:
            self.refused += 1
            return try_later(503, "Too many connections.", 1.0)
        unavailable = self._unavailable()
        if unavailable is not None:
            return unavailable
        self._opened += 1
        link = HubLink(self._opened, request, owner=owner)
        handler = CommandHandler(link, token, self._relay, self._answers)
        self.links[link] = token
        self._relay.add(link)
        try:
            await link.run(handler.on_frame)
        finally:
            del self.links[link]
            self._relay.remove(link)
            await handler.aclose()
        return link.ws

    def end_revoked(self) -> None:
        """Close the links whose token is no longer in force, or has other rights now."""
        tokens = self._guard.tokens
        if tokens is None:
            return
        self._relay.places.reserved = tokens.reserved
        for link, token in self.links.items():
            found = tokens.by_name.get(link.owner)
            if token is None or found is None or found.token != token.token:
                link.end(_POLICY, "the token was revoked")
            elif found != token:
                link.end(_RESTART, "what the token may have has changed")

    def end_all(self, reason: str) -> None:
        """Close every link."""
        for link in self.links:
            link.end(_RESTART, reason)

    async def dismiss(self) -> None:
        """Close every link, each within a random second."""
        await asyncio.gather(*map(self._dismiss, list(self.links)))

    @staticmethod
    async def _dismiss(link: HubLink) -> None:
        await asyncio.sleep(random.random() * _SHUTDOWN_SPREAD)
        link.end(_RESTART, "restarting")
