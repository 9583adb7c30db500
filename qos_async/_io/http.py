"""Waiting for the plan's HTTP pace, first come, first served."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from ssl import SSLContext
from typing import Any, Literal, Protocol, Self, TypeVar

import aiohttp
import anyio
import msgspec
from yarl import URL

from qos_async._core.queries import Query
from qos_async._core.rate_limits import Quota
from qos_async._io.aiohttp_session import AiohttpSession, on_connection
from qos_async._io.http_errors import (
    NOT_SENT,
    HttpResponse,
    classify_response,
    map_exception,
)
from qos_async._io.retry import Outcome, retry_after, retrying
from qos_async._io.secret import Secret
from qos_async.config import Limits, Timing
from qos_async.errors import ClosedError

__all__ = ["BODY_MAX", "HttpClient", "HttpCounters", "RateLimiter"]


class RateLimiter:
    """Let requests through as the plan allows; whoever is early waits.

    ``async with gate.slot() as slot: …`` holds one slot for one request. A waiter
    that is cancelled takes none; a request that is cancelled counts as sent.
    """

    def __init__(self, limits: Limits) -> None:
        self._quota = Quota(requests=limits.http_requests, period=limits.http_period)
        self._turn = asyncio.Lock()  # Wakes its waiters in the order they came.
        self._returned = asyncio.Event()

    def permit(self) -> Permit:
        """Describe one pass, to be entered with ``async with``."""
        return Permit(self)

    async def acquire(self) -> None:
        """Wait for a slot and take it."""
        async with self._turn:
            while (wait := self._wait()) > 0:
                self._returned.clear()
                try:
                    async with asyncio.timeout(None if math.isinf(wait) else wait):
                        await self._returned.wait()
                except TimeoutError:
                    pass  # A slot has rested; the loop looks which one.
            self._quota.acquire(_loop_time())

    def release(self, *, sent: bool) -> None:
        """Return a slot."""
        if sent:
            self._quota.release_after_period(_loop_time())
        else:
            self._quota.cancel()
        self._returned.set()

    def _wait(self) -> float:
        now = _loop_time()
        return self._quota.ready_at(now) - now


class Permit:
    """One pass through the gate.

    Attributes:
        sent: Whether the request may have reached the server; set it to False where
            it certainly has not.
    """

    __slots__ = ("_gate", "sent")

    def __init__(self, gate: RateLimiter) -> None:
        self._gate = gate
        self.sent = True

    async def __aenter__(self) -> Self:
        await self._gate.acquire()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._gate.release(sent=self.sent)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


T = TypeVar("T")

BODY_MAX = 16 * 1024 * 1024
"""The largest answer, in bytes after decompression; ten times the largest known."""

_CHUNK = 65_536

_log = logging.getLogger("qos_async.http")


class HttpCounters(Protocol):
    """What an ``HttpSession`` counts in.

    Attributes:
        http_requests: Attempts, the first ones and the retries.
        http_retries: Attempts that followed a failed one.
        http_bytes_sent: Bytes of questions, without headers.
        http_bytes_received: Bytes of whole answers, decompressed, without headers.
    """

    http_requests: int
    http_retries: int
    http_bytes_sent: int
    http_bytes_received: int


class HttpClient:
    """Ask questions over HTTP, at the plan's pace, again where that may help."""

    def __init__(
        self,
        session: AiohttpSession,
        secret: Secret,
        *,
        url: URL,
        limits: Limits,
        timing: Timing,
        counters: HttpCounters,
        key_in: Literal["header", "url"] = "header",
        ssl: SSLContext | aiohttp.Fingerprint | bool = True,
        proxy: str | None = None,
        rng: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Open nothing yet.

        Args:
            session: Where the aiohttp session comes from.
            secret: The key.
            url: The service, as ``check_url`` returned it.
            limits: ``http_requests`` in any ``http_period`` are kept.
            timing: ``connect_timeout`` for the connection and ``request_timeout``
                from there to the end of the answer, for each attempt.
            counters: What to count in.
            key_in: Where the key goes.
            ssl: As in aiohttp.
            proxy: As in aiohttp.
            rng: A random number from 0 to 1, for the back-off.
            sleep: How to wait between attempts.
        """
        self._session = session
        self._secret = secret
        self._url = url
        self._key_in = key_in
        self._timing = timing
        self._counters = counters
        self._limiter = RateLimiter(limits)
        self._options: dict[str, Any] = {
            "ssl": ssl,
            "proxy": proxy,
            "allow_redirects": False,
            "raise_for_status": False,  # A borrowed session may have other defaults.
            "timeout": aiohttp.ClientTimeout(
                total=None, connect=timing.connect_timeout
            ),
        }
        self._in_flight: set[anyio.CancelScope] = set()
        self._closed = False
        self._retrying = retrying(timing, on_retry=self._on_retry, rng=rng, sleep=sleep)

    async def fetch(self, query: Query[T]) -> T:
        """Ask, and ask again while the network or the server is at fault.

        Waits as long as the plan's pace and the server's ``Retry-After`` demand; put
        ``asyncio.timeout`` around it to wait less.

        Raises:
            AuthenticationError: The key was refused; not asked again.
            RejectedError: The server said no, or ``LimitError`` because of the plan.
            RequestTimeoutError: No answer came in time, in none of the attempts.
            TransportError: The network or the server failed in all attempts;
                ``ConnectError`` if the service was not reached.
            DecodeError: The answer cannot be read.
            ClosedError: After this or the lease was closed.
            RuntimeError: In another event loop than that of the first use.
        """
        if self._closed:
            raise ClosedError("the client is closed")
        self._session.session()  # Raises at once what would be raised after the wait.
        # A copy: tenacity keeps the state of a call in the object.
        retry = self._retrying.copy()
        outcome: Outcome[T] = Outcome(error=ClosedError("the client was closed"))
        with anyio.CancelScope() as scope:
            self._in_flight.add(scope)
            try:
                outcome = await retry(self._attempt, query)
            except asyncio.CancelledError as cancelled:
                # It came through aiohttp's frames, whose variables hold the key.
                raise cancelled.with_traceback(None)  # noqa: B904
            finally:
                self._in_flight.discard(scope)
        return outcome.unwrap()

    def close(self) -> None:
        """Fail all who ask or will, also those who wait for their turn."""
        self._closed = True
        for scope in self._in_flight:
            scope.cancel()

    async def _attempt(self, query: Query[T]) -> Outcome[T]:
        async with self._limiter.permit() as slot:
            slot.sent = False
            session = self._session.session()
            url, headers = self._address(query.path)
            slot.sent = True
            self._counters.http_requests += 1
            reply: HttpResponse | Outcome[T]
            try:
                reply = await self._exchange(session, url, headers, query)
            except Exception as exc:  # noqa: BLE001 - its frames hold the key
                slot.sent = not isinstance(exc, NOT_SENT)
                reply = map_exception(
                    exc, query.path, self._url, self._timing, self._secret
                )
        if isinstance(reply, HttpResponse):
            return classify_response(query, reply, self._secret)
        return reply

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        headers: dict[str, str],
        query: Query[Any],
    ) -> HttpResponse:
        loop, timing = asyncio.get_running_loop(), self._timing
        body = msgspec.json.encode(query.body)
        self._counters.http_bytes_sent += len(body)
        async with asyncio.timeout(
            timing.connect_timeout + timing.request_timeout
        ) as deadline:
            connected = lambda: deadline.reschedule(  # noqa: E731
                loop.time() + timing.request_timeout
            )
            with on_connection(connected):
                async with session.post(
                    url, data=body, headers=headers, **self._options
                ) as response:
                    reply = await _receive(response)
                    self._counters.http_bytes_received += len(reply.body or b"")
                    return reply

    def _address(self, path: str) -> tuple[URL, dict[str, str]]:
        url = self._url.joinpath(path.lstrip("/")).with_query(self._url.query)
        headers = {"Content-Type": "application/json"}
        if self._key_in == "url":
            return url.update_query(key=self._secret.read()), headers
        return url, {**headers, "key": self._secret.read()}

    def _on_retry(self, outcome: Outcome[Any], wait: float) -> None:
        self._counters.http_retries += 1
        _log.info("%s; asking again in %.1f s", outcome.error, wait)


async def _receive(response: aiohttp.ClientResponse) -> HttpResponse:
    wait = retry_after(response.headers.get("Retry-After"), time.time())
    body = bytearray()
    # In pieces: a small compressed body may be a large one.
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > BODY_MAX:
            response.close()
            return HttpResponse(response.status, None, wait)
    return HttpResponse(response.status, bytes(body), wait)
