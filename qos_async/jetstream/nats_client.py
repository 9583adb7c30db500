"""One connection of nats-py, which reports its end at once and is never tried again.

Imported only by ``wire``, when the first connection is made: nats-py is an extra.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import ssl
from collections.abc import Mapping
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError

from qos_async._printable import printable
from qos_async.jetstream.errors import (
    BrokerAuthenticationError,
    BrokerBusyError,
    BrokerError,
    BrokerUnavailableError,
)
from qos_async.jetstream.places import ServerAddress, StreamPlace
from qos_async.jetstream.wire import WireSubscription

__all__ = ["MAX_PENDING", "NatsClient"]

# Ours is checked before each message, so that theirs, which swallows cancellations while
# it waits for room, is never reached.
_PENDING_SIZE = 1024**3
_MAX_OUTSTANDING_PINGS = 2
_CREDENTIALS = (b"BEGIN NATS USER JWT", b"BEGIN USER NKEY SEED")
_VERSION = "NATS/1.0"
_MAX_LINE = 3_000  # A server closes links with control lines of 4096 bytes.

MAX_PENDING = 16 * 1024 * 1024
"""Bytes that may wait for the socket; more raise ``BrokerBusyError``."""


class _ErrorCallback(Protocol):
    def __call__(self, text: str, *, denied: bool) -> None: ...


class NatsClient(Client):
    """A client for one connection to one server.

    Attributes:
        address: The server.
        lost: Set to the reason when the connection has failed.
    """

    def __init__(self, place: StreamPlace, on_error: _ErrorCallback) -> None:
        super().__init__()
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.address = place.servers[0]
        self._place, self._on_error = place, on_error

    @property
    def server_info(self) -> Mapping[str, Any]:
        """What the server says of itself."""
        return self._server_info

    async def dial(self, address: ServerAddress, options: Mapping[str, Any]) -> None:
        """Connect, in one attempt.

        Raises:
            BrokerUnavailableError: If the server cannot be reached.
            BrokerAuthenticationError: If it refuses the credentials, or has no TLS that
                can be trusted where it is demanded.
        """
        self.address = address
        try:
            await self._connect_once(options)
        except Exception as exc:  # noqa: BLE001 - translated
            error = _dial_error(exc, self._place, address)
        else:
            return
        raise error

    async def _connect_once(self, options: Mapping[str, Any]) -> None:
        address = self.address
        _check_credentials_file(self._place.credentials.file)
        given = self._place.credentials
        # Each wait of nats-py has this deadline: socket, INFO, TLS and PONG.
        async with asyncio.timeout(2 * options["connect_timeout"]):
            await self.connect(
                [f"nats://{address}"],
                error_cb=self._count_error,
                allow_reconnect=False,
                max_outstanding_pings=_MAX_OUTSTANDING_PINGS,
                pending_size=_PENDING_SIZE,
                user=given.user or None,
                password=given.password or None,
                token=given.token or None,
                user_credentials=given.file or None,
                tls=_tls_context(self._place),
                tls_hostname=self._host_name(address),
                **options,
            )

    def _host_name(self, address: ServerAddress) -> str:
        """Return the name in the certificate: clusters name their nodes by number."""
        if address not in self._place.servers and _is_number(address.host):
            return self._place.servers[0].host
        return address.host

    def other_servers(self) -> list[ServerAddress]:
        """Return the servers of the cluster that this one has named."""
        found: list[ServerAddress] = []
        for text in self._server_info.get("connect_urls") or ():
            with contextlib.suppress(ValueError):
                parts = urlsplit(f"//{text}")
                if parts.hostname and parts.port:
                    found.append(ServerAddress(parts.hostname, parts.port))
        return found

    async def send(
        self,
        subject: str,
        payload: bytes,
        reply: str,
        headers: dict[str, str] | None,
    ) -> None:
        """Queue a message for the socket, without a wait.

        Raises:
            BrokerBusyError: If too many bytes wait for the socket.
            BrokerUnavailableError: If the connection is lost.
            BrokerError: If the server would close the connection because of it.
        """
        self._check_message(subject, payload, reply, headers)
        try:
            await self.publish(subject, payload, reply, headers)
        except (NatsError, OSError) as exc:
            self._report_loss(str(exc))
            raise BrokerUnavailableError(
                f"lost the broker at {self.address}: {exc}"
            ) from None

    def _check_message(
        self,
        subject: str,
        payload: bytes,
        reply: str,
        headers: dict[str, str] | None,
    ) -> None:
        size = len(payload) + len(subject) + len(reply)
        if headers:
            size += 12 + sum(
                len(name) + len(value) + 4 for name, value in headers.items()
            )
        if len(subject) + len(reply) > _MAX_LINE:
            raise BrokerError(
                f"a subject has {len(subject)} characters, too many: {subject[:40]}..."
            )
        if self.pending_data_size + size > MAX_PENDING:
            raise BrokerBusyError(
                f"{self.pending_data_size} bytes wait to be sent to the broker at "
                f"{self.address}, which does not read them fast enough"
            )
        if size > self.max_payload:
            raise BrokerError(
                f"a message for {subject} has {size} bytes, and the broker takes "
                f"{self.max_payload}: raise max_payload of the server"
            )

    async def start_subscription(self, subscription: WireSubscription) -> None:
        """Subscribe, without a bound: what was not asked for is not sent."""
        # Lost meanwhile: that is reported apart.
        with contextlib.suppress(ConnectionClosedError, OSError):
            subscription.current = await self.subscribe(  # pyright: ignore[reportUnknownMemberType] - a future in it has no type
                subscription.subject,
                cb=subscription.deliver,
                pending_msgs_limit=0,
                pending_bytes_limit=0,
            )

    async def end_subscription(self, subscription: WireSubscription) -> None:
        """Unsubscribe."""
        current: Subscription | None = subscription.current
        if current is not None and not self.is_closed:
            await current.unsubscribe()

    async def send_all(self) -> None:
        """Wait until the server has what was queued; only before ``discard``."""
        with contextlib.suppress(NatsError, OSError):
            await self.flush()

    def discard(self) -> None:
        """Abort the connection and end its tasks, whatever state it is in.

        nats-py's own ``close`` waits: for a socket that does not drain, and after a TLS
        handshake that failed for ever. And a cancellation in it would leave tasks behind.
        """
        self._report_loss("closed")
        self._status = Client.CLOSED
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        # As nats-py itself does.
        tasks = ("_reading_task", "_ping_interval_task", "_flusher_task")
        for task in (getattr(self, name) for name in tasks):
            if task is not None:
                task.cancel()
        for subscription in self._subs.values():
            methodcaller("_stop_processing")(subscription)
        self._subs.clear()

    # What nats-py calls

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        """Deliver a message at once.

        nats-py's own has a queue and a task for each subscription, which costs as much as
        reading the message does.
        """
        found = self._subs.get(sid)
        ours = getattr(getattr(found, "_cb", None), "__self__", None)
        if not isinstance(ours, WireSubscription):
            await super()._process_msg(sid, subject, reply, data, headers or b"")
            return
        ours.on_message(
            _Received(subject.decode(), reply.decode(), data, _parse_headers(headers))
        )

    async def _select_next_server(self) -> None:
        """Connect to the only server, once."""
        self._current_server = self._server_pool[0]
        await self._connect_to_server(self._current_server)

    def _connect_command(self) -> bytes:
        """Return the command with the credentials: the last moment to look at TLS."""
        writer = getattr(self._transport, "_io_writer", None)
        secured = writer is not None and writer.get_extra_info("ssl_object") is not None
        if self._place.tls and not secured:
            raise BrokerAuthenticationError(
                f"the broker at {self.address} offers no TLS, which tls:// and QOS_NATS_CA "
                "demand; nothing was sent to it. Configure TLS there, or use nats://"
            )
        return super()._connect_command()

    async def _process_pong(self) -> None:
        """Take the reply to a ping; of one that was given up, nothing waits for it."""
        pongs = cast("list[asyncio.Future[bool]]", self._pongs)  # pyright: ignore[reportUnknownMemberType] - a future in it has no type
        if pongs and pongs[0].done():
            pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_err(self, err_msg: str) -> None:
        """Report an ``-ERR``: of a permission, or one that ends the connection."""
        text = printable(self._place.credentials.redact(err_msg.strip("'")))
        if "permissions violation" in err_msg:
            self._on_error(text, denied=True)
        else:
            self._report_loss(text)

    async def _process_op_err(self, e: Exception) -> None:
        """Report that the socket failed or pings were not answered."""
        self._report_loss(printable(str(e)) or type(e).__name__)

    async def _read_loop(self) -> None:
        """Read; report an end of it for any other reason."""
        await super()._read_loop()
        self._report_loss("the read loop has ended")

    def _report_loss(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)

    async def _count_error(self, error: Exception) -> None:
        if not self.is_connecting and not self.lost.done():
            self._on_error(printable(str(error)), denied=False)


class _Received(NamedTuple):
    """A ``Message`` as received."""

    subject: str
    reply: str
    data: bytes
    headers: dict[str, str] | None


def _parse_headers(raw: bytes | None) -> dict[str, str] | None:
    """Return headers; of those that the server itself sends also ``Status``."""
    if not raw:
        return None
    first, *lines = raw.decode("utf-8", "replace").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name] = value.strip()
    if status := first[len(_VERSION) :].strip():
        headers["Status"], _, headers["Description"] = status.partition(" ")
    return headers


def _check_credentials_file(file: str) -> None:
    """Check that a file has credentials: nats-py would read on for ever at its end."""
    if not file:
        return
    try:
        text = Path(file).read_bytes()
    except OSError as exc:
        raise BrokerAuthenticationError(
            f"cannot read the credentials in {file}: {exc.strerror}"
        ) from None
    if any(part not in text for part in _CREDENTIALS):
        raise BrokerAuthenticationError(
            f"{file} is no file of credentials: write one with nsc, and name it in "
            "QOS_NATS_CREDS"
        )


def _tls_context(place: StreamPlace) -> ssl.SSLContext | None:
    """Return the context of all connections; nats-py's own trusts the system."""
    return ssl.create_default_context(cafile=place.ca or None) if place.tls else None


def _is_number(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def _dial_error(
    exc: Exception, place: StreamPlace, address: ServerAddress
) -> BrokerError:
    """Return the error of a dial that failed, with a sentence and no credentials."""
    if isinstance(exc, BrokerError):
        return exc
    text = printable(place.credentials.redact(str(exc)))
    if isinstance(exc, ssl.SSLCertVerificationError):
        return BrokerAuthenticationError(
            f"the certificate of the broker at {address} is not trusted: "
            f"{exc.verify_message}; name the file of its authority in QOS_NATS_CA"
        )
    lower = str(exc).lower()
    if "authorization" in lower or "authentication" in lower or "expired" in lower:
        given = "refuses the credentials" if place.credentials else "wants credentials"
        return BrokerAuthenticationError(
            f"the broker at {address} {given}: check QOS_NATS_USER and "
            "QOS_NATS_PASSWORD, QOS_NATS_TOKEN or QOS_NATS_CREDS"
        )
    if isinstance(exc, TimeoutError):
        text = "no reply in time"
    elif isinstance(exc, ConnectionError) and exc.errno:
        text = os.strerror(exc.errno)  # asyncio's text has the address.
    return BrokerUnavailableError(
        f"{place.prefix(address)}{text or type(exc).__name__}"
    )
