"""Hub: the service's protocol for many clients, over the one link of a key."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from qos_async._server.parsing import try_later
from qos_async._validation import check_number, check_whole
from qos_async.client import Client
from qos_async.config import HUB_PATH
from qos_async.errors import (
    AuthenticationError,
    ClosedError,
    LimitError,
    QosError,
)
from qos_async.hub.addresses import address_to_dial, is_loopback
from qos_async.hub.answers import Answers
from qos_async.hub.clients import Clients
from qos_async.hub.connections import Connections
from qos_async.hub.followed import upstream_of
from qos_async.hub.guard import Guard
from qos_async.hub.http import HubHttp, error_response
from qos_async.hub.kept import KeptBars
from qos_async.hub.link import HubLink
from qos_async.hub.places import Places
from qos_async.hub.relay import Relay
from qos_async.hub.stats import HubStats
from qos_async.hub.tokens import Token, TokenFile, Tokens

__all__ = ["Hub"]

_log = logging.getLogger("qos_async.hub")

_BODY_MAX = 64 * 1024
_LAG_INTERVAL = 0.25
_LAG_COMPLAINT = 0.1


class Hub:
    """Serves the protocol of the service to many clients, over one ``Client``.

    Or from a recording: ``Hub(follow(place))`` needs no key. It serves the topics that are
    recorded, and answers with their last values; what only the service knows is refused.

    Use it as an async context manager. A plan allows one connection a key; the clients of
    a hub share it: qos_async, the vendor's SDKs, or anything that speaks the protocol.

    - The subscriptions of all clients are one set upstream. A topic lingers for 30 s
      after its last client left it.
    - Requests are answered from what is live, from finished klines that are kept, or by
      the service: once for all that ask the same.
    - A new client gets the state of its topics, and then each push.
    - An outage upstream that was filled is not seen by clients. One that was not, or that
      lasts over 5 s, ends the links of the clients that it concerns: they notice and
      recover as they do from the service.
    - A client that reads too slowly gets the newest state instead of every one, every
      finished kline, and every trade; it is closed if it falls too far behind.

    Args:
        client: The client upstream, or a follower, not entered elsewhere; it is closed
            with the hub. Its numbers must be ``Decimal`` or ``str``: a ``float`` would
            lose digits.
        host: The address to listen on. Others than loopback need ``tokens``, and ``ssl``
            or ``allow_insecure``.
        port: The port; 0 for a free one.
        tokens: The clients' tokens: the path of a TOML file (see `Token`), or
            ``{name: Token(...)}``. None accepts any key.
        ssl: For ``https`` and ``wss``.
        allow_insecure: Serve addresses other than loopback without TLS.
        hosts: Further host names that clients may use.
        keep: A file for finished klines; None keeps them in memory.
        linger: Seconds for which a topic stays subscribed without clients.

    Raises:
        ValueError: For options that cannot work.
    """

    def __init__(
        self,
        client: Client[Any],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tokens: str | os.PathLike[str] | Mapping[str, Token] | None = None,
        ssl: SSLContext | None = None,
        allow_insecure: bool = False,
        hosts: Collection[str] = (),
        keep: str | os.PathLike[str] | None = None,
        linger: float = 30.0,
    ) -> None:
        _check_types(client, ssl)
        host = _checked_host(host)
        _check_exposure(host, tokens, ssl, allow_insecure=allow_insecure)
        port = check_whole("port", port, least=0, most=65535)
        linger = check_number("linger", linger, unit="seconds")
        self._upstream = upstream_of(client)
        if self._upstream.numbers is float:
            raise ValueError(
                "the client of a hub needs numbers=Decimal or str: a float would lose "
                "digits of what is passed on"
            )
        self._address: tuple[str, int] = host, port
        self._ssl = ssl
        symbols = self._upstream.limits.symbols
        guard = self._guard = Guard(_tokens(tokens, symbols), hosts=hosts)
        reserved = guard.tokens.reserved if guard.tokens else None
        places = Places[HubLink](symbols, linger=linger, reserved=reserved)
        self._relay = Relay(self._upstream, places)
        self._kept = KeptBars(keep)
        self._answers = Answers(self._upstream, self._relay.live, self._kept)
        self._clients = Clients(
            guard, self._relay, self._answers, unavailable=self._unavailable
        )
        self._connections = Connections()
        self._loop_lag_max = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._error: QosError | None = None
        self._ended = asyncio.Event()
        self._entered = False

    # Lifetime

    async def __aenter__(self) -> Self:
        """Connect upstream and listen; a follower begins to read.

        Without a link it listens, too, and accepts clients once there is one: also if its
        client records with a lease that another one has.

        Raises:
            AuthenticationError: The key upstream is rejected.
            OSError: The port is in use.
            RuntimeError: If it was entered or closed before, or its client belongs to
                another hub.
        """
        if self._entered or self._error is not None:
            raise RuntimeError(
                "a hub is entered once, and not after aclose(): make another"
            )
        self._entered = True
        self._upstream.claim()
        self._kept.open()
        client = self._upstream.client
        await client.__aenter__()
        try:
            await self._upstream.connect()
            await self._listen()
        except BaseException:
            self._kept.close()
            await client.aclose()
            raise
        work = [
            self._relay.run,
            self._relay.keep_up,
            self._watch,
            self._connections.run,
            self._answers.questions.run,
        ]
        self._tasks = [asyncio.create_task(self._run(one)) for one in work]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every link with 1012, each within a random second, then the client."""
        self._error = self._error or ClosedError("the hub has stopped")
        self._ended.set()
        if not self._tasks:
            return  # It was never entered, or is closed already.
        self._answers.questions.fail(self._error)
        async with AsyncExitStack() as stack:  # All of it, also if this is cancelled.
            stack.push_async_callback(self._upstream.client.aclose)
            stack.callback(self._kept.close)
            stack.push_async_callback(self._connections.aclose)
            stack.push_async_callback(self._end_tasks)
            await self._clients.dismiss()

    async def _end_tasks(self) -> None:
        tasks = self._tasks.copy()
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serve_forever(self) -> None:
        """Wait until the link upstream has ended for good, and raise why.

        Raises:
            AuthenticationError: The key is rejected or has expired.
            LimitError: Another program keeps taking the plan's only connection.
        """
        await self._ended.wait()
        assert self._error is not None
        raise self._error

    @property
    def http_url(self) -> str:
        """``http://HOST:PORT/hub``, once entered.

        HOST is the address that clients dial: for ``host="0.0.0.0"`` the first of
        ``hosts``, or an address of this machine.
        """
        return f"http{'s' if self._ssl else ''}://{self._netloc()}{HUB_PATH}"

    @property
    def stream_url(self) -> str:
        """``ws://HOST:PORT/hub/ws``, once entered."""
        return f"ws{'s' if self._ssl else ''}://{self._netloc()}{HUB_PATH}/ws"

    @property
    def is_ready(self) -> bool:
        """Whether clients are accepted: the link upstream is open."""
        return self._error is None and self._relay.is_ready

    @property
    def stats(self) -> HubStats:
        """A snapshot of the counters."""
        topics = self._relay.places.upstream
        return HubStats(
            ready=self.is_ready,
            upstream=self._upstream.client.state.value,
            upstream_reason=self._upstream.reason,
            symbols=len({topic.symbol for topic in topics}),
            symbols_max=self._upstream.places,
            topics=len(topics),
            interrupted=len(self._relay.interrupted),
            ticks=self._relay.forwarded,
            answered=dict(self._answers.counts),
            requests=self._answers.questions.sent,
            refused=self._clients.refused,
            loop_lag_max=self._loop_lag_max,
            clients=[link.stats for link in self._clients.links],
        )

    def _unavailable(self) -> web.Response | None:
        """Return the response to handshakes while no client is accepted."""
        if isinstance(self._error, (AuthenticationError, LimitError)):
            return error_response(self._error)
        if not self.is_ready:
            return try_later(503, self._not_ready(), 1.0)
        return None

    def _not_ready(self) -> str:
        """Return why no client is accepted; empty if clients are."""
        if self.is_ready:
            return ""
        return f"No link to the service: {self._upstream.outage}."

    def _netloc(self) -> str:
        if not self._tasks:
            raise RuntimeError("the hub has no address yet: enter it with async with")
        host, port = self._address
        return f"{address_to_dial(host, self._guard.names)}:{port}"

    async def _listen(self) -> None:
        if self._error is not None:
            raise self._error  # Closed meanwhile.
        app = web.Application(
            client_max_size=_BODY_MAX,
            middlewares=[self._connections.process, self._clients.check],
        )
        http = HubHttp(
            self._guard,
            self._answers,
            self._clients,
            not_ready=self._not_ready,
            stats=lambda: self.stats,
            upstream_metrics=self._upstream.metrics,
        )
        http.add_routes(app)
        self._address = await self._connections.listen(app, *self._address, self._ssl)

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a part of the hub, which is of no use without it."""
        try:
            await work()
        except QosError as exc:
            self._fail(exc)
        except Exception as exc:  # noqa: BLE001 - every client must learn that it ended
            _log.exception("this is a bug in qos_async; please report it")
            self._fail(QosError(f"internal error: {exc!r}"))
        else:
            self._fail(ClosedError("the client of the hub was closed"))

    def _check_upstream(self) -> None:
        """Fail if the client ended while nothing was subscribed, which nothing reads."""
        if self._upstream.is_closed and self._error is None:
            try:
                self._upstream.check()
            except QosError as exc:
                self._fail(exc)

    def _fail(self, error: QosError) -> None:
        if self._error is None:
            self._error = error
            self._answers.questions.fail(error)
            self._clients.end_all(str(error))
            self._ended.set()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_INTERVAL
            await asyncio.sleep(_LAG_INTERVAL)
            lag = loop.time() - due
            self._clients.end_revoked()
            self._check_upstream()
            self._loop_lag_max = max(self._loop_lag_max, lag)
            if lag > _LAG_COMPLAINT:
                _log.warning("the event loop of the hub was held for %.2f s", lag)


def _tokens(
    tokens: str | os.PathLike[str] | Mapping[str, Token] | None, places: int
) -> Tokens | TokenFile | None:
    if tokens is None:
        return None
    if isinstance(tokens, Mapping):
        return Tokens(tokens, places=places)
    return TokenFile(tokens, places=places)


def _check_types(client: object, ssl: object) -> None:
    if not isinstance(client, Client):
        raise ValueError(  # noqa: TRY004 - as for every wrong argument
            f"client must be a Client, such as Hub(Client()), not {type(client).__name__}"
        )
    if ssl is None:
        return
    if not isinstance(ssl, SSLContext) or ssl.protocol == PROTOCOL_TLS_CLIENT:
        raise ValueError(
            "ssl must be an SSLContext for servers: ssl.create_default_context("
            "ssl.Purpose.CLIENT_AUTH), with load_cert_chain() called"
        )


def _checked_host(host: object) -> str:
    if not isinstance(host, str) or not host:
        raise ValueError(f"host must be an address, such as '127.0.0.1', not {host!r}")
    return host.lower().removeprefix("[").removesuffix("]")


def _check_exposure(
    host: str, tokens: object, ssl: SSLContext | None, *, allow_insecure: bool
) -> None:
    if is_loopback(host):
        return
    if tokens is None:
        raise ValueError(
            f"a hub on {host!r} can be reached from other machines: it needs tokens, "
            "one for each client (or host='127.0.0.1')"
        )
    if ssl is None and not allow_insecure:
        raise ValueError(
            f"a hub on {host!r} would send tokens and quotes unencrypted: it needs "
            "ssl=, or allow_insecure=True where the network itself is trusted"
        )
