"""Servers that will not, or cannot, open a websocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from qos_async import Client, ConnectError, LinkState, QosError, Timing, TransportError
from qos_async._io.retry import retry_after
from qos_async._io.transport import DialError
from tests.io.test_aiohttp_transport import dialling
from tests.support.http_servers import serving
from tests.support.leak_check import assert_absent
from tests.support.memory_transport import KEY

ConnectionHandler = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]
]

CALM = Timing(backoff_initial=0.01, backoff_max=0.02, close_timeout=0.1)
HASTY = replace(CALM, connect_timeout=0.3, request_timeout=0.3)
"""For servers that are never in time; the others may have to share a slow machine."""


@asynccontextmanager
async def listening(talk: ConnectionHandler) -> AsyncGenerator[str]:
    """Serve raw connections; yield the host and the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await talk(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def client_of(address: str, **options: Any) -> Client:
    return Client(
        KEY,
        http_url=f"http://{address}",
        stream_url=f"ws://{address}/ws",
        timing=options.pop("timing", CALM),
        **options,
    )


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" * 9:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.01)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\n")
    while True:
        writer.write(b"X-Header: of very little interest\r\n")
        await writer.drain()
        await asyncio.sleep(0.002)


@pytest.mark.fault("T13")
@pytest.mark.parametrize("talk", [drip, silence, endless])
async def test_a_handshake_that_hangs_times_out_and_is_retried(talk):
    async with (
        listening(talk) as address,
        client_of(address, timing=HASTY) as client,
        asyncio.timeout(20),
    ):
        with pytest.raises(ConnectError) as caught:
            await client.connect()
        changes = client.states()
        while (await anext(changes)).state is not LinkState.CONNECTING:
            pass
        assert_absent(KEY, caught.value)


@pytest.mark.fault("T15", "T16", "T17")
@pytest.mark.parametrize("status", [200, 204, 404, 418, 429, 500, 502, 503, 504])
async def test_an_upgrade_rejected_by_status_is_a_connect_error_and_retried(status):
    seen = 0

    async def refuse(request: web.Request) -> web.Response:
        nonlocal seen
        seen += 1
        return web.Response(status=status)

    async with serving(refuse) as url, client_of(url.authority) as client:
        with pytest.raises(ConnectError, match=f"HTTP {status}") as caught:
            await client.connect()
        async with asyncio.timeout(20):
            while seen < 3:  # noqa: ASYNC110 - the server's own count.
                await asyncio.sleep(0.005)
        assert_absent(KEY, caught.value)


async def wait_asked_for(status: int, header: str) -> float:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": header})

    async with serving(refuse) as url, dialling(url) as transport:
        with pytest.raises(DialError) as caught:
            await transport.dial()
        return caught.value.retry_after


@pytest.mark.fault("T15", "T16")
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_rejected_upgrade_may_have_a_retry_after(status):
    assert await wait_asked_for(status, "7") == 7.0
    assert await wait_asked_for(status, "9" * 30) == 300.0
    assert await wait_asked_for(status, "in a while") == 0.0
    later = datetime.now(UTC) + timedelta(seconds=100)
    found = await wait_asked_for(status, format_datetime(later, usegmt=True))
    assert 90 < found <= 101


NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.mark.fault("T15")
@given(st.integers(0, 10**40))
def test_retry_after_in_seconds_is_bounded_by_one_and_three_hundred(seconds: int):
    found = retry_after(str(seconds), NOW.timestamp())
    assert found == min(max(float(min(seconds, 301)), 1.0), 300.0)


@pytest.mark.fault("T15")
@given(st.integers(-(10**9), 10**9))
def test_retry_after_as_a_date_is_bounded_by_one_and_three_hundred_seconds(ahead: int):
    header = format_datetime(NOW + timedelta(seconds=ahead), usegmt=True)
    assert retry_after(header, NOW.timestamp()) == min(max(ahead, 1), 300)


@pytest.mark.fault("T15")
@example("Wed, 01 Jul 2026 12:00:00 +9999")
@example("1 1 1 1 1")
@given(
    st.text(st.characters(max_codepoint=0x2FF))
    | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} -?\d+ [\d:]+ [A-Z+\-\d]*")
)
def test_no_other_retry_after_gives_a_wait_out_of_bounds(header: str):
    found = retry_after(header, NOW.timestamp())
    assert found is None or 1.0 <= found <= 300.0


def replying(raw: bytes) -> ConnectionHandler:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()

    return talk


@pytest.mark.fault("T17")
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"220 mail.example ESMTP\r\n", id="another protocol"),
        pytest.param(b"\x00\xff" * 500, id="noise"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: bm8=\r\n\r\n",
            id="a wrong accept key",
        ),
    ],
)
async def test_a_server_without_websockets_is_reported_at_once_and_retried(raw):
    async with listening(replying(raw)) as address, client_of(address) as client:
        with pytest.raises(ConnectError) as caught:
            await client.connect()
        changes = client.states()
        async with asyncio.timeout(20):
            while (await anext(changes)).state is not LinkState.CONNECTING:
                pass
        assert_absent(KEY, caught.value)


@pytest.mark.fault("T18", "D3")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("key_in", ["header", "url"])
async def test_the_target_of_a_redirect_gets_no_connection(status, key_in):
    arrived = 0

    async def thief(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        arrived += 1
        await reader.read()

    async with listening(thief) as elsewhere:

        async def moved(request: web.Request) -> web.Response:
            target = f"http://{elsewhere}/?{request.query_string}"
            return web.Response(status=status, headers={"Location": target})

        async with (
            serving(moved) as url,
            client_of(url.authority, key_in=key_in) as client,
        ):
            with pytest.raises(ConnectError, match="set stream_url"):
                await client.connect()
            assert client.state is LinkState.CLOSED
            with pytest.raises(ConnectError, match="set http_url"):
                await client.fetch_snapshots("US:AAPL")
    assert arrived == 0


@pytest.mark.fault("T21")
@pytest.mark.parametrize("how", ["hangs", "hangs up", "resets"])
async def test_a_broken_tls_handshake_is_retried_by_the_stream(how):
    tried = 0

    async def break_off(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal tried
        tried += 1
        await reader.read(100)
        if how == "hangs":
            await reader.read()
        elif how == "resets":
            writer.transport.abort()

    async with listening(break_off) as address:
        client = Client(
            KEY,
            http_url=f"https://{address}",
            stream_url=f"wss://{address}/ws",
            timing=HASTY,
        )
        async with client, asyncio.timeout(20):
            with pytest.raises(ConnectError):
                await client.connect()
            while tried < 3:  # noqa: ASYNC110 - the server's own count.
                await asyncio.sleep(0.005)
            assert client.state is not LinkState.CLOSED
            before = client.stats.http_requests
            with pytest.raises(QosError) as caught:
                await client.fetch_snapshots("US:AAPL")
            assert isinstance(caught.value, TransportError)
            assert client.stats.http_requests - before == 4
