"""Exchanges with a service: HTTP requests and websocket frames, kept as they were sent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from qos_async._io.aiohttp_session import (
    AiohttpSession,
    RedirectRefusedError,
    check_proxy,
    check_url,
)
from qos_async._io.aiohttp_transport import MAX_FRAME
from qos_async._io.http import RateLimiter
from qos_async._io.secret import Secret
from qos_async._io.shared_quota import SharedQuota
from qos_async.config import HTTP_URL, STREAM_URL, Limits

__all__ = ["Event", "Exchanges", "Kind", "Row", "SurveyLink", "Target", "row_of"]

Row: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["opened", "refused", "sent", "received", "ping", "closed"]

_TIMEOUT = 8.0
"""Seconds in which a reply is expected, as in ``Timing``."""
_MARGIN = 0.1
"""Seconds beyond the plan's interval, for frames that the network delivers faster."""
_WRONG_KEY = "qos-async-doctor-wrong-key"
_STREAM_TYPES = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)


class Target(NamedTuple):
    """The service, and how to reach it; None is the default of ``Client``.

    Attributes:
        key: The API key.
        http_url: Its address for requests.
        stream_url: Its address for the websocket.
        key_in: Whether the key is sent in a header or in the URL.
        proxy: The address of a proxy.
        limits: The plan, which is kept.
        quota: Has the HTTP requests of other processes with this key.
    """

    key: str
    http_url: str | None = None
    stream_url: str | None = None
    key_in: Literal["header", "url"] = "header"
    proxy: str | None = None
    limits: Limits = Limits()
    quota: SharedQuota | None = None


class Event(Struct, frozen=True, omit_defaults=True):
    """Something sent, received, or that happened to a connection.

    Attributes:
        at: Seconds since the survey began.
        step: The question that it belongs to.
        link: The number of the websocket; 0 for HTTP.
        kind: What happened.
        text: The frame, the body or the reason, with the key replaced by stars.
        code: The HTTP status, or the websocket's close code.
    """

    at: float
    step: str
    link: int
    kind: Kind
    text: str = ""
    code: int | None = None

    @property
    def row(self) -> Row:
        """The JSON object in ``text``; empty if it is no object."""
        return row_of(self.text)


def row_of(text: str) -> Row:
    """Return the JSON object in a text; empty if it is no object."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}


class Exchanges:
    """Sends to a service within the plan, and keeps every exchange.

    Attributes:
        events: Everything so far, in order.
        began_at: When this was created, in epoch seconds of this machine's clock.
        step: The question that what happens now belongs to.
    """

    def __init__(self, target: Target) -> None:
        """Check the addresses; nothing is connected yet.

        Raises:
            AuthenticationError: For a key that no header may hold.
            ValueError: For an address to which the key may not be sent.
        """
        secret = self._secret = Secret(target.key)
        secret.read()
        if target.proxy is not None:
            check_proxy(target.proxy)
        self._http_url = check_url(
            target.http_url or HTTP_URL, schemes=("https", "http"), proxy=target.proxy
        )
        self._stream_url = check_url(
            target.stream_url or STREAM_URL, schemes=("wss", "ws"), proxy=target.proxy
        )
        self.limits = target.limits
        self._in_url = target.key_in == "url"
        self._proxy = target.proxy
        self._session = AiohttpSession(secret)
        share = None
        if target.quota is not None:
            share = target.quota.share(
                secret.read,
                requests=self.limits.http_requests,
                period=self.limits.http_period,
                longest=2 * _TIMEOUT,
            )
        self._limiter = RateLimiter(self.limits, share)
        self._began = asyncio.get_running_loop().time()
        self.began_at = time.time()
        self._links = 0
        self.events: list[Event] = []
        self.step = ""
        self.sent_at = -float("inf")

    @property
    def interval(self) -> float:
        """Seconds to keep between two frames."""
        return self.limits.command_interval + _MARGIN

    async def aclose(self) -> None:
        """Close the session."""
        await self._session.aclose()

    def note(self, kind: Kind, text: str = "", *, link: int, code: int | None) -> None:
        """Add an event of the present step."""
        at = round(asyncio.get_running_loop().time() - self._began, 4)
        shown = self._secret.redact(text)
        self.events.append(Event(at, self.step, link, kind, shown, code))

    async def post(self, step: str, path: str, body: Row, *, key: bool = True) -> None:
        """Send one HTTP request and keep the response, or why there was none."""
        text = msgspec.json.encode(body).decode()
        async with self._limiter.permit():
            self._add(step, "sent", f"POST {path} {text}")
            url, headers = self._request(self._http_url / path.lstrip("/"), key=key)
            try:
                async with (
                    asyncio.timeout(2 * _TIMEOUT),
                    self._session.session().post(
                        url,
                        data=text,
                        headers={**headers, "Content-Type": "application/json"},
                        proxy=self._proxy,
                        allow_redirects=False,
                    ) as response,
                ):
                    answer = (await response.read()).decode(errors="replace")
                    status = response.status
            except (aiohttp.ClientError, RedirectRefusedError, TimeoutError) as exc:
                self._add(step, "refused", type(exc).__name__)
                return
        self._add(step, "received", answer, status)

    async def dial(self, *, key: bool = True) -> SurveyLink | None:
        """Open a websocket; None if it was refused, which is kept with its status."""
        self._links += 1
        number = self._links
        url, headers = self._request(self._stream_url, key=key)
        try:
            async with asyncio.timeout(2 * _TIMEOUT):
                ws = await self._session.session().ws_connect(
                    url,
                    headers=headers,
                    proxy=self._proxy,
                    autoping=False,
                    compress=15,
                    max_msg_size=MAX_FRAME,
                )
        except aiohttp.WSServerHandshakeError as exc:
            self.note("refused", link=number, code=exc.status)
            return None
        except (aiohttp.ClientError, RedirectRefusedError, TimeoutError) as exc:
            self.note("refused", type(exc).__name__, link=number, code=None)
            return None
        extension = "permessage-deflate" if ws.compress else ""
        self.note("opened", extension, link=number, code=None)
        return SurveyLink(self, ws, number)

    def _request(self, url: URL, *, key: bool) -> tuple[URL, dict[str, str]]:
        value = self._secret.read() if key else _WRONG_KEY
        if self._in_url:
            return url.update_query(key=value), {}
        return url, {"key": value}

    def _add(
        self, step: str, kind: Kind, text: str = "", code: int | None = None
    ) -> None:
        """Add an event of HTTP, which goes on beside the websocket's steps."""
        at = round(asyncio.get_running_loop().time() - self._began, 4)
        self.events.append(Event(at, step, 0, kind, self._secret.redact(text), code))


class SurveyLink:
    """An open websocket: paced frames out, everything that comes is kept.

    Attributes:
        number: Its number, from 1.
    """

    def __init__(
        self,
        exchanges: Exchanges,
        ws: aiohttp.ClientWebSocketResponse[bool],
        number: int,
    ) -> None:
        self.number = number
        self._exchanges = exchanges
        self._ws = ws
        self._reqid = 0
        self._heard = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @property
    def closed(self) -> bool:
        """Whether the server has closed it, or it was lost."""
        return self._reader.done()

    async def send(self, body: Row) -> int:
        """Send a frame at once, with the next ``reqid``; return that.

        Raises:
            ConnectionError: If the link is closed.
        """
        self._reqid += 1
        if body["type"] != "H":
            body = {**body, "reqid": self._reqid}
        text = msgspec.json.encode(body).decode()
        self._exchanges.sent_at = asyncio.get_running_loop().time()
        self._exchanges.note("sent", text, link=self.number, code=None)
        if self.closed:
            raise ConnectionResetError("the link is closed")
        await self._ws.send_str(text)
        return self._reqid

    async def ask(self, step: str, body: Row) -> Row:
        """Send a frame when the plan allows it, and wait for its reply; {} if none comes."""
        exchanges = self._exchanges
        now = asyncio.get_running_loop().time()
        # What comes until it is sent belongs to the step before.
        await asyncio.sleep(exchanges.sent_at + exchanges.interval - now)
        exchanges.step = step
        first = len(exchanges.events)
        with contextlib.suppress(ConnectionError):
            return await self.reply(first, await self.send(body))
        return {}

    async def reply(self, first: int, reqid: int, timeout: float = _TIMEOUT) -> Row:  # noqa: ASYNC109 - a bound, not an error
        """Return the reply to a frame among the events from ``first`` on, or {}.

        It has the frame's ``reqid``; one without any is taken as well, as an error may
        not repeat it.
        """

        def found() -> Row | None:
            for event in self._exchanges.events[first:]:
                if event.link == self.number and event.kind == "received":
                    row = event.row
                    if "tp" not in row and row.get("reqid", reqid) == reqid:
                        return row
            return None

        return await self.until(found, timeout) or {}

    async def until(self, condition: Callable[[], Any], seconds: float) -> Any:
        """Return the condition's value once it is not None; None at the end of the time.

        Ends early when the link is closed.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    self._heard.clear()
                    value = condition()
                    if value is not None or self.closed:
                        return value
                    await self._heard.wait()
        return None

    async def watch(self, seconds: float) -> None:
        """Keep what comes for some time, or until the link is closed."""
        await self.until(lambda: None, seconds)

    async def aclose(self) -> None:
        """Close it."""
        self._reader.cancel()
        await asyncio.wait([self._reader])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._ws.close()

    async def _read(self) -> None:
        try:
            while True:
                message = await self._ws.receive()
                if message.type in _STREAM_TYPES:
                    data = message.data
                    if isinstance(data, bytes):
                        data = data.decode(errors="replace")
                    self._exchanges.note("received", data, link=self.number, code=None)
                elif message.type is aiohttp.WSMsgType.PING:
                    self._exchanges.note("ping", link=self.number, code=None)
                    await self._ws.pong(message.data)
                elif message.type is not aiohttp.WSMsgType.PONG:
                    code = self._ws.close_code
                    self._exchanges.note("closed", link=self.number, code=code)
                    return
                self._heard.set()
        except (aiohttp.ClientError, ConnectionError) as exc:
            self._exchanges.note(
                "closed", type(exc).__name__, link=self.number, code=None
            )
        finally:
            self._heard.set()
