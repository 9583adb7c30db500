"""The client: its options and its life. Its verbs are in ``fetching`` and ``watching``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import warnings
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from ssl import SSLContext
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Self,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

import aiohttp
from msgspec.structs import replace
from yarl import URL

from qos_async._core.queries import Queries
from qos_async._core.recovery import Recovery
from qos_async._core.stats import Counters
from qos_async._event_loop import running_loop
from qos_async._io.aiohttp_session import AiohttpSession, check_proxy, check_url
from qos_async._io.aiohttp_transport import AiohttpTransport
from qos_async._io.clocks import ServerClock
from qos_async._io.http import Fetcher, HttpClient
from qos_async._io.secret import Secret
from qos_async._io.states import StateChanges
from qos_async._io.stream import Stream
from qos_async._io.transport import FrameObserver
from qos_async._validation import as_number
from qos_async.config import HTTP_URL, HUB_PATH, STREAM_URL, Limits, Timing
from qos_async.enums import LinkState
from qos_async.errors import ClosedError
from qos_async.fetching import Fetching
from qos_async.models import N
from qos_async.stats import Stats
from qos_async.watching import Watching

if TYPE_CHECKING:  # Few programs use it.
    from qos_async._io.shared_quota import SharedQuota

__all__ = ["Client", "ClientOptions", "Key"]

T = TypeVar("T")

_NO_LIMIT = 1_000_000
_HUB_BACKOFF_MAX = 5.0

Key: TypeAlias = str | Callable[[], str]
"""An API key, or a callable that returns one and is asked anew at each connect."""


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of ``Client``, ``numbers`` excepted."""

    http_url: str | None
    stream_url: str | None
    key_in: Literal["header", "url"]
    limits: Limits
    timing: Timing
    session: aiohttp.ClientSession | None
    ssl: SSLContext | aiohttp.Fingerprint | bool
    proxy: str | None
    allow_insecure: bool
    recover: bool
    recorder: FrameObserver | None
    quota: SharedQuota | None


class _Shared(TypedDict):
    """The options of both transports."""

    timing: Timing
    key_in: Literal["header", "url"]
    ssl: SSLContext | aiohttp.Fingerprint | bool
    proxy: str | None


class Client(Fetching[N], Watching[N]):
    """QOS market data: ``fetch_*`` asks once, ``watch_*`` stays live.

    Nothing connects here. HTTP opens with the first ``fetch_*``; the websocket opens
    with the first ``watch_*`` or ``via="stream"``, or with ``connect``. Leaving the
    ``async with`` block closes both. A client belongs to one event loop.

    Args:
        key: The API key, or a callable that returns one and is read anew at each
            connect; the environment variable ``QOS_API_KEY`` by default.
        numbers: The type of every price, size and volume: ``Decimal``, ``float``, or
            ``str`` (as on the wire).
        http_url: Else ``QOS_HTTP_URL``, else ``https://api.qos.hk``.
        stream_url: Else ``QOS_STREAM_URL``, else ``wss://api.qos.hk/ws``.
        key_in: Where the key goes: ``"header"``, or ``"url"`` as ``?key=``.
        limits: What the plan allows; by default the default plan, or none at a hub.
        timing: How patient to be; by default ``Timing()``. At a hub ``backoff_max`` is
            5 s, unless it is set to another value than the default.
        session: An open ``aiohttp.ClientSession`` to borrow; it is not closed.
        ssl: As in aiohttp: an ``SSLContext``, a ``Fingerprint``, or True.
        proxy: The address of an HTTP proxy, such as ``"http://host:3128"``.
        allow_insecure: Take plain ``http`` and ``ws`` for hosts other than loopback, and
            through a proxy on such a host.
        recover: Whether to fetch what an outage missed: the trades and klines that the
            server still has, and the newest snapshots and books. Live trades and klines
            are held back meanwhile, for a few seconds. False tells gaps, fetches nothing
            and holds nothing back.
        recorder: A ``qos_async.Recorder``, which writes down what comes over the
            websocket. It is for this client alone, which closes it.
        quota: A ``qos_async.SharedQuota``, by which several processes share the HTTP
            requests that the plan allows; else each client counts its own.

    Raises:
        AuthenticationError: There is no key; the message says how to set it.
        ValueError: For options that cannot work, wrong types included; the message
            names the option and, unless it may be secret, the value.
    """

    @overload
    def __init__(
        self: Client[Decimal],
        key: Key | None = None,
        **options: Unpack[ClientOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        key: Key | None = None,
        *,
        numbers: type[N],
        **options: Unpack[ClientOptions],
    ) -> None: ...

    def __init__(
        self,
        key: Key | None = None,
        *,
        numbers: type[Any] = Decimal,
        http_url: str | None = None,
        stream_url: str | None = None,
        key_in: Literal["header", "url"] = "header",
        limits: Limits | None = None,
        timing: Timing | None = None,
        session: aiohttp.ClientSession | None = None,
        ssl: SSLContext | aiohttp.Fingerprint | bool = True,
        proxy: str | None = None,
        allow_insecure: bool = False,
        recover: bool = True,
        recorder: FrameObserver | None = None,
        quota: SharedQuota | None = None,
    ) -> None:
        _check_choices(numbers, key_in, allow_insecure, recover)
        _check_connection_options(ssl, session, proxy, quota)
        url = partial(_server_url, allow_insecure=allow_insecure, proxy=proxy)
        over_http = url("http_url", http_url, HTTP_URL, ("https", "http"))
        over_stream = url("stream_url", stream_url, STREAM_URL, ("wss", "ws"))
        limits, timing = _limits_and_timing(limits, timing, over_http, over_stream)
        counters = Counters()
        secret = _secret(key)
        own = AiohttpSession(secret, borrowed=session)
        shared = _Shared(timing=timing, key_in=key_in, ssl=ssl, proxy=proxy)
        http = HttpClient(
            own,
            secret,
            url=over_http,
            limits=limits,
            counters=counters.http,
            quota=None if _is_hub(over_http) else quota,
            **shared,
        )
        transport = AiohttpTransport(
            own,
            secret,
            url=over_stream,
            interval=limits.command_interval,
            **shared,
        )
        queries = Queries(numbers, chunk=_chunk(limits, over_http))
        stream = Stream(
            transport,
            numbers,
            limits=limits,
            timing=timing,
            stats=counters,
            binding=own.binding,
            redact=secret.redact,
            recovery=Recovery(queries if recover else None),
            observer=_attach_recorder(recorder, secret),
        )
        self._build(own, http, stream, queries, recorder=recorder)

    def _build(
        self,
        session: AiohttpSession,
        http: Fetcher,
        stream: Stream[N],
        queries: Queries[N],
        *,
        recorder: FrameObserver | None = None,
    ) -> None:
        """Build the client from its transports; a replay has others than a server's.

        Args:
            session: Owns what must be closed last, and the binding to the event loop.
            http: Sends the queries of ``fetch_*``.
            stream: Has the subscriptions.
            queries: Builds the queries.
            recorder: Closed with the client.
        """
        self._session = session
        self._http = http
        self._stream = stream
        self._server_clock = ServerClock(
            stream.clock, stream.collector.clock_offset, lambda: http.clock_ahead
        )
        self._queries = queries
        self._recorder = recorder

    def __repr__(self) -> str:
        return f"<Client {self.state} key=***>"

    def __del__(self) -> None:
        session: AiohttpSession | None = getattr(self, "_session", None)
        if session is not None and session.in_use:
            warnings.warn(
                "Unclosed client: leave its async with, or await its aclose()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    # Lifetime

    async def __aenter__(self) -> Self:
        running_loop()  # Raises here already what every later call would raise.
        if self.state is LinkState.CLOSED:
            raise ClosedError("a client cannot be opened again: make a new one")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def connect(self) -> None:
        """Open the websocket now.

        Raises:
            AuthenticationError: The key was refused.
            ConnectError: The first attempt failed; the client keeps trying.
            RuntimeError: In another event loop or process than that of the first use.
        """
        await self._stream.connect()

    async def aclose(self) -> None:
        """Close everything; loops end after what is buffered.

        No task or socket outlives this. It may be called again, and while anything
        else is going on. It takes up to ``timing.close_timeout``. In a forked process
        it leaves all as it is: the connections are the parent's.

        Raises:
            RuntimeError: In another event loop than that of the client's first use,
                unless that one has been closed.
        """
        binding = self._session.binding
        if binding.is_forked:
            return
        if binding.is_bound and not binding.is_loop_closed:
            binding.check()
        self._http.close()
        async with contextlib.AsyncExitStack() as last:
            if self._recorder is not None:
                last.push_async_callback(self._recorder.aclose)
            last.push_async_callback(self._session.aclose)
            await self._stream.stop()

    async def drain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the settled name
        """Take nothing more in, let readers finish what is buffered, then close.

        A loop over ticks may call this in its own body: it is not waited for, and goes
        on with what is buffered.

        Args:
            timeout: Seconds to wait for the readers; None waits as long as they take.
                A reader that is busy with its last tick is waited for, too, for 30 s.

        Returns:
            Whether every reader has taken all that was buffered for it.

        Raises:
            RuntimeError: In another event loop or process than that of the first use.
        """
        seconds = as_number(timeout)
        timeout = timeout if seconds is None else seconds
        self._session.binding.check()
        try:
            await self._stream.stop()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._stream.wait_drained()
            return self._stream.is_empty
        finally:
            await self.aclose()

    # What is going on

    @property
    def state(self) -> LinkState:
        """The state of the websocket."""
        return self._stream.states.state

    @property
    def stats(self) -> Stats:
        """A snapshot of all counters; cheap to read."""
        return self._stream.collector.stats()

    def report(self) -> str:
        """Return the counters and the state of the link as a page of plain text."""
        return self._stream.collector.report()

    def states(self) -> StateChanges:
        """Iterate over the state changes of the link from now on, until it is closed."""
        return self._stream.states.watch(self._session.binding)


def _choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        names = ", ".join(getattr(a, "__name__", repr(a)) for a in allowed)
        raise ValueError(f"{name} must be one of {names}, not {value!r}")


def _instance(name: str, value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {kind.__name__}, not {value!r}")  # noqa: TRY004 - as documented
    return value


def _server_url(
    name: str,
    value: object,
    default: str,
    schemes: tuple[str, ...],
    *,
    allow_insecure: bool,
    proxy: str | None,
) -> URL:
    """Return the address of an option, else of its environment variable, else default."""
    if value is None:
        value = os.environ.get(f"QOS_{name.upper()}") or default
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a str or None, not {type(value).__name__}")  # noqa: TRY004 - as documented
    return check_url(value, schemes=schemes, allow_insecure=allow_insecure, proxy=proxy)


def _is_hub(url: URL) -> bool:
    """Whether an address is that of a ``qos_async.hub``, which has this path."""
    return url.path == HUB_PATH or url.path.startswith(f"{HUB_PATH}/")


def _chunk(limits: Limits, http_url: URL) -> int:
    # A hub asks for as many at once as its plan allows, however many it is asked for.
    most = Limits().symbols if _is_hub(http_url) else limits.symbols
    return min(most, limits.symbols)


def _default_limits(http_url: URL, stream_url: URL) -> Limits:
    """Return the limits of the default plan; a hub has none, as it keeps the plan's."""
    limits = Limits()
    if _is_hub(stream_url):
        limits = replace(
            limits, symbols=_NO_LIMIT, connections=_NO_LIMIT, command_interval=0.0
        )
    if _is_hub(http_url):
        limits = replace(limits, http_requests=_NO_LIMIT)
    return limits


def _attach_recorder(recorder: object, secret: Secret) -> FrameObserver | None:
    if recorder is None:
        return None
    if not isinstance(recorder, FrameObserver):
        raise ValueError(  # noqa: TRY004 - as documented
            f"recorder must be a qos_async.Recorder or None, not {recorder!r}"
        )
    recorder.attach(secret.redact)
    return recorder


def _limits_and_timing(
    limits: Limits | None, timing: Timing | None, http_url: URL, stream_url: URL
) -> tuple[Limits, Timing]:
    limits = (
        _default_limits(http_url, stream_url)
        if limits is None
        else _instance("limits", limits, Limits)
    )
    timing = Timing() if timing is None else _instance("timing", timing, Timing)
    if _is_hub(stream_url) and timing.backoff_max == Timing().backoff_max:
        # A hub is near, starts within seconds, and refuses too many at once.
        timing = replace(timing, backoff_max=_HUB_BACKOFF_MAX)
    timing.check(limits)
    return limits, timing


def _check_choices(
    numbers: object, key_in: object, allow_insecure: object, recover: object
) -> None:
    _choice("numbers", numbers, (Decimal, float, str))
    _choice("key_in", key_in, ("header", "url"))
    _instance("allow_insecure", allow_insecure, bool)
    _instance("recover", recover, bool)


def _check_connection_options(
    ssl: object, session: object, proxy: object, quota: object
) -> None:
    _check_ssl(ssl)
    _check_session(session)
    _check_proxy(proxy)
    if quota is not None:
        from qos_async._io.shared_quota import SharedQuota  # noqa: PLC0415

        _instance("quota", quota, SharedQuota)


def _check_ssl(ssl: object) -> None:
    if ssl is False or ssl is None:
        raise ValueError(
            f"ssl={ssl!r} would turn certificate checks off and show the API key to "
            "anybody: pass an ssl.SSLContext that trusts your certificate instead"
        )
    if ssl is not True and not isinstance(ssl, (SSLContext, aiohttp.Fingerprint)):
        raise ValueError(
            f"ssl must be an ssl.SSLContext, an aiohttp.Fingerprint or True, not {ssl!r}"
        )


def _check_session(session: object) -> None:
    if session is None:
        return
    if not isinstance(session, aiohttp.ClientSession):
        raise ValueError(  # noqa: TRY004 - as documented
            f"session must be an aiohttp.ClientSession or None, not {session!r}"
        )
    if session.closed:
        raise ValueError(
            f"session must be an open aiohttp.ClientSession: {session!r} is closed"
        )


def _check_proxy(proxy: object) -> None:
    # Another object's repr may show a password.
    if isinstance(proxy, str):
        check_proxy(proxy)
    elif proxy is not None:
        raise ValueError(f"proxy must be a str or None, not {type(proxy).__name__}")


def _secret(key: Key | None) -> Secret:
    """Return the key, else that of the environment."""
    if not (key is None or isinstance(key, str) or callable(key)):
        raise ValueError(
            f"key must be a str, a callable or None, not {type(key).__name__}"
        )
    return Secret(key if key is not None else os.environ.get("QOS_API_KEY"))
