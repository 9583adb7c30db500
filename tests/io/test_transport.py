"""The aiohttp transport against servers that behave in every way but the right one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from yarl import URL

from qos_async import AuthenticationError, ClosedError, Timing, TransportError
from qos_async._io.secret import Secret
from qos_async._io.sessions import SessionLease
from qos_async._io.transport import AiohttpTransport, DialError, LinkClosed
from tests.canary import assert_absent
from tests.io.servers import serving
from tests.peers import KEY

TIMING = Timing(request_timeout=0.2, connect_timeout=0.5, close_timeout=0.2)


@asynccontextmanager
async def dialling(url: URL | str, **options: Any) -> AsyncGenerator[AiohttpTransport]:
    secret = Secret(KEY)
    lease = SessionLease(secret)
    options = {"key_in": "header", "ssl": True, "proxy": None, **options}
    try:
        yield AiohttpTransport(
            lease,
            secret,
            url=URL(url).with_scheme("ws"),
            timing=TIMING,
            **options,
        )
    finally:
        await lease.aclose()


Talk = Callable[[web.WebSocketResponse], Awaitable[None]]


@asynccontextmanager
async def talking(talk: Talk) -> AsyncGenerator[AiohttpTransport]:
    async def handler(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        await talk(ws)
        return ws

    async with serving(handler) as url, dialling(url) as transport:
        yield transport


async def linger(ws: web.WebSocketResponse) -> None:
    await ws.receive()


@pytest.mark.parametrize("key_in", ["header", "url"])
async def test_the_key_goes_where_it_was_told_to(key_in):
    seen = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((request.headers.get("key"), request.query.get("key")))
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await linger(ws)
        return ws

    async with serving(handler) as url, dialling(url, key_in=key_in) as transport:
        socket = await transport.dial()
        await socket.close(polite=True)
    assert seen == [(KEY, None) if key_in == "header" else (None, KEY)]


@pytest.mark.fault("P13", "P14")
async def test_text_and_binary_frames_come_as_bytes():
    async def talk(ws: web.WebSocketResponse) -> None:
        await ws.send_str("text")
        await ws.send_bytes(b"\xff binary")
        await linger(ws)

    async with talking(talk) as transport:
        socket = await transport.dial()
        assert await socket.receive() == b"text"
        assert await socket.receive() == b"\xff binary"
        await socket.close(polite=True)


@pytest.mark.fault("T6", "T11")
@pytest.mark.parametrize(("sent", "seen"), [(1000, 1000), (4999, 4999), (0, 1005)])
async def test_a_close_is_told_with_its_code_and_reason(sent, seen):
    async def talk(ws: web.WebSocketResponse) -> None:
        if sent:
            await ws.close(code=sent, message=f"bye {KEY}\x1b".encode())
        else:
            await ws._writer.send_frame(b"", WSMsgType.CLOSE)  # type: ignore[union-attr]
            await linger(ws)

    async with talking(talk) as transport:
        socket = await transport.dial()
        with pytest.raises(LinkClosed) as caught:
            await socket.receive()
        assert caught.value.code == seen
        if sent:
            assert r"bye ***\x1b" in str(caught.value)
        assert_absent(KEY, caught.value)
        await socket.close(polite=True)


@pytest.mark.fault("T2", "T7")
async def test_a_connection_that_just_ends_has_no_code():
    async def talk(ws: web.WebSocketResponse) -> None:
        ws._req.transport.abort()  # type: ignore[union-attr]

    async with talking(talk) as transport:
        socket = await transport.dial()
        with pytest.raises(LinkClosed) as caught:
            await socket.receive()
        assert caught.value.code is None
        with pytest.raises(TransportError):
            await socket.send(b"{}")
        await socket.close(polite=True)


@pytest.mark.fault("T10")
async def test_a_broken_protocol_ends_the_link():
    async def talk(ws: web.WebSocketResponse) -> None:
        ws._req.transport.write(b"\xff\xff\xff\xff")  # type: ignore[union-attr]
        await linger(ws)

    async with talking(talk) as transport:
        socket = await transport.dial()
        with pytest.raises(LinkClosed):
            await socket.receive()
        await socket.close(polite=False)


@pytest.mark.fault("T5")
async def test_a_send_that_nobody_reads_fails_in_time():
    async def talk(ws: web.WebSocketResponse) -> None:
        ws._req.transport.pause_reading()  # type: ignore[union-attr]
        await asyncio.sleep(5)

    async with talking(talk) as transport:
        socket = await transport.dial()
        with pytest.raises(TransportError, match="stopped reading"):  # noqa: PT012
            async with asyncio.timeout(3):
                while True:
                    await socket.send(b"x" * 1_000_000)
        start = asyncio.get_running_loop().time()
        await socket.close(polite=True)
        assert asyncio.get_running_loop().time() - start < 0.5


async def test_a_goodbye_that_nobody_answers_takes_no_longer_than_close_timeout():
    async def talk(ws: web.WebSocketResponse) -> None:
        while True:
            await ws.send_str("more")
            await asyncio.sleep(0.01)

    async with talking(talk) as transport:
        socket = await transport.dial()
        start = asyncio.get_running_loop().time()
        await socket.close(polite=True)
        await socket.close(polite=True)
        assert 0.1 < asyncio.get_running_loop().time() - start < 0.5


async def test_a_cut_takes_no_time_at_all():
    async with talking(linger) as transport:
        socket = await transport.dial()
        start = asyncio.get_running_loop().time()
        await socket.close(polite=False)
        assert asyncio.get_running_loop().time() - start < 0.1


@pytest.mark.fault("T14", "T15", "T16", "T17")
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, AuthenticationError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (200, DialError),
        (404, DialError),
        (429, DialError),
        (503, DialError),
    ],
)
async def test_a_refused_upgrade_says_what_it_means(status, kind):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "7"})

    async with serving(handler) as url, dialling(url) as transport:
        with pytest.raises(kind) as caught:
            await transport.dial()
        assert str(status) in str(caught.value)
        assert_absent(KEY, caught.value)
        if isinstance(caught.value, DialError):
            assert caught.value.retry_after == 7


async def answering(raw: bytes | None) -> tuple[asyncio.Server, str]:
    async def handle(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if raw is not None:
            writer.write(raw)
        else:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.fault("T17")
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", id="no upgrade"),
        pytest.param(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: bm8=\r\n\r\n",
            id="a wrong accept key",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, id="long headers"),
    ],
)
async def test_whoever_is_no_websocket_server_is_a_dial_error(raw):
    server, url = await answering(raw)
    async with server, dialling(url) as transport:
        with pytest.raises(DialError) as caught:
            await transport.dial()
        assert not caught.value.final
        assert_absent(KEY, caught.value)


@pytest.mark.fault("T13")
async def test_a_server_that_never_answers_is_given_up_in_time():
    server, url = await answering(None)
    async with server, dialling(url) as transport:
        with pytest.raises(DialError, match=r"within 0\.5 s"):
            await transport.dial()


async def test_nobody_listening_is_a_dial_error():
    async with dialling("http://127.0.0.1:1") as transport:
        with pytest.raises(DialError) as caught:
            await transport.dial()
        assert not caught.value.final


async def test_after_the_lease_was_closed_nothing_can_be_dialled():
    async with dialling("http://127.0.0.1:1") as transport:
        pass
    with pytest.raises(ClosedError):
        await transport.dial()


async def test_cancelling_a_dial_leaves_nothing_open():
    server, url = await answering(None)
    async with server, dialling(url) as transport:
        task = asyncio.create_task(transport.dial())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
