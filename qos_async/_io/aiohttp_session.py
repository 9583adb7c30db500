"""Whose aiohttp session it is, and what must never happen on it.

aiohttp follows redirects to other hosts with our ``key`` header still on: it strips
only the headers it knows. ``ws_connect`` cannot even be told not to. So a trace
refuses each redirect before it is followed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

import aiohttp
from yarl import URL

from qos_async._core.sanitize import printable
from qos_async._io.loop_binding import LoopBinding
from qos_async._io.secret import Secret
from qos_async.errors import ClosedError

__all__ = [
    "AiohttpSession",
    "RedirectRefusedError",
    "check_proxy",
    "check_url",
    "on_connection",
    "on_response",
]

_SECURE = frozenset({"https", "wss"})

_PROXIES = frozenset({"http", "https"})

# Contexts live on in connections that are kept, and with them whatever they lead to.
_connection_listener: ContextVar[list[Callable[[], None]] | None] = ContextVar(
    "qos_async_connected", default=None
)
_response_listener: ContextVar[Callable[[aiohttp.ClientResponse], None] | None] = (
    ContextVar("qos_async_answered", default=None)
)

# What a forked child throws away. To close it would deafen the parent: their event
# loops share what the system knows of their sockets.
_forked_sessions: list[aiohttp.ClientSession] = []


class RedirectRefusedError(Exception):
    """The server pointed elsewhere while the request carried the key.

    It passes through aiohttp's frames, whose variables hold the key: catch it, take
    its text, and raise another error outside of the ``except``.
    """


class AiohttpSession:
    """One aiohttp session, our own or the user's, guarded against redirects.

    Our own is made at first use, inside the running loop, without cookies and
    without a look at the environment; closing the lease closes it. A borrowed one
    stays open, and keeps following the redirects of requests that are not ours.

    Attributes:
        binding: Where it may be used.
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

    def __del__(self) -> None:
        session: aiohttp.ClientSession | None = getattr(self, "_session", None)
        if session is None or session is self._borrowed:
            return
        if self.binding.is_forked:
            _forked_sessions.append(session)
            return
        # The client has complained: aiohttp need not, at length.
        connector = session.connector
        session.detach()
        if connector is not None:
            closing = connector.close().__await__()
            with suppress(StopIteration, RuntimeError):
                next(closing)  # All that it does by itself; nobody can wait for more.

    @property
    def in_use(self) -> bool:
        """Whether it was used in this process, and not closed."""
        used = self.binding.is_bound and not self.binding.is_forked
        return used and not self._closed

    def bind(self) -> None:
        """Belong to the running event loop from now on.

        Raises:
            RuntimeError: In another process or event loop than that of the first use,
                or if no event loop is running.
        """
        if not self._closed:  # Which is said elsewhere.
            self.binding.bind()

    def session(self) -> aiohttp.ClientSession:
        """Give the session; call it anew for each request.

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

    async def aclose(self) -> None:
        """Close our own session, or take the guard off the borrowed one."""
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
                # A service that moves is found at its new place by the next attempt.
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
        guard.on_request_end.append(_notify_response)
        guard.freeze()  # A session does this only to those it was constructed with.
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
    """Call when a request of this task, inside the block, has got its connection."""
    calls = [call]
    token = _connection_listener.set(calls)
    try:
        yield
    finally:
        calls.clear()
        _connection_listener.reset(token)


@contextmanager
def on_response(call: Callable[[aiohttp.ClientResponse], None]) -> Generator[None]:
    """Call when a request of this task, inside the block, has got its status line."""
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
    """Accept an address that the key may be sent to.

    Args:
        url: The address.
        schemes: Such as ``("https", "http")``; those without TLS are taken for
            loopback hosts only.
        allow_insecure: Take them for any host.
        proxy: What stands in between, as ``check_proxy`` accepted it: without TLS it
            sees the key, so it has to be on a loopback host, too.

    Raises:
        ValueError: Naming the address, without any password in it.
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
        raise ValueError(f"{shown} has a host name that cannot be looked up")
    if found.raw_user is not None or found.raw_password is not None:
        raise ValueError(f"{shown} has a user name or password in it: leave them out")
    if found.raw_fragment:
        raise ValueError(f"{shown} has a #fragment in it: leave it out")
    near = _is_loopback(found.host) and _is_loopback(URL(proxy or found).host or "")
    if found.scheme in _SECURE or allow_insecure or near:
        return found
    if _is_loopback(found.host):
        shown += " through a proxy"
    raise ValueError(
        f"{shown} would send the API key unencrypted: use {_tls(found.scheme)}://, or "
        "pass allow_insecure=True if you are sure"
    )


def check_proxy(proxy: str) -> None:
    """Accept the address of an HTTP proxy, which may have a password in it.

    Raises:
        ValueError: Naming the address, without that password.
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
    # Unreadable, and still no place for what stands before an @ or after a ?.
    return repr(text.rpartition("@")[2].partition("?")[0])


def _is_host(host: str | None) -> bool:
    if not host or not host.isprintable() or " " in host:
        return False
    try:
        host.encode("idna")  # The resolver does that, too, with the key at hand.
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
