"""Connections of a hub that are no websockets yet, or never: few, and not for long.

A connection costs a file descriptor before anything is known of its client. So one that
does not send a whole request soon is closed; and where there are too many, the oldest
goes, not the newest: a client that connects in earnest sends its request at once.
"""

from __future__ import annotations

import asyncio
import logging
from ssl import SSLContext
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from qos_async._server.parsing import try_later

__all__ = ["Connections"]

_HEAD_TIMEOUT = 10.0  # Seconds for the first head.
_TLS_TIMEOUT = 5.0
_IDLE_TIMEOUT = 75.0  # Seconds between requests, and for reading a response.
_LINGER = 1.0  # Seconds for the rest of a body that was refused.
_SILENT_MAX = 100  # Connections that have not sent a request.
_IDLE_MAX = 500  # Connections between requests.
_ACTIVE_MAX = 1000  # Requests at a time, those that became websockets included.
_INTERVAL = 0.5


class Connections:
    """Accepts connections, and closes those that wait for their clients too long."""

    def __init__(self) -> None:
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._silent: dict[web.RequestHandler, float] = {}
        self._idle: dict[web.RequestHandler, float] = {}
        self._active = 0

    @web.middleware
    async def process(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Process a request; its connection is not idle meanwhile."""
        connection = request.protocol
        self._silent.pop(connection, None)
        self._idle.pop(connection, None)
        self._active += 1
        try:
            if self._active > _ACTIVE_MAX:
                return try_later(503, "Too many requests at once.", 1.0)
            response: web.StreamResponse = await handler(request)
            return response
        finally:
            self._active -= 1
            self._idle[connection] = _now() + _IDLE_TIMEOUT

    async def listen(
        self, app: web.Application, host: str, port: int, ssl: SSLContext | None
    ) -> tuple[str, int]:
        """Accept connections for an application; return the address and the port.

        Its outermost middleware has to be ``process``.

        Raises:
            OSError: If it cannot listen there.
        """
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_server_log,
            shutdown_timeout=0.1,
            handler_cancellation=True,
            keepalive_timeout=_IDLE_TIMEOUT,
            lingering_time=_LINGER,
        )
        await self._runner.setup()
        timeout = None if ssl is None else _TLS_TIMEOUT
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._accept, host, port, ssl=ssl, ssl_handshake_timeout=timeout
            )
        except BaseException:
            await self._runner.cleanup()
            raise
        found: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return found

    async def aclose(self) -> None:
        """Accept no more connections, and end those that there are."""
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def run(self) -> None:
        """Close what has been idle for too long, until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            for handler, due in list(self._silent.items()):
                if due <= _now():
                    self._close(handler)
            for handler, due in list(self._idle.items()):
                if due <= _now() or handler.transport is None:
                    self._close(handler)

    def _accept(self) -> asyncio.Protocol:
        assert self._runner is not None
        assert self._runner.server is not None
        handler = self._runner.server()
        self._silent[handler] = _now() + _HEAD_TIMEOUT
        for idle, most in ((self._silent, _SILENT_MAX), (self._idle, _IDLE_MAX)):
            if len(idle) > most:
                self._close(next(iter(idle)))
        return handler

    def _close(self, handler: web.RequestHandler) -> None:
        self._silent.pop(handler, None)
        self._idle.pop(handler, None)
        transport = handler.transport
        # None while it has not finished its TLS handshake, which has its own timeout.
        if transport is not None:
            handler.force_close()
            transport.abort()  # Whatever its client has not read.


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_of_hub(record: logging.LogRecord) -> bool:
    """Whether an error is one of the hub: those of parsing quote what was sent, tokens too."""
    error = record.exc_info and record.exc_info[1]
    return not isinstance(error, HttpProcessingError)


_server_log = logging.getLogger("qos_async.hub.server")
_server_log.addFilter(_is_of_hub)
