"""Between the client and the service stands an HTTP proxy, and not always a good one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from qos_async import (
    AuthenticationError,
    Client,
    ConnectError,
    LinkState,
    TransportError,
)
from tests.faults.test_handshakes import CALM, HASTY, ConnectionHandler, listening
from tests.faults.test_tls import HOST, secured, trusting
from tests.support.leak_check import assert_absent
from tests.support.memory_transport import KEY

PASSWORD = "hunter2-of-the-proxy"


class ProxyTraffic:
    """All bytes that a proxy received."""

    def __init__(self) -> None:
        self.connects = 0
        self.raw = b""


@asynccontextmanager
async def proxied(
    answer: Callable[[ProxyTraffic], ConnectionHandler], port: int = 1, **options: Any
) -> AsyncGenerator[tuple[Client, ProxyTraffic]]:
    """Open a client behind a proxy; nothing that the proxy received has the key."""
    traffic = ProxyTraffic()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        traffic.connects += 1
        traffic.raw += head
        assert head.startswith(f"CONNECT {HOST}:{port} ".encode())
        await answer(traffic)(reader, writer)

    async with listening(talk) as address:
        client = Client(
            KEY,
            http_url=f"https://{HOST}:{port}",
            stream_url=f"wss://{HOST}:{port}/ws",
            proxy=f"http://user:{PASSWORD}@{address}",
            timing=options.pop("timing", CALM),
            **options,
        )
        async with client:
            yield client, traffic
    assert_absent(KEY, traffic.raw)


def rejecting(status: int) -> Callable[[ProxyTraffic], ConnectionHandler]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    return lambda traffic: talk


def closing_after(after: bytes) -> Callable[[ProxyTraffic], ConnectionHandler]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(after)
        await writer.drain()

    return lambda traffic: talk


def hanging(traffic: ProxyTraffic) -> ConnectionHandler:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    return talk


def tunnelling(port: int) -> Callable[[ProxyTraffic], ConnectionHandler]:
    def answer(traffic: ProxyTraffic) -> ConnectionHandler:
        async def talk(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            far_reader, far_writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(out(reader, far_writer))
                    pumps.create_task(back(far_reader, writer))
            finally:
                far_writer.close()

        async def out(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            while chunk := await reader.read(65_536):
                traffic.raw += chunk
                writer.write(chunk)
            writer.close()

        async def back(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            while chunk := await reader.read(65_536):
                writer.write(chunk)
            writer.close()

        return talk

    return answer


@pytest.mark.fault("T22")
async def test_a_proxy_that_tunnels_serves_http_and_stream_and_never_sees_the_key():
    authority = trustme.CA()
    async with secured(authority.issue_cert(HOST)) as server:
        way = tunnelling(server.port)
        trust = trusting(authority)
        async with proxied(way, server.port, ssl=trust) as (client, traffic):
            await client.connect()
            assert [*await client.fetch_snapshots("US:AAPL")] == ["US:AAPL"]
            assert traffic.connects == 2


@pytest.mark.fault("T22")
@pytest.mark.parametrize("status", [401, 403, 407])
async def test_a_proxy_that_rejects_is_reported_at_once_and_not_as_a_bad_key(status):
    async with proxied(rejecting(status)) as (client, traffic):
        with pytest.raises(ConnectError, match=f"proxy .* HTTP {status}") as one:
            await client.fetch_snapshots("US:AAPL")
        with pytest.raises(ConnectError, match=f"proxy .* HTTP {status}") as other:
            await client.connect()
        assert client.state is LinkState.CLOSED
        assert traffic.connects == 2
        assert not isinstance(other.value, AuthenticationError)
        assert_absent(PASSWORD, one.value, other.value)
        assert_absent(KEY, one.value, other.value)


@pytest.mark.fault("T22")
@pytest.mark.parametrize(
    "way",
    [
        pytest.param(rejecting(502), id="502"),
        pytest.param(closing_after(b""), id="hangs up"),
        pytest.param(closing_after(b"HTTP/1.1 200 Conn"), id="dies in its answer"),
        pytest.param(
            closing_after(b"HTTP/1.1 200 Connection established\r\n\r\n"),
            id="cuts the tunnel",
        ),
        pytest.param(hanging, id="hangs"),
    ],
)
async def test_a_proxy_that_fails_is_retried(way, caplog):
    timing = HASTY if way is hanging else CALM
    async with (
        proxied(way, timing=timing) as (client, traffic),
        asyncio.timeout(20),
    ):
        with pytest.raises(TransportError) as one:
            await client.fetch_snapshots("US:AAPL")
        assert traffic.connects == 4
        with pytest.raises(ConnectError) as other:
            await client.connect()
        while traffic.connects < 7:  # noqa: ASYNC110 - the proxy's own count.
            await asyncio.sleep(0.005)
        assert client.state is not LinkState.CLOSED
        assert_absent(PASSWORD, one.value, other.value)
    assert_absent(PASSWORD, [r for r in caplog.records if r.name != "asyncio"])


@pytest.mark.fault("T22")
async def test_an_absent_proxy_is_reported_without_its_password(caplog):
    async with listening(hanging(ProxyTraffic())) as address:
        pass
    client = Client(
        KEY,
        http_url="https://api.qos.hk",
        stream_url="wss://api.qos.hk/ws",
        proxy=f"http://user:{PASSWORD}@{address}",
        timing=CALM,
    )
    async with client:
        for attempt in (client.connect(), client.fetch_snapshots("US:AAPL")):
            with pytest.raises(ConnectError, match="cannot be reached") as caught:
                await attempt
            assert_absent(PASSWORD, caught.value)
    assert_absent(PASSWORD, [r for r in caplog.records if r.name != "asyncio"])


@pytest.mark.fault("T22", "T20")
async def test_a_proxy_that_intercepts_tls_is_not_trusted():
    middle = trustme.CA()
    async with (
        secured(middle.issue_cert(HOST)) as impostor,
        proxied(tunnelling(impostor.port), impostor.port) as (client, traffic),
    ):
        with pytest.raises(ConnectError, match="cannot be trusted"):
            await client.connect()
        with pytest.raises(ConnectError, match="cannot be trusted"):
            await client.fetch_snapshots("US:AAPL")
        assert traffic.connects == 2


@pytest.mark.fault("T22", "D1")
@pytest.mark.parametrize("option", ["http_url", "stream_url"])
def test_no_key_is_sent_unencrypted_through_a_remote_proxy(option):
    scheme = "http" if option == "http_url" else "ws"
    plain: dict[str, Any] = {option: f"{scheme}://127.0.0.1:8000"}
    with pytest.raises(ValueError, match="unencrypted"):
        Client(KEY, proxy="http://proxy.example:3128", **plain)
    Client(KEY, proxy="http://proxy.example:3128", allow_insecure=True, **plain)
    Client(KEY, proxy="http://127.0.0.1:3128", **plain)
    Client(KEY, proxy="http://proxy.example:3128")


@pytest.mark.fault("T22", "D3")
async def test_proxies_and_passwords_of_the_environment_are_ignored(
    monkeypatch, tmp_path
):
    traffic = ProxyTraffic()
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login user password {PASSWORD}\n")
    monkeypatch.setenv("NETRC", str(netrc))

    async def listen(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        traffic.connects += 1
        traffic.raw += await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with listening(listen) as proxy, listening(listen) as address:
        for name in ("HTTP_PROXY", "http_proxy", "WS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy}")
        async with Client(
            KEY,
            http_url=f"http://{address}",
            stream_url=f"ws://{address}",
            timing=CALM,
        ) as client:
            with pytest.raises(ConnectError, match="404"):
                await client.connect()
    assert traffic.raw.count(f"Host: {address}".encode()) == traffic.connects
    assert traffic.raw.count(b"GET / HTTP/1.1\r\n") == traffic.connects
    assert b"Authorization" not in traffic.raw
