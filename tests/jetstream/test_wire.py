"""The connection to the broker, on real servers and on peers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from qos_async.jetstream import wire as wire_module
from qos_async.jetstream.errors import (
    BrokerAuthenticationError,
    BrokerBusyError,
    BrokerError,
    BrokerUnavailableError,
    MissingNatsError,
)
from qos_async.jetstream.places import ServerList, parse_place
from qos_async.jetstream.wire import Message, Wire
from tests.support.chaos_proxy import ChaosProxy
from tests.support.leak_check import assert_absent
from tests.support.nats_credentials import Authority
from tests.support.nats_servers import NatsCluster, NatsServer, free_ports

SECRET = "hunter-2"
USERS = f"""authorization {{ users: [
  {{ user: joe, password: "{SECRET}", permissions: {{
    publish: {{ deny: ["forbidden.>"] }} }} }}
] }}"""


def wire_to(*servers: str, credentials: str = "", ping_interval: float = 0.2) -> Wire:
    """Return a wire that notices dead peers early."""
    at = f"{credentials}@" if credentials else ""
    urls = ",".join(url.replace("://", f"://{at}") for url in servers)
    place = parse_place(f"{urls}/QOS", {})
    return Wire(place, connect_timeout=0.5, ping_interval=ping_interval)


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - counters, without an event
            await asyncio.sleep(0.01)


async def echo(message: Message, wire: Wire) -> None:
    await wire.publish(message.reply, message.data)


@asynccontextmanager
async def peer(lines: bytes, received: bytearray | None = None) -> AsyncGenerator[str]:
    """Serve a peer that sends ``lines`` to each client, and then reads."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(lines)
            while data := await reader.read(1000):
                if received is not None:
                    received.extend(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def fill(wire: Wire) -> None:
    while True:
        await wire.publish("a", b"x" * 500_000)


# The four calls


async def test_messages_go_out_and_come_in_in_order(node: NatsServer, stream_name: str):
    received: list[tuple[str, bytes]] = []
    async with wire_to(node.url) as wire:
        await wire.connect()
        await wire.subscribe(
            f"{stream_name}.>", lambda m: received.append((m.subject, m.data))
        )
        for number in range(1000):
            await wire.publish(f"{stream_name}.{number % 3}", b"%d" % number)
        await until(lambda: len(received) == 1000)
    assert received == [(f"{stream_name}.{n % 3}", b"%d" % n) for n in range(1000)]


async def test_a_request_returns_the_reply_with_its_headers(node: NatsServer):
    async with wire_to(node.url) as wire:
        reply = await wire.request("$JS.API.INFO")
        assert b'"type":"io.nats.jetstream.api.v1.account_info_response"' in reply.data
        assert wire.server["version"] >= "2.14"
        assert wire.is_connected
        assert repr(wire) == f"<Wire {node.url}/QOS: connected>"


async def test_many_requests_each_get_their_own_reply(node: NatsServer, stream_name):
    async with wire_to(node.url) as wire, wire_to(node.url) as other:
        await other.connect()
        tasks: set[asyncio.Task[None]] = set()

        def answer(message: Message) -> None:
            task = asyncio.create_task(echo(message, other))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        await other.subscribe(stream_name, answer)
        await other.request("$JS.API.INFO")  # The server has the subscription.
        asked = [b"%d" % n for n in range(100)]
        replies = await asyncio.gather(*(wire.request(stream_name, a) for a in asked))
    assert [reply.data for reply in replies] == asked


async def test_a_request_that_has_no_receiver_is_an_error(node: NatsServer):
    async with wire_to(node.url) as wire:
        with pytest.raises(
            BrokerUnavailableError, match=r"nothing that replies to no\.one"
        ):
            await wire.request("no.one")


async def test_a_request_without_a_reply_times_out(node: NatsServer, stream_name: str):
    async with wire_to(node.url) as wire:
        await wire.connect()
        await wire.subscribe(stream_name, lambda message: None)
        with pytest.raises(BrokerUnavailableError, match=r"no reply .* within 0\.1 s"):
            await wire.request(stream_name, timeout=0.1)


async def test_what_is_queued_is_sent_before_a_close(node: NatsServer, stream_name):
    received: list[bytes] = []
    async with wire_to(node.url) as reader:
        await reader.connect()
        await reader.subscribe(stream_name, lambda m: received.append(m.data))
        await reader.request("$JS.API.INFO")
        async with wire_to(node.url) as wire:
            await wire.connect()
            for _ in range(3000):
                await wire.publish(stream_name, b"x" * 100)
        await until(lambda: len(received) == 3000)


async def test_nothing_can_be_sent_after_a_close(node: NatsServer):
    wire = wire_to(node.url)
    await wire.connect()
    await wire.aclose()
    await wire.aclose()
    for call in (wire.publish("a", b""), wire.request("a"), wire.connect()):
        with pytest.raises(BrokerUnavailableError, match="is closed"):
            await call


async def test_a_subscription_can_be_ended(node: NatsServer, stream_name: str):
    received: list[bytes] = []
    async with wire_to(node.url) as wire:
        await wire.connect()
        first = await wire.subscribe(stream_name, lambda m: received.append(m.data))
        await wire.unsubscribe(first)
        await wire.unsubscribe(first)
        await wire.publish(stream_name, b"")
        await wire.request("$JS.API.INFO")
    assert not received


# Connecting


@pytest.mark.fault("N1")
async def test_connecting_to_nothing_ends_with_a_sentence_and_goes_on_behind():
    with_server = free_ports(1)[0]
    async with wire_to(f"nats://127.0.0.1:{with_server}") as wire:
        began = time.monotonic()
        with pytest.raises(
            BrokerUnavailableError, match=r"cannot connect .* within 0\.3 s.*check that"
        ):
            await wire.connect(0.3)
        assert time.monotonic() - began < 5
        with pytest.raises(BrokerUnavailableError, match="no connection to the broker"):
            await wire.publish("a", b"")
        async with peer(b"") as _:
            await until(lambda: wire.stats.failed_dials > 2)


@pytest.mark.fault("N1")
async def test_a_wire_connects_when_the_broker_comes_up(own_node: NatsServer):
    async with wire_to(own_node.url) as wire:
        with pytest.raises(BrokerUnavailableError):
            await wire.connect(0.2)
        await asyncio.to_thread(own_node.start)
        await wire.connect()


@pytest.mark.fault("N1")
async def test_a_server_that_accepts_and_sends_nothing_is_left_for_another(
    node: NatsServer,
):
    async with peer(b"") as silent, wire_to(silent, node.url) as wire:
        await wire.connect()
        assert wire.stats.failed_dials == 1


async def test_a_peer_that_speaks_another_protocol_is_an_error():
    async with (
        peer(b"HTTP/1.1 400 Bad Request\r\n\r\n") as other,
        wire_to(other) as wire,
    ):
        with pytest.raises(BrokerUnavailableError, match="expecting INFO"):
            await wire.connect(0.5)


@pytest.mark.fault("N1")
async def test_failed_dials_are_counted_and_leave_no_traceback_in_the_log(caplog):
    async with wire_to(f"nats://127.0.0.1:{free_ports(1)[0]}") as wire:
        with pytest.raises(BrokerUnavailableError):
            await wire.connect(0.01)
        await until(lambda: wire.stats.failed_dials >= 4)
    assert wire.stats.last_error == "Connection refused"
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_defect_of_the_supervisor_is_an_error_and_no_silence(monkeypatch):
    monkeypatch.setattr(ServerList, "take", lambda self: 1 / 0)
    async with wire_to("nats://127.0.0.1:1") as wire:
        with pytest.raises(BrokerError, match="failed: ZeroDivisionError"):
            await wire.connect()


async def test_the_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "qos_async.jetstream.nats_client", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "nats"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nats", None)
    async with wire_to("nats://127.0.0.1:1") as wire:
        with pytest.raises(MissingNatsError, match=r"pip install 'qos-async\[nats\]'"):
            await wire.connect()


# Credentials


@pytest.mark.fault("N2")
@pytest.mark.parametrize("credentials", [f"joe:{SECRET}x", "", f"bob:{SECRET}"])
async def test_wrong_credentials_are_an_error_at_once_and_not_tried_again(
    own_node: NatsServer, credentials: str, caplog
):
    own_node.configure(USERS)
    await asyncio.to_thread(own_node.start)
    async with wire_to(own_node.url, credentials=credentials) as wire:
        with pytest.raises(
            BrokerAuthenticationError, match="check QOS_NATS_USER"
        ) as caught:
            await wire.connect()
        assert wire.stats.failed_dials == 1
        with pytest.raises(BrokerAuthenticationError, match="credentials"):
            await wire.request("a")
        assert_absent(SECRET, caught.value, wire.stats, repr(wire), caplog.records)


@pytest.mark.fault("N2")
@pytest.mark.parametrize("reload_with", [USERS.replace(SECRET, "other")])
async def test_a_changed_password_ends_no_wire_for_good(
    own_node: NatsServer, reload_with: str, caplog
):
    own_node.configure(USERS)
    await asyncio.to_thread(own_node.start)
    async with wire_to(own_node.url, credentials=f"joe:{SECRET}") as wire:
        await wire.connect()
        own_node.configure(reload_with)
        await asyncio.to_thread(own_node.reload)
        await until(lambda: not wire.is_connected)
        await until(lambda: wire.stats.failed_dials)
        own_node.configure(USERS)
        await asyncio.to_thread(own_node.reload)
        await wire.connect()
        assert_absent(SECRET, wire.stats, caplog.records)


@pytest.mark.fault("N2")
async def test_credentials_that_stay_refused_are_final_in_the_end(
    own_node: NatsServer, monkeypatch
):
    monkeypatch.setattr(wire_module, "_REFUSED_FOR", 0.2)
    own_node.configure(USERS)
    await asyncio.to_thread(own_node.start)
    async with wire_to(own_node.url, credentials=f"joe:{SECRET}") as wire:
        await wire.connect()
        own_node.configure(USERS.replace(SECRET, "other"))
        await asyncio.to_thread(own_node.reload)
        await until(lambda: not wire.is_connected)
        with pytest.raises(BrokerAuthenticationError, match="refuses the credentials"):
            await wire.connect()


async def test_a_token_is_sent(own_node: NatsServer):
    own_node.configure(f'authorization {{ token: "{SECRET}" }}')
    await asyncio.to_thread(own_node.start)
    async with wire_to(own_node.url, credentials=SECRET) as wire:
        await wire.connect()


@pytest.mark.fault("N2")
async def test_another_node_gets_the_credentials_too(tmp_path: Path):
    cluster = NatsCluster(tmp_path / "c", extra=USERS)
    try:
        await asyncio.to_thread(cluster.start)
        first, *_ = cluster
        async with wire_to(first.url, credentials=f"joe:{SECRET}") as wire:
            await wire.connect()
            await asyncio.to_thread(first.kill)
            await until(lambda: wire.connections == 2)
            received: list[bytes] = []
            await wire.subscribe("a", lambda message: received.append(message.data))
            await wire.publish("a", b"x")
            await until(lambda: received)
    finally:
        await asyncio.to_thread(cluster.kill)


async def test_a_credentials_file_is_used(own_node: NatsServer, tmp_path: Path):
    authority = Authority()
    own_node.configure(authority.configuration)
    await asyncio.to_thread(own_node.start)
    file = tmp_path / "user.creds"
    file.write_text(authority.credentials())
    place = parse_place(f"{own_node.url}/Q", {"QOS_NATS_CREDS": str(file)})
    received: list[bytes] = []
    async with Wire(place) as wire:
        await wire.connect()
        await wire.subscribe("a", lambda message: received.append(message.data))
        await wire.publish("a", b"x")
        await until(lambda: received)
    file.write_text(Authority().credentials())
    async with Wire(place) as wire:
        with pytest.raises(BrokerAuthenticationError, match="QOS_NATS_CREDS"):
            await wire.connect()


async def test_a_credentials_file_without_credentials_is_an_error(
    node: NatsServer, tmp_path: Path
):
    file = tmp_path / "user.creds"
    file.write_text("nothing\n")
    place = parse_place(f"{node.url}/Q", {"QOS_NATS_CREDS": str(file)})
    async with Wire(place) as wire:
        with pytest.raises(
            BrokerAuthenticationError, match=r"user\.creds is no file of cred"
        ):
            await wire.connect(3)


# Errors of the server


@pytest.mark.fault("N3")
async def test_a_permission_that_is_missing_ends_no_connection(own_node: NatsServer):
    own_node.configure(USERS)
    await asyncio.to_thread(own_node.start)
    async with wire_to(own_node.url, credentials=f"joe:{SECRET}") as wire:
        await wire.connect()
        with pytest.raises(
            BrokerUnavailableError,
            match=r"permissions violation for publish.*give this",
        ):
            await wire.request("forbidden.a", timeout=0.5)
        assert (wire.connections, wire.stats.lost, wire.stats.denied) == (1, 0, 1)
        await wire.request("$JS.API.INFO")


@pytest.mark.fault("N3")
async def test_a_message_that_is_too_large_is_refused_before_it_is_sent(
    own_node: NatsServer,
):
    own_node.configure("max_payload: 1000")
    await asyncio.to_thread(own_node.start)
    async with wire_to(own_node.url) as wire:
        await wire.connect()
        for payload, headers in ((b"x" * 1001, None), (b"x" * 900, {"A": "y" * 90})):
            with pytest.raises(BrokerError, match="raise max_payload of the server"):
                await wire.publish("a", payload, headers=headers)
        with pytest.raises(BrokerError, match="too many"):
            await wire.publish("a" * 4000, b"")
        await wire.request("$JS.API.INFO")
        assert wire.stats.lost == 0


@pytest.mark.fault("N3")
async def test_a_limit_that_was_lowered_meanwhile_costs_one_connection(
    own_node: NatsServer,
):
    await asyncio.to_thread(own_node.start)
    async with wire_to(own_node.url) as wire:
        await wire.connect()
        own_node.configure("max_payload: 1000")
        await asyncio.to_thread(own_node.reload)
        client: Any = wire._client
        client._max_payload = 10_000  # As if the news were still under way.
        await wire.publish("a", b"x" * 2000)
        await until(lambda: wire.connections == 2)
        assert "maximum payload violation" in wire.stats.last_error


@pytest.mark.fault("N3")
async def test_too_many_connections_are_waited_for(own_node: NatsServer):
    own_node.configure("max_connections: 1")
    await asyncio.to_thread(own_node.start)
    async with wire_to(own_node.url) as second:
        async with wire_to(own_node.url) as first:
            await first.connect()
            with pytest.raises(BrokerUnavailableError, match="cannot connect"):
                await second.connect(0.5)
        await second.connect()


@pytest.mark.fault("N3")
async def test_a_line_that_cannot_be_read_costs_one_connection():
    lines = b'INFO {"max_payload":1000,"headers":true}\r\nPONG\r\nINFO {broken\r\n'
    async with peer(lines) as broken, wire_to(broken) as wire:
        await wire.connect()
        await until(lambda: wire.connections >= 2)
        assert wire.stats.lost >= 1


@pytest.mark.fault("N3")
async def test_a_server_that_ends_each_connection_is_not_dialled_in_a_loop():
    lines = b'INFO {"max_payload":1000,"headers":true}\r\nPONG\r\n-ERR \'why\'\r\n'
    async with peer(lines) as hostile, wire_to(hostile) as wire:
        await wire.connect()
        await asyncio.sleep(1)
        assert 2 <= wire.connections <= 10
        assert "why" in wire.stats.last_error


# Failures of the connection


@pytest.mark.fault("N4")
async def test_a_wire_and_its_subscriptions_survive_a_restart_of_the_server(
    node: NatsServer, stream_name: str
):
    received: list[bytes] = []
    async with wire_to(node.url) as wire:
        await wire.connect()
        await wire.subscribe(stream_name, lambda m: received.append(m.data))
        waiting = asyncio.create_task(wire.request(stream_name, timeout=30))
        await until(lambda: received)
        await asyncio.to_thread(node.kill)
        with pytest.raises(BrokerUnavailableError, match="no connection"):
            await waiting
        await asyncio.to_thread(node.start)
        await wire.connect()
        await wire.publish(stream_name, b"again")
        await until(lambda: b"again" in received)


@pytest.mark.fault("N4")
async def test_a_dead_peer_is_noticed(own_node: NatsServer):
    await asyncio.to_thread(own_node.start)
    async with wire_to(own_node.url) as wire:
        await wire.connect()
        own_node.pause()
        began = time.monotonic()
        await until(lambda: not wire.is_connected)
        assert "stale connection" in wire.stats.last_error
        assert time.monotonic() - began < 10
        own_node.resume()
        await wire.connect()


@pytest.mark.fault("N5")
async def test_a_server_that_does_not_read_blocks_no_publisher(own_node: NatsServer):
    await asyncio.to_thread(own_node.start)
    async with wire_to(own_node.url, ping_interval=60) as wire:
        await wire.connect()
        own_node.pause()

        async def publish() -> None:
            while True:
                with contextlib.suppress(BrokerBusyError):
                    await wire.publish("a", b"x" * 500_000)
                await asyncio.sleep(0)

        task = asyncio.create_task(publish())
        await until(lambda: wire.pending_bytes > 10_000_000)
        with pytest.raises(BrokerBusyError, match="bytes wait to be sent"):
            await fill(wire)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        own_node.resume()
        await until(lambda: wire.pending_bytes == 0)
        assert wire.stats.lost == 0


@pytest.mark.fault("N5")
async def test_closing_does_not_wait_for_a_server_that_does_not_read(
    own_node: NatsServer,
):
    await asyncio.to_thread(own_node.start)
    wire = wire_to(own_node.url, ping_interval=60)
    await wire.connect()
    own_node.pause()
    for _ in range(20):
        await wire.publish("a", b"x" * 500_000)
    async with asyncio.timeout(10):
        await wire.aclose()


@pytest.mark.fault("N4")
async def test_a_partition_is_noticed_and_ends(node: NatsServer):
    async with contextlib.AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(ChaosProxy(node.port))
        url = f"nats://127.0.0.1:{proxy.port}"
        wire = await stack.enter_async_context(wire_to(url))
        await wire.connect()
        proxy.to_client.timeout = proxy.to_server.timeout = True
        await until(lambda: not wire.is_connected)
        proxy.clear()
        proxy.reset_peer()
        await wire.connect()


# TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def with_tls(node: NatsServer, authority: trustme.CA, name: str) -> Path:
    """Configure a node with TLS; return the file of its authority."""
    directory = node.directory
    certificate = authority.issue_cert(name)
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(directory / "cert.pem", append=number > 0)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    node.configure(
        f'tls {{ cert_file: "{directory}/cert.pem", key_file: "{directory}/key.pem" }}\n'
        + USERS
    )
    return directory / "ca.pem"


def secured(node: NatsServer, file: Path | None) -> Wire:
    url = node.url.replace("nats://", f"tls://joe:{SECRET}@")
    return Wire(parse_place(f"{url}/Q", {"QOS_NATS_CA": str(file)} if file else {}))


async def test_a_connection_with_tls_works(own_node: NatsServer, authority):
    file = with_tls(own_node, authority, "127.0.0.1")
    await asyncio.to_thread(own_node.start)
    async with secured(own_node, file) as wire:
        await wire.request("$JS.API.INFO")
        client: Any = wire._client
        assert client._transport._io_writer.get_extra_info("ssl_object") is not None


@pytest.mark.fault("N6")
@pytest.mark.parametrize("name", ["127.0.0.1", "other.example"])
async def test_a_certificate_that_is_not_trusted_is_an_error_at_once(
    own_node: NatsServer, authority, name: str
):
    file = with_tls(own_node, authority, name)
    await asyncio.to_thread(own_node.start)
    async with secured(own_node, file if name != "127.0.0.1" else None) as wire:
        with pytest.raises(BrokerAuthenticationError, match="QOS_NATS_CA"):
            await wire.connect()
        assert wire.stats.failed_dials == 1


@pytest.mark.fault("N6")
async def test_a_plain_server_behind_tls_gets_no_credentials():
    received = bytearray()
    lines = b'INFO {"max_payload":1000,"headers":true,"auth_required":true}\r\nPONG\r\n'
    async with peer(lines, received) as url:
        place = parse_place(
            f"{url.replace('nats', 'tls')}/Q", {"QOS_NATS_TOKEN": SECRET}
        )
        async with Wire(place) as wire:
            with pytest.raises(BrokerAuthenticationError, match="offers no TLS"):
                await wire.connect()
    assert not received


async def test_tls_is_used_where_only_the_server_demands_it(
    own_node: NatsServer, authority, monkeypatch
):
    file = with_tls(own_node, authority, "127.0.0.1")
    await asyncio.to_thread(own_node.start)
    context = ssl.create_default_context(cafile=str(file))
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: context)
    async with wire_to(own_node.url, credentials=f"joe:{SECRET}") as wire:
        await wire.request("$JS.API.INFO")
