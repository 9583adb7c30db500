"""The aiohttp transport against misbehaving servers."""

from __future__ import annotations

import asyncio
import gc
import re
import weakref
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha1
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from aiohttp.http import WS_KEY
from yarl import URL

from qos_async import AuthenticationError, Client, ClosedError, Timing, TransportError
from qos_async._io import aiohttp_transport
from qos_async._io import aiohttp_transport as transport_module
from qos_async._io.aiohttp_session import AiohttpSession
from qos_async._io.aiohttp_transport import AiohttpTransport, KeyPace
from qos_async._io.secret import Secret
from qos_async._io.transport import DialError, LinkClosed, Socket
from qos_async._server.connection import text_frame
from qos_async.sim import Simulator
from qos_async.testing.virtual import simulate
from tests.support.http_servers import serving
from tests.support.leak_check import assert_absent
from tests.support.memory_transport import KEY


def _nowhere(protocol: Any, tell: Any) -> None:
    """Install no fast parser."""


@pytest.fixture(autouse=True, params=["split", "one by one"])
def _reading(request, monkeypatch):
    """Run every test with the fast parser and without it."""
    if request.param == "one by one":
        monkeypatch.setattr(transport_module, "install", _nowhere)


TIMING = Timing(request_timeout=0.2, connect_timeout=0.5, close_timeout=0.2)


@asynccontextmanager
async def dialling(url: URL | str, **options: Any) -> AsyncGenerator[AiohttpTransport]:
    secret = Secret(KEY)
    lease = AiohttpSession(secret)
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


async def frames_of(socket: Socket, count: int) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < count:
        frames += await socket.receive()
    return frames


@pytest.mark.parametrize("key_in", ["header", "url"])
async def test_the_key_is_sent_in_the_header_or_the_url(key_in):
    seen = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((request.headers.get("key"), request.query.get("key")))
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await linger(ws)
        return ws

    async with serving(handler) as url, dialling(url, key_in=key_in) as transport:
        socket = await transport.dial()
        await socket.close(graceful=True)
    assert seen == [(KEY, None) if key_in == "header" else (None, KEY)]


async def test_frames_that_arrive_together_are_received_together():
    # This fails if aiohttp changes the private names that the splitter uses.
    async def talk(ws: web.WebSocketResponse) -> None:
        ws._req.transport.write(text_frame(b"{}") * 99)  # type: ignore[union-attr]
        await linger(ws)

    async with talking(talk) as transport:
        socket = await transport.dial()
        if len(await socket.receive()) == 1:
            assert vars(transport_module)["install"] is _nowhere
        await socket.close(graceful=True)


async def test_frames_that_arrive_with_the_handshake_are_complete():
    cut = text_frame(b"first") + text_frame(b"second")[:4]
    server, url = await upgrading(cut, text_frame(b"second")[4:] + text_frame(b"third"))
    async with server, dialling(url) as transport:
        socket = await transport.dial()
        assert await frames_of(socket, 3) == [b"first", b"second", b"third"]
        await socket.close(graceful=False)
        await asyncio.sleep(0.05)  # Until the server has closed.


async def test_the_server_is_paused_while_frames_are_not_received():
    written, much = 0, 200_000_000
    blocked = asyncio.Event()
    block = b"".join(text_frame(b"%05d" % n + b"x" * 65) for n in range(10_000))

    async def talk(ws: web.WebSocketResponse) -> None:
        nonlocal written
        line: Any = ws._req.transport  # type: ignore[union-attr]
        while written < much:
            line.write(block)
            written += len(block)
            try:
                async with asyncio.timeout(0.3):
                    while line.get_write_buffer_size():  # noqa: ASYNC110 - polled
                        await asyncio.sleep(0.001)
            except TimeoutError:
                blocked.set()
                break
        await linger(ws)

    async with talking(talk) as transport:
        socket = await transport.dial()
        async with asyncio.timeout(10):
            await blocked.wait()
        assert written < much / 4
        count = written // len(block) * 10_000
        frames = await frames_of(socket, count)
        assert [int(frame[:5]) for frame in frames] == [
            n % 10_000 for n in range(count)
        ]
        await socket.close(graceful=True)


@pytest.mark.fault("I16")
@pytest.mark.parametrize("polite", [True, False])
async def test_a_closed_link_keeps_no_references(polite):
    # While this timer is the first one due, the loop keeps cancelled ones behind it.
    due = asyncio.get_running_loop().call_later(60, int)

    async def talk(ws: web.WebSocketResponse) -> None:
        await linger(ws)

    def take(frames: Sequence[bytes]) -> None:
        raise AssertionError("no frame was sent")

    async with talking(talk) as transport:
        socket = await transport.dial()
        socket.set_sync_handler(take, lambda _: None)
        held = weakref.ref(take), weakref.ref(socket)
        await socket.close(graceful=polite)
        del take
        assert held[0]() is None
        del socket
        gc.collect()
        assert not polite or held[1]() is None  # aiohttp's cancelled close lingers.
    due.cancel()


@pytest.mark.fault("P13", "P14")
async def test_text_and_binary_frames_are_received_as_bytes():
    async def talk(ws: web.WebSocketResponse) -> None:
        await ws.send_str("text")
        await ws.send_bytes(b"\xff binary")
        await linger(ws)

    async with talking(talk) as transport:
        socket = await transport.dial()
        assert await frames_of(socket, 2) == [b"text", b"\xff binary"]
        await socket.close(graceful=True)


@pytest.mark.fault("T6", "T11", "F34")
@pytest.mark.parametrize(
    ("sent", "seen"), [(1000, 1000), (4999, 4999), (4390, 4390), (0, 1005)]
)
async def test_a_close_is_reported_with_its_code_and_reason(sent, seen):
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
        await socket.close(graceful=True)


@pytest.mark.fault("T2", "T7")
async def test_a_connection_that_ends_without_a_close_frame_has_no_code():
    async def talk(ws: web.WebSocketResponse) -> None:
        ws._req.transport.abort()  # type: ignore[union-attr]

    async with talking(talk) as transport:
        socket = await transport.dial()
        with pytest.raises(LinkClosed) as caught:
            await socket.receive()
        assert caught.value.code is None
        with pytest.raises(TransportError):
            await socket.send(b"{}")
        await socket.close(graceful=True)


@pytest.mark.fault("T2", "T7")
@pytest.mark.parametrize("cut", ["abort", "close"])
async def test_a_ping_that_can_no_longer_be_answered_costs_nothing_that_follows(cut):
    """As after a pause of the process: ping, frames and the end are read together."""

    async def talk(ws: web.WebSocketResponse) -> None:
        await ws.ping()
        await ws.send_str("{}")
        await ws.ping()
        if cut == "close":
            await ws.close(code=1012, message=b"restarting")
        ws._req.transport.abort()  # type: ignore[union-attr]

    async with talking(talk) as transport:
        socket = await transport.dial()
        connection = transport_module._transport(socket._ws)  # type: ignore[attr-defined]
        assert connection is not None
        await asyncio.sleep(0.1)
        connection.abort()
        assert await frames_of(socket, 1) == [b"{}"]
        with pytest.raises(LinkClosed) as caught:
            await socket.receive()
        assert caught.value.code == (1012 if cut == "close" else None)
        await socket.close(graceful=False)


@pytest.mark.fault("T10")
async def test_a_protocol_violation_ends_the_link():
    async def talk(ws: web.WebSocketResponse) -> None:
        ws._req.transport.write(b"\xff\xff\xff\xff")  # type: ignore[union-attr]
        await linger(ws)

    async with talking(talk) as transport:
        socket = await transport.dial()
        with pytest.raises(LinkClosed):
            await socket.receive()
        await socket.close(graceful=False)


@pytest.mark.fault("T5")
async def test_a_send_that_is_not_read_times_out():
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
        await socket.close(graceful=True)
        assert asyncio.get_running_loop().time() - start < 0.5


async def test_an_unanswered_close_frame_takes_no_longer_than_close_timeout():
    async def talk(ws: web.WebSocketResponse) -> None:
        while True:
            await ws.send_str("more")
            await asyncio.sleep(0.01)

    async with talking(talk) as transport:
        socket = await transport.dial()
        start = asyncio.get_running_loop().time()
        await socket.close(graceful=True)
        await socket.close(graceful=True)
        assert 0.1 < asyncio.get_running_loop().time() - start < 0.5


async def test_an_abort_takes_no_time():
    async with talking(linger) as transport:
        socket = await transport.dial()
        start = asyncio.get_running_loop().time()
        await socket.close(graceful=False)
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
async def test_a_rejected_upgrade_raises_with_the_reason(status, kind):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "7"})

    async with serving(handler) as url, dialling(url) as transport:
        with pytest.raises(kind) as caught:
            await transport.dial()
        assert str(status) in str(caught.value)
        assert_absent(KEY, caught.value)
        if isinstance(caught.value, DialError):
            assert caught.value.retry_after == 7


async def upgrading(*writes: bytes) -> tuple[asyncio.Server, str]:
    """Accept a websocket, with frames in the same write as the response."""

    async def handle(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        requested = (await reader.readuntil(b"\r\n\r\n")).decode()
        [key] = re.findall(r"(?i)sec-websocket-key: (\S+)", requested)
        accept = b64encode(sha1((key + WS_KEY.decode()).encode()).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        for data in writes:
            writer.write(data)
            await asyncio.sleep(0.05)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def answering(raw: bytes | None) -> tuple[asyncio.Server, str]:
    async def handle(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(asyncio.IncompleteReadError):  # A dial may be cancelled before.
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
async def test_a_server_without_websockets_is_a_dial_error(raw):
    server, url = await answering(raw)
    async with server, dialling(url) as transport:
        with pytest.raises(DialError) as caught:
            await transport.dial()
        assert not caught.value.is_permanent
        assert_absent(KEY, caught.value)


@pytest.mark.fault("T13")
async def test_a_dial_without_a_response_times_out():
    server, url = await answering(None)
    async with server, dialling(url) as transport:
        with pytest.raises(DialError, match=r"within 0\.5 s"):
            await transport.dial()


async def test_a_port_without_a_server_is_a_dial_error():
    async with dialling("http://127.0.0.1:1") as transport:
        with pytest.raises(DialError) as caught:
            await transport.dial()
        assert not caught.value.is_permanent


async def test_dialling_after_the_session_was_closed_raises():
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


URL_ = URL("wss://host/ws")


async def waited(turn: KeyPace) -> float:
    start = asyncio.get_running_loop().time()
    await turn.wait()
    return asyncio.get_running_loop().time() - start


@pytest.mark.fault("P22", "P23", "I2")
@pytest.mark.parametrize("key_in", ["header", "url"])
def test_clients_with_one_key_keep_its_pace(key_in):
    async def use() -> None:
        async with Simulator(start=1_741_958_430.0, key=KEY) as sim:
            for _ in range(5):
                async with Client(
                    KEY,
                    http_url=sim.http_url,
                    stream_url=sim.stream_url,
                    key_in=key_in,
                    timing=Timing(),
                ) as client:
                    await client.connect()
            assert len(sim.received("H")) == 5
            assert sim.violations == []

    simulate(use)


@pytest.mark.virtual_time
async def test_only_links_with_the_same_key_and_address_wait():
    KeyPace(URL_, "one", 5.0).mark_sent()
    assert await waited(KeyPace(URL_, "other", 5.0)) == 0
    assert await waited(KeyPace(URL("wss://elsewhere/ws"), "one", 5.0)) == 0
    assert await waited(KeyPace(URL_, "one", 5.0)) == pytest.approx(5)
    assert await waited(KeyPace(URL_, "one", 5.0)) == 0


@pytest.mark.fault("U19")
@pytest.mark.virtual_time
async def test_the_pace_keeps_neither_past_entries_nor_the_key():
    loop = asyncio.get_running_loop()
    for number in range(100):
        KeyPace(URL_, f"{KEY}-{number}", 1.0).mark_sent()
        await asyncio.sleep(0.5)
    times = aiohttp_transport._free_at[loop]
    assert len(times) <= 3
    assert_absent(KEY, times)


@pytest.mark.fault("I16")
def test_the_pace_keeps_no_closed_event_loop():
    before = len(aiohttp_transport._free_at)

    async def use() -> None:
        KeyPace(URL_, "one", 5.0).mark_sent()
        assert len(aiohttp_transport._free_at) == before + 1

    asyncio.run(use())
    gc.collect()
    assert len(aiohttp_transport._free_at) <= before
