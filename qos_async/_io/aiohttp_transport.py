"""The pace of a key, from one client of this process to the next.

A plan's pace belongs to the key, so it does not start anew with each ``Client``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from ssl import SSLContext
from typing import Any, Literal
from weakref import WeakKeyDictionary

import aiohttp
import anyio
from yarl import URL

from qos_async._core.sanitize import printable
from qos_async._io.aiohttp_session import (
    AiohttpSession,
    RedirectRefusedError,
    on_response,
)
from qos_async._io.frame_splitter import FrameBatchMessage, SyncHandoff, install
from qos_async._io.http_errors import UNTRUSTED, map_exception
from qos_async._io.retry import retry_after
from qos_async._io.secret import Secret
from qos_async._io.transport import (
    DialError,
    DisconnectReason,
    LinkClosed,
    Socket,
    status_label,
)
from qos_async.config import Timing
from qos_async.errors import (
    AuthenticationError,
    QosError,
    TransportError,
)

__all__ = ["MAX_FRAME", "AiohttpTransport", "KeyPace"]

# By a hash that means nothing outside of this process; forgotten when it has passed.
_salt = os.urandom(32)
_free_at: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bytes, float]] = (
    WeakKeyDictionary()
)


class KeyPace:
    """Keeps the first frame of a link away from the last one of an earlier link.

    Args:
        url: Where the links lead to.
        key: The key that they have in common.
        interval: Seconds between two frames.
    """

    __slots__ = ("_interval", "_name")

    def __init__(self, url: URL, key: str, interval: float) -> None:
        self._interval = interval
        self._name = blake2b(f"{url}\n{key}".encode(), key=_salt).digest()

    async def wait(self) -> None:
        """Wait until a link may be opened, and be spoken on at once."""
        now = asyncio.get_running_loop().time()
        wait = self._next_allowed().get(self._name, now) - now
        if wait > 0:
            await asyncio.sleep(wait)

    def mark_sent(self) -> None:
        """Record that a frame leaves."""
        now, times = asyncio.get_running_loop().time(), self._next_allowed()
        for name in [name for name, free_at in times.items() if free_at <= now]:
            del times[name]
        times[self._name] = now + self._interval

    @staticmethod
    def _next_allowed() -> dict[bytes, float]:
        return _free_at.setdefault(asyncio.get_running_loop(), {})


MAX_FRAME = 16 * 1024 * 1024
"""Bytes; ten symbols times a thousand klines is about 1.2 MB in one reply."""

_DATA = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)
_REFUSED_KEY = frozenset([400, 401, 403])
_BAD_REQUEST = 400
_NO_STATUS = 1005


class AiohttpTransport:
    """Opens links with aiohttp.

    No exception of aiohttp's leaves here, not even as a cause: they hold the request
    headers, and so the key. Each error is built in the ``except`` block and raised
    after it.

    Args:
        lease: Where the aiohttp session comes from.
        secret: The key, read anew for each link.
        url: The websocket's address, as ``check_url`` returned it.
        timing: ``connect_timeout`` bounds a whole dial, ``request_timeout`` a send,
            ``close_timeout`` a goodbye.
        key_in: Where the key goes.
        ssl: As in aiohttp.
        proxy: As in aiohttp.
        interval: Seconds from the last frame of a link until another one with the same
            key is opened, be it another client's.
    """

    def __init__(
        self,
        lease: AiohttpSession,
        secret: Secret,
        *,
        url: URL,
        timing: Timing,
        interval: float = 0.0,
        key_in: Literal["header", "url"] = "header",
        ssl: SSLContext | aiohttp.Fingerprint | bool = True,
        proxy: str | None = None,
    ) -> None:
        self._lease = lease
        self._secret = secret
        self._url = url
        self._timing = timing
        self._interval = interval
        self._key_in = key_in
        self._options: dict[str, Any] = {
            "ssl": ssl,
            "proxy": proxy,
            "decode_text": False,  # msgspec reads bytes: spare a copy for each frame.
            "max_msg_size": MAX_FRAME,
            # aiohttp's attrs class is opaque to pyright.
            "timeout": aiohttp.ClientWSTimeout(
                ws_close=timing.close_timeout  # pyright: ignore[reportCallIssue]
            ),
        }

    async def dial(self) -> Socket:
        """Open one link, within ``timing.connect_timeout``."""
        opened = await self._dial()
        if isinstance(opened, QosError):
            raise opened
        return opened

    async def _dial(self) -> Socket | QosError:
        session, (url, headers, pace) = self._lease.session(), self._request_target()
        offer = SyncHandoff()

        def quicken(response: aiohttp.ClientResponse) -> None:
            install(getattr(response.connection, "protocol", None), offer)

        await pace.wait()
        try:
            with anyio.fail_after(self._timing.connect_timeout):
                with on_response(quicken):
                    ws = await _connect(session, url, headers, self._options)
            return _AiohttpSocket(ws, offer, self._timing, self._secret, pace)
        except RedirectRefusedError as exc:
            return self._redirect_error(str(exc))
        except aiohttp.ClientHttpProxyError as exc:  # Says nothing about our key.
            return self._network_error(exc)
        except aiohttp.ClientResponseError as exc:
            return self._handshake_error(exc)
        except TimeoutError:
            seconds = self._timing.connect_timeout
            return DialError(
                f"{self._url.origin()} did not connect within {seconds:g} s",
                label=DisconnectReason.TIMEOUT,
            )
        except Exception as exc:  # noqa: BLE001 - unusual hosts make yarl raise others
            return self._network_error(exc)

    def _request_target(self) -> tuple[URL, dict[str, str], KeyPace]:
        key = self._secret.read()
        pace = KeyPace(self._url, key, self._interval)
        if self._key_in == "url":
            return self._url.update_query(key=key), {}, pace
        return self._url, {"key": key}, pace

    def _network_error(self, exc: Exception) -> DialError:
        outcome = map_exception(
            exc, self._url.path, self._url, self._timing, self._secret
        )
        return DialError(
            str(outcome.error),
            is_permanent=not outcome.transient,
            untrusted=isinstance(exc, UNTRUSTED),
        )

    def _redirect_error(self, status: str) -> DialError:
        return DialError(
            f"{self._url.path}: the server redirects ({status}), which is not "
            "followed, so that the API key stays where it was sent: set stream_url to "
            "the new address",
            is_permanent=True,
            label=DisconnectReason.REDIRECT,
        )

    def _handshake_error(self, exc: aiohttp.ClientResponseError) -> QosError:
        # aiohttp says 400 too where an answer is not HTTP at all.
        garbled = not isinstance(exc, aiohttp.WSServerHandshakeError)
        if exc.status in _REFUSED_KEY and not (garbled and exc.status == _BAD_REQUEST):
            return AuthenticationError(
                f"the server refused the websocket (HTTP {exc.status}): the API key is "
                "wrong or expired, or another connection holds the plan's only slot; "
                "see QOS_API_KEY, or the key argument of Client"
            )
        wait = retry_after(
            exc.headers.get("Retry-After") if exc.headers else None, time.time()
        )
        return DialError(
            f"{self._url.origin()} would not open a websocket (HTTP {exc.status})",
            retry_after=wait or 0.0,
            label=status_label(exc.status),
        )


async def _connect(
    session: aiohttp.ClientSession,
    url: URL,
    headers: dict[str, str],
    options: dict[str, Any],
) -> aiohttp.ClientWebSocketResponse[bool]:
    connect: Any = session.ws_connect  # Its overloads do not take a dict of options.
    ws: aiohttp.ClientWebSocketResponse[bool] = await connect(
        url, headers=headers, **options
    )
    return ws


class _AiohttpSocket:
    def __init__(
        self,
        ws: aiohttp.ClientWebSocketResponse[bool],
        offer: SyncHandoff,
        timing: Timing,
        secret: Secret,
        pace: KeyPace,
    ) -> None:
        self._ws = ws
        self._handoff = offer
        self._transport = _transport(ws)
        self._timing = timing
        self._secret = secret
        self._pace = pace

    def set_sync_handler(self, take: Callable[[Sequence[bytes]], bool]) -> None:
        self._handoff.handler = take

    async def receive(self) -> Sequence[bytes]:
        self._handoff.reader_idle = True
        try:
            message = await self._ws.receive()
        finally:
            self._handoff.reader_idle = False
        if isinstance(message, FrameBatchMessage):
            return message.data
        if message.type in _DATA:
            return (message.data,)
        raise self._ended(message)

    def _ended(self, message: Any) -> LinkClosed:
        if message.type is aiohttp.WSMsgType.CLOSE:
            # aiohttp reports a close frame without a code as code 0.
            code = message.data or _NO_STATUS
            reason = printable(self._secret.redact(message.extra or ""))
            said = f": {reason}" if reason else ""
            return LinkClosed(
                f"the server closed the link with {code}{said}", code=code
            )
        if message.type is aiohttp.WSMsgType.ERROR:
            fault = type(message.data).__name__
            return LinkClosed(
                f"the server broke the websocket protocol ({fault})",
                label=DisconnectReason.PROTOCOL,
            )
        return LinkClosed("the connection broke without a goodbye")

    async def send(self, frame: bytes) -> None:
        self._pace.mark_sent()
        late = False
        try:
            # Blocks for ever if the server stops reading: hence our own deadline.
            with anyio.move_on_after(self._timing.request_timeout) as scope:
                await self._ws.send_frame(frame, aiohttp.WSMsgType.TEXT)
            late = scope.cancelled_caught
        except (aiohttp.ClientError, OSError):
            pass
        else:
            if not late:
                return
        raise TransportError(
            "the server stopped reading"
            if late
            else "the connection broke while sending"
        )

    async def close(self, *, graceful: bool) -> None:
        # Timers that asyncio keeps after their cancellation hold the offer for minutes.
        self._handoff.handler = None
        # aiohttp's close waits for an answer after each message that comes, so on a
        # busy link for ever. Cancelling it lets go of the socket; which stays open for
        # as long as the other side does not take what is unsent, and in TLS for half a
        # minute more, for a goodbye: hence the abort.
        seconds = self._timing.close_timeout if graceful else 0.0
        with anyio.move_on_after(seconds, shield=True):
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await self._ws.close()
        if self._transport is not None:
            self._transport.abort()


def _transport(
    ws: aiohttp.ClientWebSocketResponse[bool],
) -> asyncio.WriteTransport | None:
    # aiohttp keeps it to itself, and forgets it when either side says goodbye.
    response: Any = getattr(ws, "_response", None)
    connection: Any = getattr(response, "connection", None)
    transport: asyncio.WriteTransport | None = getattr(connection, "transport", None)
    return transport
