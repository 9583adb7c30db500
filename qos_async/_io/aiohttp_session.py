"""aiohttp session of a client, with a guard against redirects, and address checks.

aiohttp follows redirects to other hosts with the ``key`` header still on: it strips
only the headers it knows (Authorization, cookies), and ``ws_connect`` has no option to
turn redirects off (aiohttp issue 3678). So a trace raises before a redirect is
followed. The risk is real: the vendor's document names ``qos.hk``, its SDK
``api.qos.hk``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from weakref import ReferenceType, ref

import aiohttp
from yarl import URL

from qos_async._core.sanitize import printable
from qos_async._io.loop_binding import LoopBinding
from qos_async._io.secret import Secret
from qos_async.errors import ClosedError

__all__ = [
    "AiohttpSession",
    "NoFreeConnectionError",
    "RedirectRefusedError",
    "check_proxy",
    "check_url",
    "on_connection",
    "on_response",
    "waiting_for_connection",
]

_SECURE = frozenset({"https", "wss"})

_PROXIES = frozenset({"http", "https"})

# A task's context lives on in connections that are kept alive, and with it whatever its
# variables refer to. So the first one holds a list, which is emptied after the request.
_connection_listener: ContextVar[list[Callable[[], None]] | None] = ContextVar(
    "qos_async_connected", default=None
)
_response_listener: ContextVar[Callable[[aiohttp.ClientResponse], None] | None] = (
    ContextVar("qos_async_answered", default=None)
)
# A list as well: it has an item while the request of the task waits for its connection.
_queued: ContextVar[list[object] | None] = ContextVar("qos_async_queued", default=None)

# Sessions that a forked child discards. They must not be closed there: parent and child
# share the epoll instance, so closing unregisters the parent's sockets. Kept in a list,
# as aiohttp's connector closes its sockets when it is garbage-collected.
_forked_sessions: list[aiohttp.ClientSession] = []


class NoFreeConnectionError(aiohttp.ConnectionTimeoutError):
    """All connections that the session allows were in use for too long; says why."""


class RedirectRefusedError(Exception):
    """The server redirected a request that carried the key.

    The traceback goes through aiohttp's frames, whose variables hold the key: catch it,
    take its text, and raise another error outside of the ``except`` block.
    """


class AiohttpSession:
    """One aiohttp session, owned or borrowed, guarded against redirects.

    An owned session is opened at first use, inside the running event loop, without
    cookies and without proxies from the environment; ``aclose`` closes it. A borrowed
    session stays open, and keeps following redirects of requests that do not carry the
    key.

    Args:
        secret: The key; requests that carry it are not redirected.
        borrowed: A session of the user's; None to open one.

    Attributes:
        binding: The event loop and the process that may use it.
    """

    def __init__(
        self, secret: Secret, *, borrowed: aiohttp.ClientSession | None = None
    ) -> None:
        self._secret = secret
        self._borrowed = borrowed
        self._redirect_trace = self._make_redirect_trace()
        self._session: aiohttp.ClientSession | None = None
        self.binding = LoopBinding()
        self._closed = False
        self._websocket: ReferenceType[aiohttp.ClientWebSocketResponse[bool]] | None
        self._websocket = None

    def __del__(self) -> None:
        session: aiohttp.ClientSession | None = getattr(self, "_session", None)
        if session is None or session is self._borrowed:
            return
        if self.binding.is_forked:
            _forked_sessions.append(session)
            return
        # An unclosed client has already warned. Detaching avoids aiohttp's own
        # warnings.
        connector = session.connector
        session.detach()
        if connector is not None:
            closing = connector.close().__await__()
            with suppress(StopIteration, RuntimeError):
                # Without an event loop nothing can be awaited. The part that needs no
                # waiting is to close the sockets, so one step of the coroutine will do.
                next(closing)

    @property
    def in_use(self) -> bool:
        """Whether it was used in this process and is not closed."""
        used = self.binding.is_bound and not self.binding.is_forked
        return used and not self._closed

    def bind(self) -> None:
        """Bind to the running event loop, or check that it is the bound one.

        Raises:
            RuntimeError: In another process or event loop than that of the first use,
                or if no event loop is running.
        """
        if not self._closed:  # A closed client raises ClosedError instead, elsewhere.
            self.binding.bind()

    def session(self) -> aiohttp.ClientSession:
        """Return the session, opened if need be; to be called for each request.

        Raises:
            ClosedError: After ``aclose``, or if the borrowed session was closed.
            RuntimeError: In another event loop or process than that of the first use.
        """
        if self._closed:
            raise ClosedError("the client is closed")
        self.bind()
        if self._session is None:
            self._session = self._open()
        if self._session.closed:
            raise ClosedError("the aiohttp session that this client borrowed is closed")
        return self._session

    def set_websocket(self, opened: aiohttp.ClientWebSocketResponse[bool]) -> None:
        """Record the websocket, which holds a connection while it is open."""
        self._websocket = ref(opened)

    @property
    def why_none_free(self) -> str:
        """Why a request had to wait for a free connection, and what to do."""
        websocket = None if self._websocket is None else self._websocket()
        is_open = websocket is not None and not websocket.closed
        holder = "the websocket holds one for as long as it is open"
        return (
            "because the aiohttp session has no free connection: "
            f"{holder if is_open else 'all that its connector allows are in use'}; pass "
            "a session whose connector allows as many as the clients and requests need "
            "at the same time, such as aiohttp.TCPConnector(limit=0), which has no "
            "limit, or pass none"
        )

    async def aclose(self) -> None:
        """Close an owned session; remove the guard from a borrowed one."""
        self._closed = True
        session, self._session = self._session, None
        if session is None:
            return
        if session is self._borrowed:
            session.trace_configs.remove(self._redirect_trace)
        else:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._borrowed is None:
            return aiohttp.ClientSession(
                # Without the DNS cache, a service that moves to another address is
                # found by the next attempt. aiohttp's own entries last ten seconds.
                connector=aiohttp.TCPConnector(use_dns_cache=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                trace_configs=[self._redirect_trace],
            )
        self._borrowed.trace_configs.append(self._redirect_trace)
        return self._borrowed

    def _make_redirect_trace(self) -> aiohttp.TraceConfig:
        guard = aiohttp.TraceConfig()
        guard.on_request_redirect.append(self._refuse)
        guard.on_connection_create_end.append(_notify_connection)
        guard.on_connection_reuseconn.append(_notify_connection)
        guard.on_connection_queued_start.append(_note_queued)
        guard.on_connection_queued_end.append(_note_dequeued)
        guard.on_request_end.append(_notify_response)
        guard.freeze()  # aiohttp only freezes the traces that a session is built with.
        return guard

    async def _refuse(
        self,
        session: aiohttp.ClientSession,
        context: object,
        params: aiohttp.TraceRequestRedirectParams,
    ) -> None:
        ours = self._borrowed is None
        if ours or self._secret.is_in_request(params.headers, params.url):
            params.response.close()
            raise RedirectRefusedError(f"HTTP {params.response.status}")


@contextmanager
def on_connection(call: Callable[[], None]) -> Generator[None]:
    """Call ``call`` when a request of this task, inside the block, has its connection.

    From then on the time of the server counts, not that of DNS, TCP and TLS.
    """
    calls = [call]
    token = _connection_listener.set(calls)
    try:
        yield
    finally:
        calls.clear()
        _connection_listener.reset(token)


@contextmanager
def waiting_for_connection() -> Generator[list[object]]:
    """Yield a list that is not empty while a request of this task waits in a queue.

    That is for one of the connections that the session allows, inside the block.
    """
    waiting: list[object] = []
    token = _queued.set(waiting)
    try:
        yield waiting
    finally:
        _queued.reset(token)


@contextmanager
def on_response(call: Callable[[aiohttp.ClientResponse], None]) -> Generator[None]:
    """Call ``call`` with the response to a request of this task, inside the block.

    It is called when the headers are read, before ``ws_connect`` installs its reader.
    """
    token = _response_listener.set(call)
    try:
        yield
    finally:
        _response_listener.reset(token)


def check_url(
    url: str | URL,
    *,
    schemes: Collection[str],
    allow_insecure: bool = False,
    proxy: str | None = None,
) -> URL:
    """Return an address that the key may be sent to.

    Args:
        url: The address.
        schemes: The allowed ones, such as ``("https", "http")``. Those without TLS are
            allowed for loopback hosts only.
        allow_insecure: Whether to allow them for any host.
        proxy: The proxy, as ``check_proxy`` accepted it. Without TLS it sees the key,
            so then it must be on a loopback host too.

    Raises:
        ValueError: With the address, but without a password that is in it.
    """
    try:
        found = URL(url)
    except (ValueError, TypeError):
        found = URL()
    shown = printable(_without_secrets(found) if found.host else _redacted(str(url)))
    if found.scheme not in schemes or not found.host:
        allowed = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"{shown} is not an address that starts with {allowed}")
    if not _is_host(found.host):
        raise ValueError(f"{shown} has a host name that is not valid in DNS")
    if found.raw_user is not None or found.raw_password is not None:
        raise ValueError(f"{shown} has a user name or password in it: leave them out")
    if found.raw_fragment:
        raise ValueError(f"{shown} has a #fragment in it: leave it out")
    is_local = _is_loopback(found.host) and _is_loopback(URL(proxy or found).host or "")
    if found.scheme in _SECURE or allow_insecure or is_local:
        return found
    if _is_loopback(found.host):
        shown += " through a proxy"
    raise ValueError(
        f"{shown} would send the API key unencrypted: use {_tls(found.scheme)}://, or "
        "pass allow_insecure=True if you are sure"
    )


def check_proxy(proxy: str) -> None:
    """Check the address of an HTTP proxy, which may have a password in it.

    Raises:
        ValueError: With the address, but without the password.
    """
    try:
        found = URL(proxy)
        fits = found.scheme in _PROXIES and _is_host(found.host)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            'proxy must be an address such as "http://host:3128", which starts with '
            f"http:// or https://, not {_redacted(proxy)}"
        )


async def _notify_connection(
    session: aiohttp.ClientSession, context: object, params: object
) -> None:
    for call in _connection_listener.get() or ():
        call()


async def _note_queued(
    session: aiohttp.ClientSession, context: object, params: object
) -> None:
    waiting = _queued.get()
    if waiting is not None:
        waiting.append(params)


async def _note_dequeued(
    session: aiohttp.ClientSession, context: object, params: object
) -> None:
    waiting = _queued.get()
    if waiting is not None:
        waiting.clear()


async def _notify_response(
    session: aiohttp.ClientSession,
    context: object,
    params: aiohttp.TraceRequestEndParams,
) -> None:
    call = _response_listener.get()
    if call is not None:
        call(params.response)


def _without_secrets(url: URL) -> str:
    return str(url.with_user(None).with_query(None))


def _redacted(text: str) -> str:
    # A malformed address may hold secrets too: before an "@", or after a "?".
    return repr(text.rpartition("@")[2].partition("?")[0])


def _is_host(host: str | None) -> bool:
    if not host or not host.isprintable() or " " in host:
        return False
    try:
        # The resolver does the same, but in a frame whose variables hold the key.
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _tls(scheme: str) -> str:
    return "wss" if scheme == "ws" else "https"


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
