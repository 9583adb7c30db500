"""HTTP client: sends queries within the plan's rate limit, with retries (chapter 4)."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar

import aiohttp
import anyio
import msgspec
from yarl import URL

from qos_async._core.queries import Query
from qos_async._core.rate_limits import Quota
from qos_async._core.stats import HttpCounters
from qos_async._io.aiohttp_session import (
    AiohttpSession,
    NoFreeConnectionError,
    on_connection,
    waiting_for_connection,
)
from qos_async._io.http_errors import (
    NOT_SENT,
    HttpResponse,
    classify_response,
    map_exception,
)
from qos_async._io.retry import (
    Outcome,
    Patience,
    Retry,
    http_date,
    retry_after,
    retrying,
)
from qos_async._io.secret import Secret
from qos_async._io.unread import UnreadLog
from qos_async.config import Limits, Timing
from qos_async.errors import ClosedError

if TYPE_CHECKING:  # Few programs use it.
    from qos_async._io.shared_quota import QuotaShare, SharedQuota

__all__ = ["BODY_MAX", "Fetcher", "HttpClient", "HttpCounters", "RateLimiter"]

T = TypeVar("T")

BODY_MAX = 16 * 1024 * 1024
"""The largest response in bytes, decompressed; ten times the largest known."""

_CHUNK = 65_536  # Bytes read at once.
_LONG_WAIT = 10.0  # Seconds that a user notices.

_log = logging.getLogger("qos_async.http")


class Fetcher(Protocol):
    """Sends queries: over HTTP, or to what stands for it, such as a recording.

    Attributes:
        clock_ahead: Seconds by which the server's clock is ahead of this machine's; None
            while that is not known.
    """

    clock_ahead: float | None

    async def fetch(self, query: Query[T], *, patience: Patience | None = None) -> T:
        """Send a query and return its result.

        Args:
            query: The query.
            patience: How to wait where the query is one of a long job.

        Raises:
            QosError: If it fails.
        """
        ...

    def close(self) -> None:
        """Fail what is in flight, and every later query."""
        ...


class HttpClient:
    """Sends queries over HTTP, within the plan's rate limit, and retries failures.

    Attributes:
        clock_ahead: As of ``Fetcher``, by the ``Date`` of the last response.
    """

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
        quota: SharedQuota | None = None,
        rng: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Create the client; it opens no connection yet.

        Args:
            session: Provides the aiohttp session.
            secret: The key.
            url: The address of the service, as ``check_url`` returned it.
            limits: At most ``http_requests`` are sent in any ``http_period``.
            timing: For each attempt, ``connect_timeout`` bounds the connection and
                ``request_timeout`` the time from there to the end of the response.
            counters: The counters to increment.
            key_in: Whether the key is sent in a header or in the URL.
            ssl: As in aiohttp.
            proxy: As in aiohttp.
            quota: Has the requests of other processes with the same key.
            rng: Returns a random number from 0 to 1, for the back-off.
            sleep: Waits between attempts.
        """
        self._session = session
        self._secret = secret
        self._url = url
        self._key_in = key_in
        self._timing = timing
        self._counters = counters
        share = None
        if quota is not None:
            share = quota.share(
                secret.read,
                requests=limits.http_requests,
                period=limits.http_period,
                longest=timing.connect_timeout + timing.request_timeout,
            )
        self._limiter = RateLimiter(limits, share)
        self._options: dict[str, Any] = {
            "ssl": ssl,
            "proxy": proxy,
            "allow_redirects": False,
            # The default of a borrowed session may be True.
            "raise_for_status": False,
            "timeout": aiohttp.ClientTimeout(
                total=None, connect=timing.connect_timeout
            ),
        }
        self._unread = UnreadLog(_log, secret.redact)
        self._in_flight: set[anyio.CancelScope] = set()
        self._closed = False
        self.clock_ahead: float | None = None
        self._sleep = sleep
        self._retrying = partial(retrying, timing, period=limits.http_period, rng=rng)

    async def fetch(self, query: Query[T], *, patience: Patience | None = None) -> T:
        """Send a query and return its result; retry while the failure may be transient.

        Waits as long as the rate limit requires. Without ``patience`` there are at most
        ``ATTEMPTS`` attempts, and the waits between them are bounded: by the plan's
        ``http_period`` after a refusal for the pace, by 300 s where the server sends a
        ``Retry-After``, else by ``backoff_max``. Use ``asyncio.timeout`` around it to
        wait less.

        Args:
            query: The query.
            patience: How to wait where the query is one of a long job.

        Raises:
            AuthenticationError: The key was rejected; this is not retried.
            RejectedError: The server rejected the request; ``LimitError`` if because of
                the plan.
            RequestTimeoutError: No response was received in time, in any attempt.
            TransportError: The network or the server failed in all attempts;
                ``ConnectError`` if the service was not reached.
            DecodeError: The response cannot be decoded.
            ClosedError: After the client or its session was closed.
            RuntimeError: In another event loop than that of the first use.
        """
        if self._closed:
            raise ClosedError("the client is closed")
        self._session.session()  # Raises its errors now instead of after the wait.
        # A new one: tenacity keeps the state of a call in the object, so that concurrent
        # calls would share their attempts.
        turn = _Turn(self._limiter, self._sleep)
        retry = self._retrying(
            on_retry=partial(self._on_retry, patience, turn),
            patience=patience,
            sleep=turn.sleep,
        )
        outcome: Outcome[T] = Outcome(error=ClosedError("the client was closed"))
        with anyio.CancelScope() as scope:
            self._in_flight.add(scope)
            try:
                await turn.wait()
                outcome = await retry(self._attempt, query)
            except asyncio.CancelledError as cancelled:
                # Its traceback goes through aiohttp's frames, whose variables hold the
                # key.
                raise cancelled.with_traceback(None)  # noqa: B904
            finally:
                turn.leave()
                self._in_flight.discard(scope)
        self._unread.warn(query.path, outcome.unread)
        if patience is not None and outcome.error is None:
            patience.succeeded()
        return outcome.unwrap()

    def ready_in(self) -> float:
        """Return the seconds until the quota has a slot; ``inf`` if all are in use."""
        return self._limiter.ready_in()

    def close(self) -> None:
        """End all calls of ``fetch`` with ``ClosedError``, also those that wait."""
        self._closed = True
        for scope in self._in_flight:
            scope.cancel()

    async def _attempt(self, query: Query[T]) -> Outcome[T]:
        async with self._limiter.permit() as permit:
            permit.sent = False
            session = self._session.session()
            url, headers = self._request_target(query.path)
            permit.sent = True
            self._counters.requests += 1
            reply: HttpResponse | Outcome[T]
            try:
                reply = await self._exchange(session, url, headers, query)
            except Exception as exc:  # noqa: BLE001 - its frames hold the key
                permit.sent = not isinstance(exc, NOT_SENT)
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
        self._counters.bytes_sent += len(body)
        async with asyncio.timeout(
            timing.connect_timeout + timing.request_timeout
        ) as deadline:
            connected = lambda: deadline.reschedule(  # noqa: E731
                loop.time() + timing.request_timeout
            )
            with on_connection(connected), waiting_for_connection() as waiting:
                try:
                    async with session.post(
                        url, data=body, headers=headers, **self._options
                    ) as response:
                        reply = await _receive(response)
                        self._counters.bytes_received += len(reply.body or b"")
                        if reply.clock_ahead is not None:
                            self.clock_ahead = reply.clock_ahead
                        return reply
                except aiohttp.ConnectionTimeoutError:
                    if not waiting:
                        raise
            # Outside, so that it has no context.
            raise NoFreeConnectionError(self._session.why_none_free)

    def _request_target(self, path: str) -> tuple[URL, dict[str, str]]:
        url = self._url.joinpath(path.lstrip("/")).with_query(self._url.query)
        headers = {"Content-Type": "application/json"}
        if self._key_in == "url":
            return url.update_query(key=self._secret.read()), headers
        return url, {**headers, "key": self._secret.read()}

    def _on_retry(
        self,
        patience: Patience | None,
        turn: _Turn,
        outcome: Outcome[Any],
        wait: float,
    ) -> None:
        turn.failed(wait, refused=outcome.retry is Retry.PACE)
        self._counters.retries += 1
        level = logging.INFO if wait < _LONG_WAIT else logging.WARNING
        _log.log(level, "%s; retrying in %.1f s", outcome.error, wait)
        if patience is not None and patience.on_wait is not None:
            assert outcome.error is not None, "a success is not retried"
            patience.on_wait(outcome.error, wait)


class RateLimiter:
    """Lets requests through as the plan's quota allows, in the order they arrive.

    ``async with limiter.permit() as permit: …`` holds one slot of the quota for one
    request. A task that is cancelled while it waits takes none; a request that is
    cancelled counts as sent.
    """

    def __init__(self, limits: Limits, share: QuotaShare | None = None) -> None:
        self._share = share
        self._quota = Quota(requests=limits.http_requests, period=limits.http_period)
        # Fair: it wakes its waiters in the order they arrived. Its holder waits for a
        # slot.
        self._lock = asyncio.Lock()
        self._released = asyncio.Event()
        self.turns = asyncio.Lock()
        self.refused_until = 0.0

    def permit(self) -> Permit:
        """Return a permit for one request, to be entered with ``async with``."""
        return Permit(self)

    async def acquire(self) -> str | None:
        """Wait for a slot and acquire it; return the name of a shared slot."""
        async with self._lock:
            while (wait := self.ready_in()) > 0:
                self._released.clear()
                try:
                    async with asyncio.timeout(None if math.isinf(wait) else wait):
                        await self._released.wait()
                except TimeoutError:
                    pass  # A slot's period is over; the loop checks the quota again.
            self._quota.acquire(_loop_time())
            if self._share is None:
                return None
            try:
                return await self._share.acquire()
            except BaseException:
                self._quota.cancel()
                raise

    async def release(self, shared: str | None, *, sent: bool) -> None:
        """Release a slot: at once, or a period from now if the request was sent."""
        if sent:
            self._quota.release_after_period(_loop_time())
        else:
            self._quota.cancel()
        self._released.set()
        if self._share is not None and shared is not None:
            await self._share.release(shared, sent=sent)

    def ready_in(self) -> float:
        """Return the seconds until a slot is free; ``inf`` if all are in use."""
        now = _loop_time()
        return self._quota.ready_at(now) - now


class _Turn:
    """The turn of one query after a refusal for the pace.

    The plan then allows less than ``Limits`` say, or another process uses it: queries
    are sent one at a time until one has waited for each that was refused, and new ones
    are sent after those. So each is refused about twice at most, not in every attempt.
    """

    def __init__(
        self, limiter: RateLimiter, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._limiter = limiter
        self._sleep = sleep
        self._held = self._was_refused = False

    async def wait(self) -> None:
        """Wait for the queries that were refused, if there are any."""
        if self._limiter.turns.locked():
            await self._acquire()

    def failed(self, wait: float, *, refused: bool) -> None:
        """Record a failed attempt; ``wait`` seconds later, there is another one."""
        self._was_refused = refused
        if refused:
            until = _loop_time() + wait
            self._limiter.refused_until = max(self._limiter.refused_until, until)
        else:
            self.leave()

    async def sleep(self, seconds: float) -> None:
        """Wait before the next attempt."""
        if self._was_refused and not self._held:
            if self._limiter.turns.locked():
                await self._acquire()
                return
            await self._limiter.turns.acquire()
            self._held = True
        await self._sleep(seconds)

    def leave(self) -> None:
        """Let the next query have its turn."""
        if self._held:
            self._held = False
            self._limiter.turns.release()

    async def _acquire(self) -> None:
        await self._limiter.turns.acquire()
        self._held = True
        remaining = self._limiter.refused_until - _loop_time()
        if remaining > 0:
            await self._sleep(remaining)


class Permit:
    """A slot of the quota, held for one request.

    Attributes:
        sent: Whether the request may have reached the server. To be set to False if it
            certainly has not: the slot is then free at once.
    """

    __slots__ = ("_limiter", "_shared", "sent")

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter
        self._shared: str | None = None
        self.sent = True

    async def __aenter__(self) -> Self:
        self._shared = await self._limiter.acquire()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._limiter.release(self._shared, sent=self.sent)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


async def _receive(response: aiohttp.ClientResponse) -> HttpResponse:
    # A date is one of the server's clock, which may differ from that of this machine.
    date, now = http_date(response.headers.get("Date")), time.time()
    # It is in whole seconds: on average the response was begun half a second later.
    ahead = None if date is None else date + 0.5 - now
    wait = retry_after(
        response.headers.get("Retry-After"), now if date is None else date
    )
    body = bytearray()
    # In chunks, as a small compressed body may decompress to a huge one.
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > BODY_MAX:
            response.close()
            return HttpResponse(response.status, None, wait, ahead)
    return HttpResponse(response.status, bytes(body), wait, ahead)
