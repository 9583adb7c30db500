"""aiohttp transport: dials websocket links and paces the links of one key."""

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
    waiting_for_connection,
)
from qos_async._io.frame_splitter import FrameBatchMessage, SyncHandoff, install
from qos_async._io.http_errors import UNTRUSTED, map_exception, redirect_message
from qos_async._io.retry import Retry, retry_after
from qos_async._io.secret import Secret
from qos_async._io.transport import (
    RECORDING_ENDED,
    RECORDING_ENDED_REASON,
    DialError,
    DisconnectReason,
    EndOfStream,
    LinkClosed,
    Socket,
    missing_seconds,
    status_label,
)
from qos_async.config import Timing
from qos_async.errors import (
    AuthenticationError,
    QosError,
    TransportError,
)

__all__ = ["MAX_FRAME", "AiohttpTransport", "KeyPace"]

MAX_FRAME = 16 * 1024 * 1024
"""The largest frame in bytes; ten symbols with 1000 klines each are about 1.2 MB."""

_DATA = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)
_KEY_REJECTED = frozenset([400, 401, 403])
_BAD_REQUEST = 400
_NO_STATUS = 1005  # RFC 6455, section 7.4.1: a close frame without a code.

# When the next frame of a key may be sent, by event loop and by a salted hash of
# address and key, so that no copy of the key is kept. Entries of the past are removed.
_salt = os.urandom(32)
_free_at: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bytes, float]] = (
    WeakKeyDictionary()
)


class AiohttpTransport:
    """Opens links with aiohttp.

    No exception of aiohttp leaves this class, not even as a cause or a context: they
    hold the request headers, and so the key. Each error is built in the ``except``
    block and raised after it, as ``raise … from None`` would keep the context.

    Args:
        session: Provides the aiohttp session.
        secret: The key, read for each link.
        url: The websocket's address, as ``check_url`` returned it.
        timing: ``connect_timeout`` bounds a whole dial, ``request_timeout`` a send,
            ``close_timeout`` a close handshake.
        key_in: Whether the key is sent in a header or in the URL.
        ssl: As in aiohttp.
        proxy: As in aiohttp.
        interval: Seconds from the last frame of a link until another link with the same
            key is opened, also by another client of this process.
    """

    def __init__(
        self,
        session: AiohttpSession,
        secret: Secret,
        *,
        url: URL,
        timing: Timing,
        interval: float = 0.0,
        key_in: Literal["header", "url"] = "header",
        ssl: SSLContext | aiohttp.Fingerprint | bool = True,
        proxy: str | None = None,
    ) -> None:
        self._session = session
        self._secret = secret
        self._url = url
        self._timing = timing
        self._interval = interval
        self._key_in = key_in
        self._options: dict[str, Any] = {
            "ssl": ssl,
            "proxy": proxy,
            # msgspec decodes bytes, so each frame is spared a copy to str. Since
            # aiohttp 3.14, which is why that is the minimum.
            "decode_text": False,
            "max_msg_size": MAX_FRAME,
            # aiohttp's attrs class is opaque to pyright.
            "timeout": aiohttp.ClientWSTimeout(
                ws_close=timing.close_timeout  # pyright: ignore[reportCallIssue]
            ),
        }

    async def dial(self) -> Socket:
        """Open one link within ``timing.connect_timeout``.

        Raises:
            DialError: If the network failed or the server did not open a websocket.
            AuthenticationError: If the server rejected the key.
        """
        opened = await self._dial()
        if isinstance(opened, QosError):
            raise opened
        return opened

    async def _dial(self) -> Socket | QosError:
        session, (url, headers, pace) = self._session.session(), self._request_target()
        handoff = SyncHandoff()

        def install_fast_path(response: aiohttp.ClientResponse) -> None:
            install(getattr(response.connection, "protocol", None), handoff)

        await pace.wait()
        waiting: list[object] = []
        try:
            with (
                anyio.fail_after(self._timing.connect_timeout),
                waiting_for_connection() as waiting,
                on_response(install_fast_path),
            ):
                ws = await _connect(session, url, headers, self._options)
            self._session.set_websocket(ws)
            return _AiohttpSocket(ws, handoff, self._timing, self._secret, pace)
        except RedirectRefusedError as exc:
            return self._redirect_error(str(exc))
        except aiohttp.ClientHttpProxyError as exc:
            # A ClientResponseError too, but its 401 or 403 is not about the API key.
            return self._network_error(exc)
        except aiohttp.ClientResponseError as exc:
            return self._handshake_error(exc)
        except TimeoutError:
            seconds = self._timing.connect_timeout
            text = f"{self._url.origin()} did not connect within {seconds:g} s"
            text += f", {self._session.why_none_free}" if waiting else ""
            return DialError(text, label=DisconnectReason.TIMEOUT)
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
            is_permanent=outcome.retry is Retry.NEVER,
            untrusted=isinstance(exc, UNTRUSTED),
        )

    def _redirect_error(self, status: str) -> DialError:
        return DialError(
            redirect_message(self._url.path, status, "stream_url"),
            is_permanent=True,
            label=DisconnectReason.REDIRECT,
        )

    def _handshake_error(self, exc: aiohttp.ClientResponseError) -> QosError:
        # aiohttp also raises with status 400 if the response is not HTTP at all.
        not_http = not isinstance(exc, aiohttp.WSServerHandshakeError)
        if exc.status in _KEY_REJECTED and not (
            not_http and exc.status == _BAD_REQUEST
        ):
            return AuthenticationError(
                f"the server rejected the websocket (HTTP {exc.status}): the API key "
                "is wrong or expired, or another connection holds the plan's only slot"
            )
        wait = retry_after(
            exc.headers.get("Retry-After") if exc.headers else None, time.time()
        )
        return DialError(
            f"{self._url.origin()} did not open a websocket (HTTP {exc.status})",
            retry_after=wait or 0.0,
            label=status_label(exc.status),
        )


class KeyPace:
    """The pace of one key over all clients of this process (section 5.0.2).

    The limit of one frame a second belongs to the key, not to a link. A client paces
    its own frames (``Pacer``); this keeps the first frame of a link away from the last
    one of an earlier link, which may have been another client's.

    Args:
        url: The address of the links.
        key: The key that they have in common.
        interval: Seconds between two frames.
    """

    __slots__ = ("_interval", "_name")

    def __init__(self, url: URL, key: str, interval: float) -> None:
        self._interval = interval
        self._name = blake2b(f"{url}\n{key}".encode(), key=_salt).digest()

    async def wait(self) -> None:
        """Wait until a frame may be sent, as the first one follows the handshake."""
        now = asyncio.get_running_loop().time()
        wait = self._next_allowed().get(self._name, now) - now
        if wait > 0:
            await asyncio.sleep(wait)

    def mark_sent(self) -> None:
        """Record that a frame is sent now."""
        now, times = asyncio.get_running_loop().time(), self._next_allowed()
        for name in [name for name, free_at in times.items() if free_at <= now]:
            del times[name]
        times[self._name] = now + self._interval

    @staticmethod
    def _next_allowed() -> dict[bytes, float]:
        return _free_at.setdefault(asyncio.get_running_loop(), {})


class _AiohttpSocket:
    def __init__(
        self,
        ws: aiohttp.ClientWebSocketResponse[bool],
        handoff: SyncHandoff,
        timing: Timing,
        secret: Secret,
        pace: KeyPace,
    ) -> None:
        self._ws = ws
        self._handoff = handoff
        self._transport = _transport(ws)
        self._timing = timing
        self._secret = secret
        self._pace = pace

    def set_sync_handler(
        self,
        handler: Callable[[Sequence[bytes]], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._handoff.handler, self._handoff.on_error = handler, on_error

    async def receive(self) -> Sequence[bytes]:
        self._handoff.reader_idle = True
        try:
            while True:
                try:
                    message = await self._ws.receive()
                    break
                except (aiohttp.ClientError, OSError):
                    # aiohttp answers pings in there, and raises if the connection is
                    # closed by then, as after a pause of the process. What came behind
                    # the ping is still to be read, and then the end.
                    continue
        finally:
            self._handoff.reader_idle = False
        if isinstance(message, FrameBatchMessage):
            return message.data
        if message.type in _DATA:
            return (message.data,)
        raise self._ended(message)

    def _ended(self, message: Any) -> LinkClosed | EndOfStream:
        if message.type is aiohttp.WSMsgType.CLOSE:
            # aiohttp reports a close frame without a code as code 0.
            code = message.data or _NO_STATUS
            reason = printable(self._secret.redact(message.extra or ""))
            if (code, reason) == (RECORDING_ENDED, RECORDING_ENDED_REASON):
                return EndOfStream(reason)
            detail = f": {reason}" if reason else ""
            return LinkClosed(
                f"the server closed the link with {code}{detail}",
                code=code,
                missing=missing_seconds(reason),
            )
        if message.type is aiohttp.WSMsgType.ERROR:
            error = type(message.data).__name__
            return LinkClosed(
                f"the server broke the websocket protocol ({error})",
                label=DisconnectReason.PROTOCOL,
            )
        return LinkClosed("the connection broke without a close frame")

    async def send(self, frame: bytes) -> None:
        self._pace.mark_sent()
        timed_out = False
        try:
            # aiohttp blocks for ever if the server stops reading, so it needs a
            # deadline.
            with anyio.move_on_after(self._timing.request_timeout) as scope:
                await self._ws.send_frame(frame, aiohttp.WSMsgType.TEXT)
            timed_out = scope.cancelled_caught
        except (aiohttp.ClientError, OSError):
            pass
        else:
            if not timed_out:
                return
        raise TransportError(
            "the server stopped reading"
            if timed_out
            else "the connection broke while sending"
        )

    async def close(self, *, graceful: bool) -> None:
        # asyncio keeps cancelled timers until they expire, and these refer to the
        # handoff: without its handler, it no longer refers to the client.
        self._handoff.handler = None
        # 1. aiohttp's close restarts its timeout with each message, so on a busy link
        #    it never returns (measured: more than 8 s with 1 s allowed): hence this
        #    deadline.
        # 2. Cancelling it closes the transport, but the socket stays open while the
        #    other side does not read what is unsent, and with TLS for 30 s more,
        #    waiting for a close_notify: hence the abort.
        seconds = self._timing.close_timeout if graceful else 0.0
        with anyio.move_on_after(seconds, shield=True):
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await self._ws.close()
        if self._transport is not None:
            self._transport.abort()


async def _connect(
    session: aiohttp.ClientSession,
    url: URL,
    headers: dict[str, str],
    options: dict[str, Any],
) -> aiohttp.ClientWebSocketResponse[bool]:
    connect: Any = session.ws_connect  # Its overloads do not accept a dict of options.
    ws: aiohttp.ClientWebSocketResponse[bool] = await connect(
        url, headers=headers, **options
    )
    return ws


def _transport(
    ws: aiohttp.ClientWebSocketResponse[bool],
) -> asyncio.WriteTransport | None:
    # Private to aiohttp, which drops it once either side has sent a close frame: so it
    # is looked up when the link opens.
    response: Any = getattr(ws, "_response", None)
    connection: Any = getattr(response, "connection", None)
    transport: asyncio.WriteTransport | None = getattr(connection, "transport", None)
    return transport
